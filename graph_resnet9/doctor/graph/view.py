"""A GraphDef as linked nodes, functions unfolded: what can be read, unrun.

Nothing is imported into TensorFlow, so ops need not be registered, and the
branches of a functional If or While are there like everything else.
"""

import collections
from typing import Any
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

VARIABLE_OPS = ('VarHandleOp', 'VariableV2', 'Variable')
# Their output is their first input, in another shape, type or place.
_PASSING = {
  'Identity',
  'ReadVariableOp',
  'Switch',
  'RefSwitch',
  'Enter',
  'RefEnter',
  'Exit',
  'RefExit',
  'NextIteration',
  'RefNextIteration',
  'RefIdentity',
  'StopGradient',
  'PreventGradient',
  'Cast',
  'Squeeze',
  'Reshape',
  'ExpandDims',
  'Snapshot',
  'CheckNumerics',
  '_Arg',
  'DeepCopy',
}
_MERGES = ('Merge', 'RefMerge')
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
_MAX_DEPTH = 32  # Of calls in calls: functions may call themselves.
_MAX_UNFOLDED = 100000  # Ops in functions; some 4 KB each.
# Values of a constant of which a file holds only the first few.
_MOST_PADDED = 1 << 20


class Node:
  """An op: its inputs are (Node, output index) pairs, its controls Nodes.

  attr: {name: AttrValue}; of an argument in an unfolded function ('_Arg')
    {'call': the Node that calls it, 'branch': which of its functions}.
  results: for a calling op a list a branch, of what the branch returns; else
    empty.
  shapes, sizes: of its outputs, and those that it is a vector of, where
    shapes.py has found them; else None.
  """

  __slots__ = (
    'name',
    'op',
    'attr',
    'inputs',
    'controls',
    'results',
    'shapes',
    'sizes',
  )

  def __init__(self, name, op, attr):
    self.name = name
    self.op = op
    self.attr = attr
    self.inputs = []
    self.controls = []
    self.results = []
    self.shapes = None
    self.sizes = None

  def __repr__(self):
    return '%s (%s)' % (self.name, self.op)


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
      ValueError: an input names a node that is not there.
    """
    self.nodes = {}
    self._functions = {f.signature.name: f for f in graph_def.library.function}
    self._consumers = None
    defs = [
      (node_def, Node(node_def.name, node_def.op, node_def.attr))
      for node_def in graph_def.node
    ]
    for _, node in defs:
      self.nodes[node.name] = node
    for node_def, node in defs:
      self._link(node_def, node, self.nodes)
    self._most = len(self.nodes) + _MAX_UNFOLDED
    for _, node in defs:
      self._unfold(node, 0)

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

  def _unfold(self, call, depth):
    """Adds the bodies of the functions that `call` may run."""
    if depth > _MAX_DEPTH:
      return
    if len(self.nodes) > self._most:
      raise ValueError(
        'functions that call functions unfold to more than %d ops'
        % _MAX_UNFOLDED
      )
    if call.op in self._functions:
      bodies, skipped = [('', self._functions[call.op])], 0
    elif call.op in _CALLS:
      attributes, skipped = _CALLS[call.op]
      bodies = []
      for attribute in attributes:
        value = call.attr[attribute]
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
    arguments = call.inputs[skipped:]
    for label, body in bodies:
      results = self._unfold_body(call, label, body, arguments, depth)
      if label != 'cond':
        call.results.append(results)

  def _unfold_body(self, call, label, body, arguments, depth):
    """The list of what the function returns, after adding its nodes."""
    prefix = '%s/%s/' % (call.name, label) if label else call.name + '/'
    local = {}
    for argument, value in zip(body.signature.input_arg, arguments):
      node = local[argument.name] = Node(
        prefix + argument.name, '_Arg', {'call': call, 'branch': label}
      )
      node.inputs.append(value)
    defs = [(d, Node(prefix + d.name, d.op, d.attr)) for d in body.node_def]
    local.update((d.name, node) for d, node in defs)
    for node_def, node in defs:
      self._link(node_def, node, local)
    self.nodes.update((node.name, node) for node in local.values())
    for _, node in defs:
      self._unfold(node, depth + 1)
    results = [
      _tensor(body.ret[output.name], local)
      for output in body.signature.output_arg
    ]
    # What runs whenever the call does.
    call.controls += [tensor.node for tensor in results]
    call.controls += [
      local[name] for name in body.control_ret.values() if name in local
    ]
    return results

  @property
  def consumers(self):
    """{Node: list of the Nodes that have it as an input or a control}."""
    if self._consumers is None:
      self._consumers = collections.defaultdict(list)
      for node in self.nodes.values():
        for producer in _producers(node):
          self._consumers[producer].append(node)
    return self._consumers

  def find(self, name):
    """The Node of an op or tensor name, or None."""
    return self.nodes.get(name.removeprefix('^').partition(':')[0])

  def ancestors(self, nodes, stop=lambda node: False):
    """The set of `nodes` and all that they need; not what a `stop` needs."""
    return _closure(nodes, _producers, stop)

  def descendants(self, nodes, stop=lambda node: False):
    """The set of `nodes` and all that need them; not what needs a `stop`."""
    return _closure(nodes, lambda node: self.consumers[node], stop)


def _producers(node):
  return [tensor.node for tensor in node.inputs] + node.controls


def _closure(nodes, neighbours, stop):
  seen = set(nodes)
  waiting = list(seen)
  while waiting:
    node = waiting.pop()
    if stop(node):
      continue
    for other in neighbours(node):
      if other not in seen:
        seen.add(other)
        waiting.append(other)
  return seen


def _tensor(name, among):
  """Tensor of 'node', 'node:1' or, in a function, 'node:output:0'."""
  name, _, rest = name.partition(':')
  node = among[name]
  output, _, index = rest.rpartition(':')
  index = int(index or 0)
  if output in _OUTPUTS.get(node.op, ()):
    index += _OUTPUTS[node.op].index(output)
  return Tensor(node, index)


def sources(tensor):
  """Where a tensor's values come from, through all that only passes them on.

  Args:
    tensor: Tensor.
  Returns:
    list of Tensors: several where branches meet.
  """
  found, seen, waiting = [], set(), [tensor]
  while waiting:
    at = waiting.pop()
    if at in seen:
      continue
    seen.add(at)
    node = at.node
    if node.op in _MERGES and at.index == 0:
      waiting += node.inputs
    elif node.op in _PASSING and node.inputs:
      waiting.append(node.inputs[0])
    elif node.op == 'IdentityN':
      waiting.append(node.inputs[at.index])
    elif any(at.index < len(results) for results in node.results):
      waiting += [
        results[at.index] for results in node.results if at.index < len(results)
      ]
    else:
      found.append(at)
  return found


def variable(tensor):
  """The variable's Node that a tensor is a reading of or refers to, or None."""
  for source in sources(tensor):
    if source.node.op in VARIABLE_OPS:
      return source.node
  return None


def outside(tensor):
  """The tensor before the branches that it was handed into: one to fetch."""
  node = tensor.node
  while (
    node.op in ('Switch', 'RefSwitch', 'Identity')
    and node.inputs
    or (node.op == '_Arg' and node.attr['branch'] not in ('body', 'cond'))
  ):
    tensor = node.inputs[0]
    node = tensor.node
  return tensor


def constant(tensor):
  """The value of a constant as an array, or None if it is none.

  Raises:
    ValueError: it is damaged.
  """
  values = [source.node for source in sources(tensor)]
  if len(values) != 1 or values[0].op != 'Const':
    return None
  proto = values[0].attr['value'].tensor
  size = sizes(proto.tensor_shape)
  try:
    if size is None or None in size:
      raise ValueError('a constant without a size')
    # One value stands for all of them: it takes no memory.
    if size and _stored(proto) == 1 and not proto.tensor_content:
      single = tf.make_ndarray(_scalar(proto))
      return np.broadcast_to(single, size)
    count = 1
    for n in size:
      count *= n
    if count > _MOST_PADDED and not proto.tensor_content:
      raise ValueError('%d values, of which few are there' % count)
    return np.asarray(tf.make_ndarray(proto))
  # A type that there is not, bytes that are too few, sizes without bound.
  except (TypeError, ValueError, OverflowError) as e:
    raise ValueError('%s: %s' % (values[0].name, e)) from None


def _stored(proto):
  """How many values a TensorProto holds one by one."""
  return sum(
    len(value)
    for field, value in proto.ListFields()
    if field.name.endswith('_val')
  )


def _scalar(proto):
  copy = type(proto)()
  copy.CopyFrom(proto)
  copy.ClearField('tensor_shape')
  return copy


def shape(tensor):
  """A list of sizes, None where unknown; None if not even the rank is known.

  Read from the attributes that Saver writes (add_shapes=True), or found by
  shapes.infer.
  """
  node = tensor.node
  while node.op == '_Arg':
    tensor = node.inputs[0]
    node = tensor.node
  if node.op in VARIABLE_OPS:
    return sizes(node.attr['shape'].shape)
  if '_output_shapes' in node.attr:
    known = node.attr['_output_shapes'].list.shape
    return sizes(known[tensor.index]) if tensor.index < len(known) else None
  known = node.shapes or ()
  return known[tensor.index] if tensor.index < len(known) else None


def sizes(proto):
  """A list of sizes of a TensorShapeProto, as of `shape`."""
  if proto.unknown_rank:
    return None
  return [None if size.size < 0 else size.size for size in proto.dim]
