"""doctor/graph: linking, functions, damage and bounds."""

from unittest import mock

from absl.testing import absltest
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


class FunctionTest(absltest.TestCase):
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


class TensorsTest(absltest.TestCase):
  def test_cycles_of_identities_end(self):
    made = HandMade()
    made.op('a', 'Identity', 'b')
    made.op('b', 'Identity', 'a')
    tensor = made.tensor('a')
    self.assertEqual(tensors.sources(tensor), [])
    self.assertEqual(tensors.outside(tensor).node.name, 'b')
    self.assertIsNone(tensors.variable(tensor))

  def test_numbers_integers_and_strings(self):
    made = HandMade()
    made.const('one', np_float(0.5))
    made.const('axes', [0, 1])
    made.const('names', ['a', 'b'])
    self.assertEqual(tensors.number(made.tensor('one')), 0.5)
    self.assertEqual(tensors.integers(made.tensor('axes')), [0, 1])
    self.assertEqual(tensors.strings(made.tensor('names')), ['a', 'b'])
    for read in (tensors.number, tensors.integers):
      self.assertIsNone(read(made.tensor('names')))
    self.assertIsNone(tensors.strings(made.tensor('axes')))
    self.assertIsNone(tensors.number(made.tensor('axes')))

  def test_a_value_that_stands_for_all_takes_no_memory(self):
    made = HandMade()
    made.const('huge', 0.5)
    value = made.graph_def.node[0].attr['value'].tensor
    for _ in range(4):
      value.tensor_shape.dim.add(size=1 << 10)
    self.assertEqual(tensors.constant(made.tensor('huge'))[9, 9, 9, 9], 0.5)
    self.assertIsNone(tensors.number(made.tensor('huge')))
    value.float_val.append(0.25)
    with self.assertRaisesRegex(ValueError, 'of which few are there'):
      tensors.constant(made.tensor('huge'))

  def test_a_damaged_constant_is_named(self):
    made = HandMade()
    made.const('bad', [1.0, 2.0])
    made.graph_def.node[0].attr['value'].tensor.tensor_content = b'123'
    with self.assertRaisesRegex(ValueError, 'bad: '):
      tensors.constant(made.tensor('bad'))


def np_float(value):
  return tf.make_ndarray(tf.make_tensor_proto(value, tf.float32))


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
