"""Files and directories: results complete or as they were, and no surprises.

What is to be read is a regular file: a pipe would hang until somebody writes
into it. What is to be written is a new file: a link that somebody has planted
under its name is not followed.
"""

import contextlib
import errno
import io
import os
import select
import stat
import tempfile
import time

from graph_resnet9.errors import UserError

PIPE_SECS = 60


def open_regular(path):
  """Opens a regular file to read its bytes.

  Raises:
    OSError: as of open(), and if it is a pipe, a device or a socket.
    ValueError: as of open(): a name that no file can have.
  """
  _check_regular(os.stat(path), path)  # To open a device may already do much.
  handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
  try:
    _check_regular(os.fstat(handle), path)
  except OSError:
    os.close(handle)
    raise
  return open(handle, 'rb')


def open_input(path, limit):
  """As open_regular, but opens a pipe, too, if all of it comes in a minute.

  Args:
    path: of a regular file or a pipe, as a shell's <(...) makes them.
    limit: int, how many bytes of a pipe are read at most.
  Raises:
    OSError, ValueError: as open_regular, and if a pipe is too slow.
  """
  if not stat.S_ISFIFO(os.stat(path).st_mode):
    return open_regular(path)
  pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
  try:
    return io.BytesIO(b''.join(_pieces(pipe, limit)))
  finally:
    os.close(pipe)


def _pieces(pipe, limit):
  """Yields the bytes of a pipe that was opened without waiting for a writer."""
  deadline = time.monotonic() + PIPE_SECS
  poll = select.poll()
  poll.register(pipe, select.POLLIN)
  while limit > 0:
    left = deadline - time.monotonic()
    if left <= 0 or not poll.poll(1000 * left):
      raise OSError(
        errno.ETIMEDOUT, 'a pipe that does not end in %d s' % PIPE_SECS
      )
    piece = os.read(pipe, min(limit, 1 << 18))
    if not piece:
      return
    limit -= len(piece)
    yield piece


def check_regular(path):
  """Raises OSError if there is something else than a regular file."""
  with contextlib.suppress(FileNotFoundError):
    _check_regular(os.stat(path), path)


def _check_regular(status, path):
  for is_kind, name in (
    (stat.S_ISFIFO, 'a named pipe'),
    (stat.S_ISSOCK, 'a socket'),
    (stat.S_ISCHR, 'a device'),
    (stat.S_ISBLK, 'a device'),
  ):
    if is_kind(status.st_mode):
      raise OSError(errno.EINVAL, '%s, where a file belongs' % name, path)
  if stat.S_ISDIR(status.st_mode):
    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)


def open_own(path):
  """Opens a file of our own to read and write, where it is; makes it.

  Raises:
    OSError: as of open(), and if it is a link or no regular file.
  """
  flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
  try:
    handle = os.open(path, flags, 0o666)
  except OSError as e:
    if e.errno == errno.ELOOP:
      e.strerror = 'a symbolic link, which could lead anywhere; remove it'
    raise
  try:
    _check_regular(os.fstat(handle), path)
  except OSError:
    os.close(handle)
    raise
  return open(handle, 'r+b')


def is_still(f, path):
  """Whether `path` is the open file f, and not gone or another one."""
  with contextlib.suppress(OSError):
    return os.path.samestat(os.fstat(f.fileno()), os.lstat(path))
  return False


@contextlib.contextmanager
def replacing(path):
  """Gives a new binary file to write, and moves it into place at the end.

  Raises:
    UserError: the disk refuses it; the file at `path` is as it was.
  """
  temporary = path + '.tmp'
  try:
    with contextlib.suppress(FileNotFoundError):
      os.remove(temporary)
    with open(temporary, 'xb') as f:  # A new one: not through a link.
      yield f
    os.replace(temporary, path)
  except BaseException as e:
    with contextlib.suppress(OSError):
      os.remove(temporary)
    # An error of another file, which whoever writes reads, is not this one's.
    if isinstance(e, OSError) and e.filename in (None, temporary):
      text = '%s: cannot be written: %s' % (path, e.strerror)
      raise UserError(text) from None
    raise


def write(path, text):
  """Writes a text file in UTF-8; raises UserError as `replacing` does."""
  with replacing(path) as f:
    f.write(text.encode())


def check_literal(flag, path):
  """Raises UserError for a name that TensorFlow or flags.txt read otherwise.

  TensorFlow's saver finds the files that it reads and deletes by a pattern: in
  run? it would delete the checkpoints of run1. And a flagfile has a line for
  each flag.
  """
  path = os.path.realpath(path)
  for char in '*?[\\':
    if char in path:
      raise UserError(
        '%s=%s: has a %s in it, which TensorFlow takes for a pattern; give '
        'another name' % (flag, path, char)
      )
  check_line(flag, path)


def check_line(flag, path):
  """Raises UserError unless a name is one line of UTF-8."""
  path = os.path.abspath(path)
  if len(path.splitlines()) > 1 or path != (
    path.strip().encode(errors='replace').decode()
  ):
    raise UserError(
      '%s=%r: is not one line of UTF-8, as flags.txt needs it; give another '
      'name' % (flag, path)
    )


def check_png(flag, path):
  """Raises UserError, which names the flag, if no picture can go there."""
  folder = os.path.dirname(os.path.abspath(path))
  if not path.endswith('.png'):
    raise UserError('%s=%s: the name must end in .png' % (flag, path))
  if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
    raise UserError('%s=%s: no writable directory %s' % (flag, path, folder))


def check_dir(flag, path):
  """Raises UserError if `make_dir` is sure to; makes nothing."""
  folder = os.path.abspath(path)
  while not os.path.lexists(folder):
    folder = os.path.dirname(folder)
  if not os.path.isdir(folder):
    raise UserError('%s=%s: %s is not a directory' % (flag, path, folder))
  if not os.access(folder, os.W_OK | os.X_OK):
    raise UserError('%s=%s: %s is not writable' % (flag, path, folder))


def make_dir(flag, path):
  """Makes a directory, or checks that files can be written into it.

  Raises:
    UserError: it cannot, or was put there by somebody else; names the flag.
  """
  try:
    os.makedirs(path, exist_ok=True)
    _check_owners(flag, path)
    tempfile.TemporaryFile(dir=path).close()
  except OSError as e:
    raise UserError(
      '%s=%s: cannot be written: %s' % (flag, path, e.strerror)
    ) from None


def _check_owners(flag, path):
  """Raises UserError if a stranger has made a part of the path.

  In /tmp anybody can make the directory first that a manual names, and what is
  written there is then his to read, to change and to lead elsewhere.
  """
  for folder in (os.path.abspath(path), os.path.realpath(path)):
    if not os.path.lexists(folder):
      continue  # Below a place of /proc that only looks like a link.
    while folder != os.path.dirname(folder):
      parent = os.stat(os.path.dirname(folder))
      owner = os.lstat(folder).st_uid
      if parent.st_mode & stat.S_IWOTH and owner not in (
        0,
        os.geteuid(),
        parent.st_uid,
      ):
        raise UserError(
          '%s=%s: %s was made by another user (id %d), where anybody may make '
          'a directory; give another %s' % (flag, path, folder, owner, flag)
        )
      folder = os.path.dirname(folder)


@contextlib.contextmanager
def scratch_dir():
  """The name of a directory that is removed at the end.

  Raises:
    UserError: the system has no room for one.
  """
  try:
    scratch = tempfile.TemporaryDirectory()
  except OSError as e:
    raise UserError(
      'no temporary directory: %s; name one with room in the variable TMPDIR'
      % e.strerror
    ) from None
  with scratch as folder:
    yield folder
