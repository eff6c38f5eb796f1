"""The network: its variables, shapes, collections and arithmetic."""

from absl.testing import absltest
import numpy as np

import graph_resnet9  # pylint: disable=unused-import
import tensorflow.compat.v1 as tf

from graph_resnet9.model import layers
from graph_resnet9.model import resnet9

BLOCKS = ('prep', 'layer1', 'layer1/residual/res1', 'layer1/residual/res2',
          'layer2', 'layer3', 'layer3/residual/res1', 'layer3/residual/res2')


def images(batch=2, dtype=tf.float32):
  return tf.zeros([batch, 32, 32, 3], dtype)


def sizes(variables):
  return sum(int(np.prod(v.shape.as_list())) for v in variables)


class Resnet9Test(absltest.TestCase):

  def test_has_the_published_number_of_parameters(self):
    with tf.Graph().as_default():
      resnet9.logits(images(), training=True)
      trainable = tf.trainable_variables()
      self.assertEqual(sizes(trainable), 6573120)
      self.assertEqual(
          sizes(v for v in trainable if v.op.name.endswith('kernel')), 6568640)

  def test_variables_have_the_documented_names_and_nothing_else(self):
    with tf.Graph().as_default():
      resnet9.logits(images(), training=False, width=4)
      expected = ['linear/kernel'] + [
          block + '/' + name for block in BLOCKS for name in (
              'conv/kernel', 'bn/gamma', 'bn/beta', 'bn/moving_mean',
              'bn/moving_variance')]
      self.assertCountEqual(
          [v.op.name for v in tf.global_variables()], expected)

  def test_variables_are_resource_variables_in_float32_at_any_precision(self):
    for dtype in (tf.float32, tf.float16, tf.bfloat16):
      with self.subTest(dtype=dtype), tf.Graph().as_default():
        logits = resnet9.logits(images(dtype=dtype), training=True, width=4)
        self.assertEqual(logits.dtype, tf.float32)
        for variable in tf.global_variables():
          self.assertEqual(variable.dtype, tf.float32, variable.name)
          self.assertEqual(variable.op.type, 'VarHandleOp')

  def test_update_ops_are_two_a_layer_in_training_and_none_otherwise(self):
    for training, expected in ((True, 16), (False, 0)):
      with self.subTest(training=training), tf.Graph().as_default():
        resnet9.logits(images(), training=training, width=4)
        self.assertLen(tf.get_collection(tf.GraphKeys.UPDATE_OPS), expected)

  def test_second_tower_shares_every_variable(self):
    with tf.Graph().as_default():
      resnet9.logits(images(), training=True, width=4)
      before = tf.global_variables()
      with tf.variable_scope(tf.get_variable_scope(), reuse=True):
        resnet9.logits(images(5), training=False, width=4)
      self.assertEqual(tf.global_variables(), before)

  def test_initial_kernels_are_uniform_in_one_over_root_fan_in(self):
    with tf.Graph().as_default(), tf.Session() as session:
      resnet9.logits(images(), training=True, width=32)
      session.run(tf.global_variables_initializer())
      for name, fan_in in (('layer3/conv/kernel', 9 * 128),
                           ('linear/kernel', 256)):
        kernel = session.run(tf.global_variables(name)[0])
        bound = fan_in ** -.5
        self.assertLessEqual(np.abs(kernel).max(), bound)
        self.assertGreater(np.abs(kernel).max(), .99 * bound)
        self.assertAlmostEqual(kernel.std() * 3 ** .5 / bound, 1, delta=.03)

  def test_wrong_image_shape_is_named(self):
    with tf.Graph().as_default():
      with self.assertRaisesRegex(ValueError, r'must be \[batch, 32, 32, 3\]'):
        resnet9.logits(tf.zeros([2, 3, 32, 32]), training=True)

  def test_resource_variables_even_where_they_are_switched_off(self):
    with tf.Graph().as_default():
      scope = tf.get_variable_scope()
      scope.set_use_resource(False)
      resnet9.logits(images(), training=True, width=4)
      for variable in tf.global_variables():
        self.assertEqual(variable.op.type, 'VarHandleOp', variable.name)


def numpy_conv(x, kernel):
  """3x3, stride 1, zero padding, one output pixel at a time."""
  padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
  out = np.zeros(x.shape[:3] + kernel.shape[3:])
  for row in range(x.shape[1]):
    for column in range(x.shape[2]):
      out[:, row, column] = np.tensordot(
          padded[:, row:row + 3, column:column + 3], kernel, 3)
  return out


class LayersTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.random = np.random.RandomState(3)
    self.x = self.random.normal(size=(4, 6, 6, 5)).astype(np.float32) * 3 + 1

  def test_conv_is_a_correlation_with_zero_padding(self):
    with tf.Graph().as_default(), tf.Session() as session:
      out = layers.conv(tf.constant(self.x), 7)
      session.run(tf.global_variables_initializer())
      out, kernel = session.run([out, tf.global_variables()[0]])
    np.testing.assert_allclose(out, numpy_conv(self.x, kernel), atol=2e-5)

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
        out, (x - mean) / np.sqrt(variance + 1e-5), atol=1e-4)
    np.testing.assert_allclose(moving['bn/moving_mean'], .1 * mean, rtol=1e-4)
    np.testing.assert_allclose(
        moving['bn/moving_variance'],
        .9 + .1 * variance * count / (count - 1), rtol=1e-4)

  def test_batch_norm_at_evaluation_uses_the_moving_statistics(self):
    with tf.Graph().as_default(), tf.Session() as session:
      out = layers.batch_norm(tf.constant(self.x), training=False)
      session.run(tf.global_variables_initializer())
      values = {'bn/gamma': 2, 'bn/beta': 3, 'bn/moving_mean': 4,
                'bn/moving_variance': 5}
      for variable in tf.global_variables():
        variable.load(np.full(5, values[variable.op.name], np.float32), session)
      out = session.run(out)
    np.testing.assert_allclose(
        out, 2 * (self.x - 4) / np.sqrt(5 + 1e-5) + 3, atol=1e-4)

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


if __name__ == '__main__':
  absltest.main()
