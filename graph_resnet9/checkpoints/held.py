"""A checkpoint that stays while it is read, although a training deletes it."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import glob
import os
import shutil
from typing import NamedTuple

from graph_resnet9 import files
from graph_resnet9.checkpoints import choose
from graph_resnet9.checkpoints import reader
from graph_resnet9.errors import UserError

# A training would have to save while each of them is opened.
_ATTEMPTS = 100


class Held(NamedTuple):
  """A checkpoint whose files are open.

  prefix: of its files, for messages; they may be gone.
  files: prefix to read it by.
  """

  prefix: str
  files: str


@contextlib.contextmanager
def held(path: str, check: bool = True) -> Iterator[Held]:
  """Opens a checkpoint, so that nobody takes it away.

  A training keeps its newest checkpoints and deletes the others. What is open
  stays; so the files are opened, and links to the open files are what is read.
  That also frees TensorFlow from names with [ or \\ in them, which it takes for
  patterns.

  Args:
    path: a train_dir (its newest checkpoint), a prefix or an .index file.
    check: read it from end to end first, as reader.shapes.
  Yields:
    Held.
  Raises:
    UserError: there is no checkpoint, or a damaged one. In errors from inside
      the name for reading is replaced by the prefix.
  """
  with files.scratch_dir() as scratch, contextlib.ExitStack() as stack:
    links = os.path.join(scratch, 'checkpoint')
    for _ in range(_ATTEMPTS):
      prefix = choose.prefix_of(path)
      with contextlib.ExitStack() as attempt:
        parts = _open(prefix, attempt)
        if parts is not None:
          stack.enter_context(attempt.pop_all())
          break
      if not os.path.isdir(path):
        choose.prefix_of(path)  # Says what has come after it.
    else:
      raise UserError('%s: deleted each time it was opened' % prefix)
    for suffix, f in parts.items():
      _link(f, links + suffix)
    if check:
      reader.shapes(prefix, links)
    try:
      yield Held(prefix, links)
    except UserError as e:
      raise UserError(str(e).replace(links, prefix)) from None


def _open(prefix, stack):
  """{suffix: open file} of a checkpoint, or None if it is being deleted."""
  parts = {}
  for path in (
    prefix + '.index',
    *glob.glob(glob.escape(prefix) + '.data-?????-of-?????'),
    prefix + '.meta',
  ):
    try:
      f = stack.enter_context(files.open_regular(path))
    except FileNotFoundError:
      continue
    except OSError as e:
      raise UserError('%s: cannot be read: %s' % (path, e.strerror)) from None
    parts[path[len(prefix) :]] = f
  # A saver deletes the index first: if that is there, the rest has been.
  try:
    there = os.stat(prefix + '.index')
  except OSError:
    return None
  index = parts.get('.index')
  return (
    parts
    if index and os.path.samestat(os.fstat(index.fileno()), there)
    else None
  )


def _link(f, path):
  """Makes `path` another name of an open file; a copy where that cannot be."""
  source = '/proc/self/fd/%d' % f.fileno()
  if os.path.exists(source):
    os.symlink(source, path)
  else:
    with open(path, 'wb') as copy:
      shutil.copyfileobj(f, copy)
