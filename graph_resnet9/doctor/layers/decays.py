"""The weight of the old value in what an assignment leaves: a small algebra.

A value is a Linear of the variable that is assigned to, factor * old +
constant, or UNKNOWN; what has nothing to do with the variable counts as one
with the factor 0 whose constant is not known.
"""

from typing import NamedTuple
from typing import Optional

from graph_resnet9.doctor.graph import tensors
from graph_resnet9.doctor.layers import batch_statistics

_MOST_DEPTH = 12  # Of the arithmetic of a moving average.


class Linear(NamedTuple):
  """factor * old + constant; constant is None where it is not known."""

  factor: float
  constant: Optional[float] = None

  @property
  def is_constant(self):
    return self.factor == 0 and self.constant is not None


UNKNOWN = None
_ANYTHING_ELSE = Linear(0.0)


def decay(assign, target):
  """The weight of the old value in what an assignment leaves, or None.

  Args:
    assign: Node of an op of updates.ASSIGNS. target: Node of its variable.
  """
  value = _linear(assign.inputs[1], target, 0, {})
  if value is UNKNOWN or value.is_constant:
    return None
  kept = value.factor
  if 'Sub' in assign.op:
    kept = 1 - kept
  elif 'Add' in assign.op:
    kept = 1 + kept
  return kept if 0 <= kept < 1 else None


def _linear(tensor, target, depth, known):
  """Linear of a tensor, or UNKNOWN."""
  if depth > _MOST_DEPTH:
    return _ANYTHING_ELSE
  if tensor not in known:
    known[tensor] = _of_sources(tensor, target, depth, known)
  return known[tensor]


def _of_sources(tensor, target, depth, known):
  candidates = tensors.sources(tensor)
  constants = [tensors.number(source) for source in candidates]
  if constants and None not in constants:
    # Of a decay that a placeholder switches between d and 1, d.
    inner = [c for c in constants if c not in (0.0, 1.0)] or constants
    return Linear(0.0, inner[0])
  if any(source.node is target for source in candidates):
    # Where it meets something else, that is what a step of training takes.
    return Linear(float(len(candidates) == 1))
  found = [_computed(source, target, depth + 1, known) for source in candidates]
  found = [value for value in found if value is not UNKNOWN]
  with_target = [value for value in found if value.factor]
  return (with_target or found or [UNKNOWN])[0]


def _computed(source, target, depth, known):
  node = source.node
  if batch_statistics.is_statistic(source):
    # Of x - shift: what the shift adds is added back later.
    shift = batch_statistics.shift_of_mean(source)
    if shift is None:
      return _ANYTHING_ELSE
    value = _linear(shift, target, depth, known)
    return UNKNOWN if value is UNKNOWN else Linear(-value.factor)
  combine = _COMBINED.get(node.op)
  if not combine:
    return _ANYTHING_ELSE
  operands = [_linear(t, target, depth, known) for t in node.inputs]
  return UNKNOWN if UNKNOWN in operands else combine(operands)


def _sum(operands):
  constants = [value.constant for value in operands]
  return Linear(
    sum(value.factor for value in operands),
    None if None in constants else sum(constants),
  )


def _negative(operands):
  (value,) = operands
  constant = value.constant
  return Linear(-value.factor, None if constant is None else -constant)


def _difference(operands):
  return _sum([operands[0], _negative(operands[1:])])


def _product(operands):
  result = operands[0]
  for value in operands[1:]:
    if value.is_constant:
      result, value = value, result
    if result.is_constant:
      constant = value.constant
      result = Linear(
        value.factor * result.constant,
        None if constant is None else constant * result.constant,
      )
    elif result.factor or value.factor:
      return UNKNOWN
    else:
      result = _ANYTHING_ELSE
  return result


_COMBINED = {
  'Add': _sum,
  'AddV2': _sum,
  'AddN': _sum,
  'Sub': _difference,
  'Neg': _negative,
  'Mul': _product,
}
