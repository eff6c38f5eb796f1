"""Fetches one file over HTTP: resumed, verified, moved into place."""

import contextlib
import fcntl
import hashlib
import http.client
import os
import urllib.error
import urllib.request

from absl import logging
import tqdm

from graph_resnet9.errors import UserError

# The official archive. MD5 as published on https://www.cs.toronto.edu/~kriz/
# cifar.html; SHA-256 as in the catalogues that pin it.
URL = 'https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz'
SHA256 = 'c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd'

_BLOCK_BYTES = 1 << 18
_TIMEOUT_SECS = 20


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
    Unreachable: no connection, an HTTP error, or the connection broke.
    UserError: wrong checksum, or the disk refuses the file.
  """
  if os.path.exists(path):
    return
  part = path + '.part'
  try:
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(part, 'ab') as f:
      with contextlib.suppress(OSError):  # Some file systems have no locks.
        fcntl.flock(f, fcntl.LOCK_EX)
      if not _is_still(f, part):  # Another process has been and gone.
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
  ) as e:
    raise Unreachable(
      '%s: %s' % (url, getattr(e, 'reason', None) or e)
    ) from None
  except OSError as e:
    raise UserError('%s: cannot be written: %s' % (part, e.strerror)) from None


def _is_still(f, path):
  """Whether `path` is the open file f, and not gone or another one."""
  with contextlib.suppress(FileNotFoundError):
    return os.path.samestat(os.fstat(f.fileno()), os.stat(path))
  return False


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
  """Appends what is missing of `url` to the open file; restarts if it must."""
  have = f.tell()
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
    return  # Nothing is missing: the checksum decides whether it is the file.
  with response:
    begin = have if response.status == http.client.PARTIAL_CONTENT else 0
    if have and not begin:
      logging.info('%s cannot be resumed; starting again', url)
      f.truncate(0)
    length = response.headers.get('Content-Length')
    total = begin + int(length) if length else None
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
      for block in iter(lambda: _read(response), b''):
        f.write(block)
        done += len(block)
        bar.update(len(block))
    if total is not None and done < total:
      raise ConnectionError(
        'the connection broke after %d of %d bytes; the '
        'same command resumes' % (done, total)
      )


def _read(response):
  """The next block; every failure is the network's, never the disk's."""
  try:
    return response.read(_BLOCK_BYTES)
  except OSError as e:  # No route to host, TLS errors, ...
    raise ConnectionError(str(e)) from None
