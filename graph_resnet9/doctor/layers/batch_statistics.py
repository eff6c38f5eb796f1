"""Which tensors are statistics of a batch, and of what.

An average over the examples is one, however it is written: Mean; Sum times the
reciprocal of a count, or divided by one, as tf.nn.moments wrote it until
TensorFlow 1.1; of differences to some shift, as until 1.2.
"""

from typing import Any
from typing import List
from typing import NamedTuple

from graph_resnet9.doctor.graph import shapes
from graph_resnet9.doctor.graph import tensors
from graph_resnet9.doctor.graph.nodes import Tensor
from graph_resnet9.doctor.graph.walks import walk

FUSED = ('FusedBatchNorm', 'FusedBatchNormV2', 'FusedBatchNormV3')
ADDS = ('Add', 'AddV2')
DIVIDES = ('RealDiv', 'Div')
MULTIPLIES = ('Mul',) + DIVIDES
# What may stand between the statistics of a batch and where they are used, and
# which of the inputs are values.
_ARITHMETIC = dict.fromkeys(
  ADDS + MULTIPLIES + ('AddN', 'Sub', 'Neg', 'Square', 'Maximum', 'ConcatV2'),
  slice(None),
)
_ARITHMETIC.update(
  dict.fromkeys(('Select', 'SelectV2'), slice(1, None)),
  **dict.fromkeys(('Transpose', 'BroadcastTo', 'Tile'), slice(1)),
)
# What a count of examples is made by, and of.
_COUNTING = frozenset(
  MULTIPLIES
  + ('Reciprocal', 'Inv', 'Prod', 'Sub', 'Maximum', 'Pack', 'ConcatV2')
  + ('Gather', 'GatherV2', 'StridedSlice', 'Slice')
)
_COUNTS = ('Const', 'Shape', 'ShapeN', 'Size')


class Composition(NamedTuple):
  """What a value is computed of by arithmetic.

  variables: Nodes. statistics: Tensors, of a batch. others: Tensors, of
  anything else but constants.
  """

  variables: List[Any]
  statistics: List[Tensor]
  others: List[Tensor]

  @property
  def is_per_channel(self):
    """Whether it is of variables and statistics alone."""
    return bool(self.variables or self.statistics) and not self.others


def trains(fused):
  """Whether a fused kernel uses the statistics of the batch: the default."""
  return 'is_training' not in fused.attr or fused.attr['is_training'].b


def composition(tensor):
  """Composition of a Tensor, as far back as the first statistics."""
  result = Composition([], [], [])

  def before(at):
    passed = tensors.passed_from(at)
    if passed:
      return passed
    node = at.node
    if is_statistic(at):
      result.statistics.append(at)
      return []
    if _is_mean_of_statistics(node):
      return node.inputs[:1]
    terms = node.inputs[_ARITHMETIC[node.op]] if node.op in _ARITHMETIC else []
    if not terms:
      if node.op not in tensors.VARIABLE_OPS:
        if not _is_count(at):
          result.others.append(at)
      elif node not in result.variables:
        result.variables.append(node)
    return terms

  for _ in walk([tensor], before):
    pass
  return result


def is_statistic(tensor):
  """Whether it is an average over the examples that leaves the channels."""
  if tensor.node.op in FUSED:
    return tensor.index in (1, 2) and trains(tensor.node)
  return _reduction(tensor.node) is not None


def _reduction(node):
  """The Node of the Mean or Sum that makes a statistic of a batch, or None."""
  if node.op == 'Mean':
    return node if _over_examples(node) else None
  if node.op not in MULTIPLIES:
    return None
  factors = list(zip(node.inputs, reversed(node.inputs)))
  for total, count in factors[:1] if node.op in DIVIDES else factors:
    for source in tensors.sources(total):
      if source.node.op == 'Sum' and _over_examples(source.node):
        return source.node if _is_count(count) else None
  return None


def _over_examples(node):
  """Whether a reduction is over the examples, and leaves the channels."""
  axes = tensors.integers(node.inputs[1])
  before = shapes.shape(node.inputs[0])
  if axes is None:
    return False
  if before is None:
    return 0 in axes and len(axes) < 4
  rank = max(len(before), 1)
  return 0 in {axis % rank for axis in axes} and len(axes) < len(before)


def _is_count(tensor):
  """Whether a value is made of constants and of shapes alone."""

  def before(at):
    passed = tensors.passed_from(at)
    return passed or (at.node.inputs if at.node.op in _COUNTING else [])

  return all(
    before(at) or at.node.op in _COUNTS for at in walk([tensor], before)
  )


def _is_mean_of_statistics(node):
  """Whether the statistics of several groups of the batch are averaged."""
  return node.op == 'Mean' and all(
    is_statistic(source) for source in tensors.sources(node.inputs[0])
  )


def is_second_moment(statistic):
  """Whether it is an average of squares, of x or of differences to x."""
  node = statistic.node
  if node.op in FUSED:
    return statistic.index == 2
  return _squared(_reduction(node).inputs[0]) is not None


def _squared(tensor):
  """(x, what is taken from it, or None) of squares; None of anything else."""
  source = tensors.sources(tensor)[0]
  node = source.node
  if node.op == 'SquaredDifference':
    return node.inputs[0], node.inputs[1]
  if node.op == 'Square' or (
    node.op == 'Pow' and tensors.number(node.inputs[1]) == 2
  ):
    return _centred(node.inputs[0])
  if node.op == 'Mul':
    first, second = (tensors.sources(t)[0] for t in node.inputs)
    if first == second:
      return _centred(node.inputs[0])
    for factor in (first, second):  # Squares times the weights of examples.
      if factor.node.op in ('Square', 'SquaredDifference'):
        return _squared(factor)
  return None


def _centred(tensor):
  """(x, m) of x - m with m one value a channel; else (the tensor, None)."""
  node = tensors.sources(tensor)[0].node
  if node.op == 'Sub' and composition(node.inputs[1]).is_per_channel:
    return node.inputs[0], node.inputs[1]
  return tensor, None


def reduced_input(statistic):
  """(x, the shift taken from it, or None) that a statistic is of."""
  node = statistic.node
  if node.op in FUSED:
    return node.inputs[0], None
  before = _reduction(node).inputs[0]
  return _squared(before) or _centred(before)


def shift_of_mean(statistic):
  """The Tensor that a first moment is of the differences to, or None."""
  node = statistic.node
  if node.op in FUSED or is_second_moment(statistic):
    return None
  return reduced_input(statistic)[1]


def means_beside(variances):
  """The statistics that the squared differences of a variance are taken to."""
  found = []
  for variance in variances:
    shift = reduced_input(variance)[1]
    if shift is not None:
      found += composition(shift).statistics
  return found


def reduction(statistic):
  """(the last axis that a batch statistic keeps, how many values it is of)."""
  node = statistic.node
  if node.op in FUSED:
    before = shapes.shape(node.inputs[0])
    rank = len(before) if before else 4
    layout = node.attribute('data_format').s
    kept = 1 if layout.startswith(b'NC') else rank - 1
    axes = set(range(rank)) - {kept}
  else:
    total = _reduction(node)
    before = shapes.shape(total.inputs[0])
    if before is None:
      return -1, None
    axes = {axis % len(before) for axis in tensors.integers(total.inputs[1])}
    kept = max(set(range(len(before))) - axes)
  return kept, tensors.product(before[k] for k in axes) if before else None
