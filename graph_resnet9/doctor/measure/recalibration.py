"""Recalibration: statistics of the population into a new checkpoint."""

import glob
import os
import shutil
import tempfile

import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.graph import program as program_lib
from graph_resnet9.doctor.lint import checkpoint as lint_checkpoint
from graph_resnet9.doctor.measure import moments
from graph_resnet9.doctor.measure import session as subject_lib
from graph_resnet9.doctor.measure import taps as tap_lib
from graph_resnet9.errors import UserError


def statistics(session, subject, count):
  """Population statistics of all layers that use those of the batch.

  The weights stay as they are and the layers before normalise by the statistics
  of each batch, as in training: Wu & Johnson 2021, arXiv 2105.07576, section
  3.2 ("precise batch norm"). Every value counts once, whatever batch it comes
  in, and all calls of a layer count together.

  Args:
    session: tf.Session as of subject.restored.
    subject: subject.Subject, with its taps not yet made.
    count: int, batches at most.
  Returns:
    ({name of a variable: array of its shape and dtype}, batches run).
  Raises:
    UserError: a layer has no variables, or something is not finite.
  """
  tapped = tap_lib.taps(subject, frozen=False)
  for tap in tapped:
    if not tap.stored:
      raise UserError(
        'layer %s: has no moving statistics in this graph that '
        'could be recalibrated' % tap.layer.name
      )
  totals = [moments.Moments(0, np.float64(0), np.float64(0)) for _ in tapped]
  done = 0
  for batch in tap_lib.run(session, subject, tapped, count):
    totals = [
      moments.merged([total] + [call.moments for call in calls])
      for total, calls in zip(totals, batch)
    ]
    done += 1
  found = {}
  for tap, total in zip(tapped, totals):
    for variable, value in zip(tap.stored, (total.mean, total.variance)):
      if variable.shape.num_elements() != value.size:
        raise UserError(
          'layer %s: %s has %s elements and its input %d '
          'channels'
          % (
            tap.layer.name,
            variable.op.name,
            variable.shape.num_elements(),
            value.size,
          )
        )
      with np.errstate(over='ignore'):  # Told below.
        value = value.astype(variable.dtype.base_dtype.as_numpy_dtype)
      if not np.isfinite(value).all():
        raise UserError('%s: its statistics are not finite' % variable.op.name)
      found[variable.op.name] = value.reshape(variable.shape.as_list())
  return found, done


def recalibrate(subject, prefix, out, count):
  """Writes a checkpoint that differs from `prefix` in the statistics alone.

  Statistics that the checkpoint lacks are added under the variables' names.

  Args:
    subject: subject.Subject.
    prefix, out: prefixes of checkpoints.
    count: int, batches at most.
  Returns:
    ({name of a variable: array}, batches run).
  Raises:
    UserError: as `statistics`, or `out` exists or cannot be written; nothing
      is left behind.
  """
  check_out(out)
  with subject_lib.restored(subject, prefix) as session:
    found, done = statistics(session, subject, count)
  program = subject.anatomy.program
  keys = program_lib.checkpoint_names(program)
  reader = lint_checkpoint.open_reader(prefix, program)
  values = {
    name: _array(reader.get_tensor(name))
    for name in reader.get_variable_to_shape_map()
  }
  values.update((keys.get(name, name), value) for name, value in found.items())
  _write(values, prefix, out)
  return found, done


def _array(value):
  """An array of what a reader returns: a lone string comes as bytes."""
  return np.array(value, object) if isinstance(value, bytes) else value


def check_out(out):
  """Raises UserError if a checkpoint `out` exists or cannot be written."""
  folder = os.path.dirname(out) or '.'
  if not os.path.basename(out) or os.path.isdir(out):
    raise UserError(
      '--out=%s: a directory; give a prefix in it, as '
      '%s' % (out, os.path.join(out, 'recalibrated'))
    )
  for path in (
    out + '.index',
    out + '.meta',
    out,
    *glob.glob(glob.escape(out) + '.data-?????-of-?????'),
  ):
    if os.path.lexists(path):
      raise UserError(
        '--out=%s: %s exists; give another prefix, or remove it '
        'first' % (out, path)
      )
  if not os.path.isdir(folder):
    raise UserError('--out=%s: no directory %s' % (out, folder))
  try:
    tempfile.TemporaryFile(dir=folder).close()
  except OSError as e:
    raise UserError(
      '--out=%s: cannot be written: %s' % (out, e.strerror)
    ) from None


def _write(values, prefix, out):
  """Saves tensors by name, and the meta graph if there is one, at once."""
  names = sorted(values)
  try:
    with tempfile.TemporaryDirectory(
      prefix='.recalibrate-', dir=os.path.dirname(out) or '.'
    ) as folder:
      temporary = os.path.join(folder, os.path.basename(out))
      with tf.Graph().as_default(), tf.Session() as session:
        inputs = [
          tf.placeholder(values[name].dtype, values[name].shape)
          for name in names
        ]
        session.run(
          tf.raw_ops.SaveV2(
            prefix=temporary,
            tensor_names=names,
            shape_and_slices=[''] * len(names),
            tensors=inputs,
          ),
          dict(zip(inputs, [values[name] for name in names])),
        )
      if os.path.exists(prefix + '.meta'):
        shutil.copyfile(prefix + '.meta', temporary + '.meta')
      # The index last: without it there is no checkpoint.
      for name in sorted(
        os.listdir(folder), key=lambda name: name.endswith('.index')
      ):
        os.replace(
          os.path.join(folder, name),
          os.path.join(os.path.dirname(out) or '.', name),
        )
  except (OSError, tf.errors.OpError) as e:
    reason = getattr(e, 'strerror', None) or getattr(e, 'message', None) or e
    raise UserError(
      '--out=%s: cannot be written: %s' % (out, str(reason).partition('\n')[0])
    ) from None
