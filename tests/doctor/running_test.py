"""doctor/lint/running.py: branches, loops and parts of a batch."""

import types

from absl.testing import absltest
from absl.testing import parameterized
import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.graph import programs
from graph_resnet9.doctor.graph.nodes import GraphView
from graph_resnet9.doctor.graph.nodes import Tensor
from graph_resnet9.doctor.layers.anatomy import Anatomy
from graph_resnet9.doctor.lint import rules
from graph_resnet9.doctor.lint import running
from graph_resnet9.doctor.lint.step_states import State
from graph_resnet9.doctor.lint.step_states import Updates
from tests.doctor import small_graphs
from tests.doctor.hand_made import HandMade

fake = types.SimpleNamespace


def update(node, name='mean', site=None):
  return fake(node=node, variable=fake(name=name), site=site)


def through_a_loop(after):
  """A graph in which x goes into a loop and out of it, to a node `after`."""
  made = HandMade()
  made.const('x', 0.5)
  made.op('enter', 'Enter', 'x')
  made.op('inside', 'Neg', 'enter')
  made.op('exit', 'Exit', 'inside')
  made.op(after, 'Neg', 'exit')
  return made


class UpdatesTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.made = through_a_loop('outside')

  def found(self, *kinds, missing=('outside',), steps=('step',)):
    """Findings on layers; of those whose updates lack, these are missing."""
    view = self.made.view()
    found = fake(
      view=view, steps=steps, gradients=(), assumed=[view.find('inside')]
    )
    states = [
      State(
        fake(stored=[fake(name='v')]),
        None,
        kind,
        [fake(node=fake(name='root'))],
        [update(view.find(name)) for name in missing]
        if kind in (Updates.NEVER, Updates.PARTLY)
        else [],
      )
      for kind in kinds
    ]
    return list(running.updates(found, states))

  @parameterized.parameters(
    ([Updates.NEVER], 'updates-not-run'),
    ([Updates.NEVER, Updates.NOT_TRAINED], 'updates-not-run'),
    ([Updates.NEVER, Updates.ALL], 'updates-partly-run'),
    ([Updates.PARTLY], 'updates-partly-run'),
    ([Updates.NEVER, Updates.BY_ANOTHER_TOWER], 'updates-partly-run'),
  )
  def test_none_or_some(self, kinds, expected):
    (finding,) = self.found(*kinds)
    self.assertEqual(finding.code, expected)
    self.assertEqual(
      (finding.ops, finding.variables), (('outside',), ('mean',))
    )

  @parameterized.parameters(
    (['outside'], False), (['inside'], True), (['inside', 'outside'], False)
  )
  def test_in_a_loop_another_line_mends(self, missing, in_loop):
    (finding,) = self.found(Updates.NEVER, missing=missing)
    self.assertEqual('in the body of the loop' in finding.cure, in_loop)
    self.assertEqual('[the assignments]' in finding.cure, not in_loop)

  def test_what_a_layer_of_tensorflow_makes_has_a_collection(self):
    self.made.op('bn/AssignMovingAvg', 'Neg', 'exit')
    (finding,) = self.found(
      Updates.NEVER, missing=['outside', 'bn/AssignMovingAvg']
    )
    self.assertIn('minimize() inside', finding.cure)

  def test_updates_that_the_loss_waits_for(self):
    with tf.Graph().as_default() as graph:
      x = tf.placeholder(tf.float32, [32, 4])
      with small_graphs.kind():
        loss = tf.reduce_sum(
          tf.layers.batch_normalization(x, training=True, name='bn')
        )
      with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        loss = tf.identity(loss, 'waits')
      tf.train.GradientDescentOptimizer(0.1).minimize(loss)
    (finding,) = rules.lint_graph(graph).findings
    self.assertEqual(
      (finding.code, finding.severity), ('updates-by-fetch', 'warning')
    )
    self.assertEqual(finding.ops, ('waits',))
    self.assertEqual(
      finding.variables, ('bn/moving_mean', 'bn/moving_variance')
    )
    self.assertEqual(finding.detail, 'where waits is fetched')
    (finding,) = rules.lint_graph(graph, ['GradientDescent']).findings
    self.assertEqual(finding.code, 'updates-not-run')
    self.assertEmpty(
      rules.lint_graph(graph, ['GradientDescent', 'waits']).findings
    )

  def test_layers_that_have_none(self):
    (finding,) = self.found(Updates.NONE, Updates.ALL)
    self.assertEqual(finding.code, 'no-updates')
    self.assertEqual((finding.ops, finding.variables), (('root',), ('v',)))
    self.assertEqual(finding.detail, '')
    self.made.placeholder('flag')
    self.made.graph_def.node[-1].attr['dtype'].type = 10
    (finding,) = self.found(Updates.NONE)
    self.assertEqual(finding.detail, 'nothing uses the placeholder flag')
    self.assertEqual(
      [f.code for f in self.found(Updates.NONE, Updates.NEVER)],
      ['updates-not-run', 'no-updates'],
    )

  def test_nothing_to_say(self):
    self.assertEmpty(self.found(Updates.ALL, Updates.NOT_TRAINED))
    self.assertEmpty(self.found(Updates.BY_ANOTHER_TOWER))

  @parameterized.parameters(
    (True, ['gradient'], ['no-train-op']),
    (False, ['gradient'], []),
    (True, [], []),
  )
  def test_without_a_step(self, by_batch, gradients, expected):
    states = [fake(layer=fake(sites=[fake(by_batch=by_batch)]))]
    found = fake(steps=(), gradients=gradients)
    self.assertEqual([f.code for f in running.updates(found, states)], expected)


class UnusedFlagsTest(absltest.TestCase):
  def test_bools_that_nothing_uses(self):
    with small_graphs.kind(), tf.Graph().as_default() as graph:
      tf.placeholder(tf.bool, [], 'unused')
      tf.placeholder(tf.bool, [], 'net/keras_learning_phase')
      tf.placeholder(tf.bool, [3], 'mask')
      tf.placeholder(tf.float32, [], 'rate')
      tf.constant(True, name='constant')
      tf.logical_not(tf.placeholder(tf.bool, [], 'used'))
      x = tf.placeholder(tf.float32, [3])
      tf.cond(tf.placeholder(tf.bool, [], 'unread'), lambda: x, lambda: x)
      y = tf.cond(tf.placeholder(tf.bool, [], 'read'), lambda: x, lambda: x)
      tf.negative(y)
      tf.cond(tf.placeholder(tf.bool, [], 'works'), lambda: -x, lambda: x)
    view = GraphView(graph.as_graph_def(add_shapes=True))
    self.assertEqual(
      [node.name for node in running.unused_flags(view)], ['unused', 'unread']
    )


class InCondTest(parameterized.TestCase):
  """An update in a branch, node by node, and a step that waits for it."""

  def found(self, kind, branch='phase', step='^update', functions=True):
    made = HandMade()
    ref = {'plain': '', 'ref': 'Ref'}[kind]
    made.variable('mean', 3)
    made.const('x', 0.5)
    made.placeholder('phase')
    made.placeholder('other')
    made.op('loop', 'LoopCond', 'phase')
    made.op('switch', ref + 'Switch', 'x', branch)
    made.op('switch_2', ref + 'Switch', 'x', 'other')
    made.op('update', 'Assign', 'mean', 'switch:1')
    made.op('merge', ref + 'Merge', 'switch', 'update')
    made.op('neg', 'Neg', 'switch:1')
    made.op('neg_2', 'Neg', 'switch_2:1')
    made.op('step', 'NoOp', *step.split())
    view = made.view()
    found = fake(
      view=view,
      steps=[view.find('step')],
      layers=[fake(updates=[update(view.find('update'))])],
    )
    return [(f.code, f.ops, f.variables) for f in running.in_cond(found)]

  @parameterized.parameters('plain', 'ref')
  def test_a_step_that_waits_for_what_may_not_run(self, kind):
    code = [('updates-in-cond', ('update',), ('mean',))]
    self.assertEqual(self.found(kind), code)
    # In a branch of something else, too.
    self.assertEqual(self.found(kind, step='^update ^neg_2'), code)

  @parameterized.parameters('plain', 'ref')
  def test_a_step_that_runs_either_way_or_is_in_the_branch(self, kind):
    self.assertEmpty(self.found(kind, step='^merge'))
    self.assertEmpty(self.found(kind, step='^switch'))
    self.assertEmpty(self.found(kind, step='^update ^neg'))

  def test_a_loop_is_no_branch(self):
    self.assertEmpty(self.found('plain', branch='loop'))


class InEvaluationTest(parameterized.TestCase):
  def found(self, make, phase=None, functional=False, train=False):
    """Codes on a layer by hand, chosen by a phase, with updates of make().

    make: function (phase, stored, batch) -> (updates before the output,
      function that makes updates in the branch of training).
    """
    with small_graphs.kind(functional=functional), tf.Graph().as_default() as g:
      x = tf.placeholder(tf.float32, [32, 4])
      phase = phase or tf.placeholder(tf.bool, [], 'phase')
      phase = phase() if callable(phase) else phase
      gamma = tf.get_variable('gamma', 4)
      stored = [
        tf.get_variable(name, 4, trainable=False) for name in ('mean', 'var')
      ]
      batch = tf.nn.moments(x, [0])
      outside, inside = make(phase, stored, batch)

      def of_batch():
        with tf.control_dependencies(inside() or []):
          return [tf.identity(b) for b in batch]

      used = tf.cond(phase, of_batch, lambda: [tf.identity(v) for v in stored])
      with tf.control_dependencies(outside):
        y = tf.nn.batch_normalization(x, used[0], used[1], None, gamma, 1e-3)
      if train:
        tf.train.GradientDescentOptimizer(0.1).minimize(tf.reduce_sum(y * y))
    results = list(running.in_evaluation(Anatomy(programs.of_graph(g))))
    for finding in results:
      self.assertEqual(finding.variables, ('mean', 'var'))
    return [f.code for f in results]

  def moved(self, stored, batch, decay=0.9):
    return [
      tf.assign(v, v * decay + b * (1 - decay)) for v, b in zip(stored, batch)
    ]

  @parameterized.product(functional=[True, False], train=[True, False])
  def test_updates_that_nothing_chooses(self, functional, train):
    self.assertEqual(
      self.found(
        lambda phase, stored, batch: (self.moved(stored, batch), lambda: ()),
        functional=functional,
        train=train,
      ),
      ['updates-in-evaluation'],
    )

  @parameterized.parameters(True, False)
  def test_made_outside_of_the_branch_that_waits_for_them(self, functional):
    def make(phase, stored, batch):
      updates = self.moved(stored, batch)
      return [], lambda: updates

    self.assertEqual(
      self.found(make, functional=functional), ['updates-in-evaluation']
    )

  @parameterized.product(functional=[True, False], train=[True, False])
  def test_made_in_the_branch(self, functional, train):
    self.assertEmpty(
      self.found(
        lambda phase, stored, batch: ([], lambda: self.moved(stored, batch)),
        functional=functional,
        train=train,
      )
    )

  @parameterized.parameters(True, False)
  def test_a_decay_that_is_1_where_it_does_not_train(self, functional):
    def make(phase, stored, batch):
      decay = tf.cond(phase, lambda: 0.9, lambda: 1.0)
      return self.moved(stored, batch, decay), lambda: ()

    self.assertEmpty(self.found(make, functional=functional))

  @parameterized.parameters(True, False)
  def test_a_value_that_is_the_stored_one_where_it_does_not_train(
    self, functional
  ):
    def make(phase, stored, batch):
      values = [
        tf.cond(phase, lambda v=v, b=b: v * 0.9 + b * 0.1, v.read_value)
        for v, b in zip(stored, batch)
      ]
      return [tf.assign(*pair) for pair in zip(stored, values)], lambda: ()

    self.assertEmpty(self.found(make, functional=functional))

  def test_updates_in_a_branch_of_their_own(self):
    def make(phase, stored, batch):
      def move():
        with tf.control_dependencies(self.moved(stored, batch)):
          return tf.constant(True)

      return [tf.cond(phase, move, lambda: False)], lambda: ()

    for functional in (True, False):
      self.assertEmpty(self.found(make, functional=functional))

  def test_a_graph_that_only_trains(self):
    self.assertEmpty(
      self.found(
        lambda phase, stored, batch: (self.moved(stored, batch), lambda: ()),
        phase=lambda: tf.identity(tf.constant(True)),
      )
    )

  def test_each_tensor_is_looked_at_once(self):
    """Else sums of sums take for ever."""

    class Counted(set):
      looks = 0

      def __contains__(self, item):
        Counted.looks += 1
        return super().__contains__(item)

    made = HandMade()
    made.placeholder('n0')
    for k in range(12):
      made.op('n%d' % (k + 1), 'Add', 'n%d' % k, 'n%d' % k)
    view = made.view()
    last = Tensor(view.find('n12'), 0)
    self.assertFalse(running._depends_on(view, last, Counted()))
    self.assertEqual(Counted.looks, 13)
    self.assertTrue(
      running._depends_on(view, last, {Tensor(view.find('n0'), 0)})
    )


def halves(of, axis=0):
  return tf.split(of, 2, axis)


ONE_BATCH = {
  'split': halves,
  'sizes': lambda x: tf.split(x, [6, 10]),
  'three': lambda x: tf.split(x, [4, 4, 8]),
  'strided': lambda x: [x[:6], x[6:]],
  'strided_all_axes': lambda x: [x[:6, :], x[6:, :]],
  'slice': lambda x: [
    tf.slice(x, [0, 0], [6, 8]),
    tf.slice(x, [6, 0], [10, 8]),
  ],
  'slice_to_the_end': lambda x: [
    tf.slice(x, [0, 0], [6, -1]),
    tf.slice(x, [6, 0], [-1, -1]),
  ],
  'slice_from_where_is_fed': lambda x: [
    tf.slice(x, tf.placeholder(tf.int32, [2]), [6, 8]),
    tf.slice(x, tf.placeholder(tf.int32, [2]), [-1, 8]),
  ],
  'slice_of_as_many_as_are_fed': lambda x: [
    tf.reshape(tf.slice(x, begin, tf.placeholder(tf.int32, [2])), [-1, 8])
    for begin in ([0, 0], [6, 0])
  ],
  'changed': lambda x: [2 * part for part in halves(x)],
}
NOT_PARTS = {
  'noise': lambda x: [x, x + 1],
  'three_times': lambda x: [x, x + 1, x + 2],
  'one_part_twice': lambda x: [*halves(x), halves(x)[0] * 2],
  'both_in_one': lambda x: [halves(x)[0], sum(halves(x))],
  'features': lambda x: halves(x, 1),
  'feature_sizes': lambda x: tf.split(x, [4, 4], 1),
  'strided_features': lambda x: [x[:, :4], x[:, 4:]],
  'slice_features': lambda x: [
    tf.slice(x, [0, 0], [-1, 4]),
    tf.slice(x, [0, 4], [-1, 4]),
  ],
  'of_two_batches': lambda x: [x[:6], tf.placeholder(tf.float32, [16, 8])[:6]],
}


class SeveralTest(parameterized.TestCase):
  def found(self, cut, run=slice(None)):
    """Findings on a layer called on each of cut(x); run: which updates."""
    with small_graphs.kind(), tf.Graph().as_default() as graph:
      x = tf.placeholder(tf.float32, [16, 8])
      loss = 0.0
      for k, part in enumerate(cut(x)):
        y = tf.layers.batch_normalization(
          part, training=True, name='bn', reuse=k > 0
        )
        loss += tf.reduce_sum(tf.square(y))
      updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)[run]
      with tf.control_dependencies(updates):
        tf.train.GradientDescentOptimizer(0.1).minimize(loss)
    return list(running.several(Anatomy(programs.of_graph(graph))))

  @parameterized.parameters(*ONE_BATCH)
  def test_parts_of_one_batch(self, cut):
    self.assertEmpty(self.found(ONE_BATCH[cut]))

  @parameterized.parameters(*NOT_PARTS)
  def test_what_is_none(self, cut):
    (finding,) = self.found(NOT_PARTS[cut])
    self.assertEqual(finding.code, 'several-updates-a-step')
    self.assertEqual(
      set(finding.variables), {'bn/moving_mean', 'bn/moving_variance'}
    )
    calls = 3 if cut in ('three_times', 'one_part_twice') else 2
    self.assertEqual(finding.detail, 'up to %d a step' % calls)
    self.assertLen(finding.ops, 2 * calls)

  def test_the_updates_of_one_call(self):
    self.assertEmpty(self.found(NOT_PARTS['noise'], slice(2)))
    self.assertEmpty(self.found(lambda x: [x]))


class InLoopsTest(absltest.TestCase):
  def found(self, node='inside', site='inside', reached=True, steps=('step',)):
    view = through_a_loop('step').view()
    moved = update(view.find(node), site=fake(node=view.find(site)))
    found = fake(
      view=view,
      steps=[view.find(name) for name in steps],
      reached={moved.node} if reached else set(),
      layers=[fake(updates=[moved])],
    )
    return [(f.code, f.ops, f.variables) for f in running.in_loops(found)]

  def test_one_set_for_all_iterations(self):
    self.assertEqual(
      self.found(), [('statistics-shared-by-steps', ('inside',), ('mean',))]
    )

  def test_where_it_is_not_so(self):
    self.assertEmpty(self.found(node='step'))
    self.assertEmpty(self.found(site='x'))
    self.assertEmpty(self.found(reached=False))
    self.assertEmpty(self.found(steps=()))

  def test_a_loop_of_training_steps(self):
    self.assertEmpty(self.found(steps=['step', 'inside']))


if __name__ == '__main__':
  absltest.main()
