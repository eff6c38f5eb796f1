"""Rules on the updates of moving statistics: which run, when, how often."""

from graph_resnet9.doctor.graph import shapes
from graph_resnet9.doctor.graph import tensors
from graph_resnet9.doctor.graph.nodes import Tensor
from graph_resnet9.doctor.graph.walks import walk
from graph_resnet9.doctor.layers import normalisations
from graph_resnet9.doctor.lint import findings
from graph_resnet9.doctor.lint import step_states
from graph_resnet9.doctor.lint.step_states import Updates

# Of assignments that no layer of TensorFlow makes.
_BY_HAND = (
  'with tf.control_dependencies([the assignments]): y = tf.identity(y)  # an '
  'op made inside; to hand on y as it is makes none. If session.run fetches '
  'them beside the train op, say so: --train_op=NAME,NAME'
)
# From an update to the normalisation that waits for it, in Nodes.
_MAX_WALK = 200
# What tf.cond is made of, besides what it chooses from.
_ROUTING = frozenset(tensors.SWITCHES + tensors.MERGES + ('Identity', 'NoOp'))
_IN_LOOP = (
  'with tf.control_dependencies(update_ops): y = tf.identity(y)  # in the body '
  'of the loop, with the update ops made there: nothing outside of it can run '
  'them; updates_collections=None does the same in slim'
)


def updates(found, states):
  """Updates that no step runs, and layers that have none."""
  if not found.steps:
    by_batch = any(s.by_batch for state in states for s in state.layer.sites)
    if found.gradients and by_batch:
      yield findings.of('no-train-op', (), ())
    return
  left = [u for state in states for u in state.missing]
  if left:
    some_run = any(
      state.updates in (Updates.ALL, Updates.PARTLY, Updates.BY_ANOTHER_TOWER)
      for state in states
    )
    loops = step_states.in_loops(found.view)
    mend = ''
    if all(u.node in loops for u in left):
      mend = _IN_LOOP
    elif not any('AssignMovingAvg' in u.node.name for u in left):
      mend = _BY_HAND
    yield findings.of(
      'updates-partly-run' if some_run else 'updates-not-run',
      [u.node for u in left],
      [u.variable for u in left],
      mend=mend,
    )
  losses = [node for node in found.assumed if node.op == 'Identity']
  if losses:
    fetched = found.view.ancestors(losses)
    run = [u for s in states for u in s.layer.updates if u.node in fetched]
    yield findings.of(
      'updates-by-fetch',
      losses,
      [u.variable for u in run],
      'where %s is fetched' % losses[0].name,
    )
  without = [state for state in states if state.updates is Updates.NONE]
  if without:
    unused = unused_flags(found.view)
    yield findings.of(
      'no-updates',
      [site.node for state in without for site in state.sites],
      [v for state in without for v in state.layer.stored],
      'nothing uses the placeholder %s' % unused[0].name if unused else '',
    )


def unused_flags(view):
  """Placeholders of one bool that nothing uses, and that a user made.

  Keras makes one under this name wherever a layer of its own is called.
  """
  return [
    node
    for node in view.nodes.values()
    if node.op == 'Placeholder'
    and node.attr['dtype'].type == 10  # DT_BOOL
    and not shapes.shape(Tensor(node, 0))
    and _chooses_nothing(view, node)
    and node.name.rpartition('/')[2] != 'keras_learning_phase'
  ]


def _chooses_nothing(view, flag):
  """Whether all that a flag leads to is a tf.cond that nobody reads."""
  reached = walk([flag], lambda node: view.consumers[node], budget=None)
  return all(node is flag or node.op in _ROUTING for node in reached)


def in_cond(found):
  """Update ops that the step depends on and that a branch may not run."""
  view = found.view
  merge = lambda node: node.op in tensors.MERGES
  owners = {u.node: u for layer in found.layers for u in layer.updates}
  switches = [node for node in view.nodes.values() if _predicates(node)]
  if not switches:
    return
  live = view.ancestors(found.steps, stop=merge)
  gated = view.descendants(switches, stop=merge)
  conditional = [owners[node] for node in live & gated if node in owners]
  if not conditional:
    return
  # A step that is in the branch itself is there on purpose.
  without = _switches(view, found.steps, lambda node: node in owners)
  inside = [u for u in conditional if not _switches(view, [u.node]) <= without]
  if inside:
    yield findings.of(
      'updates-in-cond', [u.node for u in inside], [u.variable for u in inside]
    )


def _switches(view, nodes, stop=lambda node: False):
  """Predicates that nodes die by: of Switches before any Merge, not loops."""
  dead = view.ancestors(
    nodes, lambda node: stop(node) or node.op in tensors.MERGES
  )
  return {predicate for node in dead for predicate in _predicates(node)}


def _predicates(node):
  """Where a Switch that is no loop's gets its bool from; else nothing."""
  if node.op not in tensors.SWITCHES:
    return []
  predicates = tensors.sources(node.inputs[1])
  if any(p.node.op == 'LoopCond' for p in predicates):
    return []
  return predicates


def in_evaluation(found):
  """Updates that run whichever branch a layer normalises by."""
  always = []
  for layer in found.layers:
    for site in layer.sites:
      if not site.choice or not site.by_batch:
        continue
      if site.choice.is_fixed:
        continue  # There is no evaluation in this graph.
      predicates = set(tensors.sources(site.choice.predicate))
      always += [
        update
        for update in layer.updates
        if update.decay is not None
        and (update.node in found.reached or not found.steps)
        and _comes_with(found.view, layer, site, update)
        and not predicates & _gates(found.view, update.node)
        and not _depends_on(found.view, update.node.inputs[1], predicates)
      ]
  if always:
    yield findings.of(
      'updates-in-evaluation',
      [u.node for u in always],
      [u.variable for u in always],
    )


def _comes_with(view, layer, site, update):
  """Whether who asks for a normalised value runs an update, whatever a phase.

  The value waits for it; or, as the update may be made of the kernel's own
  results, what hands the value to where it is chosen does, beside what is
  normalised by stored statistics.
  """
  if _waits_for(view, site.node, update.node):
    return True
  if all(each.by_batch for each in layer.sites):
    return False
  return any(
    _waits_for(view, node, update.node)
    for node in normalisations.handed_on(view, site)
  )


def _gates(view, node):
  """Predicates of the branches of tf.cond, or of an If, that a node is in."""
  found = _switches(view, [node])
  # What an If gives back is outside of it.
  inside = view.ancestors([node], lambda n: bool(n.results))
  for argument in inside:
    if argument.call and argument.branch.endswith('_branch'):
      call = argument.call
      found.update(tensors.sources(call.inputs[0]))
  return found


def _waits_for(view, node, other):
  """Whether a node waits for another one, a few steps before."""
  seen, waiting = {other}, [other]
  while waiting and len(seen) < _MAX_WALK:
    for consumer in view.consumers[waiting.pop(0)]:
      if consumer is node:
        return True
      if consumer not in seen:
        seen.add(consumer)
        waiting.append(consumer)
  return False


def _depends_on(view, tensor, predicates):
  """Whether one of predicates decides what a value near a tensor is."""
  seen, waiting = set(), [tensor]
  while waiting and len(seen) < _MAX_WALK:
    at = waiting.pop(0)
    if at in seen:
      continue
    seen.add(at)
    node = at.node
    chosen = (
      node.inputs[1:2]
      if node.op in ('Switch', 'RefSwitch')
      else node.inputs[:1]
      if node.op in ('Select', 'SelectV2', 'If', 'StatelessIf')
      else ()
    )
    if at in predicates or any(
      predicates & set(tensors.sources(t)) for t in chosen
    ):
      return True
    if node.op in tensors.MERGES and predicates & _switches(
      view, [t.node for t in node.inputs]
    ):
      return True
    if node.op in _STATISTICS:
      continue
    waiting += node.inputs
  return False


_STATISTICS = ('Mean', 'Sum', 'FusedBatchNorm', 'FusedBatchNormV3')


def several(found):
  """Variables that several calls of a layer update in one step."""
  by_variable = {}
  for layer in found.layers:
    for update in layer.updates:
      if update.node in found.reached:
        by_variable.setdefault(update.variable, []).append(update)
  groups = [
    group
    for group in by_variable.values()
    if len({update.site.node for update in group}) > 1
  ]
  towers = _parts_of_one_batch(found.view) if groups else []
  groups = [g for g in groups if not any(_are_parts(g, t) for t in towers)]
  if groups:
    everything = [update for group in groups for update in group]
    yield findings.of(
      'several-updates-a-step',
      [u.node for u in everything],
      [u.variable for u in everything],
      'up to %d a step' % max(map(len, groups)),
    )


def _parts_of_one_batch(view):
  """What each part of a batch leads to, of all batches that are split.

  Returns:
    list of lists, one a batch, of a set of Nodes for each part.
  """
  parts = {}
  for node in view.nodes.values():
    if node.op in ('Split', 'SplitV'):
      axis = tensors.constant(node.inputs[0 if node.op == 'Split' else 2])
      if axis is not None and axis.size == 1 and axis.item() == 0:
        for consumer in view.consumers[node]:
          for tensor in consumer.inputs:
            if tensor.node is node:
              parts.setdefault(node, {}).setdefault(tensor.index, []).append(
                consumer
              )
    elif node.op in ('StridedSlice', 'Slice'):
      size = shapes.shape(node.inputs[0])
      if size and len(size) > 1 and _takes_examples(node):
        whole = node.inputs[0]
        parts.setdefault(whole, {})[node] = [node]
  return [
    [view.descendants(starts) for starts in of_one.values()]
    for of_one in parts.values()
    if 1 < len(of_one) <= _MAX_TOWERS
  ]


def _takes_examples(node):
  """Whether a slice is of some examples, and not of all, as x[:, k] is."""
  if node.op == 'StridedSlice':
    masks = node.attribute('begin_mask').i & node.attribute('end_mask').i
    return not masks & 1
  begin, size = (tensors.constant(t) for t in node.inputs[1:3])
  if begin is None or size is None or not begin.size or not size.size:
    return True
  return bool(begin.reshape(-1)[0]) or size.reshape(-1)[0] != -1


_MAX_TOWERS = 64


def _are_parts(group, parts):
  """Whether updates are of different parts of one batch, each of one."""
  owners = []
  for node in {update.site.node for update in group}:
    leading = [k for k, reached in enumerate(parts) if node in reached]
    if len(leading) != 1:
      return False
    owners += leading
  return len(set(owners)) == len(owners)


def in_loops(found):
  """Layers whose statistics all iterations of a loop update."""
  loops = step_states.in_loops(found.view)
  if not loops or any(step in loops for step in found.steps):
    return  # Nothing there, or a loop of training steps.
  shared = [
    u
    for layer in found.layers
    for u in layer.updates
    if u.node in loops and u.site.node in loops and u.node in found.reached
  ]
  if shared and found.steps:
    yield findings.of(
      'statistics-shared-by-steps',
      [u.node for u in shared],
      [u.variable for u in shared],
    )
