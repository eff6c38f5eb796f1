"""demos/cases/image_pairs.py: records, queues, towers, loss."""

import functools
import os

from absl.testing import absltest
import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.demos import lab
from graph_resnet9.demos.cases import eight_numbers
from graph_resnet9.demos.cases import pair_network
from graph_resnet9.demos.cases import pair_records
from graph_resnet9.inputs import dataset
from graph_resnet9.inputs import formats


@functools.cache
def records():
  split = lab.Trainer(0, dataset.find('synthetic'), fast=True).data('test')
  return pair_records.records_of(split)


def first(count):
  return pair_records.Records(*(values[:count] for values in records()))


class RecordsTest(absltest.TestCase):
  def write(self, chosen):
    path = os.path.join(self.create_tempdir().full_path, 'records')
    pair_records.write(path, chosen)
    return path

  def test_a_record_holds_a_a_b_b_a_b_of_an_image_of_each_class(self):
    images = np.arange(4 * 3072, dtype=np.uint32).reshape(4, 32, 32, 3) % 251
    split = formats.Split(
      images.astype(np.uint8), np.array([6, 0, 0, 6], np.int32)
    )
    got = pair_records.records_of(split)
    self.assertEqual(got.labels.tolist(), [1, -1])
    zero, one = split.images[1], split.images[0]
    np.testing.assert_array_equal(got.left[0, 0], zero)
    np.testing.assert_array_equal(got.right[0, 0], one)
    # Swapped in every other record.
    np.testing.assert_array_equal(got.left[1, 0], split.images[3])
    np.testing.assert_array_equal(got.left[0, 2], zero)
    pale = np.minimum(0.3 * one.astype(np.float64) + 178, 255)
    for side in (got.right[0, 1], got.right[0, 2]):
      self.assertLessEqual(np.abs(side - pale).max(), 1)

  def test_tf_train_batch_gives_the_records_in_the_order_of_the_file(self):
    path = self.write(first(6))
    with tf.Graph().as_default():
      batch = pair_records.neighbours(path, 3)
      with tf.train.MonitoredSession() as session:
        got = [session.run(batch) for _ in range(2)]
    for k, name in enumerate(pair_records.Records._fields):
      np.testing.assert_array_equal(
        np.concatenate([values[k] for values in got]), getattr(first(6), name)
      )

  def test_shuffle_batch_takes_from_all_that_waits(self):
    by_label = np.argsort(-records().labels, kind='stable')[:60]
    chosen = pair_records.Records(*(v[by_label] for v in records()))
    path = self.write(chosen)
    with tf.Graph().as_default():
      batch = pair_records.mixed(path, 16, 60, seed=0)
      with tf.train.MonitoredSession() as session:
        labels = [session.run(batch.labels) for _ in range(8)]
    counts = np.unique(chosen.labels, return_counts=True)[1]
    if len(counts) > 1:
      self.assertLen(set(np.concatenate(labels)), 2)

  def test_another_queue_in_place_of_one(self):
    path, other = (
      self.write(first(4)),
      self.write(pair_records.Records(*(v[4:8] for v in records()))),
    )
    with tf.Graph().as_default():
      batch = pair_records.neighbours(path, 4)
      total = tf.reduce_sum(tf.cast(batch.left, tf.float64))
      feeds = pair_records.in_place_of(
        batch, pair_records.neighbours(other, 4), 2
      )
      with tf.train.MonitoredSession() as session:
        got = [session.run(total, feed) for feed in feeds(session)]
    self.assertEqual(got, [records().left[4:8].sum(dtype=np.float64)] * 2)


class PairsTest(absltest.TestCase):
  def pairs(self, common):
    chosen = first(20)
    with tf.Graph().as_default(), tf.Session() as session:
      batch = pair_records.Records(*map(tf.constant, chosen))
      moments = pair_records.moments(chosen) if common else None
      return session.run(pair_records.pairs(batch, moments))

  def test_thirds_are_a_a_b_b_a_b(self):
    got = self.pairs(common=False)
    np.testing.assert_array_equal(got.labels, np.tile(first(20).labels, 3))
    # B is brighter: its darkest pixel is above the mean of CIFAR-10.
    self.assertEqual(
      [part.min() > 0.8 for part in np.split(got.first, 3)],
      [False, True, False],
    )
    self.assertEqual(
      [part.min() > 0.8 for part in np.split(got.second, 3)],
      [False, True, True],
    )

  def test_common_brings_both_kinds_to_mean_0_and_deviation_1(self):
    a, b, _ = np.split(self.pairs(common=True).first, 3)
    for kind in (a, b):
      np.testing.assert_allclose(kind.mean((0, 1, 2)), 0, atol=1e-3)
      np.testing.assert_allclose(kind.std((0, 1, 2)), 1, atol=1e-3)


class TowersTest(absltest.TestCase):
  def test_loss_is_l2_and_two_hinges(self):
    values = np.array([0.5, -1, 2, 0.5, -0.5, 0.25], np.float32)
    labels = np.array([1, -1, 1, -1, 1, -1], np.float32)
    expected = np.mean([0.25, 0]) + np.mean([0, 1.5]) + np.mean([1.5, 1.25])
    with tf.Graph().as_default(), tf.Session() as session:
      self.assertAlmostEqual(
        session.run(
          pair_network.loss(tf.constant(values), tf.constant(labels))
        ),
        expected,
      )

  def test_six_towers_update_six_times_one_tower_once(self):
    for one_tower, calls in ((False, 6), (True, 1)):
      with tf.Graph().as_default(), tf.variable_scope('', use_resource=True):
        images = tf.zeros([6, 32, 32, 3])
        values = pair_network.outputs(
          pair_records.Pairs(images, images, None), True, one_tower, 0.9
        )
        self.assertEqual(values.shape.as_list(), [6])
        self.assertLen(
          tf.get_collection(tf.GraphKeys.UPDATE_OPS), 2 * 7 * calls
        )
        self.assertLen(tf.global_variables('resnet'), 7 * 5)

  def test_eight_numbers_of_the_source(self):
    text = '\n'.join(eight_numbers.lines(steps=1400))
    self.assertIn('moving mean 1.50, moving variance 0.25', text)
    self.assertIn('1 1 2 1 2 2 2 1  training -1 1  evaluation -1 1', text)
    self.assertIn(
      'uniform batches: moving mean 1.50, moving variance 0.00', text
    )
    self.assertIn('1 1 1 1 1 1 1 1  training 0  evaluation -15.', text)
    self.assertIn('2 2 2 2 2 2 2 2  training 0  evaluation 15.', text)
    self.assertIn('(2 - 1.5) / sqrt(0 + epsilon), epsilon 0.001: 15.8', text)


if __name__ == '__main__':
  absltest.main()
