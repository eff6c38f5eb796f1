"""Where a graph normalises by statistics of a batch, or by stored ones.

Found by the edges of the graph, nothing by its name: the fused kernel,
tf.nn.moments with tf.nn.batch_normalization, or arithmetic of one's own, with
ref or resource variables, also in the branches of tf.cond and functional If.
"""

from typing import Any
from typing import List
from typing import NamedTuple
from typing import Optional

from graph_resnet9.doctor.graph import view as graph_view
from graph_resnet9.doctor.graph.view import Tensor
from graph_resnet9.doctor.layers import batch_statistics
from graph_resnet9.doctor.layers import choices

_MAX_WALK = 200  # Nodes; a normalisation takes a dozen.


class Site(NamedTuple):
  """One normalisation of one input.

  node: the Node at its heart: the fused kernel, or the square root.
  x: Tensor that is normalised, outside the branches it is normalised in.
  channel_axis: int, of x; negative if the rank is not known.
  values: int, how many a batch statistic is of; None if not known.
  epsilon: float, added to the variance; 0 if it is not constant.
  gamma, beta: Nodes of the variables, or None.
  batch_mean, batch_variance: Tensors of batch statistics that it may use.
  moving_mean, moving_variance: Nodes of variables that it may use.
  choice: choices.Choice of the two, or None if it always does the same.
  """

  node: Any
  x: Tensor
  channel_axis: int
  values: Optional[int]
  epsilon: float
  gamma: Any
  beta: Any
  batch_mean: List[Tensor]
  batch_variance: List[Tensor]
  moving_mean: List[Any]
  moving_variance: List[Any]
  choice: Optional[choices.Choice]

  @property
  def by_batch(self):
    """Whether it normalises by batch statistics, always or by choice."""
    return bool(self.batch_variance)

  @property
  def decided(self):
    """Whether it does: True, False, or None if that is fed."""
    if not self.choice:
      return self.by_batch
    return self.choice.decided


def find(view):
  """All Sites of a GraphView, in the order of the graph."""
  found = []
  for node in list(view.nodes.values()):
    site = None
    if node.op in batch_statistics.FUSED:
      site = _fused(node)
    elif node.op in ('Rsqrt', 'Sqrt', 'Pow'):
      site = _by_hand(view, node)
    if site:
      found.append(site)
  return found


def _fused(node):
  x, gamma, beta, mean, variance = node.inputs[:5]
  training = batch_statistics.trains(node)
  axis, values = batch_statistics.reduction(Tensor(node, 2))
  if training:
    means, variances = [Tensor(node, 1)], [Tensor(node, 2)]
    moving_means, moving_variances = [], []
  else:
    moving_means, means = batch_statistics.leaves(mean)
    moving_variances, variances = batch_statistics.leaves(variance)
  return Site(
    node,
    graph_view.outside(x),
    axis,
    values,
    node.attr['epsilon'].f,
    graph_view.variable(gamma),
    graph_view.variable(beta),
    means,
    variances,
    moving_means,
    moving_variances,
    choices.around(x) if training else None,
  )


def _by_hand(view, root):
  """Site of a square root of variance + epsilon by which x is divided."""
  if root.op == 'Pow':
    exponent = graph_view.constant(root.inputs[1])
    if exponent is None or exponent.size != 1 or abs(exponent.item()) != 0.5:
      return None
  sums = graph_view.sources(root.inputs[0])
  if len(sums) != 1 or sums[0].node.op not in batch_statistics.ADDS:
    return None
  terms = sums[0].node.inputs
  variance = [t for t in terms if graph_view.constant(t) is None]
  epsilon = [graph_view.constant(t) for t in terms if t not in variance]
  if len(variance) != 1 or epsilon[0].size != 1:
    return None
  moving_variances, variances = batch_statistics.leaves(variance[0])
  # Of images' channels, of examples' features: never a scalar.
  size = graph_view.shape(sums[0])
  if not moving_variances and not variances or size in ([], [1]):
    return None
  use = _use(view, root)
  if use is None:
    return None
  x, mean, gamma, beta = use
  moving_means, means = batch_statistics.leaves(mean) if mean else ([], [])
  if variances:
    means = means or batch_statistics.means_beside(variances)
    x = batch_statistics.reduced_input(variances[0])
    axis, values = batch_statistics.reduction(variances[0])
  else:
    axis, values = _axis_of_vector(x, size), None
  # A kernel can be standardised like that, too.
  if x is None or graph_view.variable(x):
    return None
  choice = (
    choices.meeting_at if moving_variances and variances else choices.around
  )(variance[0])
  return Site(
    root,
    graph_view.outside(x),
    axis,
    values,
    float(epsilon[0].item()),
    gamma,
    beta,
    means,
    variances,
    moving_means,
    moving_variances,
    choice,
  )


def _axis_of_vector(x, size):
  """Which axis of x a vector of `size`, [channels] or [1, c, 1, 1], is of."""
  before = x and graph_view.shape(x)
  if not before:
    return -1
  if size and len(size) == len(before) and any(n != 1 for n in size):
    return next(k for k, n in enumerate(size) if n != 1)
  return len(before) - 1


def _use(view, root):
  """(x, mean, gamma, beta) of how a root is divided by, None where not seen.

  The forms are (x - mean) * inverse, x * inverse - mean * inverse and the same
  with gamma in the inverse, or divided by the root. Of several candidates the
  first is taken: the gradients, which multiply too, come later in a graph.
  """
  inverse = root.op == 'Rsqrt' or (
    root.op == 'Pow' and graph_view.constant(root.inputs[1]).item() < 0
  )
  x = mean = gamma = beta = None
  divides = False
  seen, waiting = set(), [(root, inverse)]
  while waiting and len(seen) < _MAX_WALK:
    node, inverted = waiting.pop(0)
    if node in seen:
      continue
    seen.add(node)
    for consumer in view.consumers[node]:
      if consumer.op in (
        'Identity',
        'Cast',
        'Reshape',
        'Squeeze',
        'Switch',
        'ExpandDims',
        'Merge',
        '_Arg',
        'Enter',
      ):
        waiting.append((consumer, inverted))
      elif consumer.op in ('Reciprocal', 'Inv'):
        waiting.append((consumer, True))
      elif (
        consumer.op in batch_statistics.MULTIPLIES
        and (consumer.op == 'Mul') == inverted
        and len(consumer.inputs) == 2
      ):
        first, second = consumer.inputs
        other = first if second.node is node else second
        if consumer.op != 'Mul' and other is not first:
          continue  # The root is divided by something.
        divides = True
        kinds = batch_statistics.kinds(other)
        difference = graph_view.sources(other)[0].node
        if difference.op == 'Sub' and 'neither' not in batch_statistics.kinds(
          difference.inputs[1]
        ):  # x - mean
          x, mean = x or difference.inputs[0], mean or difference.inputs[1]
          waiting.append((consumer, True))
        elif 'neither' not in kinds:
          taken_from = _subtractions(view, consumer)
          if taken_from or gamma or kinds != {'variable'}:
            mean = mean or other
            beta = beta or next(iter(taken_from), None)
          else:
            gamma = graph_view.variable(other)
            waiting.append((consumer, True))
        elif graph_view.constant(other) is None:
          x = x or other
  return (x, mean, gamma, beta) if divides else None


def _subtractions(view, node):
  """What a product is taken from, as mean * inverse from beta: variables."""
  found = []
  for consumer in view.consumers[node]:
    if consumer.op == 'Sub' and consumer.inputs[1].node is node:
      found.append(graph_view.variable(consumer.inputs[0]))
  return found
