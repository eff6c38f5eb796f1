"""The directory of a run: whose it is, and where the run goes on."""

import contextlib
import fcntl
import os
import socket

from absl import logging

from graph_resnet9 import files
from graph_resnet9.checkpoints import choose as checkpoints
from graph_resnet9.cli import flagfile
from graph_resnet9.cli import train_flags
from graph_resnet9.cli.settings import flag_text
from graph_resnet9.errors import UserError
from graph_resnet9.model import winograd
from graph_resnet9.training import rows as report

LOCK = 'train.lock'


@contextlib.contextmanager
def opened(settings):
  """Makes train_dir, or checks that it holds this run; keeps others out of it.

  Changes nothing in it but the lock file: that is checkpoints.adopt's work,
  once the graph is known to fit.

  Yields:
    checkpoints.Whole to resume from, or None.
  Raises:
    UserError: another training uses it, or it holds another run, or traces of
      one without a checkpoint that could be read.
  """
  train_dir = settings.train_dir
  files.make_dir('--train_dir', train_dir)
  with _locked(train_dir):
    prefix = checkpoints.newest(train_dir)
    if prefix:
      _check_flags(train_dir, settings)
      yield checkpoints.newest_whole(train_dir, prefix)
    elif report.read_rows(train_dir):
      raise UserError(
        '--train_dir=%s: %s tells of a run, but there is no checkpoint of it; '
        'restore one, or give another --train_dir to start anew'
        % (train_dir, report.METRICS)
      )
    else:
      yield None


def _check_flags(train_dir, settings):
  """Raises UserError if flags.txt is of a run with other flags."""
  saved = flagfile.read(train_dir)
  if saved:
    old, new = saved.flat(), settings.flat()
    for name in new:
      if name not in train_flags.SESSION_FLAGS and new[name] != old[name]:
        raise UserError(
          '--train_dir=%s: holds a run with --%s=%s, not %s; give the same '
          'flags to resume it, or another --train_dir'
          % (train_dir, name, flag_text(old[name]), flag_text(new[name]))
        )


def conv_of(settings, resumed):
  """--conv of a session: as given, else of the run so far, else by the machine.

  So that a run is resumed with the same rounding, wherever.

  Args:
    settings: train_flags.Train.
    resumed: whether train_dir holds a run.
  Returns:
    As winograd.chosen.
  """
  conv = settings.model.conv
  saved = flagfile.read(settings.train_dir) if resumed else None
  if conv == 'auto' and saved:
    # A run from before the flag was there.
    conv = saved.model.conv.replace('auto', 'direct')
  return winograd.chosen(conv)


@contextlib.contextmanager
def _locked(train_dir):
  """Holds the lock of a train_dir, or raises UserError with who holds it.

  flock, because the kernel frees it however the process ends: a file with a pid
  would survive kill -9 and lock the run out of its own directory. And not the
  locks of fcntl.lockf, which the process loses as soon as any part of it closes
  any other descriptor of the file. Programs that are started meanwhile don't
  inherit it: Python opens files with O_CLOEXEC. The file stays, since removing
  it could let two others in, one with the old file and one with a new one.
  """
  path = os.path.join(train_dir, LOCK)
  try:
    lock = open(
      os.open(path, os.O_RDWR | os.O_CREAT, 0o666), 'r+', errors='replace'
    )
  except OSError as e:
    raise UserError('%s: cannot be written: %s' % (path, e.strerror)) from None
  with lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise UserError(
        '--train_dir=%s: process %s is training in it; wait until it ends, or '
        'give another --train_dir'
        % (train_dir, lock.read(200).strip() or '(unknown)')
      ) from None
    except OSError as e:
      logging.warning(
        '--train_dir=%s: this file system has no locks (%s); see to it that '
        'only one training uses the directory',
        train_dir,
        e.strerror,
      )
    with contextlib.suppress(OSError):  # A full disk: the lock holds anyway.
      lock.truncate(0)
      lock.write('%d on %s\n' % (os.getpid(), socket.gethostname()))
      lock.flush()
    yield
