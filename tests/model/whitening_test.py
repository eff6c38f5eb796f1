"""The whitening filters, against patches cut out one by one in float64."""

from absl.testing import absltest
import numpy as np

from graph_resnet9.model import whitening


def images(count=40, height=6, width=5):
  """Smooth along rows and across channels, not centred, as float32."""
  random = np.random.RandomState(0)
  noise = random.normal(size=(count, height, width + 2, 3))
  smooth = noise[:, :, :-2] + noise[:, :, 1:-1] + noise[:, :, 2:]
  smooth[..., 2] = smooth[..., 0] + 0.05 * smooth[..., 2]
  return (smooth * 0.4 + 0.3).astype(np.float32)


def patches(values):
  """[patches, 27] float64: whole 3x3 patches as a convolution reads them."""
  found = []
  for image in values.astype(np.float64):
    for row in range(image.shape[0] - 2):
      for column in range(image.shape[1] - 2):
        found.append(image[row : row + 3, column : column + 3].ravel())
  return np.array(found)


def second_moments(rows):
  return sum(np.outer(row, row) for row in rows) / (len(rows) - 1)


class FiltersTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.kernel = whitening.filters([images()])
    cls.columns = cls.kernel.reshape(27, 27).astype(np.float64)
    cls.moments = second_moments(patches(images()))
    cls.values = np.sort(np.linalg.eigvalsh(cls.moments))[::-1]

  def test_are_a_float32_kernel(self):
    self.assertEqual(self.kernel.shape, (3, 3, 3, 27))
    self.assertEqual(self.kernel.dtype, np.float32)

  def test_outputs_are_uncorrelated_and_of_the_damped_variance(self):
    # Eigenvalues on both sides of 0.01, so that the damping shows.
    self.assertGreater(self.values[0], 1)
    self.assertLess(self.values[-1], 0.01)
    outputs = second_moments([row @ self.columns for row in patches(images())])
    np.testing.assert_allclose(
      outputs, np.diag(self.values / (self.values + 0.01)), atol=1e-4
    )

  def test_are_scaled_eigenvectors_largest_first(self):
    lengths = np.sqrt((self.columns**2).sum(0))
    np.testing.assert_allclose(
      lengths, 1 / np.sqrt(self.values + 0.01), rtol=1e-4
    )
    for value, column, length in zip(self.values, self.columns.T, lengths):
      np.testing.assert_allclose(
        self.moments @ column, value * column, atol=1e-4 * length
      )

  def test_the_largest_element_of_each_is_positive(self):
    for column in self.columns.T:
      self.assertGreater(column[np.abs(column).argmax()], 0)

  def test_do_not_depend_on_the_chunks(self):
    values = images()
    for chunks in (np.split(values, [1, 8]), np.split(values, len(values))):
      np.testing.assert_allclose(
        whitening.filters(iter(chunks)), self.kernel, atol=1e-4
      )


if __name__ == '__main__':
  absltest.main()
