"""doctor/measure/by_stored.py: the copy normalises by what is stored."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.graph.nodes import GraphView
from graph_resnet9.doctor.measure import by_stored
from graph_resnet9.doctor.measure import probing
from graph_resnet9.doctor.measure import sessions
from graph_resnet9.errors import UserError
from tests.doctor import small_graphs
from tests.doctor.hand_made import HandMade

X = small_graphs.examples(1, 1, 4)[:10]
MEAN, VARIANCE = np.arange(4) - 1.0, np.arange(4) + 0.5


def layers_norm(**how):
  return lambda x: tf.layers.batch_normalization(
    x, training=True, name='bn', **how
  )


def by_hand(x, dtype=tf.float32, in_place=False):
  stored = [
    tf.get_variable(name, 4, dtype, trainable=False) for name in ('mean', 'var')
  ]
  beta = tf.get_variable('beta', 4, initializer=tf.zeros_initializer())
  batch = tf.nn.moments(x, [0, 1, 2])
  updates = [
    tf.assign(v, v * 0.9 + tf.cast(b, dtype) * 0.1)
    for v, b in zip(stored, batch)
  ]
  for update in updates:
    tf.add_to_collection('updates', tf.convert_to_tensor(update))
  with tf.control_dependencies(updates if in_place else []):
    return tf.nn.batch_normalization(x, *batch, beta, None, 1e-3)


def twice(x):
  """A layer that is called twice, and one behind it."""
  norm = lambda x, **how: tf.layers.batch_normalization(
    x, training=True, name='bn', **how
  )
  return norm(x) + norm(2 * x, reuse=True)


NORMS = {
  'fused': layers_norm(fused=True),
  'unfused': layers_norm(fused=False),
  'no_scale': layers_norm(fused=False, scale=False),
  'hand': by_hand,
  'in_place': lambda x: by_hand(x, in_place=True),
  'double': lambda x: by_hand(x, tf.float64),
  'groups': layers_norm(fused=False, virtual_batch_size=5),
  'twice': twice,
}


class CopyTest(parameterized.TestCase):
  def run_copy(self, norm, resource=True, size=None):
    """(outputs of the copy, what is stored before and after, the Runnables)."""
    with small_graphs.kind(resource), tf.Graph().as_default() as graph:
      x = tf.placeholder(tf.float32, [size, 1, 1, 4], 'x')
      y = tf.identity(norm(tf.identity(x)), 'y')
      small_graphs.train(y)
    runnable = sessions.of_graph(graph, {x: X})
    copy = by_stored.copy(runnable, probing.of_layers(runnable).probes)
    values = {'mean': MEAN, 'variance': VARIANCE, 'var': VARIANCE}
    with copy.graph.as_default(), tf.Session() as session:
      stored = []
      session.run(tf.global_variables_initializer())
      for variable in tf.global_variables():
        end = variable.op.name.rpartition('/')[2].replace('moving_', '')
        if end in values:
          variable.load(np.broadcast_to(values[end], variable.shape), session)
          stored.append(variable)
      y = session.run('y:0', {'x:0': X})
      after = session.run(stored)
    return y, [values[k] for k in ('mean', 'variance')], after, runnable, copy

  @parameterized.product(norm=list(NORMS), resource=[True, False])
  def test_by_what_is_stored(self, norm, resource):
    self.assert_by_stored(norm, resource, None)

  def test_groups_of_a_batch_of_known_size(self):
    self.assert_by_stored('groups', True, len(X))

  def assert_by_stored(self, norm, resource, size):
    y, before, after, _, _ = self.run_copy(NORMS[norm], resource, size)
    normed = lambda x: (x - MEAN) / np.sqrt(VARIANCE + 1e-3)
    expected = normed(X) + normed(2 * X) if norm == 'twice' else normed(X)
    np.testing.assert_allclose(y, expected, atol=1e-4)
    for one, other in zip(before, after):
      np.testing.assert_allclose(one, other.reshape(-1), rtol=1e-6)

  @parameterized.parameters(True, False)
  def test_nothing_waits_for_updates_any_more(self, resource):
    """Those that correct a bias would move variables of their own."""

    def norm(x):
      y = by_hand(x)
      updates = tf.get_collection('updates')
      with tf.control_dependencies([tf.no_op('kept')]):
        y = tf.identity(y)
      with tf.control_dependencies([updates[0].op]):
        y = tf.identity(y)
      with tf.control_dependencies([tf.group(tf.identity(updates[1]))]):
        return tf.identity(y)

    _, _, _, runnable, copy = self.run_copy(norm, resource)

    def assigns(graph):
      view = GraphView(graph.as_graph_def())
      needed = view.ancestors([view.find('y')])
      self.assertIn('kept', {node.name for node in needed})
      return sum('Assign' in node.op for node in needed)

    self.assertEqual(assigns(runnable.graph), 2)
    self.assertEqual(assigns(copy.graph), 0)

  def test_the_original_is_left_alone_and_names_are_the_same(self):
    _, _, _, runnable, copy = self.run_copy(NORMS['unfused'])
    names = [
      {op.name for op in g.get_operations()}
      for g in (runnable.graph, copy.graph)
    ]
    self.assertContainsSubset(names[0], names[1])
    self.assertIsNot(copy.graph, runnable.graph)
    self.assertFalse(
      [name for name in names[0] if name.startswith('by_stored_statistics')]
    )
    ((tensor, value),) = copy.init_feed.items()
    self.assertIs(tensor, copy.graph.get_tensor_by_name('x:0'))
    self.assertIs(value, X)
    self.assertIs(copy.anatomy, runnable.anatomy)

  def test_who_has_a_choice_is_not_changed(self):
    with small_graphs.kind(), tf.Graph().as_default() as graph:
      x = tf.placeholder(tf.float32, [None, 4], 'x')
      phase = tf.placeholder(tf.bool, [], 'phase')
      small_graphs.train(tf.layers.batch_normalization(x, training=phase))
    runnable = sessions.of_graph(graph, {})
    copy = by_stored.copy(runnable, probing.of_layers(runnable).probes)
    for op in copy.graph.get_operations():
      self.assertNotIn('by_stored_statistics', op.name)

  def test_in_a_function_it_cannot_be_done(self):
    with small_graphs.kind(functional=True), tf.Graph().as_default() as graph:
      x = tf.placeholder(tf.float32, [None, 1, 1, 4], 'x')
      outside = tf.cond(
        tf.placeholder(tf.bool, [], 'dropped'),
        lambda: by_hand(x),
        lambda: 1.0 * x,
      )
      small_graphs.train(outside)
    runnable = sessions.of_graph(graph, {})
    (layer,) = runnable.anatomy.layers
    (site,) = layer.sites
    stored = graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)[:2]
    site = site._replace(choice=None)
    probe = probing.Probe('net/bn', [], [], layer, [site], stored)
    with self.assertRaisesRegex(
      UserError, '^layer net/bn: its batch statistics are inside a function'
    ):
      by_stored.copy(runnable, [probe])


class BranchTest(parameterized.TestCase):
  @parameterized.product(ref=['', 'Ref'], kind=['branch', 'loop'])
  def test_what_is_in_a_branch_or_loop(self, ref, kind):
    made = HandMade()
    made.const('x', 0.5)
    made.const('phase', True)
    begin, end = {'branch': ('Switch', 'Merge'), 'loop': ('Enter', 'Exit')}[
      kind
    ]
    made.op('begin', ref + begin, 'x', 'phase')
    made.op('inside', 'Neg', 'begin')
    made.op('beside', 'NoOp', '^inside')
    made.op('end', ref + end, 'inside', 'inside')
    made.op('after', 'Neg', 'end')
    view = made.view()
    for name, expected in (
      ('x', False),
      ('begin', True),
      ('inside', True),
      ('beside', True),
      ('end', False),
      ('after', False),
    ):
      self.assertIs(
        by_stored.in_branch_or_loop(view, view.find(name)), expected, name
      )


if __name__ == '__main__':
  absltest.main()
