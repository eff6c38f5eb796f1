"""Where a graph chooses between batch and stored statistics."""

from typing import NamedTuple

from graph_resnet9.doctor.graph import tensors
from graph_resnet9.doctor.graph.nodes import Tensor
from graph_resnet9.doctor.graph.walks import walk
from graph_resnet9.doctor.layers import batch_statistics

_IFS = ('If', 'StatelessIf')
_SELECTS = ('Select', 'SelectV2')
# They read a tensor, and take no part in what becomes of it.
_ASIDE = ('Shape', 'ShapeN', 'Size', 'Rank', 'ZerosLike', 'OnesLike')
_CHOOSING = tensors.SWITCHES + _SELECTS + _IFS
# What a summary is made of: the sparsity of an activation takes about ten.
_MAX_WATCHERS = 100


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
    for source in tensors.sources(self.predicate):
      if source.node.op == 'PlaceholderWithDefault':
        source = source.node.inputs[0]
      values.append(tensors.constant(source))
    if len(values) != 1 or values[0] is None or values[0].size != 1:
      return None
    return bool(values[0].item()) == self.value

  @property
  def is_fixed(self):
    """Whether a constant decides, which nothing can change."""
    found = tensors.sources(self.predicate)
    return all(source.node.op == 'Const' for source in found)


def around(tensor):
  """Choice of the branch that a tensor was handed into, or None."""

  def before(tensor):
    handed = tensor.node.op in ('Identity', 'Cast', '_Arg')
    return tensor.node.inputs[:1] if handed else []

  for node, index in walk([tensor], before):
    if node.op in tensors.SWITCHES:
      return None if _of_loop(node) else Choice(node.inputs[1], index == 1)
    if node.call and node.branch.endswith('_branch'):
      return Choice(node.call.inputs[0], node.branch == 'then_branch')
  return None


def _of_loop(switch):
  return any(s.node.op == 'LoopCond' for s in tensors.sources(switch.inputs[1]))


def meeting_at(tensor):
  """Choice where stored and batch statistics meet on the way to a tensor."""
  for at in walk([tensor], lambda at: at.node.inputs):
    node = at.node
    if node.op in tensors.MERGES:
      branches = node.inputs
    elif node.op in _IFS:
      branches = [r[at.index] for r in node.results if at.index < len(r)]
    elif node.op in _SELECTS:
      branches = node.inputs[1:]
    else:
      continue
    by_batch = [_all_of_batch(branch) for branch in branches]
    if len(by_batch) != 2 or sum(by_batch) != 1:
      continue
    if node.op in tensors.MERGES:  # It has no predicate; its branches do.
      choice = _branch_of(branches[by_batch.index(True)])
    else:
      choice = Choice(node.inputs[0], by_batch[0])
    if choice:
      return choice
  return None


def _branch_of(tensor):
  """Choice of the branch of tf.cond in which a tensor is made, or None."""

  def before(tensor):
    node = tensor.node
    if node.op in tensors.MERGES:  # What is chosen there is settled there.
      return []
    return node.inputs + [Tensor(control, 0) for control in node.controls]

  for node, index in walk([tensor], before):
    if node.op in tensors.SWITCHES:
      return None if _of_loop(node) else Choice(node.inputs[1], index == 1)
  return None


def _all_of_batch(tensor):
  """Whether no variable is in a value."""
  return not batch_statistics.composition(tensor).variables


def behind(view, tensor, following):
  """Choice that a normalised tensor goes into one branch of, or None.

  Keras normalises by the batch whatever the phase, and then chooses between
  that and what is normalised by stored statistics.

  Args:
    view: GraphView.
    tensor: Tensor, the normalised one or one on the way to it.
    following: function of a Node, whether the normalisation goes on there.
  """
  choices = set()

  def after(at):
    found = []
    for reader in view.readers[at.node]:
      if reader in view.backward or reader.op in _ASIDE:
        continue
      if _only_watches(view, reader):
        continue
      places = [k for k, t in enumerate(reader.inputs) if t == at]
      if reader.op in tensors.SWITCHES and places == [0]:
        choices.update(_taken_branches(view, reader))
      elif reader.op in _SELECTS and places in ([1], [2]):
        choices.add(Choice(reader.inputs[0], places == [1]))
      elif reader.op in _IFS and places and 0 not in places:
        choices.add(_returning_branch(reader, at))
      elif places and following(reader):
        found.append(Tensor(reader, 0))
      elif places:
        choices.add(None)  # Whatever a phase says.
    return found

  for _ in walk([tensor], after):
    pass
  return choices.pop() if len(choices) == 1 else None


def _only_watches(view, node):
  """Whether a node leads to little, and to nothing that is trained.

  To summaries, say, or to what nobody reads; where something is chosen on the
  way by more than sizes, as tf.nn.zero_fraction does, to summaries alone.
  """
  chosen = ends = False
  following = lambda at: () if at.op in _ASIDE else view.readers[at]
  for count, at in enumerate(walk([node], following)):
    if at in view.backward or count > _MAX_WATCHERS:
      return False
    chosen |= at.op in _CHOOSING and not _by_sizes(at)
    ends |= not following(at) and at.op not in _ASIDE and 'Summary' not in at.op
  return not (chosen and ends)


def _by_sizes(node):
  """Whether what chooses is made of the sizes of tensors and constants."""

  def before(at):
    return [] if at.node.op in _ASIDE else at.node.inputs

  predicate = node.inputs[1 if node.op in tensors.SWITCHES else 0]
  return all(
    before(at) or at.node.op in _ASIDE + ('Const',)
    for at in walk([predicate], before)
  )


def _taken_branches(view, switch):
  """Choices of the branches that use what a Switch hands on; None: a loop."""
  if _of_loop(switch):
    return {None}
  return {
    Choice(switch.inputs[1], tensor.index == 1)
    for reader in view.readers[switch]
    for tensor in reader.inputs
    if tensor.node is switch and _is_use(view, reader)
  }


def _is_use(view, reader):
  """Whether a reader in a branch is more than a gradient's look at a shape."""

  def after(node):
    return view.readers[node] if node.op == 'Identity' else []

  return any(
    at.op not in _ASIDE + ('Identity',) and at not in view.backward
    for at in walk([reader], after)
  )


def _returning_branch(call, tensor):
  """Choice of the only branch of an If that returns a tensor as it is."""
  returns = [
    any(tensor in set(walk([r], _handed_in)) for r in results)
    for results in call.results
  ]
  if len(returns) != 2 or sum(returns) != 1:
    return None
  return Choice(call.inputs[0], returns[0])


def _handed_in(tensor):
  passes = tensor.node.op in ('Identity', '_Arg')
  return tensor.node.inputs[:1] if passes else []
