"""What moves stored statistics towards those of a batch, and how fast."""

import re
from typing import Any
from typing import NamedTuple
from typing import Optional

import numpy as np

from graph_resnet9.doctor.graph import view as graph_view
from graph_resnet9.doctor.graph.view import Tensor
from graph_resnet9.doctor.layers import batch_statistics
from graph_resnet9.doctor.layers import normalisations as sites

ASSIGNS = (
  'Assign',
  'AssignSub',
  'AssignAdd',
  'AssignVariableOp',
  'AssignSubVariableOp',
  'AssignAddVariableOp',
)
# Ops that only gradients have.
GRADIENTS = re.compile(
  r'.*Grad(V2|V3|WithArgmax)?|.*Backprop.*|BroadcastGradientArgs'
)
_MAX_WALK = 200  # Nodes.
_MAX_DEPTH = 12  # Of the arithmetic of a moving average.


class Update(NamedTuple):
  """An op that moves a stored statistic towards that of a batch.

  node: Node of the assignment. variable: Node.
  kind: 'mean' or 'variance'.
  site: sites.Site whose batch statistics they are.
  decay: float, weight of the stored value; None if it is not constant.
  """

  node: Any
  variable: Any
  kind: str
  site: sites.Site
  decay: Optional[float]


def find(view, found_sites, trainable):
  """All Updates of a GraphView.

  Args:
    view: GraphView.
    found_sites: list of sites.Site, whose batch statistics count.
    trainable: Nodes of variables that are no statistics: an optimizer written
      out moves them by gradients in which batch statistics are factors.
  """
  owners = {}
  for site in found_sites:
    for kind, tensors in (
      ('mean', site.batch_mean),
      ('variance', site.batch_variance),
    ):
      for tensor in tensors:
        owners.setdefault(tensor, (kind, site))
  found = []
  for node in list(view.nodes.values()):
    if node.op not in ASSIGNS or len(node.inputs) < 2:
      continue
    target = graph_view.variable(node.inputs[0])
    if (
      target is None
      or target in trainable
      or graph_view.shape(Tensor(target, 0)) == []
    ):
      continue
    _, batch = batch_statistics.leaves(node.inputs[1])
    owned = [owners[tensor] for tensor in batch if tensor in owners]
    if owned and not _of_gradients(node.inputs[1]):
      kinds = {kind for kind, _ in owned}
      update = Update(
        node,
        target,
        'variance' if 'variance' in kinds else 'mean',
        owned[0][1],
        _decay(node, target),
      )
      found.append(_debiased(view, update) or update)
  return found


def _debiased(view, update):
  """Update of the variable that holds an average without its bias, or None.

  assign_moving_average(zero_debias=True) keeps the average in a variable
  `biased`, and what evaluation reads, divided by 1 - decay ** steps, in the one
  it was given; the initial value is not in that, so it has no decay.
  """
  waiting = [update.node]
  while waiting:
    for consumer in view.consumers[waiting.pop()]:
      if consumer.op in ('Identity', 'ReadVariableOp', 'RealDiv'):
        waiting.append(consumer)
      elif consumer.op in ('Assign', 'AssignVariableOp'):
        target = graph_view.variable(consumer.inputs[0])
        if target not in (update.variable, None):
          return update._replace(node=consumer, variable=target, decay=None)
  return None


def _of_gradients(tensor):
  """Whether gradients make a value, as that of an optimizer's slot."""
  seen, waiting = set(), [tensor.node]
  while waiting and len(seen) < _MAX_WALK:
    node = waiting.pop(0)
    if node in seen or node.op in batch_statistics.FUSED:
      continue
    seen.add(node)
    if GRADIENTS.fullmatch(node.op):
      return True
    if node.op != 'Mean':
      waiting += [source.node for source in node.inputs]
  return False


def _decay(node, target):
  """The weight of the old value in what an assignment leaves, or None."""
  weight = _weight(node.inputs[1], target, 0)
  if weight is None or weight[0] is None:
    return None
  kept = float(weight[0])
  if 'Sub' in node.op:
    kept = 1 - kept
  elif 'Add' in node.op:
    kept = 1 + kept
  return kept if 0 <= kept < 1 else None


def _weight(tensor, target, depth):
  """What a tensor is in terms of a variable: (its factor, a constant).

  Returns:
    (factor, None) of something that the variable is in with that factor, or
    not at all (0.); (None, value) of a constant; None if it cannot be told.
  """
  if depth > _MAX_DEPTH:
    return 0.0, None
  candidates = graph_view.sources(tensor)
  constants = [graph_view.constant(source) for source in candidates]
  if all(c is not None and c.size == 1 for c in constants) and constants:
    # Of a decay that a placeholder switches between d and 1, d.
    values = [float(c.item()) for c in constants]
    inner = [v for v in values if v not in (0.0, 1.0)] or values
    return None, inner[0]
  if any(source.node is target for source in candidates):
    # Where it meets something else, that is what a step of training takes.
    return float(len(candidates) == 1), None
  found = [_combined(source.node, target, depth) for source in candidates]
  factors = [w for w in found if w and w[0]] or [w for w in found if w]
  return factors[0] if factors else None


def _combined(node, target, depth):
  operands = (
    [_weight(t, target, depth + 1) for t in node.inputs]
    if (node.op in batch_statistics.ADDS + ('Sub', 'Mul', 'AddN', 'Neg'))
    else []
  )
  if not operands:
    return 0.0, None
  if any(w is None for w in operands):
    return None
  constants = [w[1] for w in operands]
  if all(c is not None for c in constants):
    sign = -1 if node.op in ('Sub', 'Neg') else 1
    value = (
      np.prod(constants)
      if node.op == 'Mul'
      else -constants[0]
      if node.op == 'Neg'
      else constants[0] + sign * sum(constants[1:])
    )
    return None, float(value)
  factors = [w[0] or 0.0 for w in operands]
  if node.op == 'Mul':
    constant = [c for c in constants if c is not None]
    if not constant:
      return None if any(factors) else (0.0, None)
    return sum(factors) * float(np.prod(constant)), None
  if node.op == 'Neg':
    return -factors[0], None
  sign = -1 if node.op == 'Sub' else 1
  return factors[0] + sign * sum(factors[1:]), None
