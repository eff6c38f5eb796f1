"""Tests of graph_resnet9.inputs.queues: which examples come, in which order."""

import os
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.errors import UserError
from graph_resnet9.inputs import augment
from graph_resnet9.inputs import formats
from graph_resnet9.inputs import queues

# A queue that never fills a batch fails a test, rather than to hang it.
CONFIG = tf.ConfigProto(operation_timeout_in_ms=60000)


def split(examples, seed=0):
  random_state = np.random.RandomState(seed)
  return formats.Split(
    random_state.randint(0, 256, [examples, 32, 32, 3]).astype(np.uint8),
    random_state.randint(0, 10, examples).astype(np.int32),
  )


def session(feed=None):
  scaffold = tf.train.Scaffold(local_init_feed_dict=feed)
  return tf.train.MonitoredSession(
    tf.train.ChiefSessionCreator(scaffold, config=CONFIG)
  )


def batches(count, *args, **kwargs):
  """The first batches of an index queue, in a graph and session of its own."""
  with tf.Graph().as_default():
    indices = queues.index_queue(*args, **kwargs)
    with session() as sess:
      return [sess.run(indices) for _ in range(count)]


def all_batches(fetches, feed=None):
  """What a session yields until it stops of itself."""
  values = []
  with session(feed) as sess:
    while not sess.should_stop():
      values.append(sess.run(fetches))
  return values


def entropies(labels, indices):
  """The label entropy of every batch, over ln 10."""
  shares = [
    np.bincount(labels[batch], minlength=10) / len(batch) for batch in indices
  ]
  return [
    -sum(p * np.log(p) for p in share if p) / np.log(10) for share in shares
  ]


class TableTest(absltest.TestCase):
  def test_values_arrive_through_the_scaffold(self):
    data = split(20)
    with tf.Graph().as_default():
      table = queues.table(data, 'train')
      fetches = [table.pixels.read_value(), table.labels.read_value()]
      with session(table.feed) as sess:
        pixels, labels = sess.run(fetches)
    np.testing.assert_array_equal(pixels.reshape(20, 32, 32, 3), data.images)
    np.testing.assert_array_equal(labels, data.labels)
    self.assertEqual(table.examples, 20)

  def test_values_are_not_in_the_graph(self):
    data = split(100)  # 300 KB.
    with tf.Graph().as_default() as graph:
      queues.table(data, 'train')
      serialized = graph.as_graph_def().SerializeToString()
    self.assertLess(len(serialized), 10000)
    self.assertNotIn(data.images.tobytes()[:16], serialized)
    self.assertNotIn(data.labels.tobytes()[:64], serialized)

  def test_values_are_not_in_a_checkpoint(self):
    with tf.Graph().as_default():
      queues.table(split(3), 'train')
      self.assertEmpty(tf.global_variables())
      self.assertEmpty(tf.trainable_variables())
      self.assertEqual(
        [v.op.name for v in tf.local_variables()],
        ['train/pixels', 'train/labels'],
      )

  def test_batch_has_the_images_and_labels_of_its_indices(self):
    data, indices = split(20), [7, 0, 19, 7]
    with tf.Graph().as_default():
      table = queues.table(data, 'train')
      batch = queues.table_batch(table, tf.constant(indices))
      images = augment.crops(batch.pixels, batch.indices)
      with session(table.feed) as sess:
        images_value, labels_value = sess.run([images, batch.labels])
    np.testing.assert_array_equal(images_value, data.images[indices])
    np.testing.assert_array_equal(labels_value, data.labels[indices])

  def test_two_tables_live_in_one_graph(self):
    train, test = split(5, seed=1), split(3, seed=2)
    with tf.Graph().as_default():
      tables = [queues.table(train, 'train'), queues.table(test, 'test')]
      labels = [table.labels.read_value() for table in tables]
      with session({**tables[0].feed, **tables[1].feed}) as sess:
        values = sess.run(labels)
    self.assertEqual(
      [v.tolist() for v in values],
      [train.labels.tolist(), test.labels.tolist()],
    )


class ShuffleBatchTest(parameterized.TestCase):
  """50,000 examples sorted by class: batches of 512 must mix them."""

  def setUp(self):
    super().setUp()
    self.labels = np.repeat(np.arange(10), 5000)

  def test_the_default_mixes_sorted_classes(self):
    indices = batches(97, 50000, 512, 'shuffle_batch', seed=0)
    found = entropies(self.labels, indices)
    self.assertGreater(min(found), 0.9)
    self.assertGreater(np.mean(found), 0.95)

  # What waits beyond min_after_dequeue mixes too, as far as threads fill it.
  @parameterized.parameters((1512, 0.2), (None, 0.35))
  def test_a_thousand_waiting_examples_do_not(self, capacity, bound):
    indices = batches(
      97,
      50000,
      512,
      'shuffle_batch',
      seed=0,
      min_after_dequeue=1000,
      capacity=capacity,
    )
    self.assertLess(np.mean(entropies(self.labels, indices)), bound)

  def test_default_of_a_small_set_waits_for_an_epoch_too(self):
    indices = batches(20, 1000, 50, 'shuffle_batch', seed=0)
    found = entropies(self.labels[::50], indices)
    self.assertGreater(np.mean(found), 0.85)  # Independent draws: .93.

  def test_examples_come_about_equally_often(self):
    indices = batches(200, 100, 50, 'shuffle_batch', seed=0)
    counts = np.bincount(np.concatenate(indices), minlength=100)
    self.assertLen(counts, 100)
    self.assertBetween(counts.min(), 90, 100)
    self.assertBetween(counts.max(), 100, 110)

  def test_smallest_capacity_that_is_allowed_works(self):
    indices = batches(
      50, 1000, 10, 'shuffle_batch', seed=0, min_after_dequeue=100, capacity=110
    )
    self.assertEqual({len(set(batch)) for batch in indices}, {10})

  def test_shape_is_static(self):
    with tf.Graph().as_default():
      indices = queues.index_queue(100, 7, 'shuffle_batch', 0)
      self.assertEqual(
        (indices.shape.as_list(), indices.dtype), ([7], tf.int32)
      )


class EpochTest(parameterized.TestCase):
  @parameterized.parameters((20, 5), (1000, 10), (7, 1), (7, 7))
  def test_each_epoch_is_a_permutation(self, examples, batch_size):
    steps = examples // batch_size
    indices = np.concatenate(
      batches(3 * steps, examples, batch_size, 'epoch', 0)
    )
    for epoch in indices.reshape(3, examples):
      self.assertEqual(sorted(epoch), list(range(examples)))

  def test_rest_of_an_epoch_that_fills_no_batch_is_dropped(self):
    indices = batches(40, 23, 5, 'epoch', 0)  # 4 batches of 5 an epoch.
    for epoch in range(10):
      used = np.concatenate(indices[4 * epoch : 4 * epoch + 4])
      self.assertLen(set(used), 20)
    # The dropped ones are others every time.
    self.assertEqual(set(np.concatenate(indices)), set(range(23)))

  def test_epochs_differ(self):
    epochs = batches(5, 200, 200, 'epoch', 0)
    self.assertLen({tuple(epoch) for epoch in epochs}, 5)

  def test_seeds_differ(self):
    found = [
      tuple(batch)
      for seed in (0, 1, 2)
      for batch in batches(3, 200, 200, 'epoch', seed)
    ]
    self.assertLen(set(found), 9)

  def test_two_sessions_agree(self):
    one, two = (batches(30, 50, 8, 'epoch', 5) for _ in range(2))
    np.testing.assert_array_equal(one, two)

  def test_two_sessions_of_one_graph_agree(self):
    with tf.Graph().as_default():
      indices = queues.index_queue(50, 8, 'epoch', 5)
      values = []
      for _ in range(2):
        with session() as sess:
          values.append([sess.run(indices) for _ in range(20)])
    np.testing.assert_array_equal(values[0], values[1])

  def test_an_epoch_is_unlike_the_file_order_and_the_epochs_before(self):
    # Ranks of independent permutations: a correlation of 0 +- .0045.
    epochs = batches(6, 50000, 50000, 'epoch', 0)
    ranks = np.stack(
      [np.argsort(epoch) for epoch in epochs] + [np.arange(50000)]
    )
    correlation = np.corrcoef(ranks) - np.eye(7)
    self.assertLess(np.abs(correlation).max(), 0.05)

  @parameterized.parameters(10, 100, 1000)
  def test_small_sets_are_mixed_too(self, examples):
    # A permutation keeps 1 +- 1 of its elements where they were.
    epochs = np.array(batches(50, examples, examples, 'epoch', 0))
    kept = (epochs == np.arange(examples)).sum(1)
    self.assertBetween(kept.mean(), 0.3, 2)

  def test_classes_of_a_sorted_set_are_mixed(self):
    indices = batches(97, 50000, 512, 'epoch', 0)
    found = entropies(np.repeat(np.arange(10), 5000), indices)
    self.assertGreater(min(found), 0.95)

  @parameterized.parameters(1, 3, 4, 5, 8, 17)  # Four batches an epoch.
  def test_first_step_skips_what_an_unbroken_run_has_used(self, first_step):
    unbroken = batches(30, 23, 5, 'epoch', 1)
    resumed = batches(30 - first_step, 23, 5, 'epoch', 1, first_step)
    np.testing.assert_array_equal(resumed, unbroken[first_step:])

  def test_first_step_is_that_of_the_restored_checkpoint(self):
    folder = self.enter_context(tempfile.TemporaryDirectory())

    def run(steps):
      with tf.Graph().as_default():
        global_step = tf.train.get_or_create_global_step()
        indices = queues.index_queue(23, 5, 'epoch', 1, first_step=global_step)
        advance = tf.assign_add(global_step, 1)
        with tf.train.MonitoredTrainingSession(
          checkpoint_dir=folder,
          save_summaries_steps=None,
          log_step_count_steps=None,
          config=CONFIG,
        ) as sess:
          return [sess.run([indices, advance])[0] for _ in range(steps)]

    np.testing.assert_array_equal(
      run(3) + run(6) + run(2), batches(11, 23, 5, 'epoch', 1)
    )

  def test_shape_is_static(self):
    with tf.Graph().as_default():
      indices = queues.index_queue(100, 7, 'epoch', 0)
      self.assertEqual(
        (indices.shape.as_list(), indices.dtype), ([7], tf.int32)
      )


class FileOrderTest(parameterized.TestCase):
  @parameterized.parameters((10, 10), (23, 5), (1000, 512), (1, 1))
  def test_file_order_over_and_over(self, examples, batch_size):
    indices = np.concatenate(batches(12, examples, batch_size, 'none', 0))
    self.assertEqual(
      indices.tolist(), [i % examples for i in range(12 * batch_size)]
    )

  def test_any_capacity_keeps_the_order(self):
    indices = np.concatenate(batches(20, 23, 5, 'none', 0, capacity=3))
    self.assertEqual(indices.tolist(), [i % 23 for i in range(100)])


class OnceTest(parameterized.TestCase):
  @parameterized.product(
    shuffle=('shuffle_batch', 'epoch', 'none'),
    sizes=((10, 3), (12, 4), (5, 8), (1, 1), (1100, 512)),
  )
  def test_every_example_comes_exactly_once(self, shuffle, sizes):
    examples, batch_size = sizes
    with tf.Graph().as_default():
      found = all_batches(
        queues.index_queue(examples, batch_size, shuffle, 0, once=True)
      )
    self.assertEqual(sorted(np.concatenate(found)), list(range(examples)))
    rest = examples % batch_size
    self.assertEqual(
      [len(batch) for batch in found],
      [batch_size] * (examples // batch_size) + [rest] * bool(rest),
    )

  @parameterized.parameters(
    ('shuffle_batch', False), ('epoch', False), ('none', True)
  )
  def test_order(self, shuffle, in_file_order):
    with tf.Graph().as_default():
      found = np.concatenate(
        all_batches(queues.index_queue(1000, 300, shuffle, 0, once=True))
      )
    self.assertEqual(found.tolist() == list(range(1000)), in_file_order)

  def test_epoch_is_the_first_one_of_a_run(self):
    with tf.Graph().as_default():
      once = np.concatenate(
        all_batches(queues.index_queue(40, 7, 'epoch', 3, once=True))
      )
    run = np.concatenate(batches(4, 40, 10, 'epoch', 3))
    np.testing.assert_array_equal(once, run)

  def test_every_label_of_a_table_comes_exactly_once(self):
    data = split(50)
    with tf.Graph().as_default():
      table = queues.table(data, 'test')
      batch = queues.table_batch(
        table, queues.index_queue(50, 8, 'none', 0, once=True)
      )
      found = all_batches(batch.labels, table.feed)
    np.testing.assert_array_equal(np.concatenate(found), data.labels)


class RecordQueueTest(parameterized.TestCase):
  """Files written here, 1,000 records in two of them, against the decoder."""

  def setUp(self):
    super().setUp()
    folder = self.enter_context(tempfile.TemporaryDirectory())
    records = np.random.RandomState(0).randint(0, 256, [1000, 3073])
    records[:, 0] %= 10
    self.data = records.astype(np.uint8).tobytes()
    self.paths = [os.path.join(folder, name) for name in ('b.bin', 'a.bin')]
    for path, part in zip(
      self.paths, (self.data[: 700 * 3073], self.data[700 * 3073 :])
    ):
      with open(path, 'wb') as f:
        f.write(part)
    self.expected = formats.decode_records(self.data, 'both', 1000)

  def run_queue(self, steps, *args, **kwargs):
    """Images and labels of `steps` batches; of all if None, and batch sizes."""
    with tf.Graph().as_default():
      batch = queues.record_queue(self.paths, 1000, *args, **kwargs)
      fetches = [augment.crops(batch.pixels, batch.indices), batch.labels]
      if steps is None:
        found = all_batches(fetches)
      else:
        with session() as sess:
          found = [sess.run(fetches) for _ in range(steps)]
    images, labels = (np.concatenate(part) for part in zip(*found))
    return images, labels, [len(labels) for _, labels in found]

  def multiset(self, images, labels):
    return sorted(
      (image.tobytes(), label) for image, label in zip(images, labels.tolist())
    )

  def test_file_order(self):
    images, labels, sizes = self.run_queue(None, 300, 'none', 0, once=True)
    np.testing.assert_array_equal(images, self.expected.images)
    np.testing.assert_array_equal(labels, self.expected.labels)
    self.assertEqual(sizes, [300, 300, 300, 100])

  def test_file_order_over_and_over(self):
    images, labels, sizes = self.run_queue(9, 300, 'none', 0)
    at = np.arange(2700) % 1000
    np.testing.assert_array_equal(labels, self.expected.labels[at])
    np.testing.assert_array_equal(images, self.expected.images[at])
    self.assertEqual(sizes, [300] * 9)

  def test_shuffled_records_are_the_same_ones(self):
    images, labels, sizes = self.run_queue(
      None, 300, 'shuffle_batch', 0, once=True
    )
    self.assertEqual(
      self.multiset(images, labels), self.multiset(*self.expected)
    )
    self.assertNotEqual(labels.tolist(), self.expected.labels.tolist())
    self.assertEqual(sizes, [300, 300, 300, 100])

  def test_shuffled_records_go_on(self):
    _, labels, sizes = self.run_queue(20, 300, 'shuffle_batch', 0)
    self.assertEqual(sizes, [300] * 20)
    share = np.bincount(labels, minlength=10) / 6000
    expected = np.bincount(self.expected.labels, minlength=10) / 1000
    np.testing.assert_allclose(share, expected, atol=0.03)

  def test_batch_larger_than_the_files_is_allowed_once(self):
    _, labels, sizes = self.run_queue(None, 3000, 'none', 0, once=True)
    self.assertEqual(sizes, [1000])
    np.testing.assert_array_equal(labels, self.expected.labels)

  @parameterized.parameters((1000, 1000), (200000, 45000))
  def test_an_epoch_waits_but_not_more_than_memory_allows(
    self, examples, waiting
  ):
    with tf.Graph().as_default() as graph:
      queues.record_queue(self.paths, examples, 512, 'shuffle_batch', 0)
      found = [
        op.get_attr('min_after_dequeue')
        for op in graph.get_operations()
        if op.type == 'RandomShuffleQueueV2'
        and op.get_attr('component_types') == [tf.uint8]
      ]
    self.assertEqual(found, [waiting])


class ErrorsTest(parameterized.TestCase):
  def refusal(self, function, *args, **kwargs):
    with tf.Graph().as_default():
      with self.assertRaises(UserError) as caught:
        function(*args, **kwargs)
    self.assertLen(str(caught.exception).splitlines(), 1)
    return str(caught.exception)

  @parameterized.parameters('shuffle_batch', 'epoch', 'none')
  def test_batch_larger_than_the_data(self, shuffle):
    text = self.refusal(queues.index_queue, 10, 11, shuffle, 0)
    self.assertIn('--batch_size=11', text)
    self.assertIn('10 examples', text)

  @parameterized.parameters('shuffle_batch', 'none')
  def test_batch_of_records_larger_than_the_data(self, shuffle):
    text = self.refusal(queues.record_queue, ['x'], 10, 11, shuffle, 0)
    self.assertIn('--batch_size=11', text)

  def test_batch_as_large_as_the_data_is_fine(self):
    (indices,) = batches(1, 10, 10, 'none', 0)
    self.assertEqual(indices.tolist(), list(range(10)))

  def test_capacity_that_never_fills_a_batch(self):
    text = self.refusal(
      queues.index_queue,
      1000,
      10,
      'shuffle_batch',
      0,
      min_after_dequeue=100,
      capacity=109,
    )
    for part in ('--capacity=109', '100', '10'):
      self.assertIn(part, text)

  def test_capacity_below_the_default_min_after_dequeue(self):
    self.assertIn(
      '--capacity=1009',
      self.refusal(
        queues.index_queue, 1000, 10, 'shuffle_batch', 0, capacity=1009
      ),
    )

  def test_epoch_with_records(self):
    text = self.refusal(queues.record_queue, ['x'], 10, 2, 'epoch', 0)
    self.assertIn('--shuffle=epoch', text)
    self.assertIn('--input=records', text)


class CollectionsTest(parameterized.TestCase):
  """What the docstrings say under "Collections"."""

  def added(self, build):
    """Queue runners, local, global and trainable variables in a new graph."""
    with tf.Graph().as_default():
      build()
      return (
        len(tf.get_collection(tf.GraphKeys.QUEUE_RUNNERS)),
        len(tf.local_variables()),
        len(tf.global_variables()),
        len(tf.trainable_variables()),
      )

  @parameterized.parameters(
    ('shuffle_batch', False, (2, 0, 0, 0)),
    ('none', False, (2, 0, 0, 0)),
    ('epoch', False, (1, 1, 0, 0)),
    ('shuffle_batch', True, (2, 1, 0, 0)),
    ('none', True, (2, 1, 0, 0)),
    ('epoch', True, (2, 1, 0, 0)),
  )
  def test_index_queue(self, shuffle, once, expected):
    self.assertEqual(
      expected,
      self.added(lambda: queues.index_queue(10, 2, shuffle, 0, once=once)),
    )

  @parameterized.parameters(
    ('shuffle_batch', False, (3, 0, 0, 0)),
    ('none', False, (3, 0, 0, 0)),
    ('shuffle_batch', True, (3, 1, 0, 0)),
    ('none', True, (3, 1, 0, 0)),
  )
  def test_record_queue(self, shuffle, once, expected):
    self.assertEqual(
      expected,
      self.added(
        lambda: queues.record_queue(['x'], 10, 2, shuffle, 0, once=once)
      ),
    )

  def test_table(self):
    self.assertEqual(
      (0, 2, 0, 0), self.added(lambda: queues.table(split(2), 'train'))
    )


if __name__ == '__main__':
  absltest.main()
