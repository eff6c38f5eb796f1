"""The directory of a run: whose it is, and where the run goes on."""

from collections.abc import Iterator
import contextlib
import fcntl
import os
import socket
from typing import NamedTuple

from absl import logging
import tensorflow.compat.v1 as tf

from graph_resnet9 import files
from graph_resnet9.checkpoints import choose
from graph_resnet9.checkpoints import reader
from graph_resnet9.cli import flagfile
from graph_resnet9.cli import train_flags
from graph_resnet9.errors import UserError
from graph_resnet9.inputs import dataset
from graph_resnet9.model import winograd
from graph_resnet9.training import conditions
from graph_resnet9.training import rows

LOCK = 'train.lock'


class Run(NamedTuple):
  """What a session needs to know of its directory.

  settings: of the run, here and now: the data set found, absolute paths, the
    algorithm of the convolutions chosen.
  checkpoint: the one to go on from, read from end to end; None in a new run.
  """

  settings: train_flags.Train
  checkpoint: choose.Whole | None

  def adopt(self) -> None:
    """Makes the directory this run's, once the default graph is built.

    The checkpoint becomes the one that a session restores from there; what
    killed saves left goes; flags.txt is written.

    Raises:
      UserError: the checkpoint does not fit to the variables of the graph, and
        nothing has changed; or the disk refuses.
    """
    folder = self.settings.train_dir
    if self.checkpoint:
      reader.check(
        self.checkpoint.prefix,
        self.checkpoint.shapes,
        {variable.op.name: variable for variable in tf.global_variables()},
      )
    choose.adopt(folder, self.checkpoint)
    files.write(
      os.path.join(folder, flagfile.NAME),
      flagfile.text(self.settings) + conditions.line(),
    )

  def not_saved(self) -> str:
    """What to say behind why a training ends that could not save."""
    return '; not saved since %s; the same command resumes' % choose.newest(
      self.settings.train_dir
    )


@contextlib.contextmanager
def opened(
  settings: train_flags.Train, source: dataset.Source
) -> Iterator[Run]:
  """Makes train_dir, or checks that it holds this run; keeps others out of it.

  Changes nothing in it but the lock file, until Run.adopt is called.

  Args:
    settings: as they were given.
    source: the data set that was found.
  Yields:
    Run.
  Raises:
    UserError: another training uses it, or it holds another run, or traces of
      one without a checkpoint that could be read.
  """
  settings = resolved(settings, source)
  train_dir = settings.train_dir
  files.check_literal('--train_dir', train_dir)
  files.check_line('--data_dir', settings.data.data_dir)
  files.make_dir('--train_dir', train_dir)
  with _locked(train_dir):
    prefix = choose.newest(train_dir)
    if not prefix and rows.read_rows(train_dir):
      raise UserError(
        '--train_dir=%s: %s tells of a run, but there is no checkpoint of it; '
        'restore one, or give another --train_dir to start anew'
        % (train_dir, rows.METRICS)
      )
    saved = flagfile.read(train_dir) if prefix else None
    if saved:
      _check_flags(saved, settings)
      _warn_of_other_bits(settings)
    elif prefix:
      logging.warning(
        '%s: not there; that the run had the same flags as this is taken for '
        'granted',
        os.path.join(train_dir, flagfile.NAME),
      )
    model = settings.model.replace(conv=conv_of(settings, saved))
    yield Run(
      settings.replace(model=model),
      choose.newest_whole(train_dir, prefix) if prefix else None,
    )


def resolved(
  settings: train_flags.Train, source: dataset.Source
) -> train_flags.Train:
  """The settings for flags.txt: what they meant here and now.

  Args:
    settings: as they were given.
    source: the data set that was found.
  """
  classes = settings.data.classes
  if source.name == 'folder':
    classes = ','.join(source.class_names)
  folder = settings.data.data_dir
  return settings.replace(
    train_dir=os.path.abspath(settings.train_dir),
    data=settings.data.replace(
      dataset=source.name,
      data_dir=os.path.abspath(folder) if folder else '',
      classes=classes,
    ),
  )


def _warn_of_other_bits(settings):
  """Says where a run that promises the bits of an unbroken one cannot."""
  before = conditions.saved(os.path.join(settings.train_dir, flagfile.NAME))
  here = conditions.here()
  if settings.batches.shuffle == 'epoch' and before not in (None, here):
    logging.warning(
      '--train_dir=%s: the run so far had %s; here it is %s. It goes on, but '
      'not bit for bit as it would have there',
      settings.train_dir,
      before,
      here,
    )


def _check_flags(saved, settings):
  """Raises UserError if flags.txt is of a run with other flags."""
  for name, old, new in flagfile.differing(saved, settings):
    raise UserError(
      '--train_dir=%s: holds a run with --%s=%s, not %s; give the same '
      'flags to resume it, or another --train_dir'
      % (settings.train_dir, name, old, new)
    )


def conv_of(
  settings: train_flags.Train, saved: train_flags.Train | None
) -> str:
  """--conv of a session: as given, else of the run so far, else by the machine.

  So that a run is resumed with the same rounding, wherever.

  Args:
    settings: as they were given.
    saved: those of the run so far, if there is one and its flags.txt.
  Returns:
    As winograd.chosen.
  """
  conv = settings.model.conv
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
    lock = files.open_own(path)
  except OSError as e:
    raise UserError('%s: cannot be written: %s' % (path, e.strerror)) from None
  with lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise UserError(
        '--train_dir=%s: process %s is training in it; wait until it ends, or '
        'give another --train_dir'
        % (
          train_dir,
          lock.read(200).decode(errors='replace').strip() or '(unknown)',
        )
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
      lock.write(b'%d on %s\n' % (os.getpid(), socket.gethostname().encode()))
      lock.flush()
    yield


class SameDirectory(tf.train.SessionRunHook):
  """Stops with UserError when train_dir has been moved or removed.

  Its name may be that of another run by then. This hook comes first: nothing
  is written any more.
  """

  def __init__(self, train_dir):
    self._train_dir = train_dir
    self._path = os.path.join(train_dir, LOCK)
    self._status = os.stat(self._path)

  def _check(self):
    try:
      if os.path.samestat(os.stat(self._path), self._status):
        return
    except OSError:
      pass
    raise UserError(
      '--train_dir=%s: was moved or removed while the training ran, which ends '
      'here; its checkpoints are where the directory is now' % self._train_dir
    )

  def after_create_session(self, session, coord):
    self._check()

  def after_run(self, run_context, run_values):
    self._check()

  def end(self, session):
    self._check()
