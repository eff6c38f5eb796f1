"""The files of checkpoints in a train_dir, by their names."""

from __future__ import annotations

import os
import re
import shutil

import tensorflow.compat.v1 as tf

from graph_resnet9 import files

NAME = 'model.ckpt'
STATE = 'checkpoint'
# A thousand names have a tenth of it; 2 GB of nothing would take 14 GB.
_STATE_BYTES = 1 << 20
# NAME-STEP.PART
_PART = re.compile(
  re.escape(NAME) + r'-(\d+)\.(index|meta|data-\d{5}-of-\d{5})'
)
# What killed saves leave under names of their own: TensorFlow's saver and its
# atomic_write_string_to_file, and files.replacing.
_TEMPORARY = re.compile(
  r'%s-\d+_temp|%s\.tempstate\d+|(%s-\d+\.meta|%s)\.tmp[0-9a-f]{32}|'
  r'(flags\.txt|metrics\.jsonl)\.tmp'
  % (re.escape(NAME), _PART.pattern, re.escape(NAME), STATE)
)


def parts(train_dir: str) -> list[tuple[int, str]]:
  """(step, file name) of all parts of checkpoints in train_dir."""
  matches = filter(None, map(_PART.fullmatch, os.listdir(train_dir)))
  return [(int(match.group(1)), match.group(0)) for match in matches]


def by_step(train_dir: str) -> list[str]:
  """Prefixes of the checkpoints in train_dir, oldest first."""
  steps = sorted(
    step for step, name in parts(train_dir) if name.endswith('.index')
  )
  return [os.path.join(train_dir, '%s-%d' % (NAME, step)) for step in steps]


def step_of(prefix: str) -> int:
  """The step in the name of a checkpoint of ours."""
  return int(prefix.rpartition('-')[2])


def before(prefix: str) -> list[str]:
  """Prefixes of the checkpoints before this one, oldest first."""
  there = by_step(os.path.dirname(prefix) or '.')
  return there[: there.index(prefix)] if prefix in there else []


def after(prefix: str) -> list[str]:
  """Prefixes of the checkpoints of later steps than this one, oldest first."""
  match = re.fullmatch(re.escape(NAME) + r'-(\d+)', os.path.basename(prefix))
  folder = os.path.dirname(prefix) or '.'
  if not match or not os.path.isdir(folder):
    return []
  step = int(match.group(1))
  return [p for p in by_step(folder) if step_of(p) > step]


def named(train_dir: str) -> list[str]:
  """Prefixes that the state file names, the one to restore first."""
  path = os.path.join(train_dir, STATE)
  try:
    files.check_regular(path)
    state = None
    if os.path.exists(path) and os.path.getsize(path) <= _STATE_BYTES:
      state = tf.train.get_checkpoint_state(train_dir)
  # Not a file; an empty one, or one that is no text.
  except (OSError, ValueError):
    state = None
  # Whatever their directory: a copied train_dir must not use its original.
  return [
    os.path.join(train_dir, os.path.basename(path))
    for path in (
      [state.model_checkpoint_path, *state.all_model_checkpoint_paths]
      if state
      else []
    )
  ]


def foreign(folder: str) -> str | None:
  """The prefix that the state file names, if another program has saved it."""
  for prefix in named(folder)[:1]:
    name = os.path.basename(prefix)
    if not _PART.fullmatch(name + '.index') and os.path.exists(
      prefix + '.index'
    ):
      return prefix
  return None


def remove_leftovers(train_dir: str) -> None:
  """Removes what killed or failed saves left, and nothing else.

  A checkpoint with index and data stays, whoever made it: TensorFlow restores
  it without .meta, too. So does what a kill leaves of the deletion of an old
  one, if that took its .meta only.
  """
  for name in os.listdir(train_dir):
    path = os.path.join(train_dir, name)
    if _TEMPORARY.fullmatch(name):
      if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
      else:
        os.remove(path)
  # A save writes .meta, data and index in this order, then the state file. So
  # what the state file names is no leftover, whatever it lacks.
  keep = named(train_dir)
  there = parts(train_dir)
  complete = {step for step, name in there if name.endswith('.index')}
  for step, name in there:
    prefix = os.path.join(train_dir, '%s-%d' % (NAME, step))
    if prefix not in keep and step not in complete:
      os.remove(os.path.join(train_dir, name))


def without_index(train_dir: str) -> list[str]:
  """Prefixes that the state file names and whose .index file is lost."""
  lost = set(named(train_dir)).difference(by_step(train_dir))
  there = {
    os.path.join(train_dir, '%s-%d' % (NAME, step))
    for step, _ in parts(train_dir)
  }
  return sorted(lost & there)


def set_aside(path: str) -> str:
  """Renames a file, or all parts of a checkpoint, to damaged-NUMBER-NAME.

  There nobody takes it for a checkpoint, and nothing is lost.

  Args:
    path: of a file or directory, or the prefix of a checkpoint.
  Returns:
    What its path, or prefix, is now.
  """
  folder, start = os.path.split(path)
  taken = os.listdir(folder)
  number = 1
  while any(name.startswith('damaged-%d-' % number) for name in taken):
    number += 1
  names = [name for _, name in parts(folder) if name.startswith(start + '.')]
  # The index last: if this is killed, the next start finds the rest again.
  for name in sorted(names, key=lambda name: name.endswith('.index')) or [
    start
  ]:
    os.rename(
      os.path.join(folder, name),
      os.path.join(folder, 'damaged-%d-%s' % (number, name)),
    )
  return os.path.join(folder, 'damaged-%d-%s' % (number, start))
