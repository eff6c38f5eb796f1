"""Static check of a checkpoint beside its graph: are the statistics in it?"""

import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.graph import programs
from graph_resnet9.doctor.graph import shapes
from graph_resnet9.doctor.graph.nodes import Tensor
from graph_resnet9.doctor.lint import findings
from graph_resnet9.doctor.lint import normalising
from graph_resnet9.doctor.lint import step_states
from graph_resnet9.doctor.measure import verdicts
from graph_resnet9.errors import UserError


def statistics(found, prefix, explained):
  """Yields findings.

  Args:
    found: anatomy.Anatomy.
    prefix: of the checkpoint.
    explained: names of variables that other findings account for.
  Raises:
    UserError: as open_reader.
  """
  program = found.program
  values = open_reader(prefix, program)
  keys = programs.checkpoint_names(program)
  step_name = program.global_step or tf.GraphKeys.GLOBAL_STEP
  step = _step(values, keys.get(step_name, step_name))
  trained = step_states.trained_variables(found) if found.steps else ()
  lacking, initial, unseen, slow, broken = [], [], [], [], []
  for layer in found.layers:
    by_batch = not found.steps or found.trained_sites(layer)
    at_start = []
    for k, v in enumerate(layer.stored):
      key = keys.get(v.name, v.name)
      if not values.has_tensor(key):
        if by_batch and v.name not in explained:
          lacking.append(v)
        continue
      value = np.asarray(values.get_tensor(key))
      if _is_broken(value, k >= len(layer.means)):
        broken.append((v, value))
        continue
      # tf.train.ExponentialMovingAverage begins with 0 for a variance, too.
      starts = (0,) if k < len(layer.means) else (0, 1)
      if step != 0 and any((value == x).all() for x in starts):
        at_start.append(v)
      elif by_batch and v.name not in explained:
        left = found.initial_share(layer, v, step) if step else None
        if left is not None and left > verdicts.MOST_INITIAL:
          slow.append((left, _update(found, layer, v)))
    # A mean can be 0 by right: of a layer all must be initial.
    if at_start and len(at_start) == len(layer.stored):
      if _saw_no_batch(found, layer, trained):
        unseen += at_start
      elif by_batch:
        initial += [v for v in at_start if v.name not in explained]
  if broken:
    yield findings.of(
      'statistics-not-finite',
      (),
      [v for v, _ in broken],
      '%s of %s' % (_worst(broken[0][1]), broken[0][0].name),
    )
  if lacking:
    yield findings.of('checkpoint-lacks-statistics', (), lacking)
  at_step = 'step %s' % ('unknown' if step is None else step)
  if unseen:
    yield findings.of('never-by-batch', (), unseen, at_step)
  if initial:
    yield findings.of('statistics-still-initial', (), initial, at_step)
  if slow:
    left, update = max(slow, key=lambda pair: pair[0])
    yield findings.of(
      'decay-too-slow',
      [u.node for _, u in slow],
      [u.variable for _, u in slow],
      'decay %.4g, %d steps: %.0f%% of the '
      'initial values are left' % (update.decay, step, 100 * left),
    )


def _step(values, name):
  """Training steps taken, or None."""
  if not values.has_tensor(name):
    return None
  step = np.asarray(values.get_tensor(name))
  return int(step) if step.size == 1 and step.dtype.kind in 'iu' else None


def _is_broken(value, of_variance):
  if value.dtype.kind in 'iub?':
    return False
  value = value.astype(np.float64)
  return not np.isfinite(value).all() or (of_variance and (value < 0).any())


def _worst(value):
  value = value.astype(np.float64).reshape(-1)
  broken = ~np.isfinite(value)
  if broken.any():
    return '%d of %d values not finite, the first' % (broken.sum(), value.size)
  return '%d of %d values below 0, down to %.3g, the first' % (
    (value < 0).sum(),
    value.size,
    value.min(),
  )


def _update(found, layer, variable):
  return next(
    u
    for u in layer.updates
    if u.variable is variable and u.node in found.reached
  )


def _saw_no_batch(found, layer, trained):
  """Whether initial statistics are what every step normalised a layer by.

  So it is where no step could do anything else; and where the phase is fed or
  set, and no update was ever run that runs when it is True.
  """
  if normalising.never_by_the_batch(found, layer, trained):
    return True
  return (
    step_states.scale_is_trained(layer, trained)
    and any(s.choice for s in step_states.used_sites(found, layer))
    and any(u.node in found.reached for u in layer.updates)
  )


def open_reader(prefix, program):
  """A reader of a checkpoint that holds the variables of a program.

  Raises:
    UserError: no checkpoint, a damaged one, or one of another graph.
  """
  try:
    reader = tf.train.load_checkpoint(prefix)
    sizes = reader.get_variable_to_shape_map()
    for name in sizes:
      reader.get_tensor(name)
  except (tf.errors.OpError, LookupError, RuntimeError, ValueError) as e:
    raise UserError(
      '--checkpoint=%s: no checkpoint, or a damaged one (%s)'
      % (prefix, str(e).splitlines()[0])
    ) from None
  keys = programs.checkpoint_names(program)
  parts = programs.checkpoint_slices(program)
  present = 0
  for node in program.trainable:
    key = keys.get(node.name, node.name)
    size = shapes.shape(Tensor(node, 0))
    if key in sizes:
      present += 1
      if size is not None and sizes[key] != size and node.name not in parts:
        raise UserError(
          '--checkpoint=%s: %s is %s there and %s in this graph: the '
          'checkpoint of another graph' % (prefix, key, sizes[key], size)
        )
  if program.trainable and not present:
    raise UserError(
      '--checkpoint=%s: has none of the trainable variables of '
      'this graph: the checkpoint of another graph' % prefix
    )
  return reader
