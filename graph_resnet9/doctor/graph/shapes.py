"""Shapes of what a graph computes, by rules of its own: nothing runs.

TensorFlow's own inference evaluates constant parts of a graph, ReadFile and
Fill among them. These rules know the ops that stand around a normalisation; of
any other op the shape stays unknown.
"""

from graph_resnet9.doctor.graph import view as graph_view
from graph_resnet9.doctor.graph.view import VARIABLE_OPS

_SAME = set(
  'Abs BiasAdd Cast Ceil CheckNumerics ClipByValue Cumsum Elu Enter Erf Exit '
  'Exp FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars Floor Identity Inv '
  'LRN LeakyRelu Log Log1p LogSoftmax LogicalNot Neg NextIteration OnesLike '
  'PlaceholderWithDefault PreventGradient RandomShuffle Reciprocal RefEnter '
  'RefExit RefIdentity RefNextIteration RefSwitch Relu Relu6 ReverseV2 Round '
  'Rsqrt Selu Sigmoid Sign Sin Cos Snapshot Softmax Softplus Softsign Sqrt '
  'Square StopGradient Switch Tanh ZerosLike _Arg'.split()
)
_BROADCAST = set(
  'Add AddV2 Div Equal FloorDiv FloorMod Greater GreaterEqual Less LessEqual '
  'LogicalAnd LogicalOr Maximum Minimum Mod Mul NotEqual Pow RealDiv SelectV2 '
  'SquaredDifference Sub'.split()
)
_REDUCTIONS = {'Mean', 'Sum', 'Max', 'Min', 'Prod', 'All', 'Any'}
_CONVOLUTIONS = {'Conv2D', 'Conv3D', 'DepthwiseConv2dNative'}
_POOLS = {'MaxPool', 'AvgPool', 'MaxPool3D', 'AvgPool3D'}
_FROM_SHAPE = {
  'Fill',
  'RandomStandardNormal',
  'RandomUniform',
  'RandomUniformInt',
  'StatelessRandomNormal',
  'StatelessRandomUniform',
  'TruncatedNormal',
}
_MOST_DIMENSIONS = 32


def infer(view):
  """Gives the nodes of a GraphView that have no shapes of their own some.

  Args:
    view: GraphView; what it finds is put into the nodes.
  """
  done = set()
  for start in list(view.nodes.values()):
    waiting = [(start, False)]
    while waiting:
      node, ready = waiting.pop()
      if ready:
        _give(node)
      elif node not in done:
        done.add(node)  # A loop is cut where it closes.
        waiting.append((node, True))
        waiting += [(t.node, False) for t in node.inputs if t.node not in done]


def _give(node):
  try:
    node.sizes = _sizes(node)
    if '_output_shapes' not in node.attr and node.op not in VARIABLE_OPS:
      shapes = _shapes(node)
      most = max([len(size) for size in shapes or () if size] + [0])
      node.shapes = shapes if most <= _MOST_DIMENSIONS else None
  # What does not fit together has no shape, as in a damaged graph.
  except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
    node.shapes = None


def _shapes(node):
  """List of shapes, one an output, of a Node whose inputs have theirs."""
  op, inputs = node.op, node.inputs
  if op in _SAME:
    return [graph_view.shape(inputs[0])] * (2 if op.endswith('Switch') else 1)
  if op in ('Const', 'Placeholder'):
    proto = (
      node.attr['value'].tensor.tensor_shape
      if op == 'Const'
      else node.attr['shape'].shape
    )
    return [graph_view.sizes(proto)]
  if op == 'ReadVariableOp':
    variable = graph_view.variable(inputs[0])
    return [variable and graph_view.shape(graph_view.Tensor(variable, 0))]
  if op in _BROADCAST:
    return [_broadcast([graph_view.shape(t) for t in inputs])]
  if op in ('AddN', 'Merge', 'RefMerge'):
    return [_meeting([graph_view.shape(t) for t in inputs]), []]
  if op == 'Select':
    return [graph_view.shape(inputs[1])]
  if op in _REDUCTIONS:
    return [_reduced(node)]
  if op.startswith('FusedBatchNorm') and 'Grad' not in op:
    return [graph_view.shape(inputs[0])] + [graph_view.shape(inputs[1])] * 4
  if op in _CONVOLUTIONS or op in _POOLS:
    return [_window(node)]
  if op == 'Conv2DBackpropInput':
    return [_values(inputs[0])]
  if op in _FROM_SHAPE:
    return [_values(inputs[0])]
  if op in _RULES:
    return _RULES[op](node)
  return _of_source(node)


def _of_source(node):
  """Of what queues and iterators give, and of functions."""
  if node.op == 'IteratorGetNext':
    return [graph_view.sizes(s) for s in node.attr['output_shapes'].list.shape]
  if node.op.startswith('QueueDequeue'):
    queue = graph_view.sources(node.inputs[0])[0].node
    each = [graph_view.sizes(s) for s in queue.attr['shapes'].list.shape]
    if 'Many' in node.op or 'UpTo' in node.op:
      count = _values(node.inputs[1]) if 'Many' in node.op else None
      first = [count[0] if count else None]
      each = [None if size is None else first + size for size in each]
    return each
  if node.results:
    return [
      _meeting([graph_view.shape(t) for t in several])
      for several in zip(*node.results)
    ]
  return None


def _values(tensor):
  """The sizes in a small vector or scalar of integers, None where unknown."""
  source = graph_view.sources(tensor)
  if len(source) != 1:
    return None
  node = source[0].node
  if node.op != 'Const':
    return node.sizes
  array = graph_view.constant(tensor)
  if array is None or array.size > _MOST_DIMENSIONS or array.dtype == object:
    return None
  return [None if n < 0 else int(n) for n in array.reshape(-1)]


def _sizes(node):
  """What `_values` says of a Node that makes sizes of sizes."""
  if node.op == 'Shape':
    return graph_view.shape(node.inputs[0])
  if len(node.inputs) > _MOST_DIMENSIONS:
    return None
  if node.op == 'Pack':
    parts = [_values(t) for t in node.inputs]
    return [p[0] if p and len(p) == 1 else None for p in parts]
  if node.op == 'ConcatV2':
    parts = [_values(t) for t in node.inputs[:-1]]
    whole = None if None in parts else [n for part in parts for n in part]
    return whole and whole[:_MOST_DIMENSIONS]
  if node.op == 'StridedSlice':
    whole = _values(node.inputs[0])
    begin, end = [_values(t) for t in node.inputs[1:3]]
    if not whole or not begin or begin[0] is None:
      return None
    if node.attr['shrink_axis_mask'].i:
      return [whole[begin[0]]]
    start = 0 if node.attr['begin_mask'].i else begin[0]
    return whole[start : None if node.attr['end_mask'].i else end[0]]
  return None


def _axes(tensor, rank):
  """Constant axes, counted from the front; None if they are not constant."""
  array = graph_view.constant(tensor)
  if array is None or array.size > _MOST_DIMENSIONS:
    return None
  return [int(axis) % rank for axis in array.reshape(-1)]


def _broadcast(shapes):
  if None in shapes:
    return None
  rank = max(map(len, shapes))
  result = []
  for sizes in zip(*([1] * (rank - len(s)) + s for s in shapes)):
    larger = {n for n in sizes if n not in (1, None)}
    unknown = None in sizes
    result.append(larger.pop() if len(larger) == 1 else None if unknown else 1)
  return result


def _meeting(shapes):
  """What is known of all of several shapes."""
  known = [s for s in shapes if s is not None]
  if not known or len({len(s) for s in known}) > 1:
    return None
  return [n[0] if len(set(n)) == 1 else None for n in zip(*known)]


def _reduced(node):
  before = graph_view.shape(node.inputs[0])
  if before is None:
    return None
  axes = _axes(node.inputs[1], max(len(before), 1))
  if axes is None:
    return None
  keep = node.attr['keep_dims'].b
  return [
    1 if k in axes else n for k, n in enumerate(before) if keep or k not in axes
  ]


def _window(node):
  """Of a convolution or pooling."""
  before = graph_view.shape(node.inputs[0])
  if before is None:
    return None
  strides = list(node.attr['strides'].list.i)
  channels = 1 if node.attr['data_format'].s.startswith(b'NC') else -1
  spatial = list(range(len(before)))[2:] if channels == 1 else None
  spatial = spatial or list(range(1, len(before) - 1))
  result = list(before)
  kernel = (
    graph_view.shape(node.inputs[1]) if node.op in _CONVOLUTIONS else None
  )
  dilations = list(node.attr['dilations'].list.i) or [1] * len(before)
  for k, axis in enumerate(spatial):
    if node.op in _CONVOLUTIONS:
      window = kernel[k] if kernel else None
    else:
      window = node.attr['ksize'].list.i[axis]
    size, padding = before[axis], node.attr['padding'].s
    if padding == b'VALID' and size is not None:
      size = window and size - (window - 1) * dilations[axis]
    elif padding != b'SAME':
      size = None
    result[axis] = None if size is None else -(-size // strides[axis])
  if node.op in _CONVOLUTIONS:
    result[channels] = kernel[-1] if kernel else None
    if node.op.startswith('Depthwise'):
      result[channels] = None if None in kernel else kernel[-1] * kernel[-2]
  return result


def _reshaped(node):
  before, after = graph_view.shape(node.inputs[0]), _values(node.inputs[1])
  if after is None:
    return None
  if before and after.count(None) == 1 and None not in before:
    rest = _product(n for n in after if n is not None)
    return [_product(before) // rest if n is None else n for n in after]
  return after


def _product(numbers):
  result = 1
  for number in numbers:
    result *= number
  return result


def _squeezed(node):
  before = graph_view.shape(node.inputs[0])
  if before is None:
    return None
  dims = [d % len(before) for d in node.attr['squeeze_dims'].list.i]
  if not dims and None in before:
    return None
  return [
    n for k, n in enumerate(before) if (k not in dims if dims else n != 1)
  ]


def _expanded(node):
  before, axis = (
    graph_view.shape(node.inputs[0]),
    graph_view.constant(node.inputs[1]),
  )
  if before is None or axis is None:
    return None
  at = int(axis.item()) % (len(before) + 1)
  return before[:at] + [1] + before[at:]


def _matrix_product(node):
  left, right = [graph_view.shape(t) for t in node.inputs[:2]]
  if left is None or right is None:
    return None
  first = 'adj_x' if 'Batch' in node.op else 'transpose_a'
  second = 'adj_y' if 'Batch' in node.op else 'transpose_b'
  rows = left[-1] if node.attr[first].b else left[-2]
  columns = right[-2] if node.attr[second].b else right[-1]
  return left[:-2] + [rows, columns]


def _transposed(node):
  before, order = graph_view.shape(node.inputs[0]), _values(node.inputs[1])
  if before is None or order is None:
    return None
  return [before[k] for k in order]


def _concatenated(node):
  parts = [graph_view.shape(t) for t in node.inputs[:-1]]
  axis = graph_view.constant(node.inputs[-1])
  if None in parts or axis is None:
    return None
  at = int(axis.item()) % len(parts[0])
  sizes = [p[at] for p in parts]
  result = _meeting(parts)
  result[at] = None if None in sizes else sum(sizes)
  return result


def _padded(node):
  before, pads = (
    graph_view.shape(node.inputs[0]),
    graph_view.constant(node.inputs[1]),
  )
  if before is None or pads is None:
    return None
  return [
    None if n is None else n + int(low) + int(high)
    for n, (low, high) in zip(before, pads)
  ]


def _tiled(node):
  before, times = graph_view.shape(node.inputs[0]), _values(node.inputs[1])
  if before is None or times is None:
    return None
  return [None if None in (n, t) else n * t for n, t in zip(before, times)]


def _resized(node):
  before, size = graph_view.shape(node.inputs[0]), _values(node.inputs[1])
  if before is None:
    return None
  return before[:1] + (size or [None, None]) + before[3:]


def _split(node):
  of_sizes = node.op == 'SplitV'
  before = graph_view.shape(node.inputs[0 if of_sizes else 1])
  axis = graph_view.constant(node.inputs[2 if of_sizes else 0])
  if before is None or axis is None:
    return None
  at, count = int(axis.item()) % len(before), node.attr['num_split'].i
  if not 0 < count < 1 << 16:
    return None
  each = _values(node.inputs[1]) if of_sizes else None
  if not each:
    each = [before[at] and before[at] // count] * count
  return [before[:at] + [n] + before[at + 1 :] for n in each]


def _one(rule):
  return lambda node: [rule(node)]


_RULES = {
  'BatchMatMul': _one(_matrix_product),
  'BatchMatMulV2': _one(_matrix_product),
  'ConcatV2': _one(_concatenated),
  'ExpandDims': _one(_expanded),
  'MatMul': _one(_matrix_product),
  'MirrorPad': _one(_padded),
  'Pad': _one(_padded),
  'PadV2': _one(_padded),
  'Reshape': _one(_reshaped),
  'ResizeBilinear': _one(_resized),
  'ResizeNearestNeighbor': _one(_resized),
  'Shape': lambda node: [[len(graph_view.shape(node.inputs[0]))]],
  'Split': _split,
  'SplitV': _split,
  'Squeeze': _one(_squeezed),
  'Tile': _one(_tiled),
  'Transpose': _one(_transposed),
}
