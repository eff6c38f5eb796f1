"""Graphs written node by node, as no program would or as old ones did."""

import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.graph.nodes import GraphView
from graph_resnet9.doctor.graph.nodes import Tensor


class HandMade:
  """A GraphDef that grows; every method returns the name of its node."""

  def __init__(self):
    self.graph_def = tf.GraphDef()

  def op(self, name, op, *inputs, size=None, **attrs):
    """Adds a node.

    Args:
      name, op: of the node. *inputs: names of tensors, '^name' of controls.
      size: shape of its first output, for _output_shapes; None: not written.
      **attrs: bool, int, float, bytes or list of ints.
    """
    node = self.graph_def.node.add(name=name, op=op, input=inputs)
    for key, value in attrs.items():
      field = {bool: 'b', int: 'i', float: 'f', bytes: 's'}.get(type(value))
      if field:
        setattr(node.attr[key], field, value)
      else:
        node.attr[key].list.i.extend(value)
    if size is not None:
      shape = node.attr['_output_shapes'].list.shape.add()
      for n in size:
        shape.dim.add(size=-1 if n is None else n)
    return name

  def add(self, op, *inputs, **attrs):
    """As op(), with a name of its own, which it returns."""
    return self.op(self._new(), op, *inputs, **attrs)

  def add_const(self, value):
    return self.const(self._new(), value)

  def _new(self):
    return 'n%d' % len(self.graph_def.node)

  def const(self, name, value):
    node = self.graph_def.node.add(name=name, op='Const')
    node.attr['value'].tensor.CopyFrom(tf.make_tensor_proto(value))
    return name

  def variable(self, name, *size):
    """A ref variable and its reading, name/read; the name of that."""
    node = self.graph_def.node.add(name=name, op='VariableV2')
    for n in size:
      node.attr['shape'].shape.dim.add(size=n)
    return self.op(name + '/read', 'Identity', name)

  def placeholder(self, name, *size):
    node = self.graph_def.node.add(name=name, op='Placeholder')
    for n in size:
      node.attr['shape'].shape.dim.add(size=-1 if n is None else n)
    return name

  def function(self, name, arguments, nodes, returned):
    """Adds a function of [(name, op, *inputs)] that returns {name: tensor}."""
    body = self.graph_def.library.function.add()
    body.signature.name = name
    for argument in arguments:
      body.signature.input_arg.add(name=argument)
    for output, tensor in returned.items():
      body.signature.output_arg.add(name=output)
      body.ret[output] = tensor
    for inner, op, *inputs in nodes:
      body.node_def.add(name=inner, op=op, input=inputs)
    return body

  def view(self):
    return GraphView(self.graph_def)

  def tensor(self, name, index=0):
    """nodes.Tensor of a GraphView made now."""
    return Tensor(self.view().find(name), index)


def inferred_and_declared(graph):
  """[(op, inferred shape, TensorFlow's)] of the outputs of a tf.Graph.

  None for what has no shape, and None in the place of unknown sizes.
  """
  from graph_resnet9.doctor.graph import shapes  # pylint: disable=g-import-not-at-top

  view = GraphView(graph.as_graph_def())  # Without shapes.
  found = []
  for op in graph.get_operations():
    for k, output in enumerate(op.outputs):
      declared = (
        output.shape.as_list() if output.shape.rank is not None else None
      )
      found.append(
        (op.type, shapes.shape(Tensor(view.find(op.name), k)), declared)
      )
  return found


def array(*size, seed=0):
  return np.random.RandomState(seed).normal(size=size).astype(np.float32)
