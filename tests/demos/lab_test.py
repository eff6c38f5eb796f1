"""demos/lab.py: how an arm is trained and measured, on a graph of one layer."""

import functools

from absl.testing import absltest
import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.demos import lab
from graph_resnet9.demos.cases import image_pairs
from graph_resnet9.demos.cases import shuffle_batch
from graph_resnet9.inputs import dataset

SOURCE = dataset.find('synthetic')


def tower(batch, training):
  """One normalised dense layer on the mean colour of the images."""
  images = tf.gather(tf.reshape(batch.pixels, [-1, 32 * 32, 3]), batch.indices)
  x = tf.reduce_mean(tf.cast(images, tf.float32), 1)
  x = tf.layers.batch_normalization(
    x, momentum=0.5, training=training, name='bn'
  )
  return lab.scored(tf.layers.dense(x, 10, name='dense'), batch.labels)


class TrainerTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.trainer = lab.Trainer(3, SOURCE, fast=True)

  def train(self, rate):
    return self.trainer.train(
      'arm',
      True,
      lambda: self.trainer.image_graph(
        tower, lambda loss: lab.train_op(loss, rate)
      ),
      16,
    )

  def test_an_arm_is_the_same_for_a_seed(self):
    one, other = self.train(0.1), self.train(0.1)
    self.assertEqual(one.curve, other.curve)
    self.trainer.seed = 4
    self.assertNotEqual(self.train(0.1).curve, one.curve)

  def test_curve_has_eight_points_and_ends_with_the_last_step(self):
    curve = self.train(0.1).curve
    self.assertEqual([point.step for point in curve], list(range(2, 17, 2)))

  def test_statistics_are_those_of_the_test_images(self):
    (layer,) = self.train(0.0).layers
    colours = self.trainer.data('test').images.reshape(-1, 1024, 3).mean(1)
    np.testing.assert_allclose(layer.inputs.mean, colours.mean(0), rtol=1e-5)
    np.testing.assert_allclose(
      layer.inputs.variance, colours.var(0, ddof=1), rtol=1e-5
    )
    # 16 steps with decay .5 have forgotten the initial 0 and 1.
    self.assertLess(layer.mean_gap, 0.5)
    self.assertBetween(layer.variance_ratio, 0.5, 2)

  def test_training_data_is_ten_times_the_test_data_and_can_be_sorted(self):
    labels = self.trainer.data('train', 'class_sorted').labels
    self.assertLen(labels, lab.TRAIN_EXAMPLES)
    self.assertTrue(np.all(np.diff(labels) >= 0))
    self.assertEqual(lab.TEST_EXAMPLES % lab.EVAL_BATCH_SIZE, 0)

  def test_fast_is_shorter(self):
    self.assertEqual(self.trainer.steps(9, 4), 4)
    self.assertEqual(lab.Trainer(0, SOURCE, fast=False).steps(9, 4), 9)


class PiecesTest(absltest.TestCase):
  def test_evaluation_leaves_the_update_ops_to_the_training(self):
    trainer = lab.Trainer(0, SOURCE, fast=True)
    with trainer.graph():
      seen = []

      def train_op(loss):
        seen.extend(tf.get_collection(tf.GraphKeys.UPDATE_OPS))
        return lab.train_op(loss, 0.1)

      graph = trainer.image_graph(tower, train_op)
      self.assertLen(seen, 2)
      self.assertLen(tf.get_collection(tf.GraphKeys.UPDATE_OPS), 4)
      self.assertLen(tf.trainable_variables(), 4)  # Shared by three towers.
      self.assertLen(graph.evaluation.feeds, 2)

  def test_label_entropy(self):
    for labels, expected in (
      ([3] * 8, 0),
      (list(range(10)) * 2, 1),
      ([0, 1] * 4, np.log10(2)),
    ):
      with tf.Graph().as_default(), tf.Session() as session:
        self.assertAlmostEqual(
          session.run(shuffle_batch.label_entropy(tf.constant(labels))),
          expected,
          places=6,
        )


class ImagePairsTest(absltest.TestCase):
  def test_loss_is_l2_and_two_hinges(self):
    values = np.array([0.5, -1, 2, 0.5, -0.5, 0.25], np.float32)
    labels = np.array([1, -1, 1, -1, 1, -1], np.float32)
    expected = np.mean([0.25, 0]) + np.mean([0, 1.5]) + np.mean([1.5, 1.25])
    with tf.Graph().as_default(), tf.Session() as session:
      self.assertAlmostEqual(
        session.run(image_pairs.loss(tf.constant(values), tf.constant(labels))),
        expected,
      )

  def test_thirds_are_a_a_b_b_a_b_and_a_pair_holds_both_classes(self):
    split = lab.Trainer(0, SOURCE, fast=True).data('test')
    with tf.Graph().as_default(), tf.Session() as session:
      with tf.variable_scope('', use_resource=True):
        data = image_pairs.data_of(split, common=False)
      batch = image_pairs.pairs(data, [tf.range(6)] * 2)
      feed = {
        key: value for table in data.tables for key, value in table.feed.items()
      }
      session.run(tf.local_variables_initializer(), feed)
      first, second, labels = session.run(batch)
    self.assertEqual(labels.tolist(), [1, -1] * 3)
    # B is brighter than any A: its darkest pixel is above 1.
    self.assertEqual(
      [image.min() > 1 for image in first],
      [False, False, True, True, False, False],
    )
    self.assertEqual(
      [image.min() > 1 for image in second],
      [False, False, True, True, True, True],
    )
    self.assertLessEqual(first.max(), image_pairs.WHITE + 1e-6)

  def test_common_brings_both_kinds_to_mean_0_and_deviation_1(self):
    split = lab.Trainer(0, SOURCE, fast=True).data('train')
    with tf.Graph().as_default(), tf.Session() as session:
      with tf.variable_scope('', use_resource=True):
        data = image_pairs.data_of(split, common=True)
      batch = image_pairs.pairs(data, [tf.range(300)] * 2)
      feed = {
        key: value for table in data.tables for key, value in table.feed.items()
      }
      session.run(tf.local_variables_initializer(), feed)
      first = session.run(batch.first)
    for kind in (first[:100], first[100:200]):
      np.testing.assert_allclose(kind.mean((0, 1, 2)), 0, atol=0.2)
      np.testing.assert_allclose(kind.std((0, 1, 2)), 1, atol=0.2)

  def test_uniform_towers_update_six_times_a_mixed_one_once(self):
    for mixed, calls in ((False, 6), (True, 1)):
      with tf.Graph().as_default(), tf.variable_scope('', use_resource=True):
        images = tf.zeros([6, 32, 32, 3])
        build = functools.partial(
          image_pairs.outputs,
          image_pairs.Pairs(images, images, None),
          training=True,
          mixed=mixed,
          decay=0.9,
        )
        self.assertEqual(build().shape.as_list(), [6])
        self.assertLen(
          tf.get_collection(tf.GraphKeys.UPDATE_OPS), 2 * 7 * calls
        )
        self.assertLen(tf.global_variables('resnet'), 7 * 5)

  def test_arithmetic_of_the_source(self):
    lines = '\n'.join(image_pairs.arithmetic(steps=1400))
    self.assertIn('moving mean 1.50, moving variance 0.25', lines)
    self.assertIn(
      'uniform batches: moving mean 1.50, moving variance 0.00', lines
    )
    self.assertIn('1 1 1 1 1 1 1 1  training 0  evaluation -15.', lines)
    self.assertIn('2 2 2 2 2 2 2 2  training 0  evaluation 15.', lines)


if __name__ == '__main__':
  absltest.main()
