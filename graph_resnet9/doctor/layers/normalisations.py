"""Where a graph normalises by statistics of a batch, or by stored ones.

Found by the edges of the graph, nothing by its name: the fused kernel,
tf.nn.moments with tf.nn.batch_normalization, or arithmetic of one's own, with
ref or resource variables, also in the branches of tf.cond and functional If.
"""

from typing import Any
from typing import List
from typing import NamedTuple
from typing import Optional

from graph_resnet9.doctor.graph import shapes
from graph_resnet9.doctor.graph import tensors
from graph_resnet9.doctor.graph.nodes import Tensor
from graph_resnet9.doctor.graph.walks import walk
from graph_resnet9.doctor.layers import batch_statistics
from graph_resnet9.doctor.layers import choices
from graph_resnet9.doctor.layers.batch_statistics import composition

_INVERSES = ('Reciprocal', 'Inv')
# What carries a value on, with one reader's input as good as another's.
_CARRYING = frozenset(
  tensors.SWITCHES
  + tensors.MERGES
  + tensors.ENTERS
  + ('Identity', 'Cast', 'Reshape', 'Squeeze', 'ExpandDims', '_Arg')
)
_AFFINE = batch_statistics.ADDS + batch_statistics.MULTIPLIES + ('Sub', 'Neg')


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
  mean, variance: Tensors that it normalises by; mean is None if not seen.
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
  mean: Optional[Tensor] = None
  variance: Optional[Tensor] = None

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
      site = _fused(view, node)
    elif node.op in ('Rsqrt', 'Sqrt', 'Pow'):
      site = _by_hand(view, node)
    if site:
      found.append(site)
  return found


def _fused(view, node):
  x, gamma, beta, mean, variance = node.inputs[:5]
  axis, values = batch_statistics.reduction(Tensor(node, 2))
  if batch_statistics.trains(node):
    means, variances = [Tensor(node, 1)], [Tensor(node, 2)]
    moving_means, moving_variances = [], []
    choice = choices.around(x) or choices.behind(
      view, Tensor(node, 0), _carries
    )
  else:
    moving_means, means, _ = composition(mean)
    moving_variances, variances, _ = composition(variance)
    choice = None
  return Site(
    node,
    tensors.outside(x),
    axis,
    values,
    node.attribute('epsilon').f,
    tensors.variable(gamma),
    tensors.variable(beta),
    means,
    variances,
    moving_means,
    moving_variances,
    choice,
    mean,
    variance,
  )


def _by_hand(view, root):
  """Site of a square root of variance + epsilon by which x is divided."""
  inverted = root.op == 'Rsqrt'
  if root.op == 'Pow':
    exponent = tensors.number(root.inputs[1])
    if exponent not in (0.5, -0.5):
      return None
    inverted = exponent < 0
  sums = tensors.sources(root.inputs[0])
  if len(sums) != 1 or sums[0].node.op not in batch_statistics.ADDS:
    return None
  terms = sums[0].node.inputs
  # In a frozen graph the variance is a constant, too: of several channels.
  variance = [t for t in terms if tensors.number(t) is None]
  if len(variance) != 1:
    return None
  (epsilon,) = (tensors.number(t) for t in terms if t not in variance)
  frozen = tensors.constant(variance[0]) is not None
  moving_variances, statistics, _ = composition(variance[0])
  # Of images' channels, of examples' features: never a scalar.
  size = shapes.shape(sums[0])
  if epsilon is None or not (moving_variances or statistics or frozen):
    return None
  if size in ([], [1]):
    return None
  use = _use(view, root, inverted)
  if use is None:
    return None
  moving_means, means, _ = composition(use.mean) if use.mean else ([], [], [])
  x, axis, values = use.x, None, None
  variances = [t for t in statistics if batch_statistics.is_second_moment(t)]
  if statistics:
    # The first moments in a variance are those that its squares are taken to.
    first = [t for t in statistics if t not in variances]
    variances = variances or statistics
    means = (
      [t for t in means if t not in variances]
      or batch_statistics.means_beside(variances)
      or first
    )
    x = batch_statistics.reduced_input(variances[0])[0]
    axis, values = batch_statistics.reduction(variances[0])
  # A kernel can be standardised like that, too.
  if x is None or tensors.variable(x):
    return None
  if moving_variances and variances:
    choice = choices.meeting_at(variance[0])
  else:
    choice = choices.around(variance[0])
    if variances and not choice:
      # Moments that a branch takes are of what was handed into it.
      choice = choices.around(x) or choices.behind(
        view, Tensor(root, 0), _carries_affine
      )
  return Site(
    root,
    tensors.outside(x),
    _axis_of_vector(x, size) if axis is None else axis,
    values,
    epsilon,
    use.gamma,
    use.beta,
    means,
    variances,
    moving_means,
    moving_variances,
    choice,
    use.mean,
    variance[0],
  )


def handed_on(view, site):
  """Set of Nodes that carry a normalised value on to where it is chosen.

  Up to the Switches, Selects and Ifs of a Site's choice, without them.
  """

  def after(node):
    return [
      reader
      for reader in view.readers[node]
      if _carries_affine(reader)
      and reader.op not in tensors.SWITCHES
      and reader not in view.backward
    ]

  return set(walk([site.node], after))


def is_read(view, site):
  """Whether anything takes a Site's normalised value, its end of a network."""

  def taken_by(at):
    return [reader for reader in view.readers[at.node] if at in reader.inputs]

  def after(at):
    return [Tensor(r, 0) for r in taken_by(at) if _carries_affine(r)]

  return any(
    not _carries_affine(reader)
    for at in walk([Tensor(site.node, 0)], after)
    for reader in taken_by(at)
  )


def _carries(node):
  return node.op in _CARRYING


def _carries_affine(node):
  return node.op in _CARRYING or node.op in _AFFINE or node.op in _INVERSES


def _axis_of_vector(x, size):
  """Which axis of x a vector of `size`, [channels] or [1, c, 1, 1], is of."""
  before = shapes.shape(x)
  if not before:
    return -1
  if size and len(size) == len(before) and any(n != 1 for n in size):
    return next(k for k, n in enumerate(size) if n != 1)
  return len(before) - 1


class _Use(NamedTuple):
  """How a root is used: Tensors x and mean, Nodes gamma and beta, or None."""

  x: Optional[Tensor]
  mean: Optional[Tensor]
  gamma: Any
  beta: Any


def _use(view, root, inverted):
  """_Use of a root, or None if nothing is divided by it.

  The forms are (x - mean) * inverse, x * inverse - mean * inverse, both also
  with gamma in the inverse, or divided by the root. What is multiplied with
  the inverse is x, x - mean, mean or gamma, told apart by what it is made of.
  """
  products = _products(view, root, inverted)
  if not products:
    return None
  centred, plain, means, gammas = [], [], [], []
  for product, other in products:
    made_of = composition(other)
    taken_from = _taken_from(view, product)
    difference = _difference(other)
    if difference:
      centred.append(difference)
    elif not made_of.is_per_channel:
      if tensors.constant(other) is None:
        plain.append((other, None))
    elif taken_from or made_of.statistics or _is_negative(other):
      means.append((other, next(iter(taken_from), None)))
    else:
      gammas.append((other, tensors.variable(other)))
  if not means and len(gammas) > 1:
    means.append((gammas.pop()[0], None))  # Gamma comes first.
  x, mean = (centred + plain or [(None, None)])[0]
  beta = None
  if means and not mean:
    mean, beta = means[0]
  return _Use(x, mean, gammas[0][1] if gammas else None, beta)


def _products(view, root, inverted):
  """[(product Node, the other Tensor)] of an inverse root, also times gamma.

  In the order of the graph. Those of gradients are left out; where a network
  goes on from its own gradients, they come after the ones that are meant.
  """
  skipped = () if root in view.backward else view.backward
  found = []

  def after(step):
    node, inverted = step
    following = []
    for reader in view.readers[node]:
      if reader in skipped:
        continue
      if reader.op in _CARRYING:
        following.append((reader, inverted))
      elif reader.op in _INVERSES:
        following.append((reader, True))
      elif reader.op in batch_statistics.MULTIPLIES and (
        (reader.op == 'Mul') == inverted
      ):
        first, second = reader.inputs
        other = first if second.node is node else second
        if reader.op == 'Mul' or other is first:
          found.append((reader, other))
          if _difference(other) or not composition(other).others:
            following.append((reader, True))  # To gamma.
    return [_Step(*step) for step in following]

  for _ in walk([_Step(root, inverted)], after):
    pass
  return sorted(found, key=lambda pair: pair[0].position)


def _difference(tensor):
  """(x, mean) of x - mean, or None."""
  node = tensors.sources(tensor)[0].node
  if node.op != 'Sub' or composition(node.inputs[0]).is_per_channel:
    return None
  if not composition(node.inputs[1]).is_per_channel:
    return None
  return node.inputs[0], node.inputs[1]


class _Step(NamedTuple):
  """A Node on the way from a root, and whether it holds its inverse."""

  node: Any
  inverted: bool


def _is_negative(tensor):
  return any(t.node.op == 'Neg' for t in tensors.sources(tensor))


def _taken_from(view, product):
  """What a product is taken from, as mean * inverse from beta: variables."""
  return [
    tensors.variable(reader.inputs[0])
    for reader in view.readers[product]
    if reader.op == 'Sub' and reader.inputs[1].node is product
  ]
