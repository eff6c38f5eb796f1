"""Which tensors are statistics of a batch, and of what."""

import math

from graph_resnet9.doctor.graph import view as graph_view

FUSED = ('FusedBatchNorm', 'FusedBatchNormV2', 'FusedBatchNormV3')
ADDS = ('Add', 'AddV2')
MULTIPLIES = ('Mul', 'RealDiv', 'Div')
# What may stand between the statistics of a batch and where they are used.
_ARITHMETIC = (
  ADDS
  + MULTIPLIES
  + (
    'AddN',
    'Sub',
    'Neg',
    'Square',
    'Select',
    'SelectV2',
    'Transpose',
    'ConcatV2',
    'BroadcastTo',
    'Tile',
  )
)
_MAX_WALK = 200  # Nodes; a moving average takes a dozen.


def trains(fused):
  """Whether a fused kernel uses the statistics of the batch: the default."""
  return 'is_training' not in fused.attr or fused.attr['is_training'].b


def leaves(tensor):
  """(Nodes of variables, Tensors of batch statistics) that a tensor is of.

  Walks back over arithmetic, and stops at a reduction over the examples.
  """
  variables, batch = [], []
  seen, waiting = set(), [tensor]
  while waiting and len(seen) < _MAX_WALK:
    for source in graph_view.sources(waiting.pop()):
      if source in seen:
        continue
      seen.add(source)
      node = source.node
      if node.op in graph_view.VARIABLE_OPS:
        if node not in variables:
          variables.append(node)
      elif _is_batch_statistic(source):
        batch.append(source)
      elif node.op in _ARITHMETIC or _is_mean_of_statistics(node):
        waiting += node.inputs
  return variables, batch


def _is_batch_statistic(tensor):
  """Whether it is an average over the examples that leaves the channels."""
  node = tensor.node
  if node.op in FUSED:
    return tensor.index in (1, 2) and trains(node)
  if node.op != 'Mean':
    return False
  axes = graph_view.constant(node.inputs[1])
  before = graph_view.shape(node.inputs[0])
  if axes is None:
    return False
  axes = axes.reshape(-1)
  if before is None:
    return 0 in axes and axes.size < 4
  return 0 in axes % max(len(before), 1) and axes.size < len(before)


def _is_mean_of_statistics(node):
  """Whether the statistics of several groups of the batch are averaged."""
  return node.op == 'Mean' and all(
    _is_batch_statistic(source) for source in graph_view.sources(node.inputs[0])
  )


def means_beside(variances):
  """The mean that the squared differences of a batch variance are taken to."""
  found = []
  for variance in variances:
    for source in graph_view.sources(variance.node.inputs[0]):
      if source.node.op in ('SquaredDifference', 'Sub'):
        found += leaves(source.node.inputs[1])[1]
      elif source.node.op == 'Square':
        for inner in graph_view.sources(source.node.inputs[0]):
          if inner.node.op == 'Sub':
            found += leaves(inner.node.inputs[1])[1]
  return found


def reduced_input(statistic):
  """x of mean(x), mean(squared difference of x and ...) or mean(x squared)."""
  node = statistic.node
  x = node.inputs[0]
  if node.op in FUSED:
    return x
  squared = graph_view.sources(x)[0].node
  if squared.op == 'SquaredDifference':
    return squared.inputs[0]
  if squared.op != 'Square':
    return x
  centred = graph_view.sources(squared.inputs[0])[0].node
  if centred.op == 'Sub' and 'neither' not in kinds(centred.inputs[1]):
    return centred.inputs[0]
  return squared.inputs[0]


def reduction(statistic):
  """(the last axis that a batch statistic keeps, how many values it is of)."""
  node = statistic.node
  before = graph_view.shape(node.inputs[0])
  if node.op in FUSED:
    rank = len(before) if before else 4
    kept = 1 if node.attr['data_format'].s.startswith(b'NC') else rank - 1
    axes = set(range(rank)) - {kept}
  elif before is None:
    return -1, None
  else:
    axes = set(graph_view.constant(node.inputs[1]).reshape(-1) % len(before))
    kept = int(max(set(range(len(before))) - axes))
  return kept, _product(before[k] for k in axes) if before else None


def _product(sizes):
  """The product of sizes, None if one is not known."""
  sizes = list(sizes)
  return None if None in sizes else math.prod(sizes)


def kinds(tensor):
  """What a tensor is: a set of 'variable', 'batch', 'negative', 'neither'."""
  found = set()
  for source in graph_view.sources(tensor):
    if source.node.op in graph_view.VARIABLE_OPS:
      found.add('variable')
    elif _is_batch_statistic(source):
      found.add('batch')
    elif source.node.op == 'Neg':
      found |= {'negative'} | kinds(source.node.inputs[0])
    else:
      found.add('neither')
  return found
