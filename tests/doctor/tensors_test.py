"""doctor/graph/tensors: where values come from, and what constants hold."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.graph import tensors
from graph_resnet9.doctor.graph.nodes import Tensor
from tests.doctor.hand_made import HandMade


def names(found):
  return ['%s:%d' % (tensor.node.name, tensor.index) for tensor in found]


class SourcesTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.made = HandMade()
    for name in 'abp':
      self.made.placeholder(name)

  def sources(self, name, index=0):
    return names(tensors.sources(self.made.tensor(name, index)))

  def test_what_is_computed_is_its_own_source(self):
    self.made.op('sum', 'Add', 'a', 'b')
    self.made.op('two', 'Unique', 'sum')
    self.assertEqual(self.sources('sum'), ['sum:0'])
    self.assertEqual(self.sources('two', 1), ['two:1'])
    self.assertEqual(self.sources('a'), ['a:0'])

  @parameterized.parameters(
    'Switch', 'RefSwitch', 'Enter', 'RefEnter', 'Exit', 'NextIteration',
    'Identity', 'StopGradient', 'Cast', 'Squeeze', 'Reshape', 'ExpandDims',
    'Snapshot', 'HorovodAllreduce', 'CrossReplicaSum',
  )  # fmt: skip
  def test_what_passes_its_first_input_on(self, op):
    self.made.op('passing', op, 'a', 'b')
    self.assertEqual(self.sources('passing'), ['a:0'])
    self.assertEqual(names(tensors.passed_from(self.made.tensor('a'))), [])

  @parameterized.parameters('Merge', 'RefMerge')
  def test_branches_that_meet_are_all_sources(self, op):
    self.made.op('left', 'Neg', 'a')
    self.made.op('right', 'Identity', 'b')
    self.made.op('merged', op, 'left', 'right')
    self.made.op('same', op, 'merged', 'merged')
    self.assertEqual(self.sources('merged'), ['left:0', 'b:0'])
    self.assertEqual(self.sources('same'), ['left:0', 'b:0'])
    # Which of them it was is a value of its own.
    self.assertEqual(self.sources('merged', 1), ['merged:1'])

  def test_several_identities_at_once(self):
    self.made.op('both', 'IdentityN', 'a', 'b')
    self.assertEqual(self.sources('both'), ['a:0'])
    self.assertEqual(self.sources('both', 1), ['b:0'])
    self.assertEqual(self.sources('both', 2), ['both:2'])

  def test_a_long_line_of_identities(self):
    last = 'a'
    for k in range(40):
      last = self.made.op('i%d' % k, 'Identity', last)
      self.assertEqual(self.sources(last), ['a:0'], k)

  def test_a_call_returns_what_its_branches_do(self):
    for name, op in (('f', 'Identity'), ('g', 'Neg')):
      body = self.made.function(name, 'xy', [('n', op, 'x')], {})
      for output, tensor in (('one', 'n:0'), ('two', 'y')):
        body.signature.output_arg.add(name=output)
        body.ret[output] = tensor
    self.made.op('call', 'StatelessIf', 'p', 'a', 'b')
    attr = self.made.graph_def.node[-1].attr
    attr['then_branch'].func.name, attr['else_branch'].func.name = 'fg'
    self.assertCountEqual(self.sources('call'), ['a:0', 'call/else_branch/n:0'])
    self.assertEqual(self.sources('call', 1), ['b:0'])
    self.assertEqual(self.sources('call', 2), ['call:2'])

  def test_variable_that_is_read_or_referred_to(self):
    read = self.made.variable('v', 3)
    self.made.op('handle', 'VarHandleOp')
    self.made.op('value', 'ReadVariableOp', 'handle')
    self.made.op('either', 'Merge', 'a', read)
    self.made.op('twice', 'Mul', read, read)
    view = self.made.view()
    for name, expected in (
      ('v', 'v'), (read, 'v'), ('value', 'handle'), ('either', 'v'),
    ):  # fmt: skip
      self.assertEqual(
        tensors.variable(Tensor(view.find(name), 0)).name, expected
      )
    for name in ('a', 'twice'):
      self.assertIsNone(tensors.variable(Tensor(view.find(name), 0)))

  def test_outside_of_the_branches_of_a_cond(self):
    self.made.op('handed', 'Switch', 'a', 'p')
    self.made.op('again', 'Switch', 'handed:1', 'p')
    self.made.op('inner', 'Identity', 'again')
    self.made.op('cast', 'Cast', 'a')
    view = self.made.view()
    for name, expected in (
      ('inner', 'a:0'), ('again', 'a:0'), ('cast', 'cast:0'), ('a', 'a:0'),
    ):  # fmt: skip
      found = tensors.outside(Tensor(view.find(name), 0))
      self.assertEqual(names([found]), [expected])

  @parameterized.parameters(
    ('If', 'then_branch', 'b:0'), ('PartitionedCall', 'f', 'a:0'),
    ('While', 'body', 'call/body/x:0'), ('While', 'cond', 'call/cond/x:0'),
  )  # fmt: skip
  def test_outside_of_a_function_but_of_a_loop(self, op, attribute, expected):
    """What goes round a loop is no tensor that can be fetched before it."""
    self.made.function('f', 'x', [('n', 'Neg', 'x')], {'out': 'x'})
    self.made.op('call', op, 'a', 'b')
    self.made.graph_def.node[-1].attr[attribute].func.name = 'f'
    argument = self.made.tensor('call/%s/x' % attribute)
    self.assertEqual(names([tensors.outside(argument)]), [expected])


class ConstantTest(parameterized.TestCase):
  def proto(self, **fields):
    made = HandMade()
    node = made.graph_def.node.add(name='c', op='Const')
    node.attr['value'].tensor.CopyFrom(tf.make_tensor_proto(0.0))
    proto = node.attr['value'].tensor
    proto.Clear()
    for name, value in fields.items():
      if name == 'dtype':
        proto.dtype = value.as_datatype_enum
      elif name == 'tensor_content':
        proto.tensor_content = value
      elif name == 'shape':
        for size in value:
          proto.tensor_shape.dim.add(size=size)
      else:
        getattr(proto, name).extend(value)
    return proto, made

  def read(self, **fields):
    return tensors.constant(self.proto(**fields)[1].tensor('c'))

  @parameterized.parameters(
    (np.float32(0.5),), (np.int64(-7),), (True,),
    (np.arange(6, dtype=np.float32).reshape(2, 3),),
    (np.zeros([0, 3], np.int32),), (np.ones([2, 2], np.float64),),
    (np.zeros([(1 << 20) + 1], np.uint8),),  # All bytes are in the file.
  )  # fmt: skip
  def test_values_are_those_that_tensorflow_packed(self, value):
    made = HandMade()
    made.const('c', value)
    made.op('passed', 'Identity', 'c')
    for name in ('c', 'passed'):
      found = tensors.constant(made.tensor(name))
      self.assertEqual(found.dtype, np.asarray(value).dtype)
      np.testing.assert_array_equal(found, value)

  def test_what_is_no_constant_or_one_of_two(self):
    made = HandMade()
    made.const('a', 1.0)
    made.const('b', 2.0)
    made.op('either', 'Merge', 'a', 'b')
    made.op('sum', 'Add', 'a', 'b')
    for name in ('either', 'sum'):
      self.assertIsNone(tensors.constant(made.tensor(name)))
      self.assertIsNone(tensors.number(made.tensor(name)))
      self.assertIsNone(tensors.integers(made.tensor(name)))
      self.assertIsNone(tensors.strings(made.tensor(name)))

  def test_one_value_for_all(self):
    found = self.read(dtype=tf.int32, shape=[2, 3], int_val=[7])
    np.testing.assert_array_equal(found, [[7, 7, 7], [7, 7, 7]])
    self.assertEqual(found.dtype, np.int32)
    # Bytes go before it, as where TensorFlow reads them.
    found = self.read(
      dtype=tf.float32,
      shape=[2],
      float_val=[9.0],
      tensor_content=np.float32([1, 2]).tobytes(),
    )
    np.testing.assert_array_equal(found, [1, 2])

  @absltest.skipIf(tf.__version__[0] == '1', 'TensorFlow 1 refuses them')
  def test_the_last_value_stands_for_those_that_lack(self):
    found = self.read(dtype=tf.float32, shape=[2, 2], float_val=[1, 2])
    np.testing.assert_array_equal(found, [[1, 2], [2, 2]])

  @absltest.skipIf(tf.__version__[0] == '1', 'TensorFlow 1 refuses them')
  def test_of_few_values_no_more_than_a_million_are_made(self):
    of = lambda size: self.read(
      dtype=tf.uint8, shape=[size // 4, 4], int_val=[1, 2]
    )
    self.assertEqual(of(1 << 20).sum(), (2 << 20) - 1)
    with self.assertRaisesRegex(ValueError, 'c: 1048580 values, of which few'):
      of((1 << 20) + 4)

  def test_without_a_size_or_of_no_type_it_is_damaged(self):
    proto, made = self.proto(dtype=tf.float32, shape=[-1], float_val=[1])
    with self.assertRaisesRegex(ValueError, 'c: a constant without a size'):
      tensors.constant(made.tensor('c'))
    proto.tensor_shape.Clear()
    proto.tensor_shape.unknown_rank = True
    with self.assertRaisesRegex(ValueError, 'c: a constant without a size'):
      tensors.constant(made.tensor('c'))
    for fields in (
      dict(shape=[2], float_val=[1.0]),
      dict(dtype=tf.float32, shape=[3], tensor_content=bytes(8)),
    ):
      with self.assertRaisesRegex(ValueError, '^c: '):
        self.read(**fields)

  @parameterized.parameters(
    (0.25, 0.25), (-3, -3.0), (True, 1.0), (False, 0.0), ([[4]], 4.0),
    (np.uint8(5), 5.0), (np.float16(0.5), 0.5), ([1, 2], None), ([], None),
    ('5', None), (1j, None),
  )  # fmt: skip
  def test_number(self, value, expected):
    made = HandMade()
    made.const('c', value)
    found = tensors.number(made.tensor('c'))
    self.assertEqual(found, expected)
    self.assertIn(type(found), (float, type(None)))

  def test_number_of_half_the_bits(self):
    """0x3f80 are the upper bits of 1.0."""
    _, made = self.proto(dtype=tf.bfloat16, half_val=[0x3F80])
    self.assertEqual(tensors.number(made.tensor('c')), 1.0)

  @parameterized.parameters(
    (3, [3]), ([0, -1], [0, -1]), ([[1, 2], [3, 4]], [1, 2, 3, 4]),
    (np.uint8([7]), [7]), (np.zeros([0], np.int32), []),
    ([1.0], None), ([True], None), (['1'], None),
  )  # fmt: skip
  def test_integers(self, value, expected):
    made = HandMade()
    made.const('c', value)
    self.assertEqual(tensors.integers(made.tensor('c')), expected)

  def test_a_list_of_integers_has_a_bound(self):
    of = lambda size: tensors.integers(
      self.proto(dtype=tf.int32, shape=[size], int_val=[3])[1].tensor('c')
    )
    self.assertEqual(of(65536), [3] * 65536)
    self.assertIsNone(of(65537))

  @parameterized.parameters(
    ('a', ['a']), (['a', 'b/c'], ['a', 'b/c']), ([['a'], ['b']], ['a', 'b']),
    ([b'\xff'], ['\ufffd']), ([1], None), (True, None),
  )  # fmt: skip
  def test_strings(self, value, expected):
    made = HandMade()
    made.const('c', value)
    self.assertEqual(tensors.strings(made.tensor('c')), expected)

  @parameterized.parameters(
    ([], 1), ([5], 5), ([2, 3, 4], 24), ([2, 0], 0), ([2, None], None),
    ([None, 0], None),
  )  # fmt: skip
  def test_product(self, sizes, expected):
    self.assertEqual(tensors.product(sizes), expected)


class DamageTest(absltest.TestCase):
  def test_cycles_of_identities_end(self):
    made = HandMade()
    made.op('a', 'Identity', 'b')
    made.op('b', 'Identity', 'a')
    tensor = made.tensor('a')
    self.assertEqual(tensors.sources(tensor), [])
    self.assertEqual(tensors.outside(tensor).node.name, 'b')
    self.assertIsNone(tensors.variable(tensor))

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


if __name__ == '__main__':
  absltest.main()
