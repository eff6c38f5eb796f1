"""Rules for the values of tensors that hold sizes, as for tf.reshape."""

from graph_resnet9.doctor.graph import tensors
from graph_resnet9.doctor.graph.questions import MOST_SIZES
from graph_resnet9.doctor.graph.questions import shape_of
from graph_resnet9.doctor.graph.questions import value_of


def value(tensor):
  node = tensor.node
  if node.op == 'Const':
    found = tensors.integers(tensor)
    return found if found is not None and len(found) <= MOST_SIZES else None
  if node.op == 'Shape':
    return (yield shape_of(node.inputs[0]))
  if node.op in ('Identity', 'Cast', 'Reshape', 'Squeeze', '_Arg', 'Enter'):
    return (yield value_of(node.inputs[0])) if node.inputs else None
  if node.op in ('Pack', 'ConcatV2'):
    found = []
    for part in node.inputs if node.op == 'Pack' else node.inputs[:-1]:
      value = yield value_of(part)
      if value is None and node.op == 'ConcatV2':
        return None
      found += value if value is not None else [None]
    # A size that is not known is not one to be made out.
    return found if len(found) <= MOST_SIZES else None
  if node.op == 'Prod':
    value = yield value_of(node.inputs[0])
    return None if value is None else [tensors.product(value)]
  if node.op == 'Mul':
    factors = []
    for operand in node.inputs:
      factors.append((yield value_of(operand)))
    if None in factors or any(len(value) != 1 for value in factors):
      return None
    return [tensors.product(value[0] for value in factors)]
  if node.op == 'StridedSlice':
    return (yield from _sliced(node))
  return None


def _sliced(node):
  value = yield value_of(node.inputs[0])
  ends = [tensors.integers(operand) for operand in node.inputs[1:4]]
  if value is None or any(end is None or len(end) != 1 for end in ends):
    return None
  if node.attribute('ellipsis_mask').i or node.attribute('new_axis_mask').i:
    return None
  (start,), (stop,), (step,) = ends
  if node.attribute('shrink_axis_mask').i:
    return [value[start]] if -len(value) <= start < len(value) else None
  if step == 0:
    return None
  return value[
    None if node.attribute('begin_mask').i else start : None
    if node.attribute('end_mask').i
    else stop : step
  ]
