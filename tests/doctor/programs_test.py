"""doctor/graph/programs: what collections, savers and edges say of a graph."""

from absl.testing import absltest
from absl.testing import parameterized
import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.graph import programs
from tests.doctor import small_graphs
from tests.doctor.hand_made import HandMade

KEYS = tf.GraphKeys


def names(found):
  return sorted(node.name for node in found)


def training():
  """Builds a training with a trained and a frozen variable; its Saver."""
  weights = tf.get_variable('weights', [2])
  tf.get_variable('frozen', [2], trainable=False)
  tf.add_to_collection(KEYS.UPDATE_OPS, tf.identity(weights, 'update'))
  optimizer = tf.train.GradientDescentOptimizer(0.1)
  step = tf.train.get_or_create_global_step()
  optimizer.minimize(tf.reduce_sum(weights), step, name='train')
  return tf.train.Saver(name='first')


class ProgramTest(parameterized.TestCase):
  def assert_training(self, program):
    self.assertEqual(names(program.trainable), ['weights'])
    self.assertEqual([node.name for node in program.train_ops], ['train'])
    self.assertEqual([node.name for node in program.update_ops], ['update'])
    self.assertEqual(program.global_step, 'global_step')

  @parameterized.parameters(False, True)
  def test_the_same_of_a_graph_and_of_its_meta_graph(self, resource):
    with small_graphs.kind(resource), tf.Graph().as_default() as graph:
      saver = training()
      tf.train.Saver(name='second')
      meta_graph = tf.train.export_meta_graph(saver_def=saver.saver_def)
    for program in (
      programs.of_graph(graph, saver), programs.of_meta_graph(meta_graph),
    ):  # fmt: skip
      self.assert_training(program)
      self.assertEqual(names(program.savers), ['first/SaveV2'])

  def test_which_savers(self):
    with tf.Graph().as_default() as graph:
      training()
      second = tf.train.Saver(name='second')
      every = programs.of_graph(graph)
      meta_graph = tf.train.export_meta_graph()
      tf.add_to_collection(KEYS.SAVERS, second)
      collected = programs.of_graph(graph)
    self.assertFalse(meta_graph.HasField('saver_def'))
    both = ['first/SaveV2', 'second/SaveV2']
    self.assertEqual(names(every.savers), both)
    self.assertEqual(names(programs.of_meta_graph(meta_graph).savers), both)
    self.assertEqual(names(collected.savers), ['second/SaveV2'])

  def test_every_op_that_writes_checkpoints(self):
    made = HandMade()
    made.const('c', 'text')
    for op in ('Save', 'SaveSlices', 'SaveV2', 'RestoreV2', 'WriteFile'):
      made.op(op, op, 'c', 'c', 'c')
    program = programs.of_meta_graph(tf.MetaGraphDef(graph_def=made.graph_def))
    self.assertEqual(names(program.savers), ['Save', 'SaveSlices', 'SaveV2'])

  @parameterized.parameters(False, True)
  def test_replicas_are_saved_as_their_mean(self, resource):
    with small_graphs.kind(resource), tf.Graph().as_default() as graph:
      parts = [
        tf.get_variable(name, [2], use_resource=resource)
        for name in ('mean', 'mean/replica_1')
      ]
      other = tf.get_variable('other', [2], use_resource=resource)
      mean = tf.identity(tf.add_n([p.read_value() for p in parts]) / 2.0)
      tf.raw_ops.SaveV2(
        prefix='p',
        tensor_names=['mean', 'other', 'constant'],
        shape_and_slices=['', '', ''],
        tensors=[mean, other.read_value(), tf.constant(1.0)],
      )
    self.assertEqual(
      programs.checkpoint_names(programs.of_graph(graph)),
      {'mean': 'mean', 'mean/replica_1': 'mean', 'other': 'other'},
    )

  def test_without_collections_edges_tell(self):
    with tf.Graph().as_default() as graph:
      training()
    program = programs.of_meta_graph(
      tf.MetaGraphDef(graph_def=graph.as_graph_def())
    )
    self.assertEqual(names(program.trainable), ['weights'])
    self.assertEqual(program.train_ops, ())
    self.assertIsNone(program.global_step)

  def test_collections_go_before_edges(self):
    with tf.Graph().as_default() as graph:
      training()
      for name in (KEYS.TRAINABLE_VARIABLES, KEYS.GLOBAL_STEP, KEYS.TRAIN_OP):
        tf.get_collection_ref(name)[:] = []
      meta_graph = tf.train.export_meta_graph()
    for program in (
      programs.of_graph(graph), programs.of_meta_graph(meta_graph),
    ):  # fmt: skip
      self.assertEqual(program.trainable, frozenset())
      self.assertEqual(program.train_ops, ())
      self.assertIsNone(program.global_step)

  def test_collections_of_something_else(self):
    with tf.Graph().as_default() as graph:
      training()
      tf.add_to_collection(KEYS.TRAIN_OP, 'a string')
    self.assert_training(programs.of_graph(graph))
    meta_graph = tf.MetaGraphDef()
    meta_graph.collection_def[KEYS.GLOBAL_STEP].bytes_list.value.append(b'\xff')
    with self.assertRaisesRegex(ValueError, 'collections hold no variables'):
      programs.of_meta_graph(meta_graph)
    meta_graph.Clear()
    train_ops = meta_graph.collection_def[KEYS.TRAIN_OP].node_list.value
    train_ops.append('gone')
    self.assertEqual(programs.of_meta_graph(meta_graph).train_ops, ())

  def test_defaults_that_were_left_out_are_there(self):
    with tf.Graph().as_default():
      x, y = (tf.placeholder(tf.float32, [1, 4, 4, 4]) for _ in range(2))
      for name, layout in (('plain', 'NHWC'), ('turned', 'NCHW')):
        tf.nn.conv2d(x, y, [1, 1, 1, 1], 'SAME', data_format=layout, name=name)
      stripped = tf.train.export_meta_graph(strip_default_attrs=True)
    body = stripped.graph_def.library.function.add()
    body.signature.name = 'f'
    body.node_def.add(name='inner', op='Conv2D', input=['a', 'a'])
    body.signature.input_arg.add(name='a')
    stripped.graph_def.node.add(name='call', op='f', input=['Placeholder'])
    before = stripped.SerializeToString(deterministic=True)
    view = programs.of_meta_graph(stripped).view
    for name, layout in (
      ('plain', b'NHWC'), ('turned', b'NCHW'), ('call/inner', b'NHWC'),
    ):  # fmt: skip
      node = view.find(name)
      self.assertEqual(node.attribute('data_format').s, layout)
      self.assertEqual(list(node.attribute('dilations').list.i), [1] * 4)
    self.assertEqual(before, stripped.SerializeToString(deterministic=True))
    # Of others it is not known that anything was left out.
    stripped.meta_info_def.stripped_default_attrs = False
    view = programs.of_meta_graph(stripped).view
    self.assertNotIn('data_format', view.find('plain').attr)


class NamesTest(parameterized.TestCase):
  """What a saver writes, and under which names."""

  def program(self, op, *inputs, **texts):
    made = HandMade()
    made.variable('v', 8, 3)
    made.variable('w', 8, 3)
    made.const('prefix', 'model')
    for name, text in texts.items():
      made.const(name, text)
    made.op('computed', 'Neg', 'v/read')
    made.op('save', op, 'prefix', *inputs)
    return programs.of_meta_graph(tf.MetaGraphDef(graph_def=made.graph_def))

  @parameterized.parameters('Save', 'SaveSlices', 'SaveV2')
  def test_names_of_every_saving_op(self, op):
    specs = ['specs'] if op != 'Save' else []
    program = self.program(
      op, 'named', *specs, 'w/read', 'computed', 'v', 'v/read',
      named=['of w', 'computed', 'first of v', 'of v'], specs=[''] * 4,
    )  # fmt: skip
    self.assertEqual(
      programs.checkpoint_names(program), {'w': 'of w', 'v': 'of v'}
    )
    self.assertEqual(programs.checkpoint_slices(program), {})

  def test_names_that_no_constant_holds(self):
    program = self.program('SaveV2', 'v/read', 'v/read', 'v/read')
    self.assertEqual(programs.checkpoint_names(program), {})
    self.assertEqual(programs.checkpoint_slices(program), {})

  def test_savers_of_tensorflow(self):
    with tf.Graph().as_default() as graph:
      a, b = (tf.get_variable(name, [2]) for name in 'ab')
      saver = tf.train.Saver({'x': a, 'y/z': b})
    self.assertEqual(
      programs.checkpoint_names(programs.of_graph(graph, saver)),
      {'a': 'x', 'b': 'y/z'},
    )

  def test_slices_are_those_of_tensorflow(self):
    with tf.Graph().as_default() as graph:
      tf.get_variable(
        'p', [8, 3], partitioner=lambda **_: [2, 1], use_resource=False
      )
      tf.get_variable('q', [2], use_resource=False)
      saver = tf.train.Saver()
    program = programs.of_graph(graph, saver)
    rows = {
      name: part[0]
      for name, part in programs.checkpoint_slices(program).items()
    }
    self.assertEqual(rows, {'p/part_0': slice(0, 4), 'p/part_1': slice(4, 8)})

  @parameterized.parameters(
    ('8 3 0,4:-', (slice(0, 4), slice(None))),
    ('8 3 4,4:1,2', (slice(4, 8), slice(1, 3))),
    ('8 3 -:-', (slice(None), slice(None))),
    ('8 5,1', (slice(5, 6),)), ('-', (slice(None),)),
  )  # fmt: skip
  def test_slices(self, spec, expected):
    program = self.program(
      'SaveV2', 'n', 's', 'v/read', 'w', 'computed',
      n=['v', 'w', 'c'], s=[spec, '', spec],
    )  # fmt: skip
    self.assertEqual(programs.checkpoint_slices(program), {'v': expected})

  @parameterized.parameters(
    '8 3', '8 3 4:-', '8 3 a,4:-', '8 3 4,b:-', '8 3 -1,4:-', '8 3 4,-:-',
    '8 3 ,:-', '8 3 --:-',
  )  # fmt: skip
  def test_slices_that_are_damaged(self, spec):
    program = self.program('SaveV2', 'n', 's', 'v', n=['v'], s=[spec])
    with self.assertRaisesRegex(ValueError, 'no part of a saved variable'):
      programs.checkpoint_slices(program)


if __name__ == '__main__':
  absltest.main()
