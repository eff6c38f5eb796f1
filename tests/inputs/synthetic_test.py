"""Tests of graph_resnet9.inputs.synthetic: what the images must be like."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from graph_resnet9.inputs import synthetic

SEED = 11
# Of train images, the first one of each class: (index, class), and means of
# blocks of 8x8 pixels over the colours. Published figures rest on them.
FIRST = [
  (0, 5),
  (2, 3),
  (3, 7),
  (4, 1),
  (5, 4),
  (8, 8),
  (13, 6),
  (20, 2),
  (28, 9),
  (38, 0),
]
BLOCKS = bytes.fromhex(
  '8e887e797c6e63676a5f5c5456413b348c7f808393766c7d7f8685897675716d'
  '8b8a93a57b97abb387867faf91a4abc78e8c8b8d89968c8584898f907080896e'
  '726a4d48576f7e62488d72383b5937309084797989837e6d7b7b7b5f6a615c55'
  '554f5e4362779964706e82597b756b6546465d49476d9d574966985e47614947'
  'ada59c92a88d968ca08a92859a918a7ba29f968998857896988f768aa6a2969d'
)


class SplitTest(parameterized.TestCase):
  def test_same_seed_gives_the_same_images(self):
    one, two = synthetic.split(50, SEED), synthetic.split(50, SEED)
    np.testing.assert_array_equal(one.images, two.images)
    np.testing.assert_array_equal(one.labels, two.labels)

  def test_images_are_what_they_have_been(self):
    images, labels = synthetic.split(100, synthetic.SPLITS['train'][1])
    first, classes = map(list, zip(*FIRST))
    self.assertEqual(labels[first].tolist(), classes)
    blocks = images[first].reshape(10, 4, 8, 4, 8, 3).mean((2, 4, 5))
    expected = np.frombuffer(BLOCKS, np.uint8).reshape(10, 4, 4)
    np.testing.assert_allclose(blocks, expected, atol=0.6)

  def test_other_seed_gives_other_images(self):
    # The next seed too: a split uses two streams of random numbers.
    for other in (SEED + 1, SEED + 2, 0):
      one, two = synthetic.split(50, SEED), synthetic.split(50, other)
      self.assertNotEqual(one.labels.tolist(), two.labels.tolist())
      self.assertTrue((one.images != two.images).any(axis=(1, 2, 3)).all())

  def test_global_random_state_plays_no_part(self):
    np.random.seed(0)
    one = synthetic.split(20, SEED)
    state = np.random.get_state()[1].tolist()
    np.random.seed(1)
    np.testing.assert_array_equal(synthetic.split(20, SEED).images, one.images)
    np.random.seed(0)
    self.assertEqual(np.random.get_state()[1].tolist(), state)

  @parameterized.parameters(1, 100, 1000, 1001, 1499)
  def test_a_smaller_set_is_the_beginning_of_a_larger_one(self, examples):
    large, small = synthetic.split(1500, SEED), synthetic.split(examples, SEED)
    np.testing.assert_array_equal(small.images, large.images[:examples])
    np.testing.assert_array_equal(small.labels, large.labels[:examples])

  def test_dtypes_and_shapes_are_those_of_cifar10(self):
    images, labels = synthetic.split(30, SEED)
    self.assertEqual((images.shape, images.dtype), ((30, 32, 32, 3), np.uint8))
    self.assertEqual((labels.shape, labels.dtype), ((30,), np.int32))

  def test_there_is_a_name_for_every_class(self):
    self.assertLen(set(synthetic.CLASS_NAMES), 10)

  def test_train_and_test_images_are_different(self):
    (train, train_seed), (test, test_seed) = (
      synthetic.SPLITS['train'],
      synthetic.SPLITS['test'],
    )
    self.assertEqual((train, test), (10000, 2000))
    one, two = (synthetic.split(200, seed) for seed in (train_seed, test_seed))
    flat = np.concatenate([one.images, two.images]).reshape(400, -1)
    self.assertLen(np.unique(flat, axis=0), 400)


def softmax_regression(images, labels, train, steps=80, ridge=0.1):
  """Test accuracies on the way to the best linear classifier of the pixels.

  Multinomial logistic regression on standardised pixels, by Nesterov's
  accelerated gradient with the step that the largest eigenvalue allows.
  """
  x = images.reshape(len(images), -1).astype(np.float32)
  x = (x - x[:train].mean(0)) / (x[:train].std(0) + 1e-3)
  seen, one_hot = x[:train], np.eye(10, dtype=np.float32)[labels[:train]]
  direction = np.ones(x.shape[1], np.float32)
  for _ in range(10):
    direction = seen.T @ (seen @ (direction / np.linalg.norm(direction)))
  rate = 1 / (0.5 * 1.1 * np.linalg.norm(direction) / train + ridge)
  weights = before = np.zeros([x.shape[1], 10], np.float32)
  accuracies = []
  for step in range(steps):
    ahead = weights + (weights - before) * (step / (step + 3))
    odds = np.exp(seen @ ahead)
    error = odds / odds.sum(1, keepdims=True) - one_hot
    before = weights
    weights = ahead - rate * (seen.T @ error / train + ridge * ahead)
    found = (x[train:] @ weights).argmax(1)
    accuracies.append((found == labels[train:]).mean())
  return accuracies


def patch_accuracy(images, labels, train, size=10, stride=3, filters=64):
  """Test accuracy of a linear classifier of how well patches match anywhere.

  The filters are patches of the first images, all in grey and normalised, as
  one random convolution followed by pooling over the image.
  """

  def patches(images):
    grey = images.mean(3, dtype=np.float32)
    parts = np.lib.stride_tricks.sliding_window_view(
      grey, (size, size), (1, 2)
    )[:, ::stride, ::stride]
    parts = parts.reshape(len(images), -1, size * size)
    parts = parts - parts.mean(2, keepdims=True)
    return parts / (parts.std(2, keepdims=True) + 10)

  first = patches(images[:filters])
  chosen = np.random.RandomState(0).randint(first.shape[1], size=filters)
  kernel = first[np.arange(filters), chosen].T / size**2
  pooled = []
  for begin in range(0, len(images), 250):
    match = np.abs(patches(images[begin : begin + 250]) @ kernel)
    pooled.append(
      np.concatenate([match.max(1), match.mean(1), match.std(1)], 1)
    )
  x = np.concatenate(pooled)
  x = np.c_[(x - x[:train].mean(0)) / x[:train].std(0), np.ones(len(x))]
  seen, one_hot = x[:train], np.eye(10)[labels[:train]]
  weights = np.linalg.solve(
    seen.T @ seen + 100 * np.eye(x.shape[1]), seen.T @ one_hot
  )
  return ((x[train:] @ weights).argmax(1) == labels[train:]).mean()


class OutlineTest(absltest.TestCase):
  def test_outlines_are_about_distances(self):
    """Then the edges of all classes are one pixel wide, and tell nothing."""
    self.assertLen(synthetic._DISTANCES, 10)
    x, y = np.random.RandomState(0).uniform(-1.3, 1.3, [2, 20000])
    for k, distance in enumerate(synthetic._DISTANCES):
      with self.subTest(label=k):
        near = np.abs(distance(x, y)) < 0.1
        self.assertGreater(near.mean(), 0.05)
        slopes = [
          (distance(x + right, y + down) - distance(x - right, y - down)) / 2e-6
          for right, down in ((1e-6, 0), (0, 1e-6))
        ]
        slope = np.hypot(*slopes)[near]
        self.assertAlmostEqual(np.median(slope), 1, delta=0.1)


class TaskTest(absltest.TestCase):
  """What can be learnt from 10,000 images, and what cannot."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.images, cls.labels = synthetic.split(10000, SEED)

  def test_classes_are_balanced(self):
    share = np.bincount(self.labels, minlength=10) / 10000
    self.assertLen(share, 10)
    self.assertBetween(share.min(), 0.07, 0.13)
    self.assertBetween(share.max(), 0.07, 0.13)

  def test_order_tells_nothing(self):
    repeated = (self.labels[1:] == self.labels[:-1]).mean()
    self.assertBetween(repeated, 0.08, 0.12)

  def test_images_are_neither_dark_nor_flat(self):
    images = self.images[:1000].astype(np.float64)
    self.assertBetween(images.mean(), 100, 155)
    self.assertGreater(images.std(axis=(1, 2)).mean(), 20)

  def test_pixels_tell_a_linear_classifier_little(self):
    accuracies = softmax_regression(
      self.images[:6000], self.labels[:6000], train=5000
    )
    self.assertLess(max(accuracies), 0.25)

  def test_the_linear_classifier_would_find_what_pixels_tell(self):
    images = self.images[:3000].copy()
    images[np.arange(3000), 20, self.labels[:3000] * 3] = 255
    accuracies = softmax_regression(images, self.labels[:3000], train=2000)
    self.assertGreater(max(accuracies), 0.8)

  def test_patches_tell_much_more(self):
    # Chance is .10; without the shapes this is chance too.
    accuracy = patch_accuracy(
      self.images[:3000], self.labels[:3000], train=2000
    )
    self.assertGreater(accuracy, 0.3)


if __name__ == '__main__':
  absltest.main()
