"""Files of graphs for format_fuzz: damaged as bytes, and as messages.

Of each input half is a file whose bytes are damaged, half a graph whose nodes,
attributes, functions and collections no longer fit together.
"""

import functools
import struct

from google.protobuf import text_format
import tensorflow.compat.v1 as tf
from tensorflow.core.protobuf import saved_model_pb2

from graph_resnet9 import lint
from tests.doctor import corpus
from tests.doctor import corpus_layers as parts

# Ops that some rule looks at, with any number of inputs.
_OPS = (
  'Assign AssignVariableOp AssignSub Const FusedBatchNormV3 Identity If '
  'LoopCond MatMul Mean Merge Mul NoOp NoSuchOp PartitionedCall Placeholder '
  'Pow QueueDequeueManyV2 ReadVariableOp Reshape ResourceApplyAdam Rsqrt '
  'SaveV2 Select Shape Split Squeeze StridedSlice Sub Sum Switch Transpose '
  'VarHandleOp VariableV2 While _Arg Enter Exit NextIteration'
).split()
_SIZES = (0, -1, -7, 1, 1 << 31, 1 << 40, (1 << 63) - 1, -(1 << 63))


@functools.cache
def meta_graphs():
  """MetaGraphDefs of trainings: cond, functional If, a loop, a plain one."""
  found = []
  for norm, training, functional, way in (
    ('layers_fused', 'placeholder', False, parts.around_minimize),
    ('hand', 'placeholder', True, parts.alone),
    ('slim_plain', 'true', False, parts.alone),
    (None, None, False, None),
  ):
    with tf.Graph().as_default() as graph:
      tf.set_random_seed(1)
      if norm:
        corpus.case(
          '',
          'fuzzed',
          corpus.train_and,
          norm=parts.NORMS[norm],
          training=training,
          functional=functional,
          way=way,
          saver=tf.train.Saver,
        ).build()
      else:
        corpus._loop_training(run=True)
      saver = tf.train.Saver()
      found.append(
        tf.train.export_meta_graph(graph=graph, saver_def=saver.saver_def)
      )
  return found


def damaged_graph(meta_graph, chance):
  """A copy of a MetaGraphDef with one to four things wrong in its graph."""
  copy = tf.MetaGraphDef()
  copy.CopyFrom(meta_graph)
  if not chance.randrange(4):  # Shapes are inferred then.
    for node in copy.graph_def.node:
      node.attr.pop('_output_shapes', None)
  for _ in range(chance.choice((1, 1, 2, 4))):
    chance.choice((_links, _links, _nodes, _attributes, _functions, _around))(
      copy, chance
    )
  return copy


def _some_nodes(meta_graph, chance):
  """The nodes of the graph or of a function, and one of them."""
  bodies = [meta_graph.graph_def.node] + [
    f.node_def for f in meta_graph.graph_def.library.function if f.node_def
  ]
  nodes = chance.choice(bodies)
  return nodes, chance.choice(nodes)


def _links(meta_graph, chance):
  nodes, node = _some_nodes(meta_graph, chance)
  inputs = list(node.input)
  other = chance.choice(nodes).name
  kind = chance.randrange(5)
  if kind == 0:
    inputs = inputs[: chance.randrange(len(inputs) + 1)]
  elif kind == 1 and inputs:
    inputs[chance.randrange(len(inputs))] = other
  elif kind == 2:
    inputs.append(chance.choice(('', '^', '%s:1', '%s:-1', '%s:99')) + '')
    inputs[-1] = inputs[-1].replace('%s', other) or other
  elif kind == 3:
    inputs *= 2
  else:
    inputs.reverse()
  node.ClearField('input')
  node.input.extend(inputs)


def _nodes(meta_graph, chance):
  nodes, node = _some_nodes(meta_graph, chance)
  kind = chance.randrange(4)
  if kind == 0:
    node.op = chance.choice(_OPS)
  elif kind == 1:
    node.op = chance.choice(nodes).op
  elif kind == 2:
    node.name = chance.choice(('', chance.choice(nodes).name, '/', 'a' * 9999))
  else:
    nodes.remove(node)


def _attributes(meta_graph, chance):
  nodes, node = _some_nodes(meta_graph, chance)
  if not node.attr:
    return
  key = chance.choice(sorted(node.attr))
  value = node.attr[key]
  kind = chance.randrange(4)
  if kind == 0:
    del node.attr[key]
  elif kind == 1:
    other = chance.choice(nodes).attr
    if other:
      value.CopyFrom(other[chance.choice(sorted(other))])
  elif value.HasField('tensor'):
    tensor = value.tensor
    if kind == 2:
      del tensor.tensor_shape.dim[:]
      for _ in range(chance.choice((1, 2, 300))):
        tensor.tensor_shape.dim.add(size=chance.choice(_SIZES))
    else:
      tensor.dtype = chance.choice((0, 1, 3, 7, 20, 23, 99))
      tensor.tensor_content = tensor.tensor_content[: chance.randrange(9)]
  else:
    shapes = list(value.list.shape) + [value.shape] * value.HasField('shape')
    for shape in shapes:
      if kind == 2:
        for dim in shape.dim:
          dim.size = chance.choice(_SIZES)
      else:
        shape.dim.add(size=chance.choice(_SIZES))


def _functions(meta_graph, chance):
  library = meta_graph.graph_def.library.function
  if not library:
    _links(meta_graph, chance)
    return
  function = chance.choice(library)
  kind = chance.randrange(5)
  if kind == 0 and function.ret:
    del function.ret[chance.choice(sorted(function.ret))]
  elif kind == 1 and function.ret:
    function.ret[chance.choice(sorted(function.ret))] = chance.choice(
      ('', ':', 'nil:0', 'x:y:z', ':-1')
    )
  elif kind == 2:
    function.signature.name = chance.choice(('', 'NoOp', 'Mul', 'f'))
  elif kind == 3 and function.node_def:  # Calls itself, several times.
    for node in function.node_def[: chance.choice((1, 2, 5))]:
      node.op = function.signature.name
  else:
    del function.signature.input_arg[chance.randrange(3) :]


def _around(meta_graph, chance):
  kind = chance.randrange(4)
  if kind == 0:
    for key in meta_graph.collection_def:
      values = meta_graph.collection_def[key].bytes_list.value
      if values and chance.randrange(2):
        values[0] = values[0][: chance.randrange(9)]
  elif kind == 1:
    meta_graph.saver_def.save_tensor_name = chance.choice(
      ('', ':0', 'nil', meta_graph.graph_def.node[0].name)
    )
  elif kind == 2:
    meta_graph.meta_info_def.stripped_default_attrs = True
  else:
    key = chance.choice(('train_op', 'global_step', 'trainable_variables'))
    meta_graph.collection_def[key].node_list.value.append('nil')


def formats(base, damaged):
  """{name: class} of what format_fuzz calls formats.

  Args:
    base: its Format. damaged: its function.
  """

  class Graph(base):
    """Written by `encode` of a MetaGraphDef, under `name`."""

    share = 2.0
    name = ''

    @staticmethod
    def encode(meta_graph):
      raise NotImplementedError

    def prepare(self):
      self.graphs = meta_graphs()
      self.goods = [self.encode(graph) for graph in self.graphs]

    def damage(self, chance):
      if chance is None:
        data = self.goods[0]
      elif chance.randrange(2):
        data = damaged(chance.choice(self.goods), chance)
      else:
        data = self.encode(damaged_graph(chance.choice(self.graphs), chance))
      self.write(data, self.name)
      return self.path(self.name)

    def read(self):
      report = lint.check(self.path(self.name))
      assert report.layers and str(report)

  class Meta(Graph):
    name = 'model.meta'
    encode = staticmethod(
      lambda graph: graph.SerializeToString(deterministic=True)
    )

  class GraphDef(Graph):
    name = 'frozen.pb'
    encode = staticmethod(
      lambda graph: graph.graph_def.SerializeToString(deterministic=True)
    )

  class Text(Graph):
    name = 'graph.pbtxt'
    share = 0.5  # A second each.
    encode = staticmethod(
      lambda graph: text_format.MessageToString(graph.graph_def).encode()
    )

  class Events(Graph):
    name = 'events.out.tfevents.1.host'

    @staticmethod
    def encode(graph):
      records = (
        tf.Event(file_version='brain.Event:2'),
        tf.Event(
          graph_def=graph.graph_def.SerializeToString(deterministic=True)
        ),
        tf.Event(meta_graph_def=graph.SerializeToString(deterministic=True)),
      )
      return b''.join(
        struct.pack('<QI', len(data), 0) + data + bytes(4)
        for data in (
          record.SerializeToString(deterministic=True) for record in records
        )
      )

  class LintedModel(Graph):
    name = 'saved_model.pb'

    @staticmethod
    def encode(graph):
      model = saved_model_pb2.SavedModel(saved_model_schema_version=1)
      model.meta_graphs.add().CopyFrom(graph)
      model.meta_graphs[0].meta_info_def.tags.append('serve')
      return model.SerializeToString(deterministic=True)

  return {
    'graph .meta': Meta,
    'graph .pb': GraphDef,
    'graph .pbtxt': Text,
    'graph events': Events,
    'graph SavedModel': LintedModel,
  }
