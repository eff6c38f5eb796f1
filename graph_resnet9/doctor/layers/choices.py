"""Where a graph chooses between batch and stored statistics."""

from typing import NamedTuple

from graph_resnet9.doctor.graph import view as graph_view
from graph_resnet9.doctor.graph.view import Tensor
from graph_resnet9.doctor.layers import batch_statistics

_MAX_WALK = 200  # Nodes.


class Choice(NamedTuple):
  """A bool tensor, and the value for which batch statistics are used."""

  predicate: Tensor
  value: bool

  @property
  def decided(self):
    """Whether batch statistics are used: True, False, or None if it is fed.

    A placeholder with a default is taken at that.
    """
    values = []
    for source in graph_view.sources(self.predicate):
      if source.node.op == 'PlaceholderWithDefault':
        source = source.node.inputs[0]
      values.append(graph_view.constant(source))
    if len(values) != 1 or values[0] is None:
      return None
    return bool(values[0]) == self.value


def around(tensor):
  """Choice of the branch that a tensor was handed into, or None."""
  node = tensor.node
  while node.inputs:
    if node.op in ('Switch', 'RefSwitch'):
      if any(
        s.node.op == 'LoopCond' for s in graph_view.sources(node.inputs[1])
      ):
        return None
      return Choice(node.inputs[1], tensor.index == 1)
    if node.op == '_Arg' and node.attr['branch'].endswith('_branch'):
      return Choice(
        node.attr['call'].inputs[0], node.attr['branch'] == 'then_branch'
      )
    if node.op not in ('Identity', 'Cast', '_Arg'):
      return None
    tensor = node.inputs[0]
    node = tensor.node
  return None


def meeting_at(tensor):
  """Choice where stored and batch statistics meet on the way to a tensor."""
  seen, waiting = set(), [tensor]
  while waiting and len(seen) < _MAX_WALK:
    at = waiting.pop()
    node = at.node
    if at in seen:
      continue
    seen.add(at)
    if node.op in ('Merge', 'RefMerge'):
      for branch in node.inputs:
        if _all_of_batch(branch):
          choice = around(branch)
          if choice:
            return choice
    elif node.op in ('If', 'StatelessIf'):
      by_batch = [_all_of_batch(results[at.index]) for results in node.results]
      if sum(by_batch) == 1:
        return Choice(node.inputs[0], by_batch[0])
    elif node.op in ('Select', 'SelectV2'):
      by_batch = [_all_of_batch(branch) for branch in node.inputs[1:]]
      if sum(by_batch) == 1:
        return Choice(node.inputs[0], by_batch[0])
    waiting += node.inputs
  return None


def _all_of_batch(tensor):
  """Whether no variable is in a value."""
  return not batch_statistics.leaves(tensor)[0]
