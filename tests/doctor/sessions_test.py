"""doctor/measure/sessions.py: what is restored, what lacks, who joins in."""

import pathlib
import re
import threading

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.measure import diagnosis
from graph_resnet9.doctor.measure import probing
from graph_resnet9.doctor.measure import recalibration
from graph_resnet9.doctor.measure import sessions
from graph_resnet9.errors import UserError
from tests.doctor import small_graphs

VALUES = small_graphs.examples(4)


def feed():
  for batch in np.split(VALUES, 7):
    yield {'x': batch}


def behind_a_dense_layer():
  x = tf.placeholder(tf.float32, [None, 4], 'x')
  y = tf.layers.dense(x, 3, name='backbone')
  small_graphs.train(tf.layers.batch_normalization(y, training=True, name='bn'))


class RestoredTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.create_tempdir().full_path)

  def without(self, *names):
    """Saved with a checkpoint that lacks variables."""
    return small_graphs.save(
      self.dir,
      behind_a_dense_layer,
      {'moving_mean': 5},
      step=9,
      saved=lambda: [
        v for v in tf.global_variables() if v.op.name not in names
      ],
    )

  def test_variables_that_lack_are_named(self):
    saved = self.without('backbone/kernel', 'bn/moving_mean')
    self.assertEqual(
      sessions.lacking(saved.runnable(), saved.prefix),
      ['backbone/kernel', 'bn/moving_mean'],
    )
    self.assertEmpty(sessions.lacking(self.without().runnable(), saved.prefix))

  def test_a_layer_behind_one_is_not_judged(self):
    saved = self.without('backbone/kernel')
    result = diagnosis.diagnose(saved.runnable(feed), saved.prefix, 9)
    self.assertEqual([v.code for v in result.verdicts], ['not-compared'])
    self.assertIn('backbone/kernel', result.verdicts[0].evidence)
    self.assertFalse(result.healthy or result.faults)
    self.assertIn(
      'not in the checkpoint, so at their initial values: backbone/kernel',
      diagnosis.table(result, []),
    )

  def test_a_layer_behind_one_is_not_recalibrated(self):
    saved = self.without('backbone/kernel')
    out = str(self.dir / 'new')
    with self.assertRaisesRegex(UserError, 'bn is behind .* backbone/kernel'):
      recalibration.recalibrate(saved.runnable(feed), saved.prefix, out, 9)
    self.assertEmpty(list(self.dir.glob('new*')))
    recalibration.recalibrate(
      saved.runnable(feed), saved.prefix, out, 9, force=True
    )

  def test_statistics_that_lack_are_what_it_is_for(self):
    saved = self.without('bn/moving_mean', 'bn/moving_variance')
    recalibration.recalibrate(
      saved.runnable(feed), saved.prefix, str(self.dir / 'new'), 9
    )

  @parameterized.parameters(True, False)
  def test_values_are_those_of_the_checkpoint(self, resource):
    saved = small_graphs.save(
      self.dir,
      behind_a_dense_layer,
      {'moving_mean': 5, 'kernel': 2},
      step=9,
      resource=resource,
    )
    with sessions.restored(saved.runnable(), saved.prefix) as session:
      got = session.run({v.op.name: v for v in tf.global_variables()})
    self.assertEqual(got['global_step'], 9)
    np.testing.assert_array_equal(got['bn/moving_mean'], np.full(3, 5))
    np.testing.assert_array_equal(got['backbone/kernel'], np.full([4, 3], 2))

  @parameterized.parameters(None, 'nothing')
  def test_an_input_that_ended_says_why_if_it_is_known(self, reason):
    def build():
      behind_a_dense_layer()
      queue = tf.FIFOQueue(9, [tf.float32], shapes=[[]])
      fails = tf.Assert(False, ['no such file'], name='reads')
      with tf.control_dependencies([fails] if reason else []):
        enqueued = queue.enqueue([tf.constant(1.0)])
      tf.train.add_queue_runner(tf.train.QueueRunner(queue, [enqueued]))

    saved = small_graphs.save(self.dir, build)
    before = set(threading.enumerate())
    with self.assertRaises(UserError) as caught:
      with sessions.restored(saved.runnable(), saved.prefix):
        for thread in set(threading.enumerate()) - before:
          thread.join(60 if reason else 0)  # The queue runner fails.
        raise sessions.InputEnded('the input ended.')
    expected = re.escape('the input ended.')
    if reason:
      expected += r' \((reads.*: )?assertion failed: \[no such file\]\)'
    self.assertRegex(str(caught.exception), '^%s$' % expected)
    self.assertIs(type(caught.exception), UserError)


class ImportedTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.create_tempdir().full_path)

  def test_losses_of_the_collection(self):
    def build(*losses):
      behind_a_dense_layer()
      for name in losses:
        tf.losses.add_loss(tf.constant(1.0, name=name))

    for losses in ((), ('one',), ('one', 'two')):
      saved = small_graphs.save(self.dir, lambda: build(*losses))
      names = tuple(name + ':0' for name in losses)
      self.assertEqual(saved.runnable().losses, names)
      with tf.Graph().as_default() as graph:
        build(*losses)
      self.assertEqual(sessions.of_graph(graph, {}).losses, names)

  def test_a_graph_for_many_machines_runs_here(self):
    def build():
      with tf.device('/job:ps/task:3'):
        behind_a_dense_layer()
      with tf.device('/job:worker/task:1/device:GPU:7'):
        tf.constant(1.0, name='there')

    with tf.Graph().as_default():
      build()
      meta_graph = tf.train.export_meta_graph()
    self.assertContainsSubset(
      {'/job:ps/task:3', '/job:worker/task:1/device:GPU:7'},
      {node.device for node in meta_graph.graph_def.node},
    )
    graph = sessions.imported(meta_graph)
    for op in graph.get_operations():
      self.assertNotRegex(op.device, 'job|GPU')
    with tf.Session(graph=graph) as session:
      self.assertEqual(session.run('there:0'), 1)

  def test_collections_that_a_session_needs_and_no_others(self):
    with tf.Graph().as_default():
      behind_a_dense_layer()
      tf.train.get_or_create_global_step()
      tf.train.string_input_producer(['a'])
      tf.add_to_collection('of_ops', tf.constant(1.0))
      meta_graph = tf.train.export_meta_graph()
    meta_graph.collection_def['of_ops'].node_list.value[:] = ['no_such_op:0']
    meta_graph.collection_def['empty'].SetInParent()
    before = meta_graph.SerializeToString(deterministic=True)
    graph = sessions.imported(meta_graph)
    self.assertEqual(meta_graph.SerializeToString(deterministic=True), before)
    self.assertEmpty(graph.get_collection('of_ops'))
    for key, expected in (
      (tf.GraphKeys.TRAINABLE_VARIABLES, 4),
      (tf.GraphKeys.GLOBAL_VARIABLES, 7),
      (tf.GraphKeys.GLOBAL_STEP, 1),
      (tf.GraphKeys.QUEUE_RUNNERS, 1),
    ):
      self.assertLen(graph.get_collection(key), expected)

  def test_a_graph_without_layers_is_refused(self):
    saved = small_graphs.save(self.dir, lambda: tf.get_variable('v', 3))
    with self.assertRaises(UserError) as caught:
      saved.runnable()
    self.assertEqual(
      str(caught.exception),
      saved.meta + ': no batch normalisation in this graph',
    )


class ReplicasTest(parameterized.TestCase):
  @parameterized.parameters((True, 3), (False, 1))
  def test_how_many_join_in_a_step(self, sync, expected):
    def build():
      x = tf.placeholder(tf.float32, [None, 4], 'x')
      loss = tf.reduce_mean(tf.layers.batch_normalization(x, training=True) - 1)
      optimizer = tf.train.GradientDescentOptimizer(0.1)
      if sync:
        optimizer = tf.train.SyncReplicasOptimizer(optimizer, 3)
      optimizer.minimize(loss, tf.train.get_or_create_global_step())

    saved = small_graphs.save(self.create_tempdir().full_path, build)
    self.assertEqual(sessions.replicas(saved.meta), expected)


class PairsTest(parameterized.TestCase):
  """Statistics of its own for each call of a layer that shares gamma."""

  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.create_tempdir().full_path)

  def build(self):
    x = tf.placeholder(tf.float32, [None, 1, 1, 4], 'x')
    gamma = tf.get_variable('gamma', 4, initializer=tf.ones_initializer())
    total = 0.0
    for k in range(3):
      with tf.variable_scope('step%d' % k):
        mean, variance = tf.nn.moments((k + 1) * x, [0, 1, 2])
        stored = [
          tf.get_variable(name, 4, initializer=initial(), trainable=False)
          for name, initial in (
            ('mean', tf.zeros_initializer),
            ('variance', tf.ones_initializer),
          )
        ]
        for v, b in zip(stored, (mean, variance)):
          tf.add_to_collection(
            tf.GraphKeys.UPDATE_OPS, tf.assign(v, 0.9 * v + 0.1 * b)
          )
        total += tf.nn.batch_normalization(
          (k + 1) * x, mean, variance, None, gamma, 1e-3
        )
    small_graphs.train(total)

  def feed(self):
    for batch in np.split(VALUES[:, None, None], 7):
      yield {'x': batch}

  def test_each_has_its_own(self):
    saved = small_graphs.save(self.dir, self.build, step=9)
    got = recalibration.recalibrate(
      saved.runnable(self.feed),
      saved.prefix,
      str(self.dir / 'new'),
      9,
      held_out=0,
    ).values
    self.assertLen(got, 6)
    rows = VALUES.astype(np.float64)
    for k in range(3):
      np.testing.assert_allclose(
        got['step%d/mean' % k], (k + 1) * rows.mean(0), rtol=1e-5
      )
      np.testing.assert_allclose(
        got['step%d/variance' % k],
        (k + 1) ** 2 * rows.var(0, ddof=1),
        rtol=1e-5,
      )

  def test_they_are_named_apart(self):
    saved = small_graphs.save(self.dir, self.build, step=9)
    measured = probing.of_layers(saved.runnable())
    self.assertEqual(
      [probe.name for probe in measured.probes], ['step0', 'step1', 'step2']
    )
    self.assertEqual(measured.layers, 1)


if __name__ == '__main__':
  absltest.main()
