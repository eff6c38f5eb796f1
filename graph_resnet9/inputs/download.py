"""Fetches one file over HTTP: resumed, verified, moved into place."""

import contextlib
import fcntl
import hashlib
import http.client
import os
import queue
import threading
import time
import urllib.error
import urllib.request

from absl import logging
import tqdm

from graph_resnet9 import files
from graph_resnet9.errors import UserError

# The official archive. MD5 as published on https://www.cs.toronto.edu/~kriz/
# cifar.html; SHA-256 as in the catalogues that pin it.
URL = 'https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz'
SHA256 = 'c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd'

# Half as large again as the archive: what is longer is something else.
MAX_BYTES = 256 << 20

_BLOCK_BYTES = 1 << 18
_TIMEOUT_SECS = 20
# What is slower than this, on the whole, after the first minute, would take
# days.
_PATIENCE_SECS = 60
_LEAST_BYTES_PER_SEC = 4096


class Unreachable(Exception):
  """The server could not be reached, or went away before the file was whole."""


def fetch(path, url=URL, sha256=SHA256):
  """Downloads `url` to `path`, unless it is there.

  The bytes go to `path`.part, which the next call resumes if the server can,
  and restarts if not. Only a file with the right checksum gets the name `path`;
  one with a wrong checksum is deleted. Of several processes that ask for the
  same `path` one downloads, and the others wait for it. A progress bar on a
  terminal.

  Args:
    path: where the file belongs; its folder is made.
    url: http(s) address.
    sha256: hexadecimal digest that the file must have.
  Raises:
    Unreachable: no connection, an HTTP error, or the connection broke, was
      too slow, or brought too much.
    UserError: wrong checksum, or the disk refuses the file.
  """
  if os.path.exists(path):
    return
  part = path + '.part'
  try:
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with files.open_own(part) as f:
      with contextlib.suppress(OSError):  # Some file systems have no locks.
        _lock(f, part)
      if not files.is_still(f, part):  # Another process has been and gone.
        return fetch(path, url, sha256)
      f.seek(0, os.SEEK_END)
      _receive(f, url)
      f.flush()
      _verify(part, url, sha256)
      os.replace(part, path)
  except (
    urllib.error.URLError,
    http.client.HTTPException,
    ConnectionError,
    TimeoutError,
    ValueError,  # A length that is no number, an address that is none.
  ) as e:
    raise Unreachable(
      '%s: %s'
      % (url, ' '.join(str(getattr(e, 'reason', None) or e).split())[:999])
    ) from None
  except OSError as e:
    raise UserError('%s: cannot be written: %s' % (part, e.strerror)) from None


def _lock(f, part):
  """Waits until no other process downloads into the file; says so."""
  try:
    fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    logging.warning('%s: waiting for another process that fetches it', part)
    fcntl.flock(f, fcntl.LOCK_EX)


def _verify(part, url, sha256):
  """Deletes a file with a wrong checksum and raises UserError."""
  digest = hashlib.sha256()
  with open(part, 'rb') as f:
    for block in iter(lambda: f.read(_BLOCK_BYTES), b''):
      digest.update(block)
  if digest.hexdigest() != sha256:
    os.remove(part)
    raise UserError(
      '%s: wrong SHA-256 %s, expected %s; the file was deleted. Try again, '
      'or fetch it by hand and name its folder with --data_dir'
      % (url, digest.hexdigest(), sha256)
    )


def _receive(f, url):
  """Appends what is missing of `url` to the open file; restarts if it must.

  Raises:
    ConnectionError, TimeoutError: it ended too soon, is too long or too slow.
    And what _answer raises.
  """
  have = f.tell()
  began = time.monotonic()
  pieces = _in_time(_answer(url, have))
  status, length = next(pieces)
  if status == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
    return  # Nothing is missing: the checksum decides whether it is the file.
  begin = have if status == http.client.PARTIAL_CONTENT else 0
  if have and not begin:
    logging.info('%s cannot be resumed; starting again', url)
    f.seek(0)
    f.truncate()
  total = None if length is None else begin + length
  # disable=None: no bar unless stderr is a terminal.
  with tqdm.tqdm(
    desc=os.path.basename(url),
    total=total,
    initial=begin,
    unit='B',
    unit_scale=True,
    disable=None,
  ) as bar:
    done = begin
    for piece in pieces:
      f.write(piece)
      done += len(piece)
      bar.update(len(piece))
      if done > MAX_BYTES:
        raise ConnectionError('more than %d bytes came' % MAX_BYTES)
      secs = time.monotonic() - began
      if secs > _PATIENCE_SECS and done - begin < secs * _LEAST_BYTES_PER_SEC:
        raise TimeoutError('%d bytes in %d s' % (done - begin, secs))
  if total is not None and done < total:
    raise ConnectionError(
      'the connection broke after %d of %d bytes; the '
      'same command resumes' % (done, total)
    )


def _answer(url, have):
  """What a server answers.

  Args:
    url: http(s) address.
    have: how many bytes from the beginning are not asked for.
  Yields:
    (status, length of what comes or None), then bytes.
  Raises:
    urllib.error.URLError, http.client.HTTPException, OSError, ValueError.
  """
  request = urllib.request.Request(
    url,
    headers={
      'User-Agent': 'graph_resnet9',
      **({'Range': 'bytes=%d-' % have} if have else {}),
    },
  )
  try:
    response = urllib.request.urlopen(request, timeout=_TIMEOUT_SECS)
  except urllib.error.HTTPError as e:
    if e.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
      raise
    yield e.code, None
    return
  with response:
    length = response.headers.get('Content-Length')
    yield response.status, int(length) if length else None
    # Not read(): a block may take for ever to fill up.
    yield from iter(lambda: response.read1(_BLOCK_BYTES), b'')


def _in_time(pieces):
  """Yields what an iterator does, which runs in a thread of its own.

  A server that sends a byte now and then keeps a thread of urllib for ever,
  in the middle of a header, too: then the thread is left alone.

  Raises:
    What `pieces` raises, of which an OSError, no route to host or an error of
    TLS, as ConnectionError: it is the network's, never the disk's.
    TimeoutError: nothing came for _PATIENCE_SECS.
  """
  handed, over = queue.Queue(4), threading.Event()

  def hand():
    try:
      for piece in pieces:
        handed.put(piece)
        if over.is_set():
          return
      handed.put(None)
    except Exception as e:  # pylint: disable=broad-except
      handed.put(e)

  threading.Thread(target=hand, daemon=True).start()
  try:
    while True:
      piece = handed.get(timeout=_PATIENCE_SECS)
      if piece is None:
        return
      if isinstance(piece, urllib.error.URLError):
        raise piece
      if isinstance(piece, OSError):
        raise ConnectionError(str(piece)) from None
      if isinstance(piece, Exception):
        raise piece
      yield piece
  except queue.Empty:
    raise TimeoutError('no answer for %d s' % _PATIENCE_SECS) from None
  finally:
    over.set()
    with contextlib.suppress(queue.Empty):
      while True:  # Room for what the thread may be about to hand over.
        handed.get_nowait()
