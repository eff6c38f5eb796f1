"""A GraphDef as linked nodes, functions unfolded.

Nothing is imported into TensorFlow, so ops need not be registered, nothing
runs, and the branches of a functional If or While are there like all else.
"""

import collections
from typing import Any
from typing import NamedTuple

from tensorflow.core.framework import attr_value_pb2

from graph_resnet9.doctor.graph import ops
from graph_resnet9.doctor.graph.walks import walk

# How much of a graph is read, whatever its file says.
MOST_NODES = 1000000  # Of the file.
MOST_UNFOLDED = 200000  # That functions add: they may call each other twice.
MOST_DEPTH = 32  # Of calls in calls: functions may call themselves.

# Where outputs in a function's body are named, their order in the op.
_OUTPUTS = {
  'FusedBatchNorm': ('y', 'batch_mean', 'batch_variance'),
  'FusedBatchNormV2': ('y', 'batch_mean', 'batch_variance'),
  'FusedBatchNormV3': ('y', 'batch_mean', 'batch_variance'),
  'Switch': ('output_false', 'output_true'),
}
# The attributes of calling ops that name functions, and how many inputs of the
# op come before those of the function.
_CALLS = {
  'If': (('then_branch', 'else_branch'), 1),
  'StatelessIf': (('then_branch', 'else_branch'), 1),
  'Case': (('branches',), 1),
  'StatelessCase': (('branches',), 1),
  'While': (('body', 'cond'), 0),
  'StatelessWhile': (('body', 'cond'), 0),
  'PartitionedCall': (('f',), 0),
  'StatefulPartitionedCall': (('f',), 0),
}
_ABSENT = attr_value_pb2.AttrValue()


class Node:
  """An op: its inputs are (Node, output index) pairs, its controls Nodes.

  attr: {name: AttrValue}.
  results: for a calling op a list a branch, of what the branch returns; else
    empty.
  call, branch: of an argument in an unfolded function ('_Arg'), the Node that
    calls it, and by which attribute; else None and ''.
  position: int, where it stands in the file, those of functions behind.
  known: what has been inferred of it, by question.
  """

  __slots__ = (
    'name',
    'op',
    'attr',
    'inputs',
    'controls',
    'results',
    'call',
    'branch',
    'position',
    'known',
  )

  def __init__(self, name, op, attr, position):
    self.name = name
    self.op = op
    self.attr = attr
    self.position = position
    self.inputs = []
    self.controls = []
    self.results = []
    self.call = None
    self.branch = ''
    self.known = {}

  def __repr__(self):
    return '%s (%s)' % (self.name, self.op)

  def attribute(self, name):
    """AttrValue, an empty one if there is none: a map would add it."""
    return self.attr.get(name, _ABSENT)


class Tensor(NamedTuple):
  """An output of a Node."""

  node: Any
  index: int


class GraphView:
  """All nodes of a GraphDef, by name and in the order of the file."""

  def __init__(self, graph_def):
    """Links the nodes.

    Args:
      graph_def: GraphDef.
    Raises:
      ValueError: an input names a node that is not there, a node lacks inputs
        that its op needs, or there are more nodes than are read.
    """
    self.nodes = {}
    self._functions = {f.signature.name: f for f in graph_def.library.function}
    self._cached = {}
    self._count = 0
    if len(graph_def.node) > MOST_NODES:
      raise ValueError(
        '%d ops, of which at most %d are read'
        % (len(graph_def.node), MOST_NODES)
      )
    defs = [(d, self._node(d.name, d.op, d.attr)) for d in graph_def.node]
    for _, node in defs:
      self.nodes[node.name] = node
    for node_def, node in defs:
      self._link(node_def, node, self.nodes)
    self._most = self._count + MOST_UNFOLDED
    for _, node in defs:
      self._unfold(node, 0)

  def _node(self, name, op, attr):
    self._count += 1
    return Node(name, op, attr, self._count)

  def _link(self, node_def, node, among):
    for name in node_def.input:
      try:
        if name.startswith('^'):
          node.controls.append(among[name[1:].partition(':')[0]])
        else:
          node.inputs.append(_tensor(name, among))
      except KeyError:
        raise ValueError(
          '%s: its input %s is not in the graph' % (node.name, name)
        ) from None
    if len(node.inputs) < ops.least_inputs(node.op):
      raise ValueError(
        '%s: %s takes %d inputs or more, and has %d'
        % (node.name, node.op, ops.least_inputs(node.op), len(node.inputs))
      )

  def _unfold(self, call, depth):
    """Adds the bodies of the functions that `call` may run."""
    if call.op in self._functions:
      bodies, skipped = [('', self._functions[call.op])], 0
    elif call.op in _CALLS:
      attributes, skipped = _CALLS[call.op]
      bodies = []
      for attribute in attributes:
        value = call.attribute(attribute)
        names = (
          [value.func.name]
          if value.HasField('func')
          else [f.name for f in value.list.func]
        )
        bodies += [
          (attribute + str(k or ''), self._functions[name])
          for k, name in enumerate(names)
          if name in self._functions
        ]
    else:
      return
    if depth > MOST_DEPTH and bodies:
      raise ValueError(
        '%s: functions that call functions more than %d deep, or themselves'
        % (call.name, MOST_DEPTH)
      )
    arguments = call.inputs[skipped:]
    for label, body in bodies:
      results = self._unfold_body(call, label, body, arguments, depth)
      if label != 'cond':
        call.results.append(results)

  def _unfold_body(self, call, label, body, arguments, depth):
    """The list of what the function returns, after adding its nodes."""
    if self._count + len(body.node_def) > self._most:
      raise ValueError(
        '%s: its functions unfold to more than %d ops, which is more than are '
        'read' % (call.name, MOST_UNFOLDED)
      )
    prefix = '%s/%s/' % (call.name, label) if label else call.name + '/'
    local = {}
    for argument, value in zip(body.signature.input_arg, arguments):
      node = self._node(prefix + argument.name, '_Arg', {})
      node.call, node.branch = call, label
      node.inputs.append(value)
      local[argument.name] = node
    defs = [
      (d, self._node(prefix + d.name, d.op, d.attr)) for d in body.node_def
    ]
    local.update((d.name, node) for d, node in defs)
    for node_def, node in defs:
      self._link(node_def, node, local)
    self.nodes.update((node.name, node) for node in local.values())
    for _, node in defs:
      self._unfold(node, depth + 1)
    try:
      results = [
        _tensor(body.ret.get(output.name, ''), local)
        for output in body.signature.output_arg
      ]
    except KeyError:
      raise ValueError(
        '%s: function %s returns what is not in it'
        % (call.name, body.signature.name)
      ) from None
    # What runs whenever the call does.
    call.controls += [tensor.node for tensor in results]
    call.controls += [
      local[name] for name in body.control_ret.values() if name in local
    ]
    return results

  def _once(self, key, make):
    if key not in self._cached:
      self._cached[key] = make()
    return self._cached[key]

  @property
  def consumers(self):
    """{Node: list of the Nodes that have it as an input or a control}."""
    return self._once('consumers', lambda: self._inverted(_producers))

  @property
  def readers(self):
    """{Node: list of the Nodes that have it as an input}."""
    return self._once('readers', lambda: self._inverted(_inputs))

  def _inverted(self, producers):
    found = collections.defaultdict(list)
    for node in self.nodes.values():
      for producer in producers(node):
        found[producer].append(node)
    return found

  @property
  def backward(self):
    """Set of the Nodes of gradients and of all that is made of them.

    Begins at the ops that only gradients have. Where a network goes on from
    its own gradients, as a penalty on them does, that is in it too.
    """
    return self._once(
      'backward',
      lambda: set(
        walk(
          [n for n in self.nodes.values() if ops.is_gradient(n.op)],
          lambda node: self.readers[node],
          budget=None,
        )
      ),
    )

  def find(self, name):
    """The Node of an op or tensor name, or None."""
    return self.nodes.get(name.lstrip('^').partition(':')[0])

  def ancestors(self, nodes, stop=lambda node: False):
    """The set of `nodes` and all that they need; not what a `stop` needs."""
    return set(
      walk(nodes, lambda n: () if stop(n) else _producers(n), budget=None)
    )

  def descendants(self, nodes, stop=lambda node: False):
    """The set of `nodes` and all that need them; not what needs a `stop`."""
    consumers = self.consumers
    return set(
      walk(nodes, lambda n: () if stop(n) else consumers[n], budget=None)
    )


def _inputs(node):
  return [tensor.node for tensor in node.inputs]


def _producers(node):
  return _inputs(node) + node.controls


def _tensor(name, among):
  """Tensor of 'node', 'node:1' or, in a function, 'node:output:0'."""
  if name in among:
    return Tensor(among[name], 0)
  name, _, rest = name.partition(':')
  node = among[name]
  output, _, index = rest.rpartition(':')
  index = int(index) if index.isdigit() else 0
  if output in _OUTPUTS.get(node.op, ()):
    index += _OUTPUTS[node.op].index(output)
  return Tensor(node, index)
