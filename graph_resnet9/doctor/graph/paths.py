"""Which files a path means: a graph, a checkpoint, a directory with both."""

import glob
import os
import re
from typing import NamedTuple
from typing import Optional

from graph_resnet9.doctor.graph import decoding
from graph_resnet9.errors import UserError

_DATA = re.compile(r'(.*)\.data-\d{5}-of-\d{5}')
_STATE = 'checkpoint'
_STATE_BYTES = 1 << 20
_EVENTS = '*.tfevents.*'


class Files(NamedTuple):
  """What a path means.

  graph: path of the file with the graph; None: the checkpoint has none beside.
  checkpoint: prefix, or None.
  asked: whether the path itself was that of a graph, not of a checkpoint.
  """

  graph: Optional[str]
  checkpoint: Optional[str]
  asked: bool


def find(path, flag=''):
  """Files of a path.

  Args:
    path: of a graph in any form that decoding.read knows; a checkpoint's
      prefix, its .index or a .data file; a directory with a SavedModel,
      checkpoints (the newest one is taken), a graph.pbtxt or an event file.
    flag: what messages put before it, such as '--checkpoint='.
  Raises:
    UserError: nothing of it is there.
  """
  if os.path.isdir(path):
    return _of_directory(path, flag)
  data = _DATA.fullmatch(path)
  if data:
    path = data.group(1)
  elif path.endswith('.index'):
    path = path[: -len('.index')]
  if os.path.exists(path + '.index'):
    return Files(_graph_beside(path), path, False)
  if not os.path.exists(path):
    raise UserError(
      '%s%s: No such file or directory, and no checkpoint of this prefix'
      % (flag, path)
    )
  name = os.path.basename(path)
  if name in (decoding.SAVED_MODEL, decoding.SAVED_MODEL_TEXT):
    return Files(path, _variables(os.path.dirname(path)), True)
  if decoding.is_old_checkpoint(path):
    return Files(_graph_beside(path), path, False)
  prefix = path[: -len('.meta')] if path.endswith('.meta') else ''
  there = prefix and os.path.exists(prefix + '.index')
  return Files(path, prefix if there else None, True)


def _of_directory(path, flag):
  for name in (decoding.SAVED_MODEL, decoding.SAVED_MODEL_TEXT):
    inside = os.path.join(path, name)
    if os.path.exists(inside):
      return Files(inside, _variables(path), True)
  prefix = _newest(path)
  if prefix:
    return Files(_graph_beside(prefix), prefix, False)
  metas = _inside(path, '*.meta')
  graph = metas[-1] if metas else _graph_of(path)
  if graph:
    return Files(graph, None, True)
  raise UserError(
    '%s%s: a directory without a checkpoint, SavedModel, .meta file, '
    'graph.pbtxt or event file; give one that holds one' % (flag, path)
  )


def of_session(named, meta_graph, checkpoint):
  """Files of a command that runs a graph.

  Args:
    named: list of the command's arguments.
    meta_graph, checkpoint: values of these flags, or None; they go before.
  Returns:
    Files with a checkpoint.
  Raises:
    UserError: there is none, or more than one thing is named.
  """
  if len(named) > 1:
    raise UserError('%s: one graph at a time' % ' '.join(named))
  files = find(named[0]) if named else Files(None, None, False)
  if checkpoint:
    of_flag = find(checkpoint, '--checkpoint=')
    graph = files.graph if files.asked else of_flag.graph
    files = Files(graph, of_flag.checkpoint, files.asked)
  if meta_graph:
    graph = find(meta_graph, '--meta_graph=').graph
    files = Files(graph, files.checkpoint, True)
  if not files.checkpoint:
    given = [name for name in (checkpoint, meta_graph, *named) if name]
    raise UserError(
      '%sno checkpoint; give its prefix, its .index file or a directory with '
      'one: --checkpoint=PREFIX' % ''.join('%s: ' % name for name in given[:1])
    )
  return files


def _variables(folder):
  """The prefix of a SavedModel's variables, or None."""
  prefix = os.path.join(folder, 'variables', 'variables')
  return prefix if os.path.exists(prefix + '.index') else None


def _graph_beside(prefix):
  """The file with the graph of a checkpoint, or None."""
  if os.path.exists(prefix + '.meta'):
    return prefix + '.meta'
  return _graph_of(os.path.dirname(prefix) or '.')


def _graph_of(folder):
  """graph.pbtxt in a directory, or the newest event file, or None."""
  text = os.path.join(folder, 'graph.pbtxt')
  if os.path.exists(text):
    return text
  events = _inside(folder, _EVENTS)
  return events[-1] if events else None


def _inside(folder, pattern):
  """Files of a directory by a pattern, the newest last."""
  found = glob.glob(os.path.join(glob.escape(folder), pattern))
  return sorted(filter(os.path.isfile, found), key=os.path.getmtime)


def _newest(folder):
  """The prefix of the newest checkpoint in a directory, or None.

  That is the one that the state file names; a copied directory must not use
  its original.
  """
  state = os.path.join(folder, _STATE)
  if os.path.isfile(state):
    with decoding.opened(state) as f:
      text = f.read(_STATE_BYTES).decode('utf-8', 'replace')
    # In time that grows as the text does, whatever is in it.
    named = re.search(
      r'^[ \t]*model_checkpoint_path[ \t]*:[ \t]*"([^"\n]*)"', text, re.M
    )
    if named:
      prefix = os.path.join(folder, os.path.basename(named.group(1)))
      if os.path.exists(prefix + '.index') or os.path.isfile(prefix):
        return prefix
  indices = _inside(folder, '*.index')
  return indices[-1][: -len('.index')] if indices else None
