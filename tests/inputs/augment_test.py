"""Tests of graph_resnet9.inputs.augment against loops over images in NumPy."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.inputs import augment

MEAN = [125.31, 122.95, 113.87]
STD = [62.99, 62.09, 66.70]


def uint8_images(count, seed=0):
  random_state = np.random.RandomState(seed)
  return random_state.randint(0, 256, [count, 32, 32, 3]).astype(np.uint8)


def draws(batch_size, pad=4, seed=0):
  """Draws made by NumPy: what the function under test must carry out."""
  random_state = np.random.RandomState(seed)
  integers = lambda low, high: random_state.randint(
    low, high + 1, batch_size
  ).astype(np.int32)
  return augment.Draws(
    down=integers(-pad, pad),
    right=integers(-pad, pad),
    mirrored=integers(0, 1).astype(bool),
    hole_row=integers(0, 24),
    hole_column=integers(0, 24),
  )


def tensors(chosen):
  return augment.Draws(*(tf.constant(part) for part in chosen))


def evaluate(build):
  """The value of what `build` adds to a graph of its own."""
  with tf.Graph().as_default(), tf.Session() as sess:
    return sess.run(build())


def cropped(image, down, right, mirrored, pad):
  """Reflect-pad, cut out 32 x 32, mirror: one image."""
  padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode='reflect')
  result = padded[pad + down : pad + down + 32, pad + right : pad + right + 32]
  return result[:, ::-1] if mirrored else result


class CropsTest(parameterized.TestCase):
  def crops(self, images, indices, chosen=None):
    return evaluate(
      lambda: augment.crops(
        tf.constant(images.reshape(-1, 3)),
        tf.constant(indices),
        tensors(chosen) if chosen else None,
      )
    )

  @parameterized.parameters(1, 4, 9, 31)
  def test_shift_and_mirror_are_those_of_a_loop(self, pad):
    images, chosen = uint8_images(64), draws(64, pad)
    expected = [
      cropped(image, down, right, mirrored, pad)
      for image, down, right, mirrored, _, _ in zip(images, *chosen)
    ]
    found = self.crops(images, np.arange(64, dtype=np.int32), chosen)
    np.testing.assert_array_equal(found, expected)

  def test_all_81_shifts_both_ways(self):
    shifts = [
      (down, right, mirrored)
      for down in range(-4, 5)
      for right in range(-4, 5)
      for mirrored in (False, True)
    ]
    image = uint8_images(1)
    zeros = np.zeros(len(shifts), np.int32)
    down, right, mirrored = (np.array(part) for part in zip(*shifts))
    chosen = augment.Draws(
      down.astype(np.int32), right.astype(np.int32), mirrored, zeros, zeros
    )
    expected = [cropped(image[0], *shift, 4) for shift in shifts]
    np.testing.assert_array_equal(self.crops(image, zeros, chosen), expected)

  def test_indices_pick_the_image(self):
    images, indices = uint8_images(50), [49, 0, 7, 7, 31]
    chosen = draws(5)
    expected = [
      cropped(images[i], *one[:3], 4) for i, one in zip(indices, zip(*chosen))
    ]
    np.testing.assert_array_equal(self.crops(images, indices, chosen), expected)

  @parameterized.parameters(np.int32, np.int64)
  def test_without_draws_the_images_are_as_they_are(self, dtype):
    images, indices = uint8_images(20), np.array([19, 3, 0, 3], dtype)
    found = self.crops(images, indices)
    np.testing.assert_array_equal(found, images[indices])
    self.assertEqual(found.dtype, np.uint8)

  def test_last_image_of_a_large_table(self):
    # 50,000 images have 51 million rows: the positions must be exact there.
    def build():
      pixels = tf.cast(tf.range(50000 * 1024)[:, None] % 251, tf.uint8)
      return augment.crops(tf.tile(pixels, [1, 3]), tf.constant([49999]))

    expected = (np.arange(49999 * 1024, 50000 * 1024) % 251).reshape(32, 32)
    np.testing.assert_array_equal(
      evaluate(build)[0], np.stack([expected] * 3, -1)
    )

  def test_pixels_may_be_a_resource_variable(self):
    images, chosen = uint8_images(6), draws(6)
    indices = np.arange(6, dtype=np.int32)
    with tf.Graph().as_default(), tf.Session() as sess:
      pixels = tf.get_variable(
        'pixels', initializer=images.reshape(-1, 3), use_resource=True
      )
      found = augment.crops(pixels, tf.constant(indices), tensors(chosen))
      sess.run(pixels.initializer)
      np.testing.assert_array_equal(
        sess.run(found), self.crops(images, indices, chosen)
      )

  def test_shape(self):
    with tf.Graph().as_default():
      found = augment.crops(tf.zeros([2048, 3], tf.uint8), tf.constant([0, 1]))
      self.assertEqual(
        (found.shape.as_list(), found.dtype), ([2, 32, 32, 3], tf.uint8)
      )


class NormalisedTest(absltest.TestCase):
  def test_against_float64(self):
    images = uint8_images(10)
    expected = (images.astype(np.float64) - MEAN) / STD
    found = evaluate(lambda: augment.normalised(tf.constant(images)))
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=1e-6)

  def test_every_value_of_every_channel(self):
    images = np.zeros([1, 32, 32, 3], np.uint8)
    images.reshape(-1, 3)[:256] = np.arange(256)[:, None]
    expected = (np.arange(256.0)[:, None] - MEAN) / STD
    found = evaluate(lambda: augment.normalised(tf.constant(images)))
    np.testing.assert_allclose(
      found.reshape(-1, 3)[:256], expected, atol=1e-6, rtol=1e-6
    )

  def test_shape_and_dtype(self):
    with tf.Graph().as_default():
      found = augment.normalised(tf.zeros([7, 32, 32, 3], tf.uint8))
      self.assertEqual(
        (found.shape.as_list(), found.dtype), ([7, 32, 32, 3], tf.float32)
      )


class CutOutTest(parameterized.TestCase):
  def cut_out(self, images, chosen, cutout):
    return evaluate(
      lambda: augment.cut_out(tf.constant(images), tensors(chosen), cutout)
    )

  @parameterized.parameters(1, 5, 8)
  def test_hole_is_that_of_a_loop(self, cutout):
    chosen = draws(40)
    images = np.random.RandomState(0).normal(size=(40, 32, 32, 3))
    images = images.astype(np.float32)
    expected = images.copy()
    for n, (row, column) in enumerate(zip(chosen.hole_row, chosen.hole_column)):
      for r in range(row, row + cutout):
        for c in range(column, column + cutout):
          expected[n, r, c] = 0
    np.testing.assert_array_equal(
      self.cut_out(images, chosen, cutout), expected
    )

  @parameterized.parameters(1, 3, 8, 31, 32)
  def test_hole_drawn_for_it_is_always_whole(self, cutout):
    def build():
      chosen = augment.draws(300, 0, 0, 4, True, cutout)
      return augment.cut_out(tf.ones([300, 32, 32, 3]), chosen, cutout)

    hole = evaluate(build) == 0
    self.assertEqual(set(hole.sum((1, 2, 3))), {3 * cutout * cutout})
    # As wide and as high as it should be: a square.
    self.assertEqual(set(hole.any((1, 3)).sum(1)), {cutout})
    self.assertEqual(set(hole.any((2, 3)).sum(1)), {cutout})

  def test_zero_leaves_the_images_alone(self):
    images = uint8_images(5).astype(np.float32)
    np.testing.assert_array_equal(self.cut_out(images, draws(5), 0), images)

  def test_dtype_stays(self):
    images = uint8_images(5).astype(np.float16)
    self.assertEqual(self.cut_out(images, draws(5), 8).dtype, np.float16)


class ZeroBorderTest(absltest.TestCase):
  def test_is_zero_padding_of_normalised_images(self):
    images, chosen = uint8_images(64), draws(64, 5)
    indices = np.arange(64, dtype=np.int32)

    def build():
      batch = augment.crops(
        tf.constant(images.reshape(-1, 3)), indices, tensors(chosen)
      )
      return augment.zero_border(augment.normalised(batch), tensors(chosen))

    found = evaluate(build)
    pads = ((5, 5), (5, 5), (0, 0))
    for n, (down, right, mirrored, _, _) in enumerate(zip(*chosen)):
      padded = np.pad((images[n] - np.array(MEAN)) / STD, pads)
      expected = padded[5 + down : 37 + down, 5 + right : 37 + right]
      expected = expected[:, ::-1] if mirrored else expected
      np.testing.assert_allclose(found[n], expected, atol=1e-6, rtol=1e-6)


class DrawsTest(parameterized.TestCase):
  def drawn(self, batch_size=4000, seed=0, step=0, pad=4, flip=True, cutout=8):
    """Draws as NumPy arrays, from a graph and a session of its own."""
    return augment.Draws(
      *evaluate(
        lambda: augment.draws(batch_size, seed, step, pad, flip, cutout)
      )
    )

  def assert_equal(self, one, two):
    for name, a, b in zip(augment.Draws._fields, one, two):
      np.testing.assert_array_equal(a, b, name)

  def assert_all_differ(self, one, two):
    for name, a, b in zip(augment.Draws._fields, one, two):
      self.assertNotEqual(a.tolist(), b.tolist(), name)

  @parameterized.parameters((4, 8), (2, 12), (0, 8), (9, 1), (4, 32))
  def test_every_value_in_range_about_equally_often(self, pad, cutout):
    drawn = self.drawn(20000, pad=pad, cutout=cutout)
    for name, low, high in (
      ('down', -pad, pad),
      ('right', -pad, pad),
      ('hole_row', 0, 32 - cutout),
      ('hole_column', 0, 32 - cutout),
    ):
      values, counts = np.unique(getattr(drawn, name), return_counts=True)
      self.assertEqual(values.tolist(), list(range(low, high + 1)), name)
      np.testing.assert_allclose(counts / 20000, 1 / len(values), rtol=0.25)

  def test_without_flip_no_image_is_mirrored(self):
    self.assertFalse(self.drawn(flip=False).mirrored.any())

  def test_with_flip_about_half_are_mirrored(self):
    self.assertBetween(self.drawn(flip=True).mirrored.mean(), 0.46, 0.54)

  def test_one_crop_for_the_batch_and_another_for_the_next(self):
    shifts = set()
    for step in range(20):
      drawn = augment.Draws(
        *evaluate(
          lambda step=step: augment.draws(
            50, 0, step, 4, True, 8, crop_per='batch'
          )
        )
      )
      for part in (drawn.down, drawn.right):
        self.assertLen(set(part), 1)
        self.assertEqual(part.shape, (50,))
      self.assertLen(set(drawn.mirrored), 2)
      shifts.add((drawn.down[0], drawn.right[0]))
    self.assertGreater(len(shifts), 10)

  @parameterized.parameters(8, 9)
  def test_middle_of_a_hole_may_be_any_pixel(self, cutout):
    drawn = augment.Draws(
      *evaluate(
        lambda: augment.draws(20000, 0, 0, 4, True, cutout, cutout_inside=False)
      )
    )
    for part in (drawn.hole_row, drawn.hole_column):
      values, counts = np.unique(part + cutout // 2, return_counts=True)
      self.assertEqual(values.tolist(), list(range(32)))
      np.testing.assert_allclose(counts / 20000, 1 / 32, rtol=0.25)

  def test_dtypes(self):
    self.assertEqual(
      [part.dtype for part in self.drawn(2)],
      [np.int32, np.int32, bool, np.int32, np.int32],
    )

  def test_two_graphs_agree(self):
    self.assert_equal(self.drawn(seed=3, step=5), self.drawn(seed=3, step=5))

  def test_step_may_be_a_tensor_of_either_integer_type(self):
    for dtype in (tf.int32, tf.int64):
      with tf.Graph().as_default(), tf.Session() as sess:
        step = tf.placeholder(dtype, [])
        drawn = augment.draws(50, 3, step, 4, True, 8)
        for value in (7, 0, 7):  # What was drawn before plays no part.
          self.assert_equal(
            sess.run(drawn, {step: value}), self.drawn(50, 3, value)
          )

  def test_batch_size_may_be_a_tensor(self):
    with tf.Graph().as_default(), tf.Session() as sess:
      size = tf.placeholder(tf.int32, [])
      drawn = augment.draws(size, 3, 1, 4, True, 8)
      self.assert_equal(sess.run(drawn, {size: 30}), self.drawn(30, 3, 1))

  def test_graph_seed_plays_no_part(self):
    def build():
      tf.set_random_seed(99)
      return augment.draws(50, 3, 1, 4, True, 8)

    self.assert_equal(evaluate(build), self.drawn(50, 3, 1))

  @parameterized.parameters(1, 2, 3, 97)
  def test_other_step_draws_others(self, step):
    self.assert_all_differ(self.drawn(step=0), self.drawn(step=step))

  @parameterized.parameters(1, 2, 3, 2**31, -1)
  def test_other_seed_draws_others(self, seed):
    self.assert_all_differ(self.drawn(seed=0), self.drawn(seed=seed))

  def test_seed_and_step_are_not_exchanged(self):
    self.assert_all_differ(
      self.drawn(seed=1, step=2), self.drawn(seed=2, step=1)
    )

  def test_choices_do_not_follow_one_another(self):
    # With pad 12 and cutout 8 shifts and holes have the same 25 values: the
    # same random numbers under two names would show, of other seeds as well.
    series = []
    for seed in (0, 1, 2, 3):
      drawn = self.drawn(4000, seed, pad=12)
      series.extend(part.astype(float) for part in drawn)
      series.append(drawn.down % 2.0)
    correlation = np.abs(np.corrcoef(series) - np.eye(len(series)))
    np.testing.assert_array_less(correlation, 0.09)  # Six standard deviations.

  def test_steps_do_not_follow_one_another(self):
    series = [
      part.astype(float)
      for step in range(4)
      for part in self.drawn(4000, step=step, pad=12)
    ]
    correlation = np.abs(np.corrcoef(series) - np.eye(len(series)))
    np.testing.assert_array_less(correlation, 0.09)


class AlternatingTest(absltest.TestCase):
  def mirrored(self, images, seed=0, epoch=0):
    return evaluate(
      lambda: augment.alternating(
        tf.constant(images), seed, tf.constant(epoch, tf.int64)
      )
    )

  def test_each_image_is_mirrored_in_every_other_epoch(self):
    images = uint8_images(300)
    first = self.mirrored(images)
    for epoch in range(1, 5):
      expected = first if epoch % 2 == 0 else ~first
      np.testing.assert_array_equal(
        self.mirrored(images, epoch=epoch), expected
      )

  def test_half_begin_with_it_another_half_for_another_seed(self):
    images = uint8_images(2000)
    first, other = self.mirrored(images), self.mirrored(images, seed=1)
    for part in (first, other, first ^ other):
      self.assertBetween(part.mean(), 0.44, 0.56)

  def test_an_image_is_known_in_any_company(self):
    images = uint8_images(40)
    first, order = self.mirrored(images), np.random.permutation(40)[:7]
    np.testing.assert_array_equal(self.mirrored(images[order]), first[order])


class PathTest(parameterized.TestCase):
  @parameterized.parameters(
    ('reflect', True, False), ('zero', False, False), ('zero', True, True)
  )
  def test_the_whole_path_of_a_batch(
    self, pad_mode, cutout_inside, alternate_flip
  ):
    images, indices = uint8_images(30), [3, 29, 0, 11, 3]
    choices = dict(pad=4, flip=True, cutout=8, cutout_inside=cutout_inside)

    def build():
      step = tf.constant(7, tf.int64)
      batch = augment.augmented(
        tf.constant(images.reshape(-1, 3)),
        tf.constant(indices),
        5,
        1,
        step,
        4,
        pad_mode,
        alternate_flip,
        **choices,
      )
      chosen = augment.draws(5, 1, step, **choices)
      if alternate_flip:
        epoch = tf.constant(1, tf.int64)  # 4 steps make one.
        chosen = chosen._replace(
          mirrored=augment.alternating(tf.constant(images[indices]), 1, epoch)
        )
      return batch, chosen

    found, chosen = evaluate(build)
    mode = {'reflect': 'reflect', 'zero': 'constant'}[pad_mode]
    for n, one in enumerate(zip(*chosen)):
      down, right, mirrored, row, column = one
      normal = (images[indices[n]] - np.array(MEAN)) / STD
      padded = np.pad(normal, ((4, 4), (4, 4), (0, 0)), mode=mode)
      expected = padded[4 + down : 36 + down, 4 + right : 36 + right]
      expected = (expected[:, ::-1] if mirrored else expected).copy()
      expected[max(0, row) : row + 8, max(0, column) : column + 8] = 0
      np.testing.assert_allclose(found[n], expected, atol=1e-6, rtol=1e-6)


if __name__ == '__main__':
  absltest.main()
