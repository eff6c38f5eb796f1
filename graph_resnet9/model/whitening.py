"""The fixed filters that whiten the patches of images. NumPy only."""

import numpy as np

EPSILON = 1e-2  # davidcpage/cifar10-fast, new_dawn.py, whitening_block.
IMAGES = 10000  # As many training images make the filters there.


def filters(images):
  """Filters under which 3x3 patches have uncorrelated outputs of variance ~1.

  Column i is v_i / sqrt(e_i + 1e-2) for the eigenvectors v_i and eigenvalues
  e_i, largest first, of the uncentred covariance X^T X / (n - 1) of the n
  patches that lie wholly inside the images. The sign of v_i is chosen so that
  its largest element is positive: a decomposition leaves it open.

  Args:
    images: iterable of float32 arrays [count, height, width, 3], normalised,
      all of one height and width.
  Returns:
    float32 [3, 3, 3, 27], the kernel of a convolution.
  Source: davidcpage/cifar10-fast, new_dawn.py: cov, patches, eigens.
  """
  values, vectors = np.linalg.eigh(_covariance(images))
  values, vectors = values[::-1], vectors[:, ::-1]
  vectors = vectors * np.sign(
    np.take_along_axis(vectors, np.abs(vectors).argmax(0)[None], 0)
  )
  return (
    (vectors / np.sqrt(values + EPSILON))
    .reshape(3, 3, 3, 27)
    .astype(np.float32)
  )


def _covariance(images):
  """[27, 27] float64, uncentred, of the 3x3 patches inside the images.

  Two pixels of a patch are one of 13 displacements apart, so that the products
  of each pixel with those in these places are enough: a fifth of the work of
  multiplying all patches out.
  """
  # {(down, right): [3, 3, height - |down|, width - |right|]}: products of the
  # channels of two pixels, summed over the images.
  products = {
    (down, right): 0.0
    for down in range(3)
    for right in range(-2 if down else 0, 3)
  }
  count = 0
  for chunk in images:
    planes = np.ascontiguousarray(chunk.transpose(3, 1, 2, 0), np.float64)
    _, height, width, batch = planes.shape
    for down, right in products:
      one, two = planes[:, : height - down], planes[:, down:]
      if right < 0:
        one, two = one[:, :, -right:], two[:, :, :right]
      else:
        one, two = one[:, :, : width - right], two[:, :, right:]
      # einsum goes without BLAS: beside other threads OpenBLAS was seen to take
      # minutes.
      products[down, right] += np.einsum('irck,jrck->ijrc', one, two)
    count += batch * (height - 2) * (width - 2)
  covariance = np.zeros([9, 3, 9, 3])
  for one in range(9):
    for two in range(one, 9):
      (row, column), (row2, column2) = divmod(one, 3), divmod(two, 3)
      down, right = row2 - row, column2 - column
      first = column - max(0, -right)  # Where products[...] begin.
      block = products[down, right][
        :, :, row : row + height - 2, first : first + width - 2
      ].sum((2, 3))
      covariance[one, :, two] = block
      covariance[two, :, one] = block.T
  return covariance.reshape(27, 27) / (count - 1)
