"""The layers: convolutions, batch norm with and without groups, activations."""

import os

from absl.testing import absltest
import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.model import layers


def noise(*shape, seed=3):
  return np.random.RandomState(seed).normal(size=shape).astype(np.float32)


def update_ops():
  return tf.get_collection(tf.GraphKeys.UPDATE_OPS)


def biases():
  return [v.op.name for v in tf.get_collection(tf.GraphKeys.BIASES)]


def load(session, **values):
  """Gives variables in scope bn values by their last names."""
  session.run(tf.global_variables_initializer())
  for variable in tf.global_variables():
    name = variable.op.name.split('/')[-1]
    if name in values:
      variable.load(np.broadcast_to(values[name], variable.shape), session)


def numpy_conv(x, kernel):
  """Odd size, stride 1, zero padding, one output pixel at a time."""
  size = len(kernel)
  edge = (size // 2,) * 2
  padded = np.pad(x, [(0, 0), edge, edge, (0, 0)])
  out = np.zeros(x.shape[:3] + kernel.shape[3:])
  for row in range(x.shape[1]):
    for column in range(x.shape[2]):
      out[:, row, column] = np.tensordot(
        padded[:, row : row + size, column : column + size], kernel, 3
      )
  return out


class LayersTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.random = np.random.RandomState(3)
    self.x = self.random.normal(size=(4, 6, 6, 5)).astype(np.float32) * 3 + 1

  def test_conv_is_a_correlation_with_zero_padding(self):
    for size in (3, 1):
      with (
        self.subTest(size=size),
        tf.Graph().as_default(),
        tf.Session() as session,
      ):
        out = layers.conv(tf.constant(self.x), 7, size)
        session.run(tf.global_variables_initializer())
        out, kernel = session.run([out, tf.global_variables()[0]])
        self.assertEqual(kernel.shape, (size, size, 5, 7))
        np.testing.assert_allclose(out, numpy_conv(self.x, kernel), atol=2e-5)

  def test_whitened_convolves_with_the_filters_and_never_trains_them(self):
    x, filters = self.x[..., :3], noise(3, 3, 3, 27)
    with tf.Graph().as_default(), tf.Session() as session:
      out = layers.whitened(tf.constant(x), filters)
      self.assertEqual(tf.trainable_variables(), [])
      (kernel,) = tf.global_variables()
      self.assertEqual(kernel.op.name, 'whitening/kernel')
      session.run(tf.global_variables_initializer())
      out, kernel = session.run([out, kernel])
    np.testing.assert_array_equal(kernel, filters)
    np.testing.assert_allclose(out, numpy_conv(x, filters), atol=1e-4)

  def test_whitened_without_filters_waits_for_a_checkpoint(self):
    with tf.Graph().as_default(), tf.Session() as session:
      out = layers.whitened(tf.constant(self.x[..., :3]))
      (kernel,) = tf.global_variables()
      session.run(tf.global_variables_initializer())
      self.assertFalse(session.run(out).any())
      kernel.load(np.ones([3, 3, 3, 27], np.float32), session)
      self.assertTrue(session.run(out).any())

  def test_batch_norm_uses_the_biased_variance_and_stores_the_unbiased(self):
    x = self.x.astype(np.float64)
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    count = x[..., 0].size
    with tf.Graph().as_default(), tf.Session() as session:
      out = layers.batch_norm(tf.constant(self.x), training=True)
      session.run(tf.global_variables_initializer())
      out = session.run([out] + tf.get_collection(tf.GraphKeys.UPDATE_OPS))[0]
      moving = {v.op.name: session.run(v) for v in tf.global_variables()}
    np.testing.assert_allclose(
      out, (x - mean) / np.sqrt(variance + 1e-5), atol=1e-4
    )
    np.testing.assert_allclose(moving['bn/moving_mean'], 0.1 * mean, rtol=1e-4)
    np.testing.assert_allclose(
      moving['bn/moving_variance'],
      0.9 + 0.1 * variance * count / (count - 1),
      rtol=1e-4,
    )

  def test_batch_norm_of_plain_ops_stores_the_biased_variance(self):
    x = self.x.astype(np.float64)
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    with tf.Graph().as_default(), tf.Session() as session:
      out = layers.batch_norm(
        tf.constant(self.x), True, decay=0.6, epsilon=0.5, fused=False
      )
      session.run(tf.global_variables_initializer())
      out = session.run([out] + update_ops())[0]
      moving = {v.op.name: session.run(v) for v in tf.global_variables()}
    np.testing.assert_allclose(
      out, (x - mean) / np.sqrt(variance + 0.5), atol=1e-4
    )
    np.testing.assert_allclose(moving['bn/moving_mean'], 0.4 * mean, rtol=1e-4)
    np.testing.assert_allclose(
      moving['bn/moving_variance'], 0.6 + 0.4 * variance, rtol=1e-5
    )

  def test_decay_and_epsilon_of_ghost_batches(self):
    groups = self.x.astype(np.float64).reshape(2, 2, 6, 6, 5)
    mean, variance = groups.mean((1, 2, 3)), groups.var((1, 2, 3))
    scale = np.sqrt(variance + 0.5)[:, None, None, None]
    with tf.Graph().as_default(), tf.Session() as session:
      out = layers.batch_norm(
        tf.constant(self.x), True, ghost_batch=2, decay=0.6, epsilon=0.5
      )
      session.run(tf.global_variables_initializer())
      out = session.run([out] + update_ops())[0]
      moving = {v.op.name: session.run(v) for v in tf.global_variables()}
    expected = (groups - mean[:, None, None, None]) / scale
    np.testing.assert_allclose(out, expected.reshape(out.shape), atol=1e-4)
    np.testing.assert_allclose(
      moving['bn/moving_mean'], 0.4 * mean.mean(0), rtol=1e-4
    )
    np.testing.assert_allclose(  # From 1; stored without bias.
      moving['bn/moving_variance'],
      0.6 + 0.4 * (variance * 72 / 71).mean(0),
      rtol=1e-4,
    )

  def test_ghost_batches_of_plain_ops_are_refused(self):
    with tf.Graph().as_default(), self.assertRaisesRegex(ValueError, 'fused'):
      layers.batch_norm(tf.constant(self.x), True, ghost_batch=2, fused=False)

  def test_initial_kernels_are_uniform_as_wide_as_they_should_be(self):
    fan_in = 9 * 5
    for init, bound in (
      ('pytorch', fan_in**-0.5),
      ('he_uniform', (6 / fan_in) ** 0.5),
    ):
      with self.subTest(init), tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(1)
        layers.conv(tf.constant(self.x), 400, init=init)
        session.run(tf.global_variables_initializer())
        kernel = np.sort(session.run(tf.global_variables()[0]).ravel())
      uniform = np.linspace(-bound, bound, len(kernel))
      np.testing.assert_allclose(kernel, uniform, atol=0.03 * bound)

  def test_dirac_hands_the_channels_in_on_and_adds_others(self):
    for size in (3, 1):
      with self.subTest(size), tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(1)
        out = layers.conv(tf.constant(self.x), 400, size, init='dirac')
        session.run(tf.global_variables_initializer())
        out, kernel = session.run([out, tf.global_variables()[0]])
      np.testing.assert_array_equal(out[..., :5], self.x)
      bound = (size * size * 5) ** -0.5
      rest = np.sort(kernel[..., 5:].ravel())
      uniform = np.linspace(-bound, bound, len(rest))
      np.testing.assert_allclose(rest, uniform, atol=0.05 * bound)

  def test_dirac_where_no_channel_can_be_handed_on_is_pytorch(self):
    for build in (
      lambda init: layers.conv(tf.constant(self.x), 4, init=init),
      lambda init: layers.linear(tf.constant(self.x[:, 0, 0]), 10, init=init),
    ):
      kernels = []
      for init in ('pytorch', 'dirac'):
        with tf.Graph().as_default(), tf.Session() as session:
          tf.set_random_seed(3)
          build(init)
          session.run(tf.global_variables_initializer())
          kernels.append(session.run(tf.global_variables()[0]))
      self.assertLess(np.abs(kernels[1]).max(), 5**-0.5)
      self.assertEqual(*(kernel.shape for kernel in kernels))
      self.assertEqual(np.count_nonzero(kernels[1]), kernels[1].size)

  def test_batch_norm_at_evaluation_uses_the_moving_statistics(self):
    with tf.Graph().as_default(), tf.Session() as session:
      out = layers.batch_norm(tf.constant(self.x), training=False)
      session.run(tf.global_variables_initializer())
      values = {
        'bn/gamma': 2,
        'bn/beta': 3,
        'bn/moving_mean': 4,
        'bn/moving_variance': 5,
      }
      for variable in tf.global_variables():
        variable.load(np.full(5, values[variable.op.name], np.float32), session)
      out = session.run(out)
    np.testing.assert_allclose(
      out, 2 * (self.x - 4) / np.sqrt(5 + 1e-5) + 3, atol=1e-4
    )

  def test_max_pool_takes_the_maximum_of_each_window(self):
    with tf.Graph().as_default(), tf.Session() as session:
      out = session.run(layers.max_pool(tf.constant(self.x), 2))
    expected = self.x.reshape(4, 3, 2, 3, 2, 5).max((2, 4))
    np.testing.assert_array_equal(out, expected)

  def test_linear_is_a_matrix_product(self):
    x = self.x[:, 0, 0]
    with tf.Graph().as_default(), tf.Session() as session:
      out = layers.linear(tf.constant(x), 10)
      session.run(tf.global_variables_initializer())
      out, kernel = session.run([out, tf.global_variables()[0]])
    np.testing.assert_allclose(out, x @ kernel, atol=1e-5)

  def test_celu_and_its_gradient(self):
    x = np.array([-5, -0.3, -1e-3, 0, 1e-3, 0.3, 5], np.float32)
    bend = np.exp(np.minimum(x, 0).astype(np.float64) / 0.3)
    with tf.Graph().as_default(), tf.Session() as session:
      features = tf.constant(x)
      out = layers.activation(features, 'celu')
      out, gradient = session.run([out, tf.gradients(out, features)[0]])
    np.testing.assert_allclose(
      out, np.maximum(x, 0) + 0.3 * (bend - 1), rtol=1e-5
    )
    # exp(x / 0.3) below 0, and 1 from there: no kink at 0.
    np.testing.assert_allclose(gradient, bend, rtol=1e-5, atol=1e-7)
    self.assertEqual(out[3], 0)
    self.assertEqual(gradient[3], 1)

  def test_celu_keeps_the_dtype(self):
    for dtype in (tf.float32, tf.float16, tf.bfloat16):
      with self.subTest(dtype=dtype), tf.Graph().as_default():
        out = layers.activation(tf.zeros([2, 3], dtype), 'celu')
        self.assertEqual(out.dtype, dtype)

  def test_gamma_that_does_not_train_is_one_and_no_variable(self):
    for ghost_batch in (0, 2):
      for training in (True, False):
        with (
          self.subTest(ghost_batch=ghost_batch, training=training),
          tf.Graph().as_default(),
        ):
          layers.batch_norm(tf.constant(self.x), training, False, ghost_batch)
          self.assertEqual(
            [v.op.name for v in tf.trainable_variables()], ['bn/beta']
          )
          self.assertCountEqual(
            [v.op.name for v in tf.global_variables()],
            ['bn/beta', 'bn/moving_mean', 'bn/moving_variance'],
          )

  def test_biases_are_the_betas_once_each(self):
    for ghost_batch in (0, 2):
      with self.subTest(ghost_batch=ghost_batch), tf.Graph().as_default():

        def tower(training):
          x = tf.constant(self.x)
          for name in ('first', 'second'):
            with tf.variable_scope(name):
              x = layers.batch_norm(x, training, True, ghost_batch)

        tower(True)
        expected = ['first/bn/beta', 'second/bn/beta']
        self.assertEqual(biases(), expected)
        for training in (True, False):
          with tf.variable_scope(tf.get_variable_scope(), reuse=True):
            tower(training)
          self.assertEqual(biases(), expected)
        self.assertContainsSubset(
          tf.get_collection(tf.GraphKeys.BIASES), tf.trainable_variables()
        )


def ghost_forward(x, gamma, beta, ghost_batch):
  """Each group of consecutive examples by its own mean and biased variance."""
  out = np.empty_like(x)
  for first in range(0, len(x), ghost_batch):
    group = x[first : first + ghost_batch]
    deviation = group - group.mean((0, 1, 2))
    scale = gamma / np.sqrt((deviation**2).mean((0, 1, 2)) + 1e-5)
    out[first : first + ghost_batch] = deviation * scale + beta
  return out


class GhostBatchNormTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    # Groups of 4 with means of their own, which whole-batch statistics miss.
    self.x = noise(12, 3, 2, 5) * 2 + np.repeat([-1, 0, 4], 4)[
      :, None, None, None
    ].astype(np.float32)
    self.values = dict(
      gamma=noise(5, seed=4),
      beta=noise(5, seed=5),
      moving_mean=noise(5, seed=6),
      moving_variance=noise(5, seed=7) ** 2,
    )

  def test_normalises_each_group_by_its_own_statistics(self):
    with tf.Graph().as_default(), tf.Session() as session:
      out = layers.batch_norm(tf.constant(self.x), True, ghost_batch=4)
      load(session, **self.values)
      out = session.run(out)
    np.testing.assert_allclose(
      out,
      ghost_forward(
        self.x.astype(np.float64), self.values['gamma'], self.values['beta'], 4
      ),
      atol=1e-5,
    )

  def test_gamma_that_does_not_train_leaves_only_beta(self):
    with tf.Graph().as_default(), tf.Session() as session:
      out = layers.batch_norm(
        tf.constant(self.x), True, train_gamma=False, ghost_batch=4
      )
      load(session, **self.values)
      out = session.run(out)
    np.testing.assert_allclose(
      out,
      ghost_forward(self.x.astype(np.float64), 1.0, self.values['beta'], 4),
      atol=1e-5,
    )

  def test_moving_statistics_get_the_mean_over_the_groups(self):
    with tf.Graph().as_default(), tf.Session() as session:
      layers.batch_norm(tf.constant(self.x), True, ghost_batch=4)
      load(session, **self.values)
      session.run(update_ops())
      moving = {v.op.name: session.run(v) for v in tf.global_variables()}
    groups = self.x.astype(np.float64).reshape(3, 4 * 3 * 2, 5)
    np.testing.assert_allclose(
      moving['bn/moving_mean'],
      0.9 * self.values['moving_mean'] + 0.1 * groups.mean(1).mean(0),
      rtol=1e-4,
    )
    # ddof=1: unbiased, over the elements of a group.
    np.testing.assert_allclose(
      moving['bn/moving_variance'],
      0.9 * self.values['moving_variance']
      + 0.1 * groups.var(1, ddof=1).mean(0),
      rtol=1e-4,
    )

  def test_gradients_are_the_differences_of_the_outputs(self):
    x = self.x[:6, :2, :2, :3]
    direction = noise(*x.shape, seed=8).astype(np.float64)
    point = [
      value.astype(np.float64)
      for value in (x, self.values['gamma'][:3], self.values['beta'][:3])
    ]

    def difference(which, index):
      moved = [value.copy() for value in point], [v.copy() for v in point]
      moved[0][which][index] += 1e-5
      moved[1][which][index] -= 1e-5
      high, low = (ghost_forward(*args, 2) for args in moved)
      return ((high - low) * direction).sum() / 2e-5

    with tf.Graph().as_default(), tf.Session() as session:
      images = tf.constant(x)
      out = layers.batch_norm(images, True, ghost_batch=2)
      named = {v.op.name: v for v in tf.trainable_variables()}
      gradients = tf.gradients(
        out,
        [images, named['bn/gamma'], named['bn/beta']],
        direction.astype(np.float32),
      )
      load(session, gamma=point[1], beta=point[2])
      gradients = session.run(gradients)
    for which, got in enumerate(gradients):
      expected = [difference(which, index) for index in np.ndindex(got.shape)]
      np.testing.assert_allclose(got.ravel(), expected, atol=1e-4)

  def test_variables_and_collections_are_those_of_the_plain_layer(self):
    found = []
    for ghost_batch in (0, 4):
      with tf.Graph().as_default():
        layers.batch_norm(tf.constant(self.x), True, ghost_batch=ghost_batch)
        self.assertLen(update_ops(), 2)
        for variable in tf.global_variables():
          self.assertEqual(variable.op.type, 'VarHandleOp')
          self.assertEqual(variable.dtype, tf.float32)
        found.append(
          (
            {v.op.name: v.shape for v in tf.global_variables()},
            [v.op.name for v in tf.trainable_variables()],
            biases(),
          )
        )
    self.assertEqual(*found)

  def test_one_group_is_the_plain_layer(self):
    found = []
    for ghost_batch in (0, 12):
      with tf.Graph().as_default(), tf.Session() as session:
        images = tf.constant(self.x)
        out = layers.batch_norm(images, True, ghost_batch=ghost_batch)
        weights = tf.constant(noise(*self.x.shape, seed=8))
        (gradient,) = tf.gradients(out, images, weights)
        load(session, **self.values)
        found.append(session.run([out, gradient]))
        session.run(update_ops())
        found[-1] += session.run(
          sorted(tf.global_variables(), key=lambda v: v.op.name)
        )
    for plain, ghost in zip(*found):
      np.testing.assert_allclose(ghost, plain, atol=1e-6)

  def test_weights_trained_in_groups_evaluate_at_any_batch_size(self):
    prefix = os.path.join(self.create_tempdir().full_path, 'weights')
    with tf.Graph().as_default(), tf.Session() as session:
      layers.batch_norm(tf.constant(self.x), True, ghost_batch=4)
      load(session, **self.values)
      session.run(update_ops())
      values = {
        v.op.name: session.run(v).astype(np.float64)
        for v in tf.global_variables()
      }
      tf.train.Saver().save(session, prefix, write_meta_graph=False)
    scale = values['bn/gamma'] / np.sqrt(values['bn/moving_variance'] + 1e-5)
    for static in (None, 1, 5, 7):
      with (
        self.subTest(static=static),
        tf.Graph().as_default(),
        tf.Session() as session,
      ):
        images = tf.placeholder(tf.float32, [static, 3, 2, 5])
        out = layers.batch_norm(images, False, ghost_batch=4)
        self.assertEqual(update_ops(), [])
        tf.train.Saver().restore(session, prefix)
        for count in (1, 5, 7) if static is None else (static,):
          x = self.x[:count]
          np.testing.assert_allclose(
            session.run(out, {images: x}),
            (x - values['bn/moving_mean']) * scale + values['bn/beta'],
            atol=1e-4,
          )

  def test_a_batch_that_is_no_multiple_is_named(self):
    with tf.Graph().as_default():
      with self.assertRaisesRegex(ValueError, '12 images.*ghost_batch=5'):
        layers.batch_norm(tf.constant(self.x), True, ghost_batch=5)

  def test_an_unknown_batch_cannot_train_in_groups(self):
    with tf.Graph().as_default():
      images = tf.placeholder(tf.float32, [None, 3, 2, 5])
      with self.assertRaisesRegex(ValueError, 'None images.*ghost_batch=4'):
        layers.batch_norm(images, True, ghost_batch=4)

  def test_half_precision_keeps_statistics_in_float32(self):
    expected = ghost_forward(
      self.x.astype(np.float64), self.values['gamma'], self.values['beta'], 4
    )
    mean = self.x.reshape(3, -1, 5).mean((0, 1), dtype=np.float64)
    for dtype, tolerance in ((tf.float16, 1e-2), (tf.bfloat16, 8e-2)):
      with (
        self.subTest(dtype=dtype),
        tf.Graph().as_default(),
        tf.Session() as session,
      ):
        images = tf.cast(tf.constant(self.x), dtype)
        out = layers.batch_norm(images, True, ghost_batch=4)
        self.assertEqual(out.dtype, dtype)
        (gradient,) = tf.gradients(out, images)
        self.assertEqual(gradient.dtype, dtype)
        load(session, **{**self.values, 'moving_mean': 0.0})
        out, _ = session.run([tf.cast(out, tf.float32), gradient])
        np.testing.assert_allclose(out, expected, atol=tolerance)
        session.run(update_ops())
        (stored,) = (v for v in tf.global_variables() if 'mean' in v.op.name)
        self.assertEqual(stored.dtype, tf.float32)
        np.testing.assert_allclose(
          session.run(stored), 0.1 * mean, atol=tolerance / 10
        )


if __name__ == '__main__':
  absltest.main()
