"""Files and directories of results: complete, or as they were."""

import contextlib
import os
import tempfile

from graph_resnet9.errors import UserError


@contextlib.contextmanager
def replacing(path):
  """Gives a temporary name to write, and moves that into place at the end.

  Raises:
    UserError: the disk refuses it; the file at `path` is as it was.
  """
  temporary = path + '.tmp'
  try:
    yield temporary
    os.replace(temporary, path)
  except OSError as e:
    with contextlib.suppress(OSError):
      os.remove(temporary)
    raise UserError('%s: cannot be written: %s' % (path, e.strerror)) from None


def write(path, text):
  """Writes a text file; raises UserError as `replacing` does."""
  with replacing(path) as temporary, open(temporary, 'w') as f:
    f.write(text)


def check_png(flag, path):
  """Raises UserError, which names the flag, if no picture can go there."""
  folder = os.path.dirname(os.path.abspath(path))
  if not path.endswith('.png'):
    raise UserError('%s=%s: the name must end in .png' % (flag, path))
  if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
    raise UserError('%s=%s: no writable directory %s' % (flag, path, folder))


def make_dir(flag, path):
  """Makes a directory, or checks that files can be written into it.

  Raises:
    UserError: it cannot; names the flag.
  """
  try:
    os.makedirs(path, exist_ok=True)
    tempfile.TemporaryFile(dir=path).close()
  except OSError as e:
    raise UserError(
      '%s=%s: cannot be written: %s' % (flag, path, e.strerror)
    ) from None
