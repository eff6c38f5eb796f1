"""doctor/graph: linking, functions, damage and bounds."""

import types
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.graph import nodes
from graph_resnet9.doctor.graph import ops
from graph_resnet9.doctor.graph import programs
from graph_resnet9.doctor.graph import tensors
from graph_resnet9.doctor.graph import walks
from graph_resnet9.doctor.graph.nodes import Tensor
from tests.doctor.hand_made import HandMade


class LinkTest(absltest.TestCase):
  def test_inputs_and_controls(self):
    made = HandMade()
    made.const('a', 1.0)
    made.op('b', 'Switch', 'a', 'a')
    made.op('c', 'Neg', 'b:1', '^a')
    node = made.view().find('c')
    self.assertEqual(node.inputs, [Tensor(node.inputs[0].node, 1)])
    self.assertEqual([n.name for n in node.controls], ['a'])

  def test_readers_take_values_and_consumers_also_wait(self):
    made = HandMade()
    made.const('a', 1.0)
    made.op('b', 'NoOp', '^a')
    view = made.view()
    (a, b) = (view.find(name) for name in 'ab')
    self.assertEqual(view.consumers[a], [b])
    self.assertEqual(view.readers[a], [])

  def test_an_input_that_is_not_there_is_named(self):
    made = HandMade()
    made.op('b', 'Neg', 'gone')
    with self.assertRaisesRegex(ValueError, 'b: its input gone is not'):
      made.view()

  def test_an_op_without_the_inputs_that_it_takes_is_named(self):
    for op, least in (
      ('Assign', 2), ('Rsqrt', 1), ('SaveV2', 3), ('Mean', 2),
      ('FusedBatchNorm', 5), ('Switch', 2), ('ReadVariableOp', 1),
    ):  # fmt: skip
      made = HandMade()
      made.op('damaged', op)
      with self.assertRaisesRegex(
        ValueError, 'damaged: %s takes %d' % (op, least)
      ):
        made.view()

  def test_an_op_that_is_not_registered_may_have_none(self):
    made = HandMade()
    made.op('a', 'NoSuchOp')
    self.assertEqual(made.view().find('a').inputs, [])

  def test_reading_an_attribute_adds_none(self):
    made = HandMade()
    made.op('a', 'NoSuchOp')
    node = made.view().find('a')
    self.assertEqual(node.attribute('epsilon').f, 0)
    self.assertEmpty(made.graph_def.node[0].attr)

  def test_collections_are_not_added(self):
    meta_graph = tf.MetaGraphDef()
    meta_graph.graph_def.node.add(name='a', op='NoOp')
    programs.of_meta_graph(meta_graph)
    self.assertEmpty(meta_graph.collection_def)

  def test_more_ops_than_are_read_are_refused(self):
    made = HandMade()
    made.const('a', 1.0)
    made.const('b', 1.0)
    with mock.patch.object(nodes, 'MOST_NODES', 1):
      with self.assertRaisesRegex(ValueError, '2 ops, of which at most 1 are'):
        made.view()

  def test_the_bounds_are_met_before_anything_is_made(self):
    """Of ops that would not be there: counted, and never looked at."""
    graph_def = lambda ops, body: types.SimpleNamespace(
      node=ops,
      library=types.SimpleNamespace(
        function=[
          types.SimpleNamespace(
            signature=types.SimpleNamespace(name='f'), node_def=body
          )
        ]
      ),
    )
    with self.assertRaisesRegex(ValueError, '1000001 ops, of which'):
      nodes.GraphView(graph_def(range(1000001), ()))
    call = types.SimpleNamespace(name='call', op='f', attr={}, input=[])
    with self.assertRaisesRegex(ValueError, 'call: .* more than 200000 ops'):
      nodes.GraphView(graph_def([call], range(200001)))
    # A line that is just not crossed.
    made = HandMade()
    made.const('a', 1.0)
    made.const('b', 1.0)
    with mock.patch.object(nodes, 'MOST_NODES', 2):
      self.assertLen(made.view().nodes, 2)

  def test_names_of_outputs(self):
    made = HandMade()
    made.op('a', 'NoSuchOp')
    made.op('b', 'NoSuchOp', '^a', '^a:0', 'a', 'a:0', 'a:2', 'a:none')
    view = made.view()
    a, b = (view.find(name) for name in 'ab')
    self.assertEqual([t.index for t in b.inputs], [0, 0, 2, 0])
    self.assertEqual([t.node for t in b.inputs], [a] * 4)
    self.assertEqual(b.controls, [a, a])
    for name in ('a', 'a:1', '^a'):
      self.assertIs(view.find(name), a)
    self.assertIsNone(view.find('c:0'))

  def test_each_reading_counts(self):
    made = HandMade()
    made.const('a', 1.0)
    made.op('b', 'Mul', 'a', 'a', '^a')
    view = made.view()
    a, b = (view.find(name) for name in 'ab')
    self.assertEqual(view.readers[a], [b, b])
    self.assertEqual(view.consumers[a], [b, b, b])
    self.assertIs(view.consumers, view.consumers)


class FunctionTest(parameterized.TestCase):
  def test_a_body_is_unfolded_under_its_call(self):
    made = HandMade()
    made.const('a', 1.0)
    made.function('f', ['x'], [('y', 'Neg', 'x')], {'out': 'y:y:0'})
    made.op('call', 'f', 'a')
    view = made.view()
    inner = view.find('call/y')
    self.assertEqual(inner.op, 'Neg')
    self.assertEqual(view.find('call').results, [[Tensor(inner, 0)]])
    argument = view.find('call/x')
    self.assertEqual((argument.call, argument.branch), (view.find('call'), ''))
    (source,) = tensors.sources(inner.inputs[0])
    self.assertEqual(source.node.name, 'a')

  @parameterized.parameters(
    ('If', 'then_branch', 'ab'), ('If', 'else_branch', 'ab'),
    ('StatelessIf', 'then_branch', 'ab'), ('StatelessIf', 'else_branch', 'ab'),
    ('While', 'body', 'pa'), ('While', 'cond', 'pa'),
    ('StatelessWhile', 'body', 'pa'), ('StatelessWhile', 'cond', 'pa'),
    ('PartitionedCall', 'f', 'pa'), ('StatefulPartitionedCall', 'f', 'pa'),
  )  # fmt: skip
  def test_what_a_function_is_given(self, op, attribute, given):
    """A predicate is not: it says which function it is."""
    made = HandMade()
    for name in 'pab':
      made.const(name, 1.0)
    made.function('g', 'xy', [('n', 'Neg', 'y')], {'out': 'n:0'})
    made.op('call', op, *'pab')
    made.graph_def.node[-1].attr[attribute].func.name = 'g'
    view = made.view()
    call = view.find('call')
    for argument, source in zip('xy', given):
      inner = view.find('call/%s/%s' % (attribute, argument))
      self.assertEqual((inner.call, inner.branch), (call, attribute))
      self.assertEqual([t.node.name for t in inner.inputs], [source])
    inner = view.find('call/%s/n' % attribute)
    # What a condition says is no result; it runs all the same.
    expected = [] if attribute == 'cond' else [[Tensor(inner, 0)]]
    self.assertEqual(call.results, expected)
    self.assertEqual(call.controls, [inner])

  @parameterized.parameters('Case', 'StatelessCase')
  def test_branches_are_numbered(self, op):
    made = HandMade()
    made.const('p', 1.0)
    for name in 'fg':
      made.function(name, ['x'], [], {'out': 'x'})
    made.op('call', op, 'p', 'p')
    listed = made.graph_def.node[-1].attr['branches'].list.func
    for name in ('f', 'gone', 'g'):
      listed.add(name=name)
    view = made.view()
    self.assertEqual(
      [results[0].node.name for results in view.find('call').results],
      ['call/branches/x', 'call/branches2/x'],
    )

  def test_outputs_within_a_function_have_names(self):
    made = HandMade()
    made.const('a', 1.0)
    normalised = ['a:0', 'a:batch_mean:0', 'a:batch_variance:0', 'a:y:0']
    made.function(
      'f',
      ['x'],
      [
        ('a', 'FusedBatchNormV3', *['x'] * 5),
        ('s', 'Switch', 'x', 'x'),
        ('u', 'Unpack', 'x'),
        ('b', 'NoSuchOp', *normalised),
        ('c', 'NoSuchOp', 's:output_true:0', 's:output_false:0', 'u:output:3'),
      ],
      {'out': 'x'},
    )
    made.op('call', 'f', 'a')
    view = made.view()
    for name, expected in (('b', [0, 1, 2, 0]), ('c', [1, 0, 3])):
      inputs = view.find('call/' + name).inputs
      self.assertEqual([t.index for t in inputs], expected)

  def test_what_a_function_does_beside_runs_with_its_call(self):
    made = HandMade()
    made.const('a', 1.0)
    body = made.function(
      'f', ['x'], [('n', 'Neg', 'x'), ('c', 'NoOp', '^n')], {'out': 'x'}
    )
    body.control_ret['c'] = 'c'
    body.control_ret['d'] = 'gone'
    made.op('call', 'f', 'a')
    view = made.view()
    names = [node.name for node in view.find('call').controls]
    self.assertEqual(names, ['call/x', 'call/c'])
    self.assertIn(view.find('call/n'), view.ancestors([view.find('call')]))

  def test_positions_are_those_in_the_file_and_functions_come_behind(self):
    made = HandMade()
    made.const('a', 1.0)
    made.function('f', ['x'], [('n', 'Neg', 'x')], {'out': 'x'})
    made.op('call', 'f', 'a')
    made.op('last', 'Neg', 'a')
    view = made.view()
    names = ('a', 'call', 'last', 'call/x', 'call/n')
    self.assertEqual(
      sorted(names, key=lambda name: view.find(name).position), list(names)
    )

  def test_as_many_ops_as_may_be_unfolded(self):
    made = HandMade()
    made.function('f', [], [(n, 'NoSuchOp') for n in 'abc'], {})
    made.op('one', 'f')
    made.op('two', 'f')
    with mock.patch.object(nodes, 'MOST_UNFOLDED', 6):
      self.assertLen(made.view().nodes, 8)
    with mock.patch.object(nodes, 'MOST_UNFOLDED', 5):
      with self.assertRaisesRegex(ValueError, 'two: its functions unfold to'):
        made.view()

  def test_as_many_calls_in_calls_as_may_be(self):
    def nested(calls):
      made = HandMade()
      for k in range(1, calls):
        made.function('f%d' % k, [], [('n', 'f%d' % (k + 1))], {})
      made.function('f%d' % calls, [], [('n', 'NoSuchOp')], {})
      made.op('call', 'f1')
      return made.view()

    self.assertLen(nested(33).nodes, 34)
    with self.assertRaisesRegex(ValueError, 'more than 32 deep'):
      nested(34)

  def test_functions_that_call_each_other_twice_are_bounded(self):
    made = HandMade()
    for k in range(30):
      inner = 'f%d' % (k + 1)
      made.function(
        'f%d' % k, ['x'], [('a', inner, 'x'), ('b', inner, 'x')], {'out': 'b:0'}
      )
    made.function('f30', ['x'], [('a', 'Neg', 'x')], {'out': 'a:y:0'})
    made.const('c', 1.0)
    made.op('call', 'f0', 'c')
    with mock.patch.object(nodes, 'MOST_UNFOLDED', 1000):
      with self.assertRaisesRegex(ValueError, 'unfold to more than 1000 ops'):
        made.view()

  def test_a_function_that_calls_itself_is_said(self):
    made = HandMade()
    made.function('f', ['x'], [('a', 'f', 'x')], {'out': 'a:0'})
    made.const('c', 1.0)
    made.op('call', 'f', 'c')
    with self.assertRaisesRegex(ValueError, 'or themselves'):
      made.view()

  def test_a_function_that_returns_nothing_of_its_own_is_named(self):
    made = HandMade()
    made.function('f', ['x'], [], {'out': 'gone'})
    made.function('g', ['x'], [], {'out': 'x'}).ret.clear()
    made.const('c', 1.0)
    for name in 'fg':
      made.op('call' + name, name, 'c')
    with self.assertRaisesRegex(ValueError, 'function f returns what is not'):
      made.view()
    del made.graph_def.node[1]
    with self.assertRaisesRegex(ValueError, 'function g returns what is not'):
      made.view()


class WalkTest(absltest.TestCase):
  def chain(self, length):
    made = HandMade()
    made.const('n0', 1.0)
    for k in range(1, length):
      made.op('n%d' % k, 'Neg', 'n%d' % (k - 1))
    view = made.view()
    return view, [view.find('n%d' % k) for k in range(length)]

  def test_nearest_first_and_each_once(self):
    made = HandMade()
    made.const('a', 1.0)
    made.op('b', 'Neg', 'a')
    made.op('c', 'Neg', 'b')
    made.op('d', 'Add', 'c', 'a')
    view = made.view()
    met = walks.walk([view.find('a')], lambda n: view.readers[n])
    self.assertEqual([n.name for n in met], ['a', 'b', 'd', 'c'])

  def test_a_budget_that_is_hit_is_said(self):
    view, chain = self.chain(6)
    with self.assertLogs('absl', 'WARNING') as logs:
      met = list(walks.walk(chain[:1], lambda n: view.readers[n], budget=3))
    self.assertEqual(met, chain[:3])
    self.assertIn('around n3: looked at 3 ops and no further', logs.output[0])

  def test_a_budget_that_suffices_is_silent(self):
    view, chain = self.chain(6)
    with absltest.mock.patch.object(walks.logging, 'warning') as warning:
      met = list(walks.walk(chain[:1], lambda n: view.readers[n], budget=6))
    self.assertEqual(met, chain)
    warning.assert_not_called()

  def test_ancestors_and_descendants_end_at_a_stop(self):
    view, chain = self.chain(5)
    stop = lambda node: node is chain[2]
    self.assertEqual(view.ancestors([chain[3]], stop), set(chain[2:4]))
    self.assertEqual(view.descendants([chain[1]], stop), set(chain[1:3]))

  def test_a_deep_graph_is_seen_to_its_end(self):
    """Only walks around a layer have a budget."""
    made = HandMade()
    made.const('n0', 1.0)
    made.op('n1', 'ReluGrad', 'n0', 'n0')
    for k in range(2, 2500):
      made.op('n%d' % k, 'Neg', 'n%d' % (k - 1))
    view = made.view()
    every = set(view.nodes.values())
    self.assertEqual(view.descendants([view.find('n0')]), every)
    self.assertEqual(view.ancestors([view.find('n2499')]), every)
    self.assertEqual(view.backward, every - {view.find('n0')})


class BackwardTest(absltest.TestCase):
  def test_ops_that_only_gradients_have(self):
    for op in (
      'ReluGrad', 'FusedBatchNormGradV3', 'MaxPoolGradGrad', 'BiasAddGrad',
      'Conv2DBackpropFilter', 'BroadcastGradientArgs', 'LRNGrad',
      'FakeQuantWithMinMaxVarsGradient', 'MaxPoolGradWithArgmax',
    ):  # fmt: skip
      self.assertTrue(ops.is_gradient(op), op)
    for op in (
      'Conv2DBackpropInput', 'Conv3DBackpropInputV2', 'StopGradient', 'Relu',
      'PreventGradient', 'DepthwiseConv2dNativeBackpropInput', 'Gradual',
    ):  # fmt: skip
      self.assertFalse(ops.is_gradient(op), op)

  def test_a_transposed_convolution_is_one_behind_a_gradient_alone(self):
    made = HandMade()
    for name in ('size', 'filters', 'x'):
      made.const(name, 1.0)
    made.op('decoder', 'Conv2DBackpropInput', 'size', 'filters', 'x')
    made.op('relu_grad', 'ReluGrad', 'x', 'x')
    made.op('dx', 'Conv2DBackpropInput', 'size', 'filters', 'relu_grad')
    made.op('waits', 'Neg', 'x', '^relu_grad')
    view = made.view()
    self.assertEqual({node.name for node in view.backward}, {'relu_grad', 'dx'})


class SlicesTest(absltest.TestCase):
  def saver(self, spec):
    made = HandMade()
    made.variable('v', 8, 3)
    made.const('prefix', 'model')
    made.const('names', ['whole'])
    made.const('specs', [spec])
    made.op('save', 'SaveV2', 'prefix', 'names', 'specs', 'v/read')
    meta_graph = tf.MetaGraphDef(graph_def=made.graph_def)
    return programs.of_meta_graph(meta_graph)

  def test_a_part_of_a_variable(self):
    of = self.saver('8 3 2,4:-')
    self.assertEqual(programs.checkpoint_names(of), {'v': 'whole'})
    (part,) = programs.checkpoint_slices(of).values()
    self.assertEqual(part, (slice(2, 6), slice(None)))

  def test_a_damaged_part(self):
    with self.assertRaisesRegex(ValueError, 'no part of a saved variable'):
      programs.checkpoint_slices(self.saver('8 3 x'))


if __name__ == '__main__':
  absltest.main()
