"""doctor/measure/probing.py: what is measured, and what is not and why."""

import types

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.measure import moments
from graph_resnet9.doctor.measure import probing
from graph_resnet9.doctor.measure import sessions
from graph_resnet9.errors import UserError
from tests.doctor import small_graphs

X = small_graphs.examples(4)


fake = types.SimpleNamespace


def runnable_of(build, feed=None, **how):
  """sessions.Runnable of a graph, not saved."""
  with small_graphs.kind(**how), tf.Graph().as_default() as graph:
    tf.train.get_or_create_global_step()
    build()
  return sessions.of_graph(graph, {})._replace(feed=feed)


class MomentsTest(parameterized.TestCase):
  @parameterized.parameters(
    ((6, 4), -1),
    ((6, 4), 1),
    ((6, 5, 4), 2),
    ((6, 4, 5), 1),
    ((6, 4, 5), -2),
    ((6, 3, 5, 4), 3),
    ((6, 4, 3, 5), 1),
    ((6, 2, 3, 5, 4), -1),
    ((1, 4, 2, 3, 5), 1),
    ((0, 3, 3, 4), 3),
  )
  def test_those_of_each_example(self, shape, axis):
    values = np.random.RandomState(0).normal(3, 2, shape).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float32, [None] * len(shape))
      found = session.run(probing._moments(x, axis), {x: values})
    rows = np.moveaxis(values.astype(np.float64), axis, -1)
    rows = rows.reshape(len(rows), int(np.prod(rows.shape[1:-1])), 4)
    np.testing.assert_allclose(found['means'], rows.mean(1), rtol=1e-12)
    np.testing.assert_allclose(
      found['m2'], rows.shape[1] * rows.var(1), rtol=1e-9, atol=1e-12
    )
    self.assertEqual(found['positions'], rows.shape[1])
    self.assertEqual(found['means'].dtype, np.float64)
    self.assertEqual(moments.Batch(**found).moments.count, rows[..., 0].size)


def three_layers():
  """By the batch, by a placeholder, by what is stored; and one call aside."""
  y = tf.placeholder(tf.float32, [None, 4], 'x')
  phase = tf.placeholder(tf.bool, [], 'phase')
  for name, training in (('bn', True), ('chosen', phase), ('frozen', False)):
    y = tf.layers.batch_normalization(y, training=training, name=name)
  small_graphs.train(y)
  tf.layers.batch_normalization(y, training=True, name='aside')


class LayersTest(parameterized.TestCase):
  def names(self, found):
    return [probe.name for probe in found.probes]

  def test_what_a_step_runs(self):
    runnable = runnable_of(three_layers)
    found = probing.of_layers(runnable)
    self.assertEqual(self.names(found), ['bn', 'chosen', 'frozen'])
    aside = [('aside', 'no training step normalises by the batch here')]
    self.assertEqual((found.unmeasured, found.layers), (aside, 4))
    for probe in found.probes:
      self.assertEqual(
        [v.op.name for v in probe.stored],
        [probe.name + '/moving_mean', probe.name + '/moving_variance'],
      )
      (site,) = probe.sites
      self.assertEqual(probe.nodes, [site.x.node])
      self.assertEqual(probe.layer.name, probe.name)

  def test_without_frozen_layers(self):
    found = probing.of_layers(runnable_of(three_layers), frozen=False)
    self.assertEqual(self.names(found), ['bn', 'chosen'])
    self.assertEqual(
      [name for name, _ in found.unmeasured], ['frozen', 'aside']
    )

  def test_among_ops(self):
    runnable = runnable_of(three_layers)
    sites = {
      layer.name: layer.sites[0].node.name for layer in runnable.anatomy.layers
    }
    found = probing.of_layers(
      runnable, among=[sites['aside'], sites['frozen'], sites['bn']]
    )
    self.assertEqual(self.names(found), ['bn', 'aside'])

  def test_where_nothing_trains_all_calls_count(self):
    def build(training):
      x = tf.placeholder(tf.float32, [None, 4], 'x')
      tf.layers.batch_normalization(x, training=training, name='bn')

    for training in (True, False):
      found = probing.of_layers(runnable_of(lambda: build(training)))
      self.assertEqual(self.names(found), ['bn'])

  @parameterized.parameters(
    (
      True,
      'no training step normalises by batch statistics: in all 1 layers '
      'training uses the stored ones, as evaluation does (training=False?)',
    ),
    (
      False,
      'no layer normalises by batch statistics in this graph; give the meta '
      'graph of the training',
    ),
  )
  def test_nothing_by_the_batch(self, trains, expected):
    def build():
      x = tf.placeholder(tf.float32, [None, 4], 'x')
      y = tf.layers.batch_normalization(x, training=False)
      if trains:
        small_graphs.train(y)

    with self.assertRaises(UserError) as caught:
      probing.of_layers(runnable_of(build), frozen=False)
    self.assertEqual(str(caught.exception), expected)

  def test_an_input_of_which_not_even_the_rank_is_known(self):
    def build(among_others):
      x = tf.placeholder(tf.float32, None, 'x')
      known = 0.0
      if among_others:
        known = tf.layers.batch_normalization(
          tf.reshape(x, [-1, 4]), training=True, name='known'
        )
      gamma = tf.get_variable('net/gamma', 4)
      y = tf.nn.batch_normalization(
        x, *tf.nn.moments(x, [0]), None, gamma, 1e-3
      )
      small_graphs.train(known + y)

    why = 'the rank of x:0 is not known; set its shape'
    found = probing.of_layers(runnable_of(lambda: build(True)))
    self.assertEqual(self.names(found), ['known'])
    self.assertEqual(found.unmeasured, [('net', why)])
    for others, frozen in ((False, True), (True, False)):
      with self.assertRaises(UserError) as caught:
        probing.of_layers(runnable_of(lambda: build(others)), frozen)
      self.assertEqual(
        str(caught.exception), 'layers that cannot be measured: net (%s)' % why
      )

  @parameterized.parameters(True, False)
  def test_a_loop_hides_what_is_in_it_and_not_what_comes_after(self, inside):
    def build():
      x = tf.placeholder(tf.float32, [None, 4], 'x')

      def step(y):
        if inside:
          y = tf.layers.batch_normalization(y, training=True, name='inside')
        return 2 * y

      y = tf.while_loop(lambda y: tf.reduce_sum(y) < 9, step, [x])
      small_graphs.train(
        tf.layers.batch_normalization(y, training=True, name='after')
      )

    found = probing.of_layers(runnable_of(build))
    self.assertEqual(self.names(found), ['after'])
    why = 'its input is inside a function or a loop'
    self.assertEqual(found.unmeasured, [('inside', why)] * inside)


class LabelsTest(parameterized.TestCase):
  def build(self, classes=3, sparse=True, trained=True, losses=1):
    x = tf.placeholder(tf.float32, [4, classes], 'x')
    logits = x * tf.get_variable('w', [], initializer=tf.ones_initializer())
    labels = (
      tf.placeholder(tf.int32, [4], 'labels')
      if sparse
      else tf.placeholder(tf.float32, [4, classes], 'labels')
    )
    loss = (
      tf.nn.sparse_softmax_cross_entropy_with_logits
      if sparse
      else tf.nn.softmax_cross_entropy_with_logits_v2
    )
    total = sum(loss(labels=labels, logits=logits / k) for k in (1, 2)[:losses])
    if trained:
      small_graphs.train(total)

  def probes(self, build, **how):
    runnable = runnable_of(build, **how)
    return runnable, probing.of_labels(runnable)

  @parameterized.parameters((True, 1), (True, 2), (False, 1))
  def test_one_hot_rows(self, sparse, losses):
    runnable, (probe,) = self.probes(
      lambda: self.build(sparse=sparse, losses=losses)
    )
    self.assertEqual((probe.name, probe.layer), ('labels', None))
    if sparse:
      self.assertEqual([node.name for node in probe.nodes], ['labels'])
    labels = np.array([2, 0, 1, 1])
    rows = np.eye(3)[labels]
    with tf.Session(graph=runnable.graph) as session:
      session.run('w/Assign')
      (found,) = session.run(
        probe.tensors,
        {'labels:0': labels if sparse else rows, 'x:0': np.zeros([4, 3])},
      )
    np.testing.assert_array_equal(found['means'], rows)
    np.testing.assert_array_equal(found['m2'], np.zeros([4, 3]))
    self.assertEqual((found['positions'], found['means'].dtype), (1, float))

  @parameterized.parameters((1000, 1), (1001, 0), (None, 1))
  def test_so_many_classes_at_most(self, classes, expected):
    for sparse in (True, False):
      _, probes = self.probes(lambda: self.build(classes, sparse))
      self.assertLen(probes, expected)

  def test_of_what_a_step_computes(self):
    self.assertEmpty(self.probes(lambda: self.build(trained=False))[1])

  @parameterized.parameters((True, 1), (False, 0))
  def test_in_a_function_those_that_come_from_outside(self, outside, expected):
    def build():
      x = tf.placeholder(tf.float32, [None, 3], 'x')
      logits = x * tf.get_variable('w', [], initializer=tf.ones_initializer())
      labels = tf.placeholder(tf.int32, [None], 'labels')

      def loss():
        return tf.reduce_mean(
          tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=labels if outside else labels + 1, logits=logits
          )
        )

      phase = tf.placeholder(tf.bool, [], 'phase')
      small_graphs.train(tf.cond(phase, loss, lambda: 0.0))

    self.assertLen(self.probes(build, functional=True)[1], expected)

  def test_beside_the_layers(self):
    def build():
      self.build()
      x = tf.placeholder(tf.float32, [None, 4])
      small_graphs.train(tf.layers.batch_normalization(x, training=True))

    found = probing.of_all(runnable_of(build))
    self.assertEqual([p.layer is None for p in found.probes], [False, True])
    self.assertEqual(found.layers, 1)


class RecordsTest(parameterized.TestCase):
  def records(self, count=9, step=None, told=None):
    """Records of a layer that a placeholder decides for, over 7 batches."""

    def build():
      x = tf.placeholder(tf.float32, [None, 4], 'x')
      phase = tf.placeholder_with_default(False, [], 'phase')
      y = tf.layers.batch_normalization(
        x, training=phase, name='bn', epsilon=0.25, momentum=0.9
      )
      small_graphs.train(y)

    told = {} if told is None else {'phase': told}
    runnable = runnable_of(
      build, lambda: ({'x': x, **told} for x in np.split(X, 7))
    )
    probes = probing.of_layers(runnable).probes
    with tf.Session(graph=runnable.graph) as session:
      variables = runnable.graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)
      session.run([v.initializer for v in variables])
      return probing.records(session, runnable, probes, count, step)

  def test_what_was_given_and_what_is_stored(self):
    (record,) = self.records(step=20)
    self.assertEqual((record.name, record.batches), ('bn', 7))
    np.testing.assert_array_equal(record.stored_mean, np.zeros(4))
    np.testing.assert_array_equal(record.stored_variance, np.ones(4))
    rows = X.astype(np.float64)
    np.testing.assert_allclose(record.inputs.mean, rows.mean(0), rtol=1e-9)
    np.testing.assert_allclose(
      record.inputs.variance, rows.var(0, ddof=1), rtol=1e-9
    )
    self.assertAlmostEqual(record.initial_share, 0.9**20)
    self.assertEqual((record.epsilon, record.labels), (0.25, False))

  @parameterized.parameters(
    # Told so, or after steps that have left the statistics as they were.
    (None, None, False),
    (None, True, False),
    (None, False, True),
    (0, None, False),
    (20, None, True),
  )
  def test_frozen_is_who_trains_by_what_is_stored(self, step, told, expected):
    (record,) = self.records(step=step, told=told)
    self.assertIs(record.frozen, expected)

  def test_so_many_batches_at_most(self):
    self.assertEqual(self.records(count=3)[0].batches, 3)


class TrainedByStoredTest(parameterized.TestCase):
  def says(self, step=20, mean=0.0, choice=True, reached=True, stored=True):
    source = fake(node=fake(op='Placeholder', inputs=[]))
    site = fake(decided=None if choice else True, choice=None)
    update = fake(node=fake(), variable=fake(name='mean'))
    probe = fake(
      stored=[fake(op=fake(name='mean'))] if stored else [],
      sites=[site],
      layer=fake(updates=[update]),
    )
    anatomy = fake(reached=[update.node] if reached else [])
    with absltest.mock.patch.object(
      probing.feeds, 'phase_sources', lambda of: [source] if choice else []
    ):
      return probing.trained_by_stored(
        anatomy, probe, [np.array([0.0, mean]), np.ones(2)], step
      )

  def test_updates_that_left_what_was_there(self):
    self.assertIs(self.says(), True)

  @parameterized.parameters(
    dict(step=0),
    dict(step=None),
    dict(mean=1e-9),
    dict(choice=False),
    dict(reached=False),
    dict(stored=False),
  )
  def test_where_it_cannot_be_told(self, **how):
    self.assertIs(self.says(**how), False)


if __name__ == '__main__':
  absltest.main()
