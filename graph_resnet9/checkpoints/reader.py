"""Checkpoints read from end to end: whether one is whole, and what it holds."""

from __future__ import annotations

from collections.abc import Mapping
import contextlib
import glob

import tensorflow.compat.v1 as tf

from graph_resnet9 import errors
from graph_resnet9 import files
from graph_resnet9.checkpoints import names
from graph_resnet9.errors import UserError

# Larger than any variable here: 2.4 million weights at width 64.
_SPARE_BYTES = 64 << 20


class Damaged(Exception):
  """The reason why a checkpoint cannot be read, in one line."""


def read(prefix: str) -> dict[str, list[int]]:
  """Reads a checkpoint from end to end.

  Without this, a damaged file surfaces as an OutOfRangeError that reads like
  the end of the data.

  Returns:
    {name: shape} of what it holds.
  Raises:
    Damaged: a part is damaged or missing.
    UserError: a part is there, and the system does not let us read it.
  """
  for path in glob.glob(glob.escape(prefix) + '.[id]*'):  # index, data
    try:
      with contextlib.suppress(FileNotFoundError):
        with files.open_regular(path) as f:
          f.read(1)
    except OSError as e:
      raise UserError('%s: cannot be read: %s' % (path, e.strerror)) from None
  try:
    reader = tf.train.load_checkpoint(prefix)
    shapes = reader.get_variable_to_shape_map()
    for name in shapes:
      reader.get_tensor(name)
  except tf.errors.ResourceExhaustedError as e:  # Of this process's limits.
    raise UserError(
      '%s: cannot be read: %s' % (prefix, errors.line(e))
    ) from None
  except MemoryError as e:  # Of a forged index, unless there is none left.
    try:
      bytearray(_SPARE_BYTES)
    except MemoryError:
      raise UserError('%s: not enough memory to read it' % prefix) from None
    raise Damaged(errors.line(e)) from None
  # DataLossError, NotFoundError, ...; the reader's C++ part raises Python's:
  # IndexError "Read less bytes than requested", ValueError, RuntimeError.
  except (tf.errors.OpError, LookupError, RuntimeError, ValueError) as e:
    raise Damaged(errors.line(e)) from None
  return shapes


def shapes(prefix: str, read_by: str = '') -> dict[str, list[int]]:
  """As read, for commands that are given one checkpoint.

  Args:
    prefix: of its files, for messages.
    read_by: prefix to read, if it is another one.
  Raises:
    UserError: a file is damaged; names the checkpoint before this one.
  """
  try:
    return read(read_by or prefix)
  except Damaged as e:
    before = names.before(prefix)
    raise UserError(
      '%s: damaged checkpoint (%s); %s'
      % (
        prefix,
        e,
        'the one before is ' + before[-1]
        if before
        else 'there is none before it',
      )
    ) from None


def check(
  prefix: str,
  stored: Mapping[str, list[int]],
  variables: Mapping[str, tf.Variable],
) -> None:
  """Raises UserError where a checkpoint does not fit to what restores it.

  TensorFlow would print a page of graph nodes.

  Args:
    prefix: of the checkpoint.
    stored: {name: shape} of what it holds.
    variables: {name in the checkpoint: variable}.
  """
  for name, variable in variables.items():
    shape = variable.shape.as_list()
    if name not in stored:
      raise UserError(
        '%s: holds no variable %s: the checkpoint of another network, or of '
        'other flags of the model' % (prefix, name)
      )
    if stored[name] != shape:
      raise UserError(
        '%s: %s is %s there and %s in this graph: the checkpoint of another '
        'network, or of another --width' % (prefix, name, stored[name], shape)
      )
