"""Rules of shape_rules.py for ops that move values and make none."""

from graph_resnet9.doctor.graph import tensors
from graph_resnet9.doctor.graph.questions import common
from graph_resnet9.doctor.graph.questions import MOST_SIZES
from graph_resnet9.doctor.graph.questions import shape_of
from graph_resnet9.doctor.graph.questions import sizes_of
from graph_resnet9.doctor.graph.questions import value_of


def _reshape(node):
  sizes = yield value_of(node.inputs[1])
  if sizes is None:
    # The rank is what the vector of sizes is long.
    ranks = yield shape_of(node.inputs[1])
    known = ranks and ranks[0] is not None and ranks[0] <= MOST_SIZES
    return [None] * ranks[0] if known else None
  if sizes.count(-1) != 1:
    return [None if size == -1 else size for size in sizes]
  before = yield shape_of(node.inputs[0])
  total = None if before is None else tensors.product(before)
  others = tensors.product(size for size in sizes if size != -1)
  left = total // others if total is not None and others else None
  return [left if size == -1 else size for size in sizes]


def _squeeze(node):
  before = yield shape_of(node.inputs[0])
  if before is None:
    return None
  dims = node.attribute('squeeze_dims').list.i
  axes = [k % len(before) for k in dims] if before else []
  if not axes and None in before:
    return None
  return [
    size
    for k, size in enumerate(before)
    if (k not in axes if axes else size != 1)
  ]


def _expand_dims(node):
  before = yield shape_of(node.inputs[0])
  axis = tensors.integers(node.inputs[1])
  if before is None or axis is None or len(axis) != 1:
    return None
  place = axis[0] % (len(before) + 1)
  return before[:place] + [1] + before[place:]


def _transpose(node):
  before = yield shape_of(node.inputs[0])
  order = tensors.integers(node.inputs[1])
  if (
    before is None or order is None or sorted(order) != list(range(len(before)))
  ):
    return before and [None] * len(before)
  return [before[k] for k in order]


def _pad(node):
  before = yield shape_of(node.inputs[0])
  margins = tensors.integers(node.inputs[1])
  if before is None or margins is None or len(margins) != 2 * len(before):
    return before and [None] * len(before)
  return [
    size if size is None else size + sum(margins[2 * k : 2 * k + 2])
    for k, size in enumerate(before)
  ]


def _concat(node):
  last = node.op == 'ConcatV2'
  axis = tensors.integers(node.inputs[-1 if last else 0])
  found = []
  for part in node.inputs[:-1] if last else node.inputs[1:]:
    found.append((yield shape_of(part)))
  shared = common(found)
  if not shared or axis is None or len(axis) != 1:
    return shared and [None] * len(shared)
  place = axis[0] % len(shared)
  sizes = [part[place] for part in found]
  shared[place] = None if None in sizes else sum(sizes)
  return shared


def _pack(node):
  found = []
  for part in node.inputs:
    found.append((yield shape_of(part)))
  shared = common(found)
  if shared is None:
    return None
  place = node.attribute('axis').i % (len(shared) + 1)
  return shared[:place] + [len(node.inputs)] + shared[place:]


def _select(node):
  return (yield shape_of(node.inputs[1]))


def _rank(node):
  before = yield shape_of(node.inputs[0])
  return None if before is None else [len(before)]


def _dequeued(node):
  queue = tensors.sources(node.inputs[0])[0].node
  known = queue.attribute('shapes').list.shape
  if not known:
    return None
  sizes = sizes_of(known[0])
  if 'Many' not in node.op and 'UpTo' not in node.op or sizes is None:
    return sizes
  count = None
  if 'Many' in node.op:
    count = yield value_of(node.inputs[1])
  return [count[0] if count else None] + sizes


def _resized(node):
  before = yield shape_of(node.inputs[0])
  sizes = yield value_of(node.inputs[1])
  if before is None or len(before) != 4 or sizes is None or len(sizes) != 2:
    return None
  return [before[0]] + sizes + [before[3]]


RULES = {
  'Reshape': _reshape,
  'Squeeze': _squeeze,
  'ExpandDims': _expand_dims,
  'Transpose': _transpose,
  'Pad': _pad,
  'PadV2': _pad,
  'MirrorPad': _pad,
  'Concat': _concat,
  'ConcatV2': _concat,
  'Pack': _pack,
  'Select': _select,
  'Shape': _rank,
  'QueueDequeue': _dequeued,
  'QueueDequeueV2': _dequeued,
  'QueueDequeueMany': _dequeued,
  'QueueDequeueManyV2': _dequeued,
  'QueueDequeueUpToV2': _dequeued,
  'ResizeBilinear': _resized,
  'ResizeNearestNeighbor': _resized,
}
