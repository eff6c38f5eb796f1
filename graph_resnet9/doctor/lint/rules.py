"""The static check of a graph: what is wrong with its batch normalisation.

Needs neither data nor a session, and nothing of this project in the graph.
"""

from typing import List
from typing import NamedTuple
from typing import Tuple

from graph_resnet9.doctor.graph import program as program_lib
from graph_resnet9.doctor.graph import view as graph_view
from graph_resnet9.doctor.layers import anatomy
from graph_resnet9.doctor.lint import axis_and_loss as lint_losses
from graph_resnet9.doctor.lint import checkpoint as lint_checkpoint
from graph_resnet9.doctor.lint import findings
from graph_resnet9.errors import UserError

# Fewer values than this a statistic is an estimate of no use: the standard
# deviation of 16 is off by a sixth.
FEW_VALUES = 16
# PyTorch's momentum is 0.1, TensorFlow's decays are 0.9 and more.
LEAST_DECAY = 0.5


class Report(NamedTuple):
  """What the static check says.

  findings: list of findings.Finding, errors first.
  layers: int. train_ops, assumed: names of ops, as of anatomy.Anatomy.
  """

  findings: List[findings.Finding]
  layers: int
  train_ops: Tuple[str, ...]
  assumed: Tuple[str, ...]

  @property
  def errors(self):
    return sum(f.severity == findings.ERROR for f in self.findings)

  def summary(self):
    """dict of what was checked and how many findings there are."""
    return dict(
      layers=self.layers,
      train_ops=self.train_ops,
      assumed_to_run=self.assumed,
      errors=self.errors,
      warnings=len(self.findings) - self.errors,
    )

  def __str__(self):
    lines = [str(f) for f in self.findings]
    lines.append(
      '%d layers of batch normalisation; %s'
      % (
        self.layers,
        'train op: ' + findings.listed(self.train_ops)
        if self.train_ops
        else 'no train op: taken for evaluation or export',
      )
    )
    if self.assumed:
      lines.append(
        'taken to be run beside it: '
        + findings.listed(self.assumed)
        + ' (--train_op=NAME,NAME says what a step runs)'
      )
    lines.append(
      'errors: %d, warnings: %d'
      % (self.errors, len(self.findings) - self.errors)
    )
    return '\n'.join(lines)


def lint(found, checkpoint=None):
  """Checks a graph.

  Args:
    found: anatomy.Anatomy of the graph.
    checkpoint: prefix of a checkpoint of this graph, or None.
  Returns:
    Report.
  Raises:
    UserError: no batch normalisation in the graph, or no checkpoint of it.
  """
  if not found.layers:
    raise UserError(
      'no batch normalisation in this graph: nothing is divided '
      'by the root of a variance over the examples'
    )
  rules = [
    _updates(found),
    _in_cond(found),
    _several(found),
    _evaluation(found),
    _values(found),
    _decays(found),
    _saver(found),
    lint_losses.axes(found),
    lint_losses.losses(found),
  ]
  results = [finding for rule in rules for finding in rule]
  if checkpoint:
    results += lint_checkpoint.statistics(
      found,
      checkpoint,
      {
        name
        for finding in results
        for name in finding.variables
        if finding.code
        in (
          'updates-not-run',
          'updates-partly-run',
          'no-updates',
          'statistics-not-saved',
        )
      },
    )
  return Report(
    sorted(results, key=lambda f: f.severity),
    len(found.layers),
    findings.names(found.last_steps),
    findings.names(found.assumed),
  )


def lint_graph(graph, train_ops=(), saver=None, checkpoint=None):
  """`lint` of a tf.Graph.

  Args:
    graph: tf.Graph.
    train_ops: as of anatomy.Anatomy. saver: as of program.of_graph.
    checkpoint: as of lint.
  """
  return lint(
    anatomy.Anatomy(program_lib.of_graph(graph, saver), train_ops), checkpoint
  )


def lint_meta_graph(meta_graph, train_ops=(), checkpoint=None):
  """`lint` of a MetaGraphDef; arguments as of lint_graph."""
  try:
    return lint(
      anatomy.Anatomy(program_lib.of_meta_graph(meta_graph), train_ops),
      checkpoint,
    )
  except ValueError as e:
    raise UserError('damaged graph: %s' % e) from None


# Which updates a step runs.


def _updates(found):
  if not found.steps:
    if found.gradients and any(
      site.by_batch for layer in found.layers for site in layer.sites
    ):
      yield findings.of('no-train-op', (), ())
    return
  some_run, left, without = False, [], []
  for layer in found.layers:
    sites = found.trained_sites(layer)
    if not sites:
      continue
    reached = {u.variable for u in layer.updates if u.node in found.reached}
    own = [u for u in layer.updates if any(u.site is s for s in sites)]
    missing = [u for u in own if u.variable not in reached]
    # Of several towers one may do the updates for all.
    by_another = not own and reached and reached >= set(layer.stored)
    if not own and not by_another:
      without.append((layer, sites))
    left += missing
    some_run = some_run or by_another or len(missing) < len(own)
  if left:
    yield findings.of(
      'updates-partly-run' if some_run else 'updates-not-run',
      [u.node for u in left],
      [u.variable for u in left],
    )
  if without:
    yield findings.of(
      'no-updates',
      [s.node for _, sites in without for s in sites],
      [v for layer, _ in without for v in layer.stored],
    )


def _in_cond(found):
  """Update ops that the step depends on and that a branch may not run."""
  view = found.view
  merge = lambda node: node.op in ('Merge', 'RefMerge')
  live = view.ancestors(found.steps, stop=merge)
  owners = {u.node: u for layer in found.layers for u in layer.updates}
  conditional = [
    owners[node] for node in live if node in owners and _switches(view, [node])
  ]
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
    nodes, lambda node: stop(node) or node.op in ('Merge', 'RefMerge')
  )
  found = set()
  for node in dead:
    if node.op in ('Switch', 'RefSwitch'):
      predicates = graph_view.sources(node.inputs[1])
      if all(p.node.op != 'LoopCond' for p in predicates):
        found.update(predicates)
  return found


def _several(found):
  by_variable = {}
  for layer in found.layers:
    for update in layer.updates:
      if update.node in found.reached:
        by_variable.setdefault(update.variable, []).append(update)
  several = [
    group
    for group in by_variable.values()
    if len({update.site.node for update in group}) > 1
  ]
  if several:
    everything = [update for group in several for update in group]
    yield findings.of(
      'several-updates-a-step',
      [u.node for u in everything],
      [u.variable for u in everything],
      'up to %d a step' % max(map(len, several)),
    )


# By what it normalises.


def _evaluation(found):
  if found.steps or found.gradients:
    return
  sites = [
    site
    for layer in found.layers
    for site in layer.sites
    if site.by_batch and site.decided
  ]
  if sites:
    yield findings.of(
      'evaluation-by-batch-statistics',
      [site.node for site in sites],
      [v for layer in found.layers for v in layer.stored],
    )


def _values(found):
  single, few = [], []
  for layer in found.layers:
    for site in found.trained_sites(layer) if found.steps else ():
      size = graph_view.shape(site.x)
      if not size:
        continue
      if size[0] == 1:
        single.append(site)
      elif site.values and site.values < FEW_VALUES:
        few.append(site)
  if single:
    yield findings.of('single-example', [site.node for site in single], ())
  if few:
    yield findings.of(
      'few-values',
      [site.node for site in few],
      (),
      'down to %d' % min(site.values for site in few),
    )


def _decays(found):
  small = [
    u
    for layer in found.layers
    for u in layer.updates
    if u.decay is not None
    and u.decay < LEAST_DECAY
    and (u.node in found.reached or not found.steps)
  ]
  if small:
    yield findings.of(
      'decay-like-pytorch',
      [u.node for u in small],
      [u.variable for u in small],
      'decay %.3g' % min(u.decay for u in small),
    )


# What is kept of it.


def _saver(found):
  saved = program_lib.checkpoint_names(found.program)
  trainable = {node.name for node in found.program.trainable}
  if not saved or not trainable & set(saved):
    return
  missing = [
    v for layer in found.layers for v in layer.stored if v.name not in saved
  ]
  if missing:
    yield findings.of('statistics-not-saved', found.program.savers, missing)
