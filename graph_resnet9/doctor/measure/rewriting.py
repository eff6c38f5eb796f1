"""A checkpoint again, with some of its values replaced."""

import glob
import os
import shutil
import tempfile

import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.graph import programs
from graph_resnet9.doctor.lint import saved_statistics
from graph_resnet9.errors import UserError


def rewrite(program, prefix, out, values):
  """Writes a checkpoint that differs from `prefix` in `values` alone.

  What the checkpoint lacks is added under the variables' names.

  Args:
    program: programs.Program of its graph.
    prefix, out: prefixes of checkpoints.
    values: {name of a variable: array}.
  Raises:
    UserError: `out` cannot be written; nothing is left behind.
  """
  keys = programs.checkpoint_names(program)
  reader = saved_statistics.open_reader(prefix, program)
  tensors = {
    name: _array(reader.get_tensor(name))
    for name in reader.get_variable_to_shape_map()
  }
  tensors.update((keys.get(name, name), v) for name, v in values.items())
  _write(tensors, prefix, out)


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
