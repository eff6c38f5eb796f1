"""Which checkpoint of a directory to use."""

from __future__ import annotations

import contextlib
import os
from typing import NamedTuple

from absl import logging
import tensorflow.compat.v1 as tf

from graph_resnet9 import errors
from graph_resnet9.checkpoints import names
from graph_resnet9.checkpoints import reader
from graph_resnet9.errors import UserError


class Whole(NamedTuple):
  """A checkpoint that was read from end to end.

  prefix: of its files.
  shapes: {name: list of ints} of what it holds.
  damaged: (prefix, reason) of those that would have come first.
  """

  prefix: str
  shapes: dict[str, list[int]]
  damaged: list[tuple[str, str]]


def prefix_of(path: str) -> str:
  """The checkpoint prefix behind a directory, a prefix or an .index file.

  Of a directory the newest one, as of `newest`; of checkpoints with other names
  than those of graph_resnet9.train that which the state file names.

  Raises:
    UserError: there is no checkpoint.
  """
  if os.path.isdir(path):
    prefix = names.foreign(path) or newest(path)
    if prefix is None:
      raise UserError(
        '--checkpoint=%s: no checkpoint in this directory%s'
        % (path, _instead(path))
      )
    return prefix
  prefix = path[: -len('.index')] if path.endswith('.index') else path
  if not os.path.exists(prefix + '.index'):
    later = names.after(prefix)
    if later:
      raise UserError(
        '--checkpoint=%s: superseded: the training in this directory has '
        'deleted it; the newest is %s' % (path, later[-1])
      )
    raise UserError(
      '--checkpoint=%s: no such checkpoint; give a train_dir, a '
      'prefix like %s-97, or its .index file' % (path, names.NAME)
    )
  return prefix


def _instead(folder: str) -> str:
  """What to give where a directory has checkpoints, but no state file."""
  others = sorted(
    name[: -len('.index')]
    for name in os.listdir(folder)
    if name.endswith('.index')
  )
  return (
    ' whose name is known; give the prefix of one, such as '
    + os.path.join(folder, others[-1])
    if others
    else ''
  )


def newest(train_dir: str) -> str | None:
  """The prefix of the newest checkpoint in a train_dir.

  That is the one the `checkpoint` state file names. Where that file is missing
  or damaged, TensorFlow would start again at step 0 without a word; here the
  newest of the checkpoint files is taken, with a warning.

  Returns:
    The prefix, or None if there is no checkpoint and no trace of one.
  Raises:
    UserError: there are traces of checkpoints, but no checkpoint; or those of
      another program.
  """
  state_file = os.path.join(train_dir, names.STATE)
  # In this order: a training may save in between.
  named = names.named(train_dir)[:1]
  there = names.by_step(train_dir)
  if named and named[0] in there:
    return named[0]
  foreign = names.foreign(train_dir)
  if foreign:
    raise UserError(
      '%s: names %s, a checkpoint of another program; give another '
      '--train_dir' % (state_file, os.path.basename(foreign))
    )
  if there:
    logging.warning(
      '%s: missing, damaged, or naming a checkpoint that is not '
      'there; using the newest one, %s',
      state_file,
      there[-1],
    )
    return there[-1]
  if os.path.exists(state_file):
    raise UserError(
      '%s: names no checkpoint that exists; restore its files, '
      'or give another --train_dir to start anew' % state_file
    )
  # Of step 0, before the first state file: what a kill left of the first save.
  rest = sorted(name for step, name in names.parts(train_dir) if step)
  if rest:
    raise UserError(
      '%s: of a checkpoint without its .index file; restore it, '
      'or give another --train_dir to start anew'
      % os.path.join(train_dir, rest[0])
    )
  return None


def newest_whole(train_dir: str, prefix: str) -> Whole:
  """The newest checkpoint that can be read.

  Args:
    train_dir: directory.
    prefix: what `newest` says.
  Raises:
    UserError: all are damaged, or not readable for this user.
  """
  others = [p for p in names.by_step(train_dir) if p != prefix]
  damaged: list[tuple[str, str]] = []
  for candidate in [prefix, *reversed(others)]:
    try:
      return Whole(candidate, reader.read(candidate), damaged)
    except reader.Damaged as e:
      damaged.append((candidate, str(e)))
  raise UserError(
    '--train_dir=%s: every checkpoint is damaged: %s; restore one, or give '
    'another --train_dir to start anew'
    % (
      train_dir,
      ', '.join(
        '%s (%s)' % (os.path.basename(p), reason) for p, reason in damaged
      ),
    )
  )


def adopt(train_dir: str, whole: Whole | None) -> None:
  """Makes a checkpoint the one that a session restores from train_dir.

  A session reads the state file; it is written anew, with the older checkpoints
  that it named, so that the saver goes on deleting the oldest. Those that it
  did not name somebody else put there: they stay. Damaged checkpoints get names
  under which nobody takes them for checkpoints. What killed saves left is
  removed.

  Args:
    train_dir: directory.
    whole: None in a run that begins.
  Raises:
    UserError: the disk refuses.
  """
  state_file = os.path.join(train_dir, names.STATE)
  try:
    names.remove_leftovers(train_dir)
    if not whole:
      return
    known = names.named(train_dir)
    for prefix, reason in whole.damaged + [
      (prefix, 'its .index file is missing')
      for prefix in names.without_index(train_dir)
    ]:
      logging.warning(
        '%s: damaged checkpoint (%s); going on from %s. Its files are kept '
        'as %s.*',
        prefix,
        reason,
        whole.prefix,
        names.set_aside(prefix),
      )
    if os.path.isdir(state_file):
      logging.warning(
        '%s: a directory; kept as %s', state_file, names.set_aside(state_file)
      )
    older = [
      prefix
      for prefix in names.before(whole.prefix)
      if prefix in known or not known
    ]
    # Relative names, as the saver writes them with save_relative_paths.
    relative = [os.path.basename(prefix) for prefix in [*older, whole.prefix]]
    tf.train.update_checkpoint_state(train_dir, relative[-1], relative)
  except (OSError, tf.errors.OpError) as e:
    raise UserError(
      '--train_dir=%s: cannot be written: %s' % (train_dir, errors.line(e))
    ) from None


def not_saved(train_dir: str, error: Exception) -> UserError:
  """The UserError of a save that failed; removes what that has left.

  Half a checkpoint would keep a full disk full.
  """
  with contextlib.suppress(OSError):
    names.remove_leftovers(train_dir)
  return UserError(
    '--train_dir=%s: cannot save a checkpoint: %s'
    % (train_dir, errors.line(error))
  )
