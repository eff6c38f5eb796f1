"""What moves stored statistics towards those of a batch, and how fast."""

import collections
import re
from typing import Any
from typing import NamedTuple
from typing import Optional

from graph_resnet9.doctor.graph import shapes
from graph_resnet9.doctor.graph import tensors
from graph_resnet9.doctor.graph.nodes import Tensor
from graph_resnet9.doctor.graph.walks import walk
from graph_resnet9.doctor.layers import batch_statistics
from graph_resnet9.doctor.layers import decays
from graph_resnet9.doctor.layers.batch_statistics import composition
from graph_resnet9.doctor.layers.normalisations import Site

ASSIGNS = (
  'Assign',
  'AssignSub',
  'AssignAdd',
  'AssignVariableOp',
  'AssignSubVariableOp',
  'AssignAddVariableOp',
)
# They read a variable and do nothing that a step would need.
_ASIDE = re.compile('Save(V2|Slices)?|.*Summary(V2)?|Shape|.*Initialized')


class Update(NamedTuple):
  """An op that moves a stored statistic towards that of a batch.

  node: Node of the assignment. variable: Node.
  kind: 'mean' or 'variance'.
  site: normalisations.Site whose batch statistics they are.
  decay: float, weight of the stored value; None if it is not constant.
  """

  node: Any
  variable: Any
  kind: str
  site: Site
  decay: Optional[float]


def find(view, sites, trainable):
  """All Updates of a GraphView.

  Args:
    view: GraphView.
    sites: list of normalisations.Site, whose batch statistics count.
    trainable: Nodes of the variables that are trained, or said to be: Keras
      2.0 to 2.3 puts stored statistics among them. A gradient method written
      out moves variables by factors that are batch statistics, too.
  """
  owners = {}
  for site in sites:
    for kind, statistics in (
      ('mean', site.batch_mean),
      ('variance', site.batch_variance),
    ):
      for statistic in statistics:
        owners.setdefault(statistic, (kind, site))
  read = {v for site in sites for v in site.moving_mean + site.moving_variance}
  assigns = [node for node in view.nodes.values() if node.op in ASSIGNS]
  found = []
  for node in assigns:
    target = tensors.variable(node.inputs[0])
    if target is None or shapes.shape(Tensor(target, 0)) == []:
      continue
    made_of = composition(node.inputs[1])
    owned = [owners[t] for t in made_of.statistics if t in owners]
    if not owned or any(t.node in view.backward for t in made_of.others):
      continue
    if target in trainable and target not in read and _is_used(view, target):
      continue
    kinds = {kind for kind, _ in owned}
    found.append(
      Update(
        node,
        target,
        'variance' if 'variance' in kinds else 'mean',
        owned[0][1],
        decays.decay(node, target),
      )
    )
  if any(update.decay == 0 for update in found):
    averages = _averages(assigns)
    found = [_averaged(update, averages) for update in found]
  if all(update.variable in read for update in found):
    return found
  divided = _divided(assigns, read)
  return [
    update if update.variable in read else _debiased(update, divided)
    for update in found
  ]


def _is_used(view, variable):
  """Whether anything reads a variable but averages, savers and summaries."""

  def readers(node):
    carries = node.op in tensors.PASSING or node.op in tensors.VARIABLE_OPS
    goes_on = carries or node.op in batch_statistics.ADDS + ('Mul', 'Sub')
    return view.readers[node] if goes_on else []

  return any(
    view.readers[node]  # What nobody reads is no use either.
    and not readers(node)
    and node.op not in ASSIGNS
    and not _ASIDE.fullmatch(node.op)
    for node in walk([variable], readers)
  )


def _averages(assigns):
  """{Node of a variable: [(Node of an assignment, its variable, decay)]}.

  The moving averages of the values of variables, by these.
  """
  found = collections.defaultdict(list)
  for node in assigns:
    target = tensors.variable(node.inputs[0])
    kept = decays.decay(node, target) if target else None
    if kept:
      for variable in composition(node.inputs[1]).variables:
        if variable is not target:
          found[variable].append((node, target, kept))
  return found


def _averaged(update, averages):
  """Update of the average of what holds the last batch's statistic, or itself.

  As where an ExponentialMovingAverage is applied to variables that are
  assigned the statistics of each batch.
  """
  found = averages.get(update.variable) if update.decay == 0 else None
  if not found:
    return update
  node, target, kept = found[0]
  return update._replace(node=node, variable=target, decay=kept)


def _divided(assigns, read):
  """{Node: [(position, Node of an assignment, its variable)]}, by dividends.

  Args:
    assigns: Nodes of all assignments.
    read: set of the variables' Nodes that normalisations read; those of other
      variables do not count, unless it is empty.
  """
  found = collections.defaultdict(list)
  for position, node in enumerate(assigns):
    target = tensors.variable(node.inputs[0])
    if target is None or read and target not in read:
      continue
    for quotient in _quotients(node.inputs[1], target):
      for source in tensors.sources(quotient.inputs[0]):
        found[source.node].append((position, node, target))
  return found


def _debiased(update, divided):
  """Update of the variable that holds an average without its bias, or itself.

  assign_moving_average(zero_debias=True) keeps the average in a variable
  `biased`, and what evaluation reads, that divided by 1 - decay ** steps, in
  the one it was given; the initial value is not in that, so it has no decay.

  Args:
    update: Update of what may be `biased`.
    divided: of _divided.
  """
  found = [
    (position, node, target)
    for average in (update.variable, update.node)
    for position, node, target in divided.get(average, ())
    if target is not update.variable
  ]
  if not found:
    return update
  _, node, target = min(found, key=lambda entry: entry[0])
  return update._replace(node=node, variable=target, decay=None)


def _quotients(value, target):
  """Nodes of the divisions that are a value, or target minus a value."""
  for source in tensors.sources(value):
    node = source.node
    if node.op == 'Sub' and tensors.variable(node.inputs[0]) is target:
      for inner in tensors.sources(node.inputs[1]):
        if inner.node.op in batch_statistics.DIVIDES:
          yield inner.node
    elif node.op in batch_statistics.DIVIDES:
      yield node
