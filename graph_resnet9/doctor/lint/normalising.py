"""Rules on what layers normalise by, and on what is kept of it."""

from graph_resnet9.doctor.graph import programs
from graph_resnet9.doctor.graph import shapes
from graph_resnet9.doctor.graph import tensors
from graph_resnet9.doctor.lint import findings
from graph_resnet9.doctor.lint import restoring
from graph_resnet9.doctor.lint import running
from graph_resnet9.doctor.lint import step_states
from graph_resnet9.doctor.lint.step_states import Updates

# Fewer values than this a statistic is an estimate of no use: the standard
# deviation of 16 is off by a sixth.
FEW_VALUES = 16
# PyTorch's momentum is 0.1, TensorFlow's decays are 0.9 and more.
LEAST_DECAY = 0.5


def never(found, states):
  """Layers whose gamma and beta are trained, and that never see a batch."""
  trained = step_states.trained_variables(found) if found.steps else ()
  layers = [
    state.layer
    for state in states
    if state.updates is Updates.NOT_TRAINED
    and never_by_the_batch(found, state.layer, trained)
  ]
  missed = _missed_by_default(found, layers)
  if missed:
    yield findings.of(
      'updates-not-run',
      [u.node for u in missed],
      [u.variable for u in missed],
      'with %s fed; without, nothing is ever normalised'
      % _by_default(found, layers)[0],
    )
  told = {u.variable for u in missed}
  layers = [layer for layer in layers if not told & set(layer.stored)]
  if layers:
    yield _frozen_or_forgotten(found, layers)


def _missed_by_default(found, layers):
  """Updates in UPDATE_OPS, for a step to run whose phase somebody feeds."""
  layers = [layer for layer in layers if _by_default(found, [layer])]
  if not layers:
    return []
  collected = found.view.ancestors(found.program.update_ops)
  return [u for layer in layers for u in layer.updates if u.node in collected]


def _frozen_or_forgotten(found, layers):
  """The finding on layers that go by what is stored: is it ever restored?"""
  stored = [v for layer in layers for v in layer.stored]
  unused = running.unused_flags(found.view)
  detail = ['nothing uses the placeholder ' + node.name for node in unused[:1]]
  if any(layer.updates for layer in layers):
    detail += [
      'unless %s is fed; no step runs the updates then' % name
      for name in _by_default(found, layers)[:1]
    ]
  code = 'frozen-or-forgotten'
  if not restoring.may_be_restored(found, stored):
    code = 'never-by-batch'
    detail.append('nothing sets them but a checkpoint of such a training')
  return findings.of(
    code,
    [s.node for layer in layers for s in step_states.used_sites(found, layer)],
    stored,
    '; '.join(detail),
  )


def _by_default(found, layers):
  """Names of placeholders at whose defaults layers use stored statistics."""
  return sorted(
    {
      source.node.name
      for layer in layers
      for site in step_states.used_sites(found, layer)
      if site.choice
      for source in tensors.sources(site.choice.predicate)
      if source.node.op == 'PlaceholderWithDefault'
    }
  )


def frozen(found, states):
  """Frozen layers that go by the batch where a phase is fed.

  Of a graph in which nothing worse is said of updates.
  """
  if not found.steps or any(
    state.missing or state.updates is Updates.NONE for state in states
  ):
    return
  trained = step_states.trained_variables(found)
  layers = [
    state.layer
    for state in states
    if state.updates is Updates.NOT_TRAINED
    and any(site.gamma or site.beta for site in state.layer.sites)
    and not step_states.scale_is_trained(state.layer, trained)
    and state.layer.updates
    and not any(u.node in found.reached for u in state.layer.updates)
    and _by_default(found, [state.layer])
  ]
  if layers:
    yield findings.of(
      'frozen-by-batch',
      [
        s.node for layer in layers for s in step_states.used_sites(found, layer)
      ],
      [v for layer in layers for v in layer.stored],
      'with %s fed' % _by_default(found, layers)[0],
    )


def never_by_the_batch(found, layer, trained):
  """Whether a step trains a layer that normalises by what nothing updates.

  Args:
    found: anatomy.Anatomy. layer: anatomy.Layer of it.
    trained: as of states.trained_variables.
  """
  return (
    bool(layer.stored)
    and bool(step_states.used_sites(found, layer))
    and not found.trained_sites(layer)
    and step_states.scale_is_trained(layer, trained)
    and not any(u.node in found.reached for u in layer.updates)
  )


def unused_flag(found, states):
  """A placeholder for the phase that nothing uses, and nothing else is said."""
  sites = [s for state in states for s in state.layer.sites]
  decided = all(s.by_batch and not s.choice for s in sites)
  fine = all(
    state.updates in (Updates.ALL, Updates.NOT_TRAINED) for state in states
  )
  unused = running.unused_flags(found.view) if decided and fine else ()
  if unused:
    yield findings.of('training-flag-unused', unused, ())


def evaluation(found, states):
  """Batch statistics where nothing is trained."""
  if found.steps or found.gradients:
    return
  by_batch = [
    (site, state.layer)
    for state in states
    for site in state.layer.sites
    if site.by_batch and site.decided
  ]
  if by_batch:
    yield findings.of(
      'evaluation-by-batch-statistics',
      [site.node for site, _ in by_batch],
      [v for _, layer in by_batch for v in layer.stored],
    )


def values(found, states):
  """Statistics of one example, or of few values."""
  single, few = [], []
  for site in (s for state in states if found.steps for s in state.sites):
    size = shapes.shape(site.x)
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


def decays(found):
  """Decays as of PyTorch's momentum."""
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


def saver(found):
  """Statistics that something changes, and the saver leaves out."""
  saved = programs.checkpoint_names(found.program)
  trainable = {node.name for node in found.program.trainable}
  if not saved or not trainable & set(saved):
    return
  missing = [
    v
    for layer in found.layers
    for v in layer.stored
    if v.name not in saved
    and (not found.steps or any(u.variable is v for u in layer.updates))
  ]
  if missing:
    yield findings.of('statistics-not-saved', found.program.savers, missing)
