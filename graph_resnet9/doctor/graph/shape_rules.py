"""What each op does to sizes: rules by which shapes are inferred.

A rule is a generator: it asks for the shape or the value of a tensor by
yielding the question, is sent the answer, and returns its own.
"""

from graph_resnet9.doctor.graph import shape_moves
from graph_resnet9.doctor.graph import tensors
from graph_resnet9.doctor.graph.questions import common
from graph_resnet9.doctor.graph.questions import shape_of
from graph_resnet9.doctor.graph.questions import sizes_of
from graph_resnet9.doctor.graph.questions import value_of

# Sizes as of their first input.
_LIKE_FIRST = frozenset(
  (
    'BiasAdd BiasAddV1 Relu Relu6 Elu Selu LeakyRelu Tanh Sigmoid Softplus '
    'Softsign Softmax LogSoftmax Log Log1p Exp Sqrt Rsqrt Square Abs Neg Sign '
    'Floor Ceil Round Erf Reciprocal Inv ClipByValue LRN ReverseV2 ZerosLike '
    'OnesLike IsNan IsFinite LogicalNot Sin Cos Assign AssignAdd AssignSub '
    'FakeQuantWithMinMaxVars FakeQuantWithMinMaxArgs ReluGrad Print '
    'FakeQuantWithMinMaxVarsPerChannel CheckNumerics'
  ).split()
)
_BROADCASTING = frozenset(
  (
    'Add AddV2 Sub Mul RealDiv Div FloorDiv Maximum Minimum Pow '
    'SquaredDifference Mod FloorMod Equal NotEqual Less LessEqual Greater '
    'GreaterEqual LogicalAnd LogicalOr SelectV2'
  ).split()
)
_REDUCTIONS = ('Mean', 'Sum', 'Max', 'Min', 'Prod', 'All', 'Any')
# The input that holds the sizes of their output.
_SIZES_AT = {
  'Fill': 0,
  'RandomUniform': 0,
  'RandomStandardNormal': 0,
  'TruncatedNormal': 0,
  'RandomUniformInt': 0,
  'StatelessRandomUniform': 0,
  'StatelessRandomNormal': 0,
  'BroadcastTo': 1,
  'Conv2DBackpropInput': 0,
  'Conv3DBackpropInputV2': 0,
  'DepthwiseConv2dNativeBackpropInput': 0,
}
_CONVOLUTIONS = ('Conv2D', 'Conv3D', 'DepthwiseConv2dNative')
_POOLS = ('MaxPool', 'AvgPool', 'MaxPool3D', 'AvgPool3D')
_FUSED = ('FusedBatchNorm', 'FusedBatchNormV2', 'FusedBatchNormV3')


# Shapes.


def _declared(node, index):
  """(whether an attribute says something, the shape it says)."""
  if node.op in tensors.VARIABLE_OPS or node.op == 'PlaceholderWithDefault':
    return True, sizes_of(node.attribute('shape').shape)
  known = node.attribute('_output_shapes').list.shape
  if index < len(known):
    return True, sizes_of(known[index])
  if node.op == 'Const':
    return True, sizes_of(node.attribute('value').tensor.tensor_shape)
  if node.op == 'IteratorGetNext':
    known = node.attribute('output_shapes').list.shape
    return True, sizes_of(known[index]) if index < len(known) else None
  if node.op == 'Placeholder':
    # Old versions wrote the shape of a scalar where they knew none.
    return True, sizes_of(node.attribute('shape').shape) or None
  return False, None


def shape(tensor):
  node, index = tensor
  said, sizes = _declared(node, index)
  if said:
    return sizes
  first = node.inputs[0] if node.inputs else None
  if node.op in tensors.MERGES and index:
    return []  # Which input it was.
  if node.op in tensors.MERGES or node.op == 'AddN' or node.results:
    found = []
    merged = node.inputs if not node.results else tensors.passed_from(tensor)
    for branch in merged:
      if branch.node.op not in ('NextIteration', 'RefNextIteration'):
        found.append((yield shape_of(branch)))
    return common(found)
  if node.op == 'IdentityN' and index < len(node.inputs):
    return (yield shape_of(node.inputs[index]))
  if node.op in _FUSED and index < 3:
    # The normalised input, then statistics in the shape of gamma.
    return (yield shape_of(node.inputs[1 if index else 0]))
  if first is None or index and node.op not in tensors.SWITCHES:
    return None
  if node.op in _RULES:
    return (yield from _RULES[node.op](node))
  if node.op in _LIKE_FIRST or node.op in tensors.PASSING:
    return (yield shape_of(first))
  if node.op in _BROADCASTING:
    return (yield from _broadcast(node))
  if node.op in _REDUCTIONS:
    return (yield from _reduced(node))
  if node.op in _SIZES_AT:
    return (yield value_of(node.inputs[_SIZES_AT[node.op]]))
  if node.op in _CONVOLUTIONS + _POOLS:
    return (yield from _window(node))
  return None


def _broadcast(node):
  found = []
  for operand in node.inputs:
    sizes = yield shape_of(operand)
    if sizes is None:
      return None
    found.append(sizes)
  rank = max(map(len, found))
  padded = [[1] * (rank - len(sizes)) + sizes for sizes in found]
  return [_broadcast_size(sizes) for sizes in zip(*padded)]


def _broadcast_size(sizes):
  large = {size for size in sizes if size not in (1, None)}
  if large:
    return large.pop()
  return None if None in sizes else 1


def _reduced(node):
  before = yield shape_of(node.inputs[0])
  axes = tensors.integers(node.inputs[1])
  keep = node.attribute('keep_dims').b
  if before is None:
    return None
  if axes is None:
    return [None] * len(before) if keep else None
  axes = {axis % max(len(before), 1) for axis in axes}
  return [
    1 if k in axes else size
    for k, size in enumerate(before)
    if keep or k not in axes
  ]


def _window(node):
  """Of convolution and pooling: what a window is at."""
  before = yield shape_of(node.inputs[0])
  strides = list(node.attribute('strides').list.i)
  if before is None or len(strides) != len(before) or 0 in strides:
    return None
  layout = node.attribute('data_format').s
  channels = 1 if layout.startswith(b'NC') else len(before) - 1
  places = [k for k in range(1, len(before)) if k != channels]
  if node.op in _POOLS:
    window = list(node.attribute('ksize').list.i)
    after, made = [1] * len(before), before[channels]
    if len(window) != len(before):
      return None
    for k in places:
      after[k] = window[k]
  else:
    filters = yield shape_of(node.inputs[1])
    if filters is None or len(filters) != len(before):
      return None
    after = [1] * len(before)
    dilations = list(node.attribute('dilations').list.i) or [1] * len(before)
    if len(dilations) != len(before):
      return None
    for k, size in zip(places, filters):
      after[k] = size and (size - 1) * dilations[k] + 1
    made = filters[-1]
    if node.op == 'DepthwiseConv2dNative':
      made = tensors.product(filters[-2:])
  padding = node.attribute('padding').s
  sizes = list(before)
  sizes[channels] = made
  for k in places:
    if padding not in (b'SAME', b'VALID') or None in (before[k], after[k]):
      sizes[k] = None
    else:
      covered = before[k] if padding == b'SAME' else before[k] - after[k] + 1
      sizes[k] = max(-(-covered // strides[k]), 0)
  return sizes


def _matmul(node):
  sides = []
  for operand, names in zip(
    node.inputs, (('transpose_a', 'adj_x'), ('transpose_b', 'adj_y'))
  ):
    sizes = yield shape_of(operand)
    if sizes is None or len(sizes) < 2:
      return None
    turned = any(node.attribute(name).b for name in names)
    sides.append(sizes[:-2] + (sizes[-2:][::-1] if turned else sizes[-2:]))
  outer = sides[0][:-2]
  if outer != sides[1][:-2]:
    return None
  return outer + [sides[0][-2], sides[1][-1]]


_RULES = dict(
  shape_moves.RULES,
  **{'MatMul': _matmul, 'BatchMatMul': _matmul, 'BatchMatMulV2': _matmul},
)
