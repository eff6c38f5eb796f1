"""Checkpoint files: which one to use, and whether it is whole and fits."""

import contextlib
import glob
import os
import re
from typing import NamedTuple

from absl import logging
import tensorflow.compat.v1 as tf

from graph_resnet9.checkpoints import names as checkpoint_files
from graph_resnet9.errors import UserError

NAME = checkpoint_files.NAME


class Whole(NamedTuple):
  """A checkpoint that was read from end to end.

  prefix: of its files.
  shapes: {name: list of ints} of what it holds.
  damaged: (prefix, reason) of those that would have come first.
  """

  prefix: str
  shapes: dict[str, list[int]]
  damaged: list[tuple[str, str]]


def prefix_of(path):
  """The checkpoint prefix behind a train_dir, a prefix or an .index file.

  Raises:
    UserError: there is no checkpoint.
  """
  if os.path.isdir(path):
    prefix = newest(path)
    if prefix is None:
      raise UserError('--checkpoint=%s: no checkpoint in this directory' % path)
    return prefix
  prefix = path.removesuffix('.index')
  if not os.path.exists(prefix + '.index'):
    raise UserError(
      '--checkpoint=%s: no such checkpoint; give a train_dir, a '
      'prefix like %s-97, or its .index file' % (path, NAME)
    )
  return prefix


def newest(train_dir):
  """The prefix of the newest checkpoint in a train_dir.

  That is the one the `checkpoint` state file names. Where that file is missing
  or damaged, TensorFlow would start again at step 0 without a word; here the
  newest of the checkpoint files is taken, with a warning.

  Returns:
    The prefix, or None if there is no checkpoint and no trace of one.
  Raises:
    UserError: there are traces of checkpoints, but no checkpoint.
  """
  state_file = os.path.join(train_dir, checkpoint_files.STATE)
  found = checkpoint_files.by_step(train_dir)
  named = checkpoint_files.named(train_dir)[:1]
  if named and named[0] in found:
    return named[0]
  if found:
    logging.warning(
      '%s: missing, damaged, or naming a checkpoint that is not '
      'there; using the newest one, %s',
      state_file,
      found[-1],
    )
    return found[-1]
  if os.path.exists(state_file):
    raise UserError(
      '%s: names no checkpoint that exists; restore its files, '
      'or empty the directory to start anew' % state_file
    )
  # Of step 0, before the first state file: what a kill left of the first save.
  rest = sorted(
    name for step, name in checkpoint_files.parts(train_dir) if step
  )
  if rest:
    raise UserError(
      '%s: of a checkpoint without its .index file; restore it, '
      'or empty the directory to start anew' % os.path.join(train_dir, rest[0])
    )
  return None


def newest_whole(train_dir, prefix):
  """The newest checkpoint that can be read.

  Args:
    train_dir: directory.
    prefix: what `newest` says.
  Returns:
    Whole.
  Raises:
    UserError: all are damaged, or not readable for this user.
  """
  others = [p for p in checkpoint_files.by_step(train_dir) if p != prefix]
  damaged = []
  for candidate in [prefix, *reversed(others)]:
    try:
      return Whole(candidate, _read(candidate), damaged)
    except _Damaged as e:
      damaged.append((candidate, str(e)))
  raise UserError(
    '--train_dir=%s: every checkpoint is damaged: %s; restore one, or empty '
    'the directory to start anew'
    % (
      train_dir,
      ', '.join(
        '%s (%s)' % (os.path.basename(p), reason) for p, reason in damaged
      ),
    )
  )


def adopt(train_dir, whole):
  """Makes a checkpoint the one that a session restores from train_dir.

  A session reads the state file; it is written anew, with the older checkpoints
  in it, so that the saver goes on deleting the oldest. Damaged checkpoints get
  names under which nobody takes them for checkpoints. What killed saves left is
  removed.

  Args:
    train_dir: directory.
    whole: Whole, or None in a run that begins.
  Raises:
    UserError: the disk refuses.
  """
  state_file = os.path.join(train_dir, checkpoint_files.STATE)
  try:
    checkpoint_files.remove_leftovers(train_dir)
    if not whole:
      return
    for prefix, reason in whole.damaged + [
      (prefix, 'its .index file is missing')
      for prefix in checkpoint_files.without_index(train_dir)
    ]:
      logging.warning(
        '%s: damaged checkpoint (%s); going on from %s. Its files are kept '
        'as %s.*',
        prefix,
        reason,
        whole.prefix,
        checkpoint_files.set_aside(prefix),
      )
    if os.path.isdir(state_file):
      logging.warning(
        '%s: a directory; kept as %s',
        state_file,
        checkpoint_files.set_aside(state_file),
      )
    # Relative names, as the saver writes them with save_relative_paths.
    names = [
      os.path.basename(prefix)
      for prefix in [*checkpoint_files.before(whole.prefix), whole.prefix]
    ]
    tf.train.update_checkpoint_state(train_dir, names[-1], names)
  except (OSError, tf.errors.OpError) as e:
    raise UserError(
      '--train_dir=%s: cannot be written: %s' % (train_dir, _line(e))
    ) from None


def not_saved(train_dir, error):
  """The UserError of a save that failed; removes what that has left.

  Half a checkpoint would keep a full disk full.
  """
  with contextlib.suppress(OSError):
    checkpoint_files.remove_leftovers(train_dir)
  return UserError(
    '--train_dir=%s: cannot save a checkpoint: %s' % (train_dir, _line(error))
  )


class _Damaged(Exception):
  """The reason why a checkpoint cannot be read, in one line."""


def _read(prefix):
  """Reads a checkpoint from end to end.

  Without this, a damaged file surfaces as an OutOfRangeError that reads like
  the end of the data.

  Returns:
    {name: list of ints} of what it holds.
  Raises:
    _Damaged: a part is damaged or missing.
    UserError: a part is there, and the system does not let us read it.
  """
  for path in glob.glob(glob.escape(prefix) + '.[id]*'):  # index, data
    try:
      with contextlib.suppress(FileNotFoundError), open(path, 'rb') as f:
        f.read(1)
    except OSError as e:
      raise UserError('%s: cannot be read: %s' % (path, e.strerror)) from None
  try:
    reader = tf.train.load_checkpoint(prefix)
    found = reader.get_variable_to_shape_map()
    for name in found:
      reader.get_tensor(name)
  # DataLossError, NotFoundError, ...; the reader's C++ part raises Python's:
  # IndexError "Read less bytes than requested", ValueError, RuntimeError, and
  # MemoryError for an index that begins with a size which it does not have.
  except (
    tf.errors.OpError,
    LookupError,
    MemoryError,
    RuntimeError,
    ValueError,
  ) as e:
    raise _Damaged(_line(e)) from None
  return found


def _line(error):
  """The line of an exception's text that says what happened."""
  text = (
    getattr(error, 'strerror', None)
    or getattr(error, 'message', None)
    or str(error)
  ).strip() or type(error).__name__
  # Of an op, TensorFlow first tells where it was defined and where it ran.
  lines = [
    line.strip()
    for line in text.splitlines()
    if not re.match(
      r"\s*(Graph execution error|Detected at|File \"|Node: '|From /job:|"
      r'\d+ root error|$)',
      line,
    )
  ]
  return lines[0] if lines else text.splitlines()[0]


def shapes(prefix):
  """Reads a checkpoint from end to end.

  Returns:
    {name: list of ints} of what it holds.
  Raises:
    UserError: a file is damaged; names the checkpoint before this one.
  """
  try:
    return _read(prefix)
  except _Damaged as e:
    before = checkpoint_files.before(prefix)
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


def check(prefix, found, variables):
  """Raises UserError where a checkpoint does not fit to what restores it.

  TensorFlow would print a page of graph nodes.

  Args:
    prefix: of the checkpoint.
    found: what it holds, as of `shapes`.
    variables: {name in the checkpoint: variable}.
  """
  for name, variable in variables.items():
    shape = variable.shape.as_list()
    if name not in found:
      raise UserError(
        '%s: holds no variable %s: the checkpoint of another network, or of '
        'other flags of the model' % (prefix, name)
      )
    if found[name] != shape:
      raise UserError(
        '%s: %s is %s there and %s in this graph: the checkpoint of another '
        'network, or of another --width' % (prefix, name, found[name], shape)
      )
