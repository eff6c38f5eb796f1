"""Checkpoint files: which one to use, and whether it is whole and fits."""

import os
import re
import shutil

from absl import logging
import tensorflow.compat.v1 as tf

from graph_resnet9.errors import UserError

NAME = 'model.ckpt'
_INDEX = re.compile(re.escape(NAME) + r'-(\d+)\.index')


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
    raise UserError('--checkpoint=%s: no such checkpoint; give a train_dir, a '
                    'prefix like %s-97, or its .index file' % (path, NAME))
  return prefix


def newest(train_dir):
  """The prefix of the newest checkpoint in a train_dir.

  That is the one the `checkpoint` state file names. Where that file is missing
  or damaged, TensorFlow would start again at step 0 without a word; here the
  newest of the checkpoint files is taken, with a warning.

  Returns:
    The prefix, or None if there is no checkpoint and no trace of one.
  Raises:
    UserError: the state file is there, but no checkpoint.
  """
  state_file = os.path.join(train_dir, 'checkpoint')
  found = _by_step(train_dir)
  try:
    state = tf.train.get_checkpoint_state(train_dir)
    # Whatever its directory: a copied train_dir must not use its original.
    named = state and os.path.join(
        train_dir, os.path.basename(state.model_checkpoint_path))
  except ValueError:  # An empty state file.
    named = None
  if named in found:
    return named
  if found:
    logging.warning('%s: missing, damaged, or naming a checkpoint that is not '
                    'there; using the newest one, %s', state_file, found[-1])
    return found[-1]
  if os.path.exists(state_file):
    raise UserError('%s: names no checkpoint that exists; restore its files, '
                    'or empty the directory to start anew' % state_file)
  return None


def _by_step(train_dir):
  """Prefixes of the checkpoints in train_dir, oldest first."""
  matches = filter(None, map(_INDEX.fullmatch, os.listdir(train_dir)))
  steps = sorted(int(match.group(1)) for match in matches)
  return [os.path.join(train_dir, '%s-%d' % (NAME, step)) for step in steps]


def adopt(train_dir, prefix):
  """Makes `prefix` the one that a session restores from train_dir.

  A session reads the state file; it is written anew, with the older checkpoints
  in it, so that the saver goes on deleting the oldest. What killed saves left
  is removed.
  """
  for name in os.listdir(train_dir):
    if name.startswith(NAME + '-') and name.endswith('_temp'):
      shutil.rmtree(os.path.join(train_dir, name))
  if prefix:
    found = _by_step(train_dir)
    names = [os.path.basename(p) for p in found[:found.index(prefix) + 1]]
    # Relative names, as the saver writes them with save_relative_paths.
    tf.train.update_checkpoint_state(train_dir, names[-1], names)


def shapes(prefix):
  """Reads a checkpoint from end to end.

  Without this, a damaged file surfaces as an OutOfRangeError that reads like
  the end of the data.

  Returns:
    {name: list of ints} of what it holds.
  Raises:
    UserError: a file is damaged.
  """
  try:
    reader = tf.train.load_checkpoint(prefix)
    found = reader.get_variable_to_shape_map()
    for name in found:
      reader.get_tensor(name)
  # DataLossError, NotFoundError, ...; the reader's C++ part raises Python's:
  # IndexError "Read less bytes than requested", ValueError, RuntimeError.
  except (tf.errors.OpError, LookupError, RuntimeError, ValueError) as e:
    raise UserError(
        '%s: damaged checkpoint (%s); delete its files to go on from the one '
        'before, if any' % (prefix, str(e).splitlines()[0])) from None
  return found


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
          'other flags of the model' % (prefix, name))
    if found[name] != shape:
      raise UserError(
          '%s: %s is %s there and %s in this graph: the checkpoint of another '
          'network, or of another --width' %
          (prefix, name, found[name], shape))
