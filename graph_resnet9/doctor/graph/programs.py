"""What a static check is given: a graph, and what its collections say."""

from typing import Any
from typing import FrozenSet
from typing import NamedTuple
from typing import Optional
from typing import Tuple

from google.protobuf import message
import tensorflow.compat.v1 as tf
from tensorflow.core.framework import variable_pb2

from graph_resnet9.doctor.graph import tensors
from graph_resnet9.doctor.graph import variables
from graph_resnet9.doctor.graph.nodes import GraphView
from graph_resnet9.doctor.graph.ops import op_definition
from graph_resnet9.doctor.graph.walks import walk

_OF_A_MEAN = ('AddN', 'AddV2', 'Add', 'RealDiv', 'Div', 'Mul')


class Program(NamedTuple):
  """A graph to check.

  view: GraphView.
  trainable: Nodes of the trainable variables.
  train_ops: Nodes of the collection TRAIN_OP.
  update_ops: Nodes of the collection UPDATE_OPS.
  savers: Nodes of the ops that write checkpoints; empty if there are none.
  global_step: name of the variable, or None.
  """

  view: Any
  trainable: FrozenSet[Any]
  train_ops: Tuple[Any, ...]
  update_ops: Tuple[Any, ...]
  savers: Tuple[Any, ...]
  global_step: Optional[str]


def of_graph(graph, saver=None):
  """Program of a tf.Graph.

  Args:
    graph: tf.Graph.
    saver: tf.train.Saver that writes the checkpoints; None: those of the
      collection SAVERS, or else all that the graph has.
  """
  names = {
    key: [
      item.name for item in graph.get_collection(key) if hasattr(item, 'name')
    ]
    for key in (
      tf.GraphKeys.TRAINABLE_VARIABLES,
      tf.GraphKeys.TRAIN_OP,
      tf.GraphKeys.UPDATE_OPS,
      tf.GraphKeys.GLOBAL_STEP,
    )
  }
  savers = [saver] if saver else graph.get_collection(tf.GraphKeys.SAVERS)
  return _program(
    graph.as_graph_def(add_shapes=True),
    names,
    [s.saver_def for s in savers if s.saver_def],
  )


def of_meta_graph(meta_graph):
  """Program of a MetaGraphDef; raises ValueError if its nodes do not link."""
  # To read a key that is not there would make it.
  collections = dict(meta_graph.collection_def)
  empty = type(meta_graph).CollectionDefEntry().value
  try:
    names = {
      key: [
        variable_pb2.VariableDef.FromString(value).variable_name
        for value in collections.get(key, empty).bytes_list.value
      ]
      for key in (tf.GraphKeys.TRAINABLE_VARIABLES, tf.GraphKeys.GLOBAL_STEP)
    }
  except message.DecodeError:
    raise ValueError('its collections hold no variables') from None
  for key in (tf.GraphKeys.TRAIN_OP, tf.GraphKeys.UPDATE_OPS):
    names[key] = collections.get(key, empty).node_list.value
  graph_def = meta_graph.graph_def
  if meta_graph.meta_info_def.stripped_default_attrs:
    graph_def = _with_defaults(graph_def)
  found = _program(
    graph_def,
    names,
    [meta_graph.saver_def] if meta_graph.HasField('saver_def') else [],
  )
  if variables.are_named(meta_graph):
    return found
  return found._replace(trainable=frozenset(variables.trainable(found.view)))


def _program(graph_def, names, saver_defs):
  view = GraphView(graph_def)

  def nodes(found):
    return tuple(node for node in map(view.find, found) if node)

  savers = nodes(s.save_tensor_name for s in saver_defs)
  writers = ('SaveV2', 'Save', 'SaveSlices')
  among = view.ancestors(savers) if savers else view.nodes.values()
  step = names[tf.GraphKeys.GLOBAL_STEP]
  return Program(
    view,
    frozenset(nodes(names[tf.GraphKeys.TRAINABLE_VARIABLES])),
    nodes(names[tf.GraphKeys.TRAIN_OP]),
    nodes(names[tf.GraphKeys.UPDATE_OPS]),
    tuple(node for node in among if node.op in writers),
    step[0].partition(':')[0] if step else None,
  )


def _with_defaults(graph_def):
  """The GraphDef with the attributes that were left out at their defaults.

  data_format of a convolution is one, by which the rules know its channels.
  """
  filled = tf.GraphDef.FromString(graph_def.SerializeToString())
  bodies = [filled.node] + [f.node_def for f in filled.library.function]
  for node in (node for body in bodies for node in body):
    op = op_definition(node.op)
    for attr in op.attr if op else ():
      if attr.HasField('default_value') and attr.name not in node.attr:
        node.attr[attr.name].CopyFrom(attr.default_value)
  return filled


def checkpoint_names(program):
  """{name of a variable: its name in checkpoints}, of what the savers write."""
  found = {}
  for node in program.savers:
    names = tensors.strings(node.inputs[1])
    values = node.inputs[2 if node.op == 'Save' else 3 :]
    for name, value in zip(names or [], values):
      found.update((variable.name, name) for variable in _saved(value))
  return found


def _saved(value):
  """Nodes of the variable that a value is of, or that it is the mean of.

  tf.distribute saves the mean over the replicas.
  """

  def before(at):
    passed = tensors.passed_from(at)
    return passed or (at.node.inputs if at.node.op in _OF_A_MEAN else [])

  return [
    at.node
    for at in walk([value], before)
    if at.node.op in tensors.VARIABLE_OPS
  ]


def checkpoint_slices(program):
  """{name of a part of a variable: tuple of slices of what is saved}."""
  found = {}
  for node in program.savers:
    specs = tensors.strings(node.inputs[2]) if node.op == 'SaveV2' else None
    for spec, value in zip(specs or [], node.inputs[3:]):
      variable = tensors.variable(value)
      if spec and variable:
        found[variable.name] = _slices(spec)
  return found


def _slices(spec):
  """Of '8 3 0,4:-', of an [8, 3] array: 4 rows from row 0, all columns."""
  found = []
  for text in spec.split()[-1:]:
    for part in text.split(':'):
      begin, comma, size = part.partition(',')
      if part == '-':
        found.append(slice(None))
      elif comma and begin.isdigit() and size.isdigit():
        found.append(slice(int(begin), int(begin) + int(size)))
      else:
        raise ValueError('%r: no part of a saved variable' % spec)
  return tuple(found)
