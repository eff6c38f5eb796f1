"""doctor/measure/recalibration.py: graphs of many kinds against NumPy."""

import functools
import os
import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.measure import recalibration
from graph_resnet9.doctor.measure import rewriting
from graph_resnet9.doctor.measure import sessions
from graph_resnet9.errors import UserError
from tests import helpers
from tests.doctor import small_graphs

MEAN, VARIANCE = 'net/bn/moving_mean', 'net/bn/moving_variance'


def layer(x, training=True, name='bn', **how):
  """tf.layers.batch_normalization as the first layer of a network."""
  with tf.variable_scope('net'):
    return tf.layers.batch_normalization(x, training=training, name=name, **how)


def from_queue(values, norm=layer, batch_size=10, dtype=None):
  """Build function of a training graph that reads `values` once."""

  def build():
    x = small_graphs.queue(values, batch_size)
    small_graphs.train(norm(x if dtype is None else tf.cast(x, dtype)))

  return build


def from_placeholder(shape, norm=layer, dtype=tf.float32, **how):
  """Build function of a training graph whose input is fed."""

  def build():
    small_graphs.train(norm(tf.placeholder(dtype, [None, *shape], 'x'), **how))

  return build


def feed(*batches):
  return lambda: ({'x': batch} for batch in batches)


def rows_of(values, axis=-1):
  """[rows, channels] float64 of an array."""
  values = np.moveaxis(values.astype(np.float64), axis, -1)
  return values.reshape(-1, values.shape[-1])


class PopulationTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.create_tempdir().full_path)
    self.values = small_graphs.examples(4, 4, 3)

  def recalibrated(self, saved, feed_function=None, count=1000):
    """The new checkpoint's tensors, and how many batches it took."""
    out = str(self.dir / 'new')
    done = recalibration.recalibrate(
      saved.runnable(feed_function), saved.prefix, out, count, held_out=0
    )
    return helpers.weights(out), done.batches

  def statistics(self, saved, feed_function):
    """recalibration.statistics: values in the variables' own type."""
    runnable = saved.runnable(feed_function)
    probes = recalibration.of_layers(runnable)
    with sessions.restored(runnable, saved.prefix) as session:
      return recalibration.statistics(session, runnable, probes, 1000).values

  def check(self, got, rows, mean=MEAN, variance=VARIANCE, rtol=1e-6):
    np.testing.assert_allclose(got[mean], rows.mean(0), rtol=rtol)
    np.testing.assert_allclose(got[variance], rows.var(0, ddof=1), rtol=rtol)

  # The statistics are those of the data.

  @parameterized.product(fused=[True, False], resource=[True, False])
  def test_statistics_are_those_of_the_data(self, fused, resource):
    saved = small_graphs.save(
      self.dir,
      from_queue(self.values, functools.partial(layer, fused=fused)),
      resource=resource,
    )
    got, done = self.recalibrated(saved)
    self.assertEqual(done, 7)
    self.check(got, rows_of(self.values))

  @parameterized.parameters(True, False)
  def test_float16_input(self, fused):
    saved = small_graphs.save(
      self.dir,
      from_queue(
        self.values, functools.partial(layer, fused=fused), dtype=tf.float16
      ),
    )
    got, _ = self.recalibrated(saved)
    self.check(got, rows_of(self.values.astype(np.float16)))

  def test_channels_before_positions(self):
    values = small_graphs.examples(5, 3).transpose(0, 2, 1)
    saved = small_graphs.save(
      self.dir, from_queue(values, functools.partial(layer, axis=1))
    )
    self.check(self.recalibrated(saved)[0], rows_of(values, 1))

  def test_dense(self):
    values = small_graphs.examples(6)
    saved = small_graphs.save(self.dir, from_queue(values))
    self.check(self.recalibrated(saved)[0], rows_of(values))

  @parameterized.product(in_place=[True, False], resource=[True, False])
  def test_moving_average_by_hand(self, in_place, resource):
    saved = small_graphs.save(
      self.dir,
      from_queue(
        self.values, functools.partial(small_graphs.by_hand, in_place=in_place)
      ),
      resource=resource,
    )
    self.check(
      self.recalibrated(saved)[0],
      rows_of(self.values),
      'hand/pop_mean',
      'hand/pop_var',
    )

  def test_mean_far_from_zero(self):
    values = (self.values + 1e4).astype(np.float32)
    saved = small_graphs.save(self.dir, from_queue(values))
    self.check(self.recalibrated(saved)[0], rows_of(values))

  def test_shared_layer_has_the_statistics_of_all_calls(self):
    def twice(x):
      y = layer(x)
      with tf.variable_scope(tf.get_variable_scope(), reuse=True):
        return y + layer(2 * x + 10)

    saved = small_graphs.save(self.dir, from_queue(self.values, twice))
    self.check(
      self.recalibrated(saved)[0],
      rows_of(np.concatenate([self.values, 2 * self.values + 10])),
    )

  def test_second_layer_sees_what_training_gives_it(self):
    def two(x):
      return layer(3 * layer(x) + 1, name='second')

    saved = small_graphs.save(
      self.dir, from_queue(self.values, two, batch_size=70)
    )
    got, _ = self.recalibrated(saved)
    np.testing.assert_allclose(got['net/second/moving_mean'], 1, atol=1e-5)
    np.testing.assert_allclose(
      got['net/second/moving_variance'], 9, rtol=5e-3
    )  # Epsilon .001.

  def test_frozen_layer_is_left_alone(self):
    def half_frozen(x):
      return layer(layer(x, training=False, name='frozen'))

    saved = small_graphs.save(
      self.dir,
      from_queue(self.values, half_frozen),
      {'frozen/moving_mean': 5, 'frozen/moving_variance': 4},
    )
    self.recalibrated(saved)
    self.assertEqual(
      helpers.differing(saved.prefix, self.dir / 'new'), [MEAN, VARIANCE]
    )

  # The same for any split.

  @parameterized.parameters(7, 10, 32, 35, 70)
  def test_batch_size_of_a_queue_does_not_matter(self, batch_size):
    saved = small_graphs.save(
      self.dir, from_queue(self.values, batch_size=batch_size)
    )
    got, done = self.recalibrated(saved)
    self.assertEqual(done, -(-70 // batch_size))
    self.check(got, rows_of(self.values))

  def test_any_split_gives_the_same(self):
    # Float64 layers, so that nothing is rounded on the way.
    saved = small_graphs.save(
      self.dir,
      from_placeholder(
        [4, 4, 3], functools.partial(layer, fused=False), tf.float64
      ),
    )
    self.values = np.random.RandomState(0).normal(3, 2, [70, 4, 4, 3])
    one = self.statistics(saved, feed(self.values))
    for cuts in ([1], [7, 14, 21], [10, 45], [69]):
      got = self.statistics(saved, feed(*np.split(self.values, cuts)))
      for name in (MEAN, VARIANCE):
        np.testing.assert_allclose(got[name], one[name], rtol=1e-12)
    self.check(one, rows_of(self.values), rtol=1e-12)

  def test_empty_batch_counts_for_nothing(self):
    saved = small_graphs.save(self.dir, from_placeholder([3]))
    values = self.values[:, 0, 0]
    got = self.statistics(saved, feed(values[:40], values[:0], values[40:]))
    self.check(got, rows_of(values))

  def test_fewer_batches_than_the_input_has(self):
    saved = small_graphs.save(self.dir, from_queue(self.values))
    got, done = self.recalibrated(saved, count=3)
    self.assertEqual(done, 3)
    self.check(got, rows_of(self.values[:30]))

  @parameterized.parameters(
    'make_one_shot_iterator', 'make_initializable_iterator'
  )
  def test_dataset(self, iterator):
    def build():
      data = tf.data.Dataset.from_tensor_slices(self.values).batch(10)
      small_graphs.train(layer(getattr(tf.data, iterator)(data).get_next()))

    got, done = self.recalibrated(small_graphs.save(self.dir, build))
    self.assertEqual(done, 7)
    self.check(got, rows_of(self.values))

  # Whether to train is fed.

  @parameterized.product(
    default=[None, False, True], functional=[True, False], fused=[True, False]
  )
  def test_training_is_fed(self, default, functional, fused):
    def build():
      x = small_graphs.queue(self.values, 10)
      training = (
        tf.placeholder(tf.bool, [], 'training')
        if default is None
        else tf.placeholder_with_default(default, [], 'training')
      )
      y = layer(x, training, fused=fused)
      small_graphs.train(layer(y + 1, training, name='second', fused=fused))

    saved = small_graphs.save(self.dir, build, functional=functional)
    got, _ = self.recalibrated(saved)
    self.check(got, rows_of(self.values))
    # By the moving statistics, 0 and 1, it would be that of the data.
    np.testing.assert_allclose(got['net/second/moving_mean'], 1, atol=1e-5)

  # The new checkpoint.

  def network(self, **how):
    """A training graph with more in it than batch norm, saved at step 5."""

    def norm(x):
      return tf.layers.conv2d(layer(x), 4, 3, name='conv')

    return small_graphs.save(
      self.dir,
      from_queue(self.values, norm),
      {'kernel': 0.1, 'moving_mean': 7},
      step=5,
      **how,
    )

  @parameterized.parameters(True, False)
  def test_only_the_statistics_differ(self, resource):
    saved = self.network(resource=resource)
    new, _ = self.recalibrated(saved)
    old = helpers.weights(saved.prefix)
    self.assertEqual(
      helpers.differing(saved.prefix, self.dir / 'new'), [MEAN, VARIANCE]
    )
    self.assertEqual(
      {name: (v.dtype, v.shape) for name, v in new.items()},
      {name: (v.dtype, v.shape) for name, v in old.items()},
    )

  def test_the_old_files_stay_as_they_are(self):
    saved = self.network()
    before = saved.files()
    self.recalibrated(saved)
    after = saved.files()
    self.assertEqual({name: after[name] for name in before}, before)
    self.assertEqual(
      sorted(after.keys() - before.keys()),
      ['new.data-00000-of-00001', 'new.index', 'new.meta'],
    )
    self.assertEqual(after['new.meta'], before['model.ckpt.meta'])

  @parameterized.parameters(True, False)
  def test_saver_of_the_graph_restores_it(self, resource):
    def norm(x):
      training = tf.placeholder_with_default(False, [], 'training')
      return tf.identity(layer(x, training), 'y')

    saved = small_graphs.save(
      self.dir, from_placeholder([4, 4, 3], norm), resource=resource
    )
    self.recalibrated(saved, feed(*np.split(self.values, 7)))
    with tf.Graph().as_default(), tf.Session() as session:
      saver = tf.train.import_meta_graph(str(self.dir / 'new.meta'))
      saver.restore(session, str(self.dir / 'new'))
      got = session.run('y:0', {'x:0': self.values})
    rows = rows_of(self.values)
    np.testing.assert_allclose(
      got,
      (self.values - rows.mean(0)) / np.sqrt(rows.var(0, ddof=1) + 1e-3),
      atol=1e-5,
    )

  def test_statistics_that_were_not_saved_are_added(self):
    saved = self.network(saved=tf.trainable_variables)
    before = set(helpers.weights(saved.prefix))
    new, _ = self.recalibrated(saved)
    self.assertEqual(set(new) - before, {MEAN, VARIANCE})
    self.check(new, rows_of(self.values))

  @parameterized.parameters(True, False)
  def test_variables_in_parts(self, resource):
    def norm(x):
      with tf.variable_scope('', partitioner=tf.fixed_size_partitioner(3)):
        kernel = tf.get_variable('parts', [6, 3])
        return layer(layer(x) @ tf.transpose(kernel), name='second')

    values = small_graphs.examples(3)
    saved = small_graphs.save(
      self.dir, from_queue(values, norm, 70), resource=resource
    )
    new, _ = self.recalibrated(saved)
    self.assertEqual(
      helpers.differing(saved.prefix, self.dir / 'new'),
      [MEAN, VARIANCE, 'net/second/moving_mean', 'net/second/moving_variance'],
    )
    normed = (values - values.mean(0)) / np.sqrt(values.var(0) + 1e-3)
    np.testing.assert_allclose(
      new['net/second/moving_variance'],
      (normed @ new['parts'].T).var(0, ddof=1),
      rtol=1e-4,
    )

  def test_names_of_the_saver_are_kept(self):
    saved = self.network(
      saved=lambda: {'renamed/' + v.op.name: v for v in tf.global_variables()}
    )
    new, _ = self.recalibrated(saved)
    self.assertEqual(set(new), set(helpers.weights(saved.prefix)))
    self.check(
      new, rows_of(self.values), 'renamed/' + MEAN, 'renamed/' + VARIANCE
    )

  def test_strings_and_integers_are_copied(self):
    def build():
      from_queue(self.values)()
      tf.get_variable('notes', initializer=tf.constant(b'a\0b\0'))
      tf.get_variable('words', initializer=tf.constant([b'x', b'\xff']))
      tf.get_variable('flags', initializer=tf.constant([True, False]))

    saved = small_graphs.save(self.dir, build, resource=False)
    new, _ = self.recalibrated(saved)
    self.assertEqual(new['notes'], b'a\0b\0')
    self.assertEqual(
      helpers.differing(saved.prefix, self.dir / 'new'), [MEAN, VARIANCE]
    )

  @parameterized.product(resource=[True, False], in_place=[True, False])
  def test_debiased_average_is_what_evaluation_reads(self, resource, in_place):
    saved = small_graphs.save(
      self.dir,
      from_queue(
        self.values, functools.partial(small_graphs.debiased, in_place=in_place)
      ),
      resource=resource,
    )
    self.recalibrated(saved)
    self.assertEqual(
      helpers.differing(saved.prefix, self.dir / 'new'), [MEAN, VARIANCE]
    )


class RefusalTest(parameterized.TestCase):
  """What cannot be done changes nothing on the disk."""

  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.create_tempdir().full_path)
    self.saved = small_graphs.save(self.dir, from_placeholder([3]))
    self.values = small_graphs.examples(3)

  def refuses(self, expected, out, feed_function=None, saved=None):
    saved = saved or self.saved
    before = sorted(self.dir.rglob('*')), self.saved.files()
    with self.assertRaisesRegex(UserError, expected) as caught:
      recalibration.recalibrate(
        saved.runnable(feed_function or feed(self.values, self.values)),
        saved.prefix,
        str(out),
        10,
      )
    self.assertLen(str(caught.exception).splitlines(), 1)
    self.assertEqual((sorted(self.dir.rglob('*')), self.saved.files()), before)

  @parameterized.parameters(np.nan, np.inf)
  def test_input_that_is_not_finite(self, bad):
    values = self.values.copy()
    values[5, 1] = bad
    self.refuses(
      'net/bn.* not finite in batch 2',
      self.dir / 'new',
      feed(self.values, values),
    )

  def test_op_that_fails_is_named(self):
    def norm(x):
      return layer(tf.reshape(x, [-1, 4], name='fours'))

    folder = self.dir / 'fours'
    folder.mkdir()
    saved = small_graphs.save(folder, from_placeholder([3], norm))
    self.refuses(
      'batch 2: fours: Input to reshape is a tensor with 15 values',
      self.dir / 'new',
      feed(self.values[:4], self.values[:5]),
      saved,
    )

  def test_statistics_too_large_for_their_type(self):
    self.refuses('not finite', self.dir / 'new', feed(self.values * 1e30))

  def test_out_exists(self):
    folder = self.dir / 'other'
    folder.mkdir()
    other = small_graphs.save(folder, from_placeholder([3]))
    for out in (self.saved.prefix, other.prefix):
      self.refuses('exists', out)

  def test_out_would_replace_another_file(self):
    for name in ('graph.meta', 'half.data-00000-of-00001', 'plain'):
      (self.dir / name).write_bytes(b'precious')
    for name in ('graph', 'half', 'plain'):
      self.refuses('exists', self.dir / name)

  def test_out_is_a_directory(self):
    self.refuses('a directory', self.dir)
    self.refuses('a directory', str(self.dir) + '/new/')

  def test_folder_of_out_is_missing_or_a_file(self):
    self.refuses('no directory', self.dir / 'no' / 'new')
    self.refuses('no directory', self.saved.meta + '/new')

  def test_layers_without_statistics(self):
    def norm(x):
      mean, variance = tf.nn.moments(x, [0])
      gamma = tf.get_variable('gamma', 3)
      return tf.nn.batch_normalization(x, mean, variance, None, gamma, 1e-3)

    folder = self.dir / 'bare'
    folder.mkdir()
    saved = small_graphs.save(folder, from_placeholder([3], norm))
    self.refuses('no moving statistics', self.dir / 'new', saved=saved)

  def test_graph_that_does_not_train(self):
    folder = self.dir / 'eval'
    folder.mkdir()
    saved = small_graphs.save(folder, from_placeholder([3], training=False))
    self.refuses(
      'no training step normalises by batch statistics: in all 1 layers',
      self.dir / 'new',
      saved=saved,
    )

  @parameterized.parameters(True, False)
  def test_layer_in_a_loop(self, functional):
    def build():
      x = tf.placeholder(tf.float32, [None, 3], 'x')
      layer(x, name='other')
      layer(x)
      with tf.variable_scope(tf.get_variable_scope(), reuse=True):
        tf.while_loop(
          lambda y: tf.reduce_sum(y) < 1, lambda y: layer(2 * y), [x]
        )

    folder = self.dir / 'loop'
    folder.mkdir()
    saved = small_graphs.save(folder, build, functional=functional)
    self.refuses(
      r'net/bn \(its input is inside a function or a loop\)$',
      self.dir / 'new',
      saved=saved,
    )

  def test_disk_that_fills_while_writing(self):
    out = str(self.dir / 'new')
    with absltest.mock.patch.object(
      rewriting.shutil, 'copyfile', side_effect=OSError(28, 'disk full')
    ):
      self.refuses('cannot be written: disk full', out)
    self.assertFalse(os.path.exists(out + '.index'))


if __name__ == '__main__':
  absltest.main()
