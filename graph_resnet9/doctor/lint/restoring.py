"""Whether stored statistics may come from another training than a graph's."""

from graph_resnet9.doctor.graph import tensors
from graph_resnet9.doctor.graph import variables
from graph_resnet9.doctor.layers.updates import ASSIGNS

_WRITERS = ('SaveV2', 'Save', 'SaveSlices')
_READERS = ('RestoreV2', 'Restore', 'RestoreSlice')
_MAX_WALK = 200


def may_be_restored(found, stored):
  """Whether a graph has a way to set statistics to those of another training.

  A saver of a network without its optimizer has, and so has an assignment of
  something fed, or of something read besides a saver's. A saver that also holds
  what the optimizer keeps (momenta) restores this training and no other.

  Args:
    found: anatomy.Anatomy.
    stored: Nodes of statistics.
  Returns:
    bool; True where it cannot be told.
  """
  view = found.view
  trained, slots = set(), set()
  for node in found.reached:
    if variables.APPLIES.fullmatch(node.op) and node.inputs:
      trained.add(tensors.variable(node.inputs[0]))
      slots.update(tensors.variable(t) for t in node.inputs[1:3])
  slots -= trained | {None}
  savers = [
    {tensors.variable(t) for t in node.inputs}
    for node in view.nodes.values()
    if node.op in _WRITERS
  ]
  if not slots or not savers:
    return True
  stored = set(stored)
  if any(stored & saver and not slots & saver for saver in savers):
    return True
  read = {}
  for node in view.nodes.values():
    if node.op in ASSIGNS and len(node.inputs) > 1:
      target = tensors.variable(node.inputs[0])
      if target in stored:
        ops = _ops_of(node.inputs[1])
        if 'Placeholder' in ops and not ops & set(_READERS):
          return True
        read[target] = read.get(target, 0) + bool(ops & set(_READERS))
  return any(
    read.get(v, 0) > sum(v in saver for saver in savers) for v in stored
  )


def _ops_of(tensor):
  """The kinds of ops that a value is made of; savers' file names are not."""
  seen, waiting = {tensor.node}, [tensor.node]
  while waiting and len(seen) < _MAX_WALK:
    node = waiting.pop()
    if node.op in _READERS:
      continue
    for source in node.inputs:
      if source.node not in seen:
        seen.add(source.node)
        waiting.append(source.node)
  return {node.op for node in seen}
