"""What can be told of the tensors of a graph that is read and not run."""

import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.graph.walks import walk

VARIABLE_OPS = ('VarHandleOp', 'VariableV2', 'Variable')
MERGES = ('Merge', 'RefMerge')
SWITCHES = ('Switch', 'RefSwitch')
ENTERS = ('Enter', 'RefEnter')
# Their output is their first input, in another shape, type or place.
PASSING = frozenset(
  SWITCHES
  + ENTERS
  + (
    'Identity',
    'ReadVariableOp',
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
    # Means over the machines that train together.
    'HorovodAllreduce',
    'NcclAllReduce',
    'CollectiveReduce',
    'CrossReplicaSum',
  )
)
# Ops that pass a tensor on one after the other; more than that is a circle.
_MOST_IN_LINE = 16
# Values of a constant of which a file holds only the first few.
_MOST_PADDED = 1 << 20
_MOST_INTEGERS = 1 << 16  # Axes, sizes and the like.


def sources(tensor):
  """Where a tensor's values come from, through all that only passes them on.

  Args:
    tensor: Tensor.
  Returns:
    list of Tensors: several where branches meet.
  """
  at = tensor
  for _ in range(_MOST_IN_LINE):
    before = passed_from(at)
    if not before:
      return [at]
    if len(before) > 1:
      break
    at = before[0]
  return [at for at in walk([tensor], passed_from) if not passed_from(at)]


def passed_from(tensor):
  """The Tensors of which a tensor is one, unchanged; [] if it is computed."""
  node = tensor.node
  if node.op in MERGES and tensor.index == 0:
    return node.inputs
  if node.op in PASSING:
    return node.inputs[:1]
  if node.op == 'IdentityN':
    return node.inputs[tensor.index : tensor.index + 1]
  return [
    results[tensor.index]
    for results in node.results
    if tensor.index < len(results)
  ]


def variable(tensor):
  """The variable's Node that a tensor is a reading of or refers to, or None."""
  for source in sources(tensor):
    if source.node.op in VARIABLE_OPS:
      return source.node
  return None


def outside(tensor):
  """The tensor before the branches that it was handed into: one to fetch."""

  def before(tensor):
    node = tensor.node
    handed = node.op in SWITCHES or node.op == 'Identity'
    if handed or (node.call and node.branch not in ('body', 'cond')):
      return node.inputs[:1]
    return []

  return list(walk([tensor], before))[-1]


def constant(tensor):
  """The value of a constant as an array, or None if it is none.

  Where a file holds one value for all, the array is a view of that one.

  Raises:
    ValueError: it is damaged.
  """
  found = [source.node for source in sources(tensor)]
  if len(found) != 1 or found[0].op != 'Const':
    return None
  proto = found[0].attribute('value').tensor
  sizes = [size.size for size in proto.tensor_shape.dim]
  try:
    if proto.tensor_shape.unknown_rank or min(sizes, default=0) < 0:
      raise ValueError('a constant without a size')
    if sizes and _stored(proto) == 1 and not proto.tensor_content:
      single = type(proto)()
      single.CopyFrom(proto)
      single.ClearField('tensor_shape')
      return np.broadcast_to(tf.make_ndarray(single), sizes)
    if product(sizes) > _MOST_PADDED and not proto.tensor_content:
      raise ValueError('%d values, of which few are there' % product(sizes))
    return np.asarray(tf.make_ndarray(proto))
  # A type that there is not, bytes that are too few, sizes without bound.
  except (TypeError, ValueError, OverflowError) as e:
    raise ValueError('%s: %s' % (found[0].name, e)) from None


def _stored(proto):
  """How many values a TensorProto holds one by one."""
  return sum(
    len(value)
    for field, value in proto.ListFields()
    if field.name.endswith('_val')
  )


def number(tensor):
  """The value of a constant that is one number, as a float; or None."""
  value = constant(tensor)
  if value is None or value.size != 1 or value.dtype.kind not in 'biufV':
    return None
  return float(value.item())


def integers(tensor):
  """The values of a constant of whole numbers, as a list; or None."""
  value = constant(tensor)
  if value is None or value.dtype.kind not in 'iu':
    return None
  if value.size > _MOST_INTEGERS:
    return None
  return value.reshape(-1).tolist()


def strings(tensor):
  """The values of a constant of strings, as a list of str; or None."""
  value = constant(tensor)
  if value is None or value.dtype.kind != 'O':
    return None
  return [text.decode('utf-8', 'replace') for text in value.reshape(-1)]


def product(sizes):
  """The product of sizes; None if one of them is not known."""
  result = 1
  for size in sizes:
    if size is None:
      return None
    result *= size
  return result
