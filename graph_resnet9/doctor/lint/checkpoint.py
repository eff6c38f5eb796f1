"""Static check of a checkpoint beside its graph: are the statistics in it?"""

import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.graph import program as program_lib
from graph_resnet9.doctor.graph import view as graph_view
from graph_resnet9.doctor.lint import findings
from graph_resnet9.doctor.measure import verdicts as judge
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
  keys = program_lib.checkpoint_names(program)
  step_name = program.global_step or tf.GraphKeys.GLOBAL_STEP
  step = (
    int(values.get_tensor(step_name)) if values.has_tensor(step_name) else None
  )
  lacking, initial, slow = [], [], []
  for layer in found.layers:
    if found.steps and not found.trained_sites(layer):
      continue  # Frozen, in training as in evaluation.
    for k, v in enumerate(layer.stored):
      if v.name in explained:
        continue
      key = keys.get(v.name, v.name)
      if not values.has_tensor(key):
        lacking.append(v)
        continue
      value = values.get_tensor(key)
      # tf.train.ExponentialMovingAverage begins with 0 for a variance, too.
      at_start = (0,) if k < len(layer.means) else (0, 1)
      if step != 0 and any((value == x).all() for x in at_start):
        initial.append((layer, v))
        continue
      left = found.initial_share(layer, v, step) if step else None
      if left is not None and left > judge.MOST_INITIAL:
        slow.append(
          (
            left,
            next(
              u
              for u in layer.updates
              if u.variable is v and u.node in found.reached
            ),
          )
        )
  if lacking:
    yield findings.of('checkpoint-lacks-statistics', (), lacking)
  # A mean can be 0 by right: of a layer all must be initial.
  whole = [
    v
    for layer, v in initial
    if sum(other is layer for other, _ in initial) == len(layer.stored)
  ]
  if whole:
    yield findings.of(
      'statistics-still-initial',
      (),
      whole,
      'step %s' % ('unknown' if step is None else step),
    )
  if slow:
    left, update = max(slow, key=lambda pair: pair[0])
    yield findings.of(
      'decay-too-slow',
      [u.node for _, u in slow],
      [u.variable for _, u in slow],
      'decay %.4g, %d steps: %.0f%% of the '
      'initial values are left' % (update.decay, step, 100 * left),
    )


def open_reader(prefix, program):
  """A reader of a checkpoint that holds the variables of a program.

  Raises:
    UserError: no checkpoint, a damaged one, or one of another graph.
  """
  try:
    reader = tf.train.load_checkpoint(prefix)
    shapes = reader.get_variable_to_shape_map()
    for name in shapes:
      reader.get_tensor(name)
  except (tf.errors.OpError, LookupError, RuntimeError, ValueError) as e:
    raise UserError(
      '--checkpoint=%s: no checkpoint, or a damaged one (%s)'
      % (prefix, str(e).splitlines()[0])
    ) from None
  keys = program_lib.checkpoint_names(program)
  parts = program_lib.checkpoint_slices(program)
  present = 0
  for node in program.trainable:
    key = keys.get(node.name, node.name)
    size = graph_view.shape(graph_view.Tensor(node, 0))
    if key in shapes:
      present += 1
      if size is not None and shapes[key] != size and node.name not in parts:
        raise UserError(
          '--checkpoint=%s: %s is %s there and %s in this graph: the '
          'checkpoint of another graph' % (prefix, key, shapes[key], size)
        )
  if program.trainable and not present:
    raise UserError(
      '--checkpoint=%s: has none of the trainable variables of '
      'this graph: the checkpoint of another graph' % prefix
    )
  return reader
