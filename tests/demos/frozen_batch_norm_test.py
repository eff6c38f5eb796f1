"""demos/cases/frozen_batch_norm.py: which statistics a frozen layer uses."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf
import tf_keras

from graph_resnet9.demos.cases import frozen_batch_norm
from graph_resnet9.demos.cases import frozen_resnet50
from graph_resnet9.inputs import formats

BATCH, MOVING = (0.0, 1.0), (3.0, 2.0)  # Mean and deviation of the outputs.


class KindsTest(parameterized.TestCase):
  @parameterized.parameters(
    (frozen_batch_norm.tf_layers, True, True, BATCH),
    (frozen_batch_norm.tf_layers, False, True, MOVING),
    (frozen_batch_norm.keras_1, True, True, BATCH),
    (frozen_batch_norm.keras_2, True, True, MOVING),
    (frozen_batch_norm.keras_2_late, True, True, BATCH),
  )
  def test_statistics_of_a_frozen_layer(self, norm, training, frozen, expected):
    # Inputs of mean 3 and deviation 2; stored are 0 and 1.
    x = np.random.RandomState(0).normal(3, 2, [4000, 2]).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
      with tf.variable_scope('backbone', use_resource=True):
        y = norm(tf.constant(x), 0, training, frozen, {})
      self.assertEmpty(tf.get_collection(tf.GraphKeys.UPDATE_OPS))
      session.run(tf.global_variables_initializer())
      y = session.run(y)
    self.assertAlmostEqual(y.mean(), expected[0], delta=0.1)
    self.assertAlmostEqual(y.std(), expected[1], delta=0.1)

  def test_a_layer_that_is_frozen_late_counts_when_it_is_called_again(self):
    x = np.random.RandomState(0).normal(3, 2, [4000, 2]).astype(np.float32)
    layers = {}
    with tf.Graph().as_default(), tf.Session() as session:
      early, late = (
        frozen_batch_norm.keras_2_late(tf.constant(x), 0, True, True, layers)
        for _ in range(2)
      )
      session.run(tf.global_variables_initializer())
      early, late = session.run([early, late])
    self.assertAlmostEqual(early.mean(), BATCH[0], delta=0.1)
    self.assertAlmostEqual(late.mean(), MOVING[0], delta=0.1)


class ResNet50Test(absltest.TestCase):
  def test_layers_of_either_kind(self):
    for make, kind in (
      (frozen_resnet50.keras_1_model, tf.keras.layers.BatchNormalization),
      (frozen_resnet50.keras_2_model, tf_keras.layers.BatchNormalization),
    ):
      with tf.Graph().as_default():
        norms = [
          layer for layer in make().layers if 'bn' in layer.name.split('_')
        ]
        self.assertLen(norms, 53)
        self.assertEqual({type(layer) for layer in norms}, {kind})
        self.assertFalse(any(layer.trainable for layer in norms))

  def test_half_of_the_images_are_brighter_than_most(self):
    images = np.random.RandomState(0).randint(0, 256, [40, 32, 32, 3], np.uint8)
    split = formats.Split(images, np.zeros(40, np.int32))
    got = frozen_resnet50.by_brightness(split, 30)
    self.assertEqual(got.labels.sum(), 15)
    means = got.images.mean((1, 2, 3))
    self.assertLess(means[got.labels == 0].max(), means[got.labels == 1].min())


if __name__ == '__main__':
  absltest.main()
