"""demos/cifar_bottleneck.py: network, axis=1, and the arithmetic of decay."""

from absl.testing import absltest
import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.demos.cases import cifar_bottleneck

IMAGES = np.random.RandomState(0).randint(0, 256, [5, 32, 32, 3], np.uint8)


def built(variant):
  """Builds a training tower; returns {name: shape} of what it trains."""
  with tf.variable_scope('', use_resource=True):
    cifar_bottleneck.logits(tf.constant(IMAGES), variant, training=True)
  return {v.op.name: v.shape.as_list() for v in tf.trainable_variables()}


class CifarBottleneckTest(absltest.TestCase):
  def test_network_as_asked(self):
    with tf.Graph().as_default():
      shapes = built(cifar_bottleneck.Variant())
      self.assertLen(tf.get_collection(tf.GraphKeys.UPDATE_OPS), 2 * 9)
    self.assertEqual(shapes['conv/kernel'], [3, 3, 3, 32])
    for k in range(3):
      self.assertEqual(
        [shapes['unit%d/conv%d/kernel' % (k, n)] for n in (1, 2, 3)],
        [[1, 1, 32, 16], [3, 3, 16, 16], [1, 1, 16, 32]],
      )
      self.assertEqual(shapes['unit%d/bn3/gamma' % k], [32])
    self.assertEqual(shapes['dense1/kernel'], [32 * 32 * 32, 32])
    self.assertEqual(shapes['dense2/kernel'], [32, 10])

  def test_no_batch_norm_before_the_sum(self):
    with tf.Graph().as_default():
      shapes = built(cifar_bottleneck.Variant(norm_before_sum=False))
      self.assertLen(tf.get_collection(tf.GraphKeys.UPDATE_OPS), 2 * 6)
    self.assertNotIn('unit0/bn3/gamma', shapes)

  def test_axis_1_normalises_every_row_of_the_image(self):
    with tf.Graph().as_default():
      self.assertEqual(
        built(cifar_bottleneck.Variant(axis=1))['unit0/bn1/gamma'], [32]
      )
    x = np.random.RandomState(1).normal(3, 2, [4, 6, 5, 3]).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
      y = tf.layers.batch_normalization(tf.constant(x), axis=1, training=True)
      session.run(tf.global_variables_initializer())
      got = session.run(y)
    mean = x.mean((0, 2, 3), keepdims=True)
    variance = x.var((0, 2, 3), keepdims=True)
    np.testing.assert_allclose(
      got, (x - mean) / np.sqrt(variance + 1e-3), atol=1e-4
    )

  def test_default_decay_keeps_the_initial_variance_for_hundreds_of_steps(self):
    decay, steps = cifar_bottleneck.Variant().decay, 100
    with tf.Graph().as_default(), tf.Session() as session:
      layer = tf.layers.BatchNormalization()  # As asked: its own default.
      layer.apply(tf.zeros([8, 4]), training=True)
      update_ops = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
      session.run(tf.global_variables_initializer())
      for _ in range(steps):
        session.run(update_ops)
      left = session.run(layer.moving_variance)
    np.testing.assert_allclose(left, decay**steps, rtol=1e-3)

  def test_arms_differ_from_what_was_asked_in_what_they_say(self):
    arms = {name: variant for name, _, variant in cifar_bottleneck.ARMS}
    asked = arms['as asked']
    self.assertEqual(
      arms['all three'],
      asked._replace(axis=1, signed=True, norm_before_sum=False),
    )
    self.assertEqual(arms['decay 0.9'], asked._replace(decay=0.9))


if __name__ == '__main__':
  absltest.main()
