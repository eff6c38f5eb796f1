"""demos/lab.py: how an arm is trained and measured, on a graph of one layer."""

import os

from absl.testing import absltest
import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.demos import lab
from graph_resnet9.demos import towers
from graph_resnet9.demos.cases import shuffle_batch
from graph_resnet9.inputs import dataset
from graph_resnet9.inputs import formats
from graph_resnet9.inputs import synthetic

SOURCE = dataset.find('synthetic')


def tower(batch, training):
  """One normalised dense layer on the mean colour of the images."""
  images = tf.gather(tf.reshape(batch.pixels, [-1, 32 * 32, 3]), batch.indices)
  x = tf.reduce_mean(tf.cast(images, tf.float32), 1)
  x = tf.layers.batch_normalization(
    x, momentum=0.5, training=training, name='bn'
  )
  return towers.scored(tf.layers.dense(x, 10, name='dense'), batch.labels)


class TrainerTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.trainer = lab.Trainer(3, SOURCE, fast=True)

  def train(self, rate):
    return self.trainer.train(
      'arm',
      True,
      lambda: self.trainer.image_graph(
        tower, lambda loss: towers.train_op(loss, rate)
      ),
      16,
    )

  def test_an_arm_is_the_same_for_a_seed(self):
    one, other = self.train(0.1), self.train(0.1)
    self.assertEqual(one.curve, other.curve)
    self.trainer.seed = 4
    self.assertNotEqual(self.train(0.1).curve, one.curve)

  def test_images_are_those_of_a_folder(self):
    folder = self.create_tempdir().full_path
    images, labels = synthetic.split(30, seed=5)
    for name in ('train', 'test'):
      formats.encode_records(formats.Split(images, labels)).tofile(
        os.path.join(folder, name + '.bin')
      )
    source = dataset.find('folder', folder, '10')
    trainer = lab.Trainer(3, source, fast=True)
    np.testing.assert_array_equal(trainer.data('train').images, images)
    sorted_labels = trainer.data('test', 'class_sorted').labels
    np.testing.assert_array_equal(sorted_labels, np.sort(labels))

  def test_curve_has_five_points_and_ends_with_the_last_step(self):
    curve = self.train(0.1).curve
    self.assertEqual([point.step for point in curve], [3, 6, 10, 13, 16])

  def test_figures_are_kept_by_step_with_their_mean(self):
    arm = self.trainer.train(
      'arm',
      True,
      lambda: self.trainer.image_graph(
        tower, lambda loss: towers.train_op(loss, 0.1)
      )._replace(
        figures={'step': tf.cast(tf.train.get_global_step(), tf.float32)}
      ),
      5,
    )
    self.assertLen(arm.traces['step'], 5)
    self.assertAlmostEqual(arm.figures['step'], np.mean(arm.traces['step']))

  def test_a_network_without_batch_norm_is_trained_and_found_healthy(self):
    def plain(batch, training):
      del training
      images = tf.gather(tf.reshape(batch.pixels, [-1, 3072]), batch.indices)
      logits = tf.layers.dense(tf.cast(images, tf.float32), 10, name='dense')
      return towers.scored(logits, batch.labels)

    arm = self.trainer.train(
      'arm',
      False,
      lambda: self.trainer.image_graph(
        plain, lambda loss: towers.train_op(loss, 0.1)
      ),
      5,
    )
    self.assertEqual((arm.layers, arm.lint, arm.diagnosis), ([], [], []))

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
    self.assertEqual(lab.TEST_EXAMPLES % towers.EVAL_BATCH_SIZE, 0)

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
        return towers.train_op(loss, 0.1)

      graph = trainer.image_graph(tower, train_op)
      self.assertLen(seen, 2)
      self.assertLen(tf.get_collection(tf.GraphKeys.UPDATE_OPS), 4)
      self.assertLen(tf.trainable_variables(), 4)  # Shared by three towers.
      self.assertLen(
        graph.evaluation.feeds, lab.TEST_EXAMPLES // towers.EVAL_BATCH_SIZE
      )

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


if __name__ == '__main__':
  absltest.main()
