"""batchnorm/measure.py against NumPy, on small graphs of many kinds."""

import functools

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.batchnorm import measure

STORED_MEAN, STORED_VARIANCE = [1., 2., 3.], [4., 5., 6.]


def layer(x, **how):
  return tf.layers.batch_normalization(
      x, moving_mean_initializer=tf.constant_initializer(STORED_MEAN),
      moving_variance_initializer=tf.constant_initializer(STORED_VARIANCE),
      training=True, name='bn', **how)


def measured(build, batches, use_resource=True):
  """Statistics of build(x) over batches of x, and the layers found."""
  with tf.Graph().as_default(), tf.Session() as session:
    with tf.variable_scope('net', use_resource=use_resource):
      x = tf.placeholder(tf.float32, [None] + list(batches.shape[2:]))
      build(x)
    layers = measure.layers(tf.get_collection(tf.GraphKeys.UPDATE_OPS))
    session.run(tf.global_variables_initializer())
    feeds = [{x: batch} for batch in batches]
    before = session.run(tf.global_variables())
    statistics = measure.statistics(session, layers, feeds)
    after = session.run(tf.global_variables())
  for one, other in zip(before, after):
    np.testing.assert_array_equal(one, other)
  return layers, statistics


class MeasureTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.batches = np.random.RandomState(0).normal(
        3, 2, [4, 5, 6, 7, 3]).astype(np.float32)

  @parameterized.product(fused=[True, False], use_resource=[True, False])
  def test_statistics_are_those_of_all_inputs(self, fused, use_resource):
    layers, (got,) = measured(functools.partial(layer, fused=fused),
                              self.batches, use_resource)
    self.assertEqual([x.name for x in layers], ['net/bn'])
    values = self.batches.reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(got.mean, values.mean(0), rtol=1e-5)
    # The fused layer stores the unbiased variance of each batch, of 210 values.
    np.testing.assert_allclose(got.variance, values.var(0), rtol=1 / 200)
    np.testing.assert_array_equal(got.stored_mean, STORED_MEAN)
    np.testing.assert_array_equal(got.stored_variance, STORED_VARIANCE)

  def test_variance_between_batches_counts(self):
    batches = self.batches + 10 * np.arange(4).reshape(4, 1, 1, 1, 1)
    _, (got,) = measured(layer, batches.astype(np.float32))
    np.testing.assert_allclose(
        got.variance, batches.reshape(-1, 3).var(0), rtol=1e-3)

  def test_calls_of_a_shared_layer_are_one_layer(self):
    def twice(x):
      layer(x)
      with tf.variable_scope(tf.get_variable_scope(), reuse=True):
        layer(x + 10)

    layers, (got,) = measured(twice, self.batches)
    self.assertLen(layers, 2)
    np.testing.assert_allclose(
        got.mean, self.batches.reshape(-1, 3).mean(0) + 5, rtol=1e-5)

  def test_three_dimensions_and_another_axis(self):
    batches = self.batches[..., 0].transpose(0, 1, 3, 2)[..., :3]
    _, (got,) = measured(layer, batches)
    np.testing.assert_allclose(got.mean, batches.mean((0, 1, 2)), rtol=1e-5)
    rows = self.batches[:, :, :3]
    _, (got,) = measured(functools.partial(layer, axis=1), rows)
    np.testing.assert_allclose(got.mean, rows.mean((0, 1, 3, 4)), rtol=1e-5)

  def test_gaps(self):
    got = measure.Statistics('bn', np.array([1., 5.]), np.array([8., 1.]),
                             np.array([3., 5.]), np.array([4., 2.]))
    self.assertAlmostEqual(got.mean_gap, np.sqrt(.5))  # 1 and 0 deviations.
    self.assertAlmostEqual(got.variance_ratio, 1.25)  # Median of 2 and 0.5.

  def test_an_op_that_is_no_moving_average_is_named(self):
    with tf.Graph().as_default():
      variable = tf.get_variable('v', [3], use_resource=True)
      ops = [variable.assign_add([1., 1., 1.]).op] * 2
      with self.assertRaisesRegex(ValueError, ops[0].name):
        measure.layers(ops)


if __name__ == '__main__':
  absltest.main()
