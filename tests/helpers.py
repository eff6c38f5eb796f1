"""What the tests of runs and commands share."""

import atexit
import contextlib
import functools
import io
import multiprocessing
import os
import pathlib
import re
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile

from absl import flags
from absl.testing import parameterized
import numpy as np

with contextlib.suppress(SystemExit):  # Python 3.7: for the doctor alone.
  from graph_resnet9.cli import train_flags
  from graph_resnet9.inputs import dataset

# Lines for the end of pytest's output.
SUMMARY = []
ROOT = pathlib.Path(__file__).resolve().parents[1]
# No promise of speed: what takes longer hangs.
COMMAND_SECS = 600
# A run of 2 epochs of 8 steps; it learns nothing.
TINY = dict(
  dataset='synthetic',
  train_examples=256,
  test_examples=100,
  width=4,
  batch_size=32,
  epochs=2,
  shuffle='epoch',
  conv='winograd',  # On every machine, in the last two convolutions.
)


def arguments(**values):
  """The command line for flag values; a flagfile first, for others to win."""
  return [
    '--%s=%s' % item
    for item in sorted(values.items(), key=lambda item: item[0] != 'flagfile')
  ]


def parsed(define, *args, **values):
  """FlagValues of flags that `define` defines, given on a command line."""
  flag_values = flags.FlagValues()
  define(flag_values)
  flag_values(['command', *args, *arguments(**values)])
  return flag_values


def settings(kind=None, **values):
  """Settings of a class of cli.train_flags, or Train, from flag values."""
  kind = kind or train_flags.Train
  return kind.read(parsed(kind.define, **values))


def train(train_dir, hooks=(), **values):
  """Runs a tiny training in this process.

  Returns:
    (exit code, lines of stdout).
  """
  from graph_resnet9.training import loop  # pylint: disable=g-import-not-at-top

  stdout = io.StringIO()
  with contextlib.redirect_stdout(stdout):
    code = loop.train(
      settings(train_dir=str(train_dir), **{**TINY, **values}), hooks
    )
  return code, stdout.getvalue().splitlines()


def evaluate(
  checkpoint, split='test', batch_norm='moving', weights='auto', **values
):
  """evaluate.evaluate with settings from flag values."""
  from graph_resnet9.evaluation import evaluate as evaluation  # pylint: disable=g-import-not-at-top

  run = settings(train_flags.Run, **values)
  with dataset.opened(**run.data) as data:
    return evaluation.evaluate(
      data, str(checkpoint), run, split, batch_norm, weights
    )


def built(towers=None, restored=False, **values):
  """loop.build in the default graph, of the tiny recipe but for `values`."""
  from graph_resnet9.training import loop  # pylint: disable=g-import-not-at-top

  run = settings(**{**TINY, **values}, train_dir='-')
  with dataset.opened(**run.data) as data:
    return loop.build(run, data, restored, towers)


@functools.lru_cache(maxsize=None)
def finished_run():
  """(train_dir, exit code, lines of stdout) of a tiny run; do not change it.

  One for all tests of a process.
  """
  scratch = tempfile.mkdtemp()
  atexit.register(shutil.rmtree, scratch, ignore_errors=True)
  train_dir = pathlib.Path(scratch) / 'done'
  return (train_dir,) + train(train_dir)


def take_signals():
  """What is started gets SIGINT and SIGHUP.

  A job in the background of a shell ignores Ctrl-C, one of nohup SIGHUP, and so
  would its children.
  """
  signal.signal(signal.SIGINT, signal.default_int_handler)
  signal.signal(signal.SIGHUP, signal.SIG_DFL)


def environment(**values):
  """A user's environment: without what conftest.py tells TensorFlow."""
  return {
    **{
      name: value
      for name, value in os.environ.items()
      if not name.startswith('TF_')
    },
    **values,
  }


def heard(stderr):
  """What a command says on stderr, and not TensorFlow 2.18 to 2.20.

  These print two lines in the first session and one for each server, which no
  setting silences.
  """
  import tensorflow as tf  # pylint: disable=g-import-not-at-top

  if tf.__version__.startswith(('2.18.', '2.19.', '2.20.')):
    stderr = re.sub(
      r'WARNING: All log messages before absl::InitializeLog.*\n'
      r'|I0000 .*(MLIR V1 optimization pass is not enabled'
      r'|Started server with target: grpc://.*)\n',
      '',
      stderr,
    )
  return stderr


def program(*args, cwd=ROOT, stdin=None, **variables):
  """Runs any program, with these variables in a user's environment.

  Returns:
    CompletedProcess, with stderr as of `heard`.
  """
  done = subprocess.run(
    list(map(str, args)),
    cwd=cwd,
    input=stdin,
    capture_output=True,
    text=True,
    check=False,
    env=environment(**variables),
  )
  done.stderr = heard(done.stderr)
  return done


def fresh_command(name, *args, stdin=None, **variables):
  """Runs `python -m graph_resnet9.NAME ARGS`, as `program` does."""
  return program(
    *(sys.executable, '-m', 'graph_resnet9.' + name, *args),
    stdin=stdin,
    **variables,
  )


def command(name, *args, stdin='', **variables):
  """As fresh_command, in a process of `forked`."""
  if sys.version_info < (3, 10):  # noqa: UP036  Process loses codes on 3.7.
    return fresh_command(name, *args, stdin=stdin, **variables)
  with tempfile.TemporaryDirectory() as folder:
    files = [pathlib.Path(folder, file) for file in ('in', 'out', 'err')]
    for file in files:
      file.touch()
    files[0].write_text(stdin, 'utf-8')
    process = forked(name, args, files, variables)
    process.join(COMMAND_SECS)
    if process.exitcode is None:
      process.kill()
    output = [file.read_text('utf-8') for file in files[1:]]
  if process.exitcode is None:
    raise subprocess.TimeoutExpired(args, COMMAND_SECS, *output)
  stdout, stderr = output
  return subprocess.CompletedProcess(
    args, process.exitcode, stdout, heard(stderr)
  )


def forked(name, args, files, variables=None):
  """Starts a command in a process forked from one with TensorFlow loaded.

  Loading takes most of the time of a command on a tiny run. What it does before
  and while it loads is the subject of fresh_command's tests.

  Args:
    name, args: as of `command`.
    files: paths of stdin, stdout and stderr, which exist.
    variables: {name: value} of the environment, beside this process's.

  Returns:
    multiprocessing.Process.
  """
  process = _forks().Process(
    target=_run_command,
    args=(name, list(args), list(map(str, files)), variables or {}),
  )
  process.start()
  return process


@functools.lru_cache(maxsize=None)
def _forks():
  """Starts processes from one that has done the imports named here."""
  context = multiprocessing.get_context('forkserver')
  # graph_resnet9 first: it sets switches that TensorFlow reads.
  context.set_forkserver_preload(
    ['graph_resnet9', 'tensorflow.compat.v1', 'tf_keras']
  )
  return context


def _run_command(name, args, files, variables):
  """What is done in a process of `forked`."""
  modes = os.O_RDONLY, os.O_WRONLY | os.O_APPEND, os.O_WRONLY | os.O_APPEND
  for number, (file, mode) in enumerate(zip(files, modes)):
    os.dup2(os.open(file, mode), number)
  sys.stdin = open(0, encoding='utf-8')
  os.environ.update(variables)
  os.chdir(ROOT)
  sys.argv[:] = [name + '.py', *args]
  runpy.run_module('graph_resnet9.' + name, run_name='__main__', alter_sys=True)


class CommandTestCase(parameterized.TestCase):
  """For tests of CompletedProcess, as `command` gives it."""

  error_code = 1

  def fails(self, done, *expected):
    """`error_code`, nothing on stdout, one line with all of `expected`."""
    self.assertEqual(done.returncode, self.error_code, done.stderr)
    self.assertEqual(done.stdout, '')
    self.assertLen(done.stderr.splitlines(), 1, done.stderr)
    for text in expected:
      self.assertIn(text, done.stderr)


def weights(prefix):
  """{name: array} of everything in a checkpoint."""
  import tensorflow.compat.v1 as tf  # pylint: disable=g-import-not-at-top

  reader = tf.train.load_checkpoint(str(prefix))
  return {
    name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()
  }


def save_weights(values, prefix):
  """Writes a checkpoint of {name: array}."""
  import tensorflow.compat.v1 as tf  # pylint: disable=g-import-not-at-top

  with tf.Graph().as_default(), tf.Session() as session:
    names = sorted(values)
    session.run(
      tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=names,
        shape_and_slices=[''] * len(names),
        tensors=[tf.constant(values[name]) for name in names],
      )
    )


def differing(one, other):
  """Names of the variables that two checkpoints do not share bit for bit."""
  one, other = weights(one), weights(other)
  return sorted(
    name
    for name in one.keys() | other.keys()
    if not (
      name in one and name in other and np.array_equal(one[name], other[name])
    )
  )
