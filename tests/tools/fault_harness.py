"""Counts how often the promises of docs/reliability.md hold under faults.

  python -m tests.tools.fault_harness --repeats=10 --kills=100 --out=OUT.jsonl

Every fault is done to the real command, in a directory of its own. The tests do
each a few times; this does it as often as told, prints a row a fault, and
exits with 1 if a promise was broken. Damaged files by the
thousand are the subject of tests/tools/format_fuzz.py.
"""

import atexit
import concurrent.futures
import contextlib
import fcntl
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

from absl import app
from absl import flags

from tests import helpers
from tests.tools import cluster_faults

# 20 epochs of 32 steps, which take about 3 seconds.
LONG = dict(
  dataset='synthetic',
  train_examples=1024,
  test_examples=64,
  width=4,
  batch_size=32,
  epochs=20,
  shuffle='epoch',
  save_secs=0.3,
)
# 2 epochs of 8 steps, with checkpoints of steps 0, 8 and 16.
TINY = dict(helpers.TINY, save_secs=600)
STEPS_PER_EPOCH, LAST_STEP = 32, 640
# No promise of speed: what takes longer hangs.
DEADLINE_SECS = 600


class Broken(AssertionError):
  """A promise that did not hold."""


def expect(condition, *what):
  if not condition:
    raise Broken(' '.join(map(str, what)))


# Starting the command.


def start(
  train_dir,
  prefix=(),
  program=('-m', 'graph_resnet9.train'),
  variables=None,
  **values,
):
  """Starts a training; LONG unless `values` say otherwise."""
  return subprocess.Popen(
    [
      *prefix,
      sys.executable,
      *program,
      *helpers.arguments(train_dir=train_dir, **{**LONG, **values}),
    ],
    cwd=helpers.ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env=helpers.environment(**(variables or {})),
  )


def finish(process):
  """(exit code, stdout, stderr) of a process that ends by itself."""
  try:
    stdout, stderr = process.communicate(timeout=DEADLINE_SECS)
  except subprocess.TimeoutExpired:
    process.kill()
    stdout, stderr = process.communicate()
    raise Broken('hangs:', stdout[-500:], stderr[-500:]) from None
  return process.returncode, stdout, helpers.heard(stderr)


def run(train_dir, **kwargs):
  return finish(start(train_dir, **kwargs))


def expect_refused(done, *texts):
  """Exit code 1, and one line on stderr that holds all `texts`."""
  code, _, stderr = done
  expect(code == 1, 'exit code', code, stderr)
  expect(len(stderr.splitlines()) == 1, 'not one line:', stderr)
  for text in texts:
    expect(str(text) in stderr, text, 'is not in', stderr)


def expect_resumed(train_dir, done, before, warnings=()):
  """The run was finished, and not from step 0 again.

  Args:
    train_dir: of the run.
    done: as of `finish`.
    before: st_mtime_ns of the checkpoint of step 0 before, see `first_save`.
    warnings: texts, one for each line that stderr must have.
  """
  code, stdout, stderr = done
  expect(code == 0, 'exit code', code, stderr)
  lines = stderr.splitlines()
  expect(len(lines) == len(warnings), 'stderr:', stderr)
  for line, text in zip(lines, warnings):
    expect(str(text) in line, text, 'is not in', line)
  expect(first_save(train_dir) in (before, None), 'began at step 0 again')
  last = json.loads(stdout.splitlines()[-1])
  expect(last['step'] == newest_step(train_dir), stdout, last)


# Looking at a train_dir.


def first_save(train_dir):
  """When the checkpoint of step 0 was written, or None if it is not there."""
  try:
    return (train_dir / 'model.ckpt-0.index').stat().st_mtime_ns
  except FileNotFoundError:
    return None


def newest_step(train_dir):
  """The step that the state file names, None without one."""
  state = train_dir / 'checkpoint'
  if not state.exists():
    return None
  return int(state.read_text().split('"')[1].rsplit('-', 1)[1])


def rows(train_dir):
  path = train_dir / 'metrics.jsonl'
  return path.read_text().splitlines() if path.exists() else []


def expect_consistent(
  train_dir, steps_per_epoch=STEPS_PER_EPOCH, signalled=False
):
  """What must hold at any moment, the process being dead.

  The newest checkpoint loads, and metrics.jsonl has every epoch up to it once,
  and at most the next one. A signal in the evaluation that ends an epoch saves
  at once: the row then comes with the resume.
  """
  step = newest_step(train_dir)
  if step is not None:
    helpers.weights(train_dir / ('model.ckpt-%d' % step))
  steps = [json.loads(row)['step'] for row in rows(train_dir)]
  epochs = (step or 0) // steps_per_epoch
  expect(
    steps == [steps_per_epoch * (i + 1) for i in range(len(steps))],
    'rows',
    steps,
  )
  least = epochs - (signalled and bool(step) and step % steps_per_epoch == 0)
  expect(least <= len(steps) <= epochs + 1, len(steps), 'rows at step', step)


def leftovers(train_dir):
  """Names that only a save that was killed can have left."""
  names = set(os.listdir(train_dir))
  return sorted(
    name
    for name in names
    if (
      name.endswith(('_temp', '.tmp'))
      or '.tempstate' in name
      or '.tmp' in name
      and len(name) > 32
      or '.ckpt-' in name
      and not name.startswith('damaged')
      and name.split('.data')[0].removesuffix('.index').removesuffix('.meta')
      + '.index'
      not in names
    )
  )


# Stops: how and when a training is ended from outside.


def read_table(process, count):
  """Reads stdout up to the head of the table and `count` rows."""
  for line in process.stdout:
    if 'epoch' in line.split():
      break
  for _ in range(count):
    process.stdout.readline()


def wait(process, secs):
  """Waits, but not longer than the process lives."""
  with contextlib.suppress(subprocess.TimeoutExpired):
    process.wait(timeout=secs)


def in_start(process, train_dir, moments):
  """Anywhere from the start of Python to the first steps."""
  del train_dir
  wait(process, moments.uniform(0, 4))


def in_training(process, train_dir, moments):
  """Within half a second after the first steps, or after an epoch."""
  read_table(process, len(rows(train_dir)) + moments.randrange(2))
  wait(process, moments.uniform(0, 0.5))


def in_save(process, train_dir, moments):
  """While a checkpoint is written, found by its temporary directory.

  That is there for a millisecond or two: the process is held by SIGSTOP, and
  let go again if it was too late.
  """
  read_table(process, len(rows(train_dir)))
  wait(process, moments.uniform(0, 0.2))
  saving = lambda: any(name.endswith('_temp') for name in os.listdir(train_dir))
  deadline = time.monotonic() + 10
  while process.poll() is None and time.monotonic() < deadline:
    if saving():
      process.send_signal(signal.SIGSTOP)
      time.sleep(0.005)
      if saving():
        break
      process.send_signal(signal.SIGCONT)


def stopped_run(train_dir, stops, moments):
  """Stops one training again and again, and looks at it each time.

  Args:
    train_dir: of the run.
    stops: (signal, function as in_start, ...) for each stop.
    moments: random.Random.
  Returns:
    (steps of the newest checkpoint after each stop, how many stops left
    something of a save).
  """
  steps, left = [0], 0
  for number, moment in stops:
    before = first_save(train_dir) if steps[-1] else None
    # Every step saves where a save is to be hit.
    secs = 0 if moment == in_save else LONG['save_secs']
    process = start(train_dir, save_secs=secs)
    moment(process, train_dir, moments)
    running = process.poll() is None
    process.send_signal(number)
    process.send_signal(signal.SIGCONT)  # Where it was held in a save.
    code, _, stderr = finish(process)
    expect(
      code in (-number, 128 + number) or not running or code == 0,
      'exit code',
      code,
      stderr,
    )
    lines = [
      line
      for line in stderr.splitlines()
      if not line.startswith('train: about ')  # A busy machine takes long.
    ]
    expect(len(lines) <= 2, 'stderr:', stderr)
    # It has saved, and says so; but for Ctrl-C while Python still starts.
    saved = code == 128 + number and stderr != 'train: interrupted\n'
    if saved:
      expect('same command resumes' in stderr, stderr)
    if train_dir.exists():
      expect_consistent(train_dir, signalled=number != signal.SIGKILL)
      left += bool(leftovers(train_dir))
    expect(
      not steps[-1] or first_save(train_dir) in (before, None),
      'began at step 0 again',
    )
    steps.append(newest_step(train_dir) or 0)
    expect(steps[-1] >= steps[-2], 'step', steps[-2], 'and then', steps[-1])
    if saved:
      expect('model.ckpt-%d;' % steps[-1] in stderr, steps[-1], stderr)
  return steps[1:], left


def kills(count):
  """Stops by kill -9: a fifth in the start, two fifths in saves."""
  return [
    (
      signal.SIGKILL,
      (in_start, in_training, in_save, in_training, in_save)[i % 5],
    )
    for i in range(count)
  ]


def signals(count):
  """Stops by SIGTERM, SIGINT and SIGHUP in turn, each in every phase."""
  return [
    (
      (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)[(i + i // 3) % 3],
      (in_start, in_training, in_save)[i % 3],
    )
    for i in range(count)
  ]


# The faults. Each takes a directory of its own and a random.Random, raises
# Broken if a promise does not hold and Skipped where it cannot be tried.


class Skipped(Exception):
  """Why a fault cannot be tried here."""


def killed_in_turn(scratch, moments, count=10):
  """kill -9, ten times; then bit for bit as the unbroken run."""
  return stopped_and_finished(scratch, kills(count), moments)


def signalled_in_turn(scratch, moments, count=6):
  """SIGTERM, SIGINT, SIGHUP; then bit for bit as the unbroken run."""
  return stopped_and_finished(scratch, signals(count), moments)


def other_signals(scratch, moments):
  """What nobody catches ends a run as kill -9 does."""
  numbers = [signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM]
  stops = [(number, in_training) for number in moments.sample(numbers, 2)]
  return stopped_and_finished(scratch, stops, moments)


def stopped_and_finished(scratch, stops, moments):
  """A run that is stopped and then left alone, against one left alone.

  Returns:
    As stopped_run.
  """
  train_dir = scratch / 'run'
  steps, left = stopped_run(train_dir, stops, moments)
  before = first_save(train_dir) if steps[-1] else None
  expect_resumed(train_dir, run(train_dir), before)
  expect_consistent(train_dir)
  expect(not leftovers(train_dir), leftovers(train_dir))
  differing = helpers.differing(
    train_dir / ('model.ckpt-%d' % LAST_STEP),
    unbroken_run() / ('model.ckpt-%d' % LAST_STEP),
  )
  expect(not differing, 'differs from the unbroken run:', differing)
  return steps, left


_once = threading.Lock()
_runs = {}


def finished(name, **values):
  """The train_dir of a finished run, one for all; not to be changed."""
  with _once:
    if name not in _runs:
      folder = pathlib.Path(tempfile.mkdtemp(prefix='fault_harness_'))
      atexit.register(shutil.rmtree, folder, ignore_errors=True)
      code, _, stderr = run(folder / name, **values)
      expect((code, stderr) == (0, ''), code, stderr)
      _runs[name] = folder / name
    return _runs[name]


def unbroken_run():
  return finished('unbroken')


def tiny_copy(scratch):
  """A copy of a finished run of 2 epochs: checkpoints of steps 0, 8 and 16."""
  return pathlib.Path(
    shutil.copytree(finished('tiny', **TINY), scratch / 'run')
  )


def resume(train_dir, warnings=(), check_leftovers=True):
  """Resumes a copy of the finished run; expects it to end as it did."""
  before = first_save(train_dir)
  expect_resumed(train_dir, run(train_dir, **TINY), before, warnings)
  expect_consistent(train_dir, 8)
  if check_leftovers:
    expect(not leftovers(train_dir), leftovers(train_dir))
  differing = helpers.differing(
    train_dir / 'model.ckpt-16', finished('tiny', **TINY) / 'model.ckpt-16'
  )
  expect(not differing, 'differs from the unbroken run:', differing)


# A disk of its own.


@contextlib.contextmanager
def small_disk(kib):
  """A file system of so many KiB, for this process's children, without root.

  Yields:
    (path of it, function that gives it another size in KiB).
  """
  # The shell lives in a mount namespace of its own; others reach its files
  # through its /proc entry. As `unshare -r` it needs no privileges, where the
  # system lets users have namespaces.
  shell = subprocess.Popen(
    ['unshare', '-m'] + ([] if os.getuid() == 0 else ['-Ur']) + ['sh'],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )

  def tell(command):
    shell.stdin.write(command + ' && echo done || echo failed\n')
    shell.stdin.flush()
    answer = shell.stdout.readline().strip()
    if answer != 'done':
      raise Skipped('no file system of its own: ' + answer)

  where = tempfile.mkdtemp()
  try:
    tell('mount -t tmpfs -o size=%dk fault %s' % (kib, where))
    yield (
      pathlib.Path('/proc/%d/root%s' % (shell.pid, where)),
      lambda kib: tell('mount -o remount,size=%dk %s' % (kib, where)),
    )
  except BrokenPipeError:
    raise Skipped('no mount namespaces here') from None
  finally:
    with contextlib.suppress(BrokenPipeError):
      shell.stdin.close()
    shell.stdout.close()
    shell.wait()
    os.rmdir(where)


def disk_full(scratch, moments):
  """The disk fills up in some save; later there is room again."""
  del scratch
  with small_disk(moments.choice([100, moments.randrange(700, 5500)])) as (
    disk,
    resize,
  ):
    train_dir = disk / 'run'
    full = run(train_dir, save_secs=0, epochs=4)
    expect_refused(full, 'run', 'space')
    step = newest_step(train_dir)
    whole = sorted(
      path.with_suffix('') for path in train_dir.glob('model.ckpt-*.index')
    )
    for prefix in whole:
      helpers.weights(prefix)
    expect(
      step is None or train_dir / ('model.ckpt-%d' % step) in whole, step, whole
    )
    expect_refused(run(train_dir, save_secs=0, epochs=4), 'run', 'space')
    expect(
      newest_step(train_dir) in (step, None if step is None else step + 1),
      step,
      newest_step(train_dir),
    )
    before = first_save(train_dir)
    resize(100000)
    expect_resumed(
      train_dir, run(train_dir, epochs=4), before if step else None
    )
    expect_consistent(train_dir)
    return step


def files_too_large(scratch, moments):
  """A limit of the size of files, as ulimit -f: where disk_full is skipped."""
  train_dir = scratch / 'run'
  kib = moments.choice([100, moments.randrange(210, 380)])
  limited = run(
    train_dir,
    prefix=['sh', '-c', 'ulimit -f %d; exec "$@"' % (kib * 2), 'sh'],
    epochs=4,
  )
  expect_refused(limited, 'run', 'arge')
  expect_resumed(train_dir, run(train_dir, epochs=4), None)


# A train_dir that cannot be one.


def read_only(scratch, moments):
  """No permission, neither to make the directory nor to write into it."""
  if os.getuid() == 0:
    if not shutil.which('setpriv'):
      raise Skipped('root may write anywhere, and there is no setpriv')
    # Without capabilities root is held by permissions like anybody.
    prefix = ['setpriv', '--bounding-set=-all']
  else:
    prefix = []
  folder = tiny_copy(scratch) if moments.randrange(2) else scratch / 'new'
  folder.mkdir(exist_ok=True)
  os.chmod(folder, 0o555)
  content = sorted(os.listdir(folder))
  target = folder if moments.randrange(2) else folder / 'below'
  done = run(target, prefix=prefix, **TINY)
  os.chmod(folder, 0o755)
  expect_refused(done, '--train_dir=%s' % target, 'not writable')
  expect(sorted(os.listdir(folder)) == content, os.listdir(folder))


def no_directory(scratch, moments):
  """A file, or a place under /proc, where train_dir should be."""
  file = scratch / 'file'
  file.write_text('mine')
  target = moments.choice([file, file / 'below', pathlib.Path('/proc/x/run')])
  expect_refused(run(target, **TINY), '--train_dir=%s' % target)
  expect(file.read_text() == 'mine', file.read_text())


# Two at once.


def second_training(scratch, moments):
  """A second training in the train_dir of a first, which is then killed."""
  train_dir = scratch / 'run'
  first = start(train_dir, epochs=10000)
  try:
    read_table(first, 0)
    wait(first, moments.uniform(0, 0.3))
    second = run(train_dir, epochs=10000)
    expect_refused(
      second, '--train_dir=%s' % train_dir, 'process %d' % first.pid
    )
    expect(first.poll() is None, 'the first one ended, too')
  finally:
    first.kill()
    finish(first)
  before = first_save(train_dir)
  third = start(train_dir, epochs=10000)
  read_table(third, len(rows(train_dir)) + 1)
  third.terminate()
  code, _, stderr = finish(third)
  expect(code == 143 and 'same command resumes' in stderr, code, stderr)
  expect(first_save(train_dir) in (before, None), 'began at step 0 again')


def moved_away(scratch, moments):
  """DIR is moved, or removed, while a training is at work in it."""
  train_dir, away = scratch / 'run', scratch / 'away'
  process = start(train_dir, epochs=10000)
  read_table(process, 1)
  wait(process, moments.uniform(0, 0.3))
  removed = moments.randrange(2)
  if removed:
    shutil.rmtree(train_dir)
  else:
    train_dir.rename(away)
  code, _, stderr = finish(process)
  expect(code == 1, 'exit code', code, stderr)
  expect('moved or removed' in stderr.splitlines()[-1], stderr)
  expect('Traceback' not in stderr, stderr)
  # A save that was at work has made it anew, at most.
  names = leftovers(train_dir) if train_dir.exists() else []
  expect(not removed or not names or set(names) == set(os.listdir(train_dir)))
  if not removed:
    expect(not train_dir.exists(), 'written under the name')
    away.rename(train_dir)
    expect_consistent(train_dir)


def patterns(scratch, moments):
  """A name that is a pattern is refused, and what it fits to is untouched."""
  train_dir = tiny_copy(scratch)
  content = snapshot(train_dir)
  name = moments.choice(['ru?', 'r*', 'r[u]n', 'r\\un'])
  expect_refused(run(scratch / name, **TINY), scratch / name, 'pattern')
  expect(snapshot(train_dir) == content, 'something was changed')


def planted_links(scratch, moments):
  """Links under the names of our files lead nowhere."""
  victim = scratch / 'victim'
  victim.write_text('mine')
  train_dir = tiny_copy(scratch)
  (train_dir / 'train.lock').unlink()
  name = moments.choice(['train.lock', 'flags.txt.tmp', 'metrics.jsonl.tmp'])
  (train_dir / name).symlink_to(victim)
  if name == 'train.lock':
    expect_refused(run(train_dir, **TINY), 'train.lock', 'symbolic link')
  else:
    resume(train_dir)
  expect(victim.read_text() == 'mine', victim.read_text())


def few_descriptors(scratch, moments):
  """A training needs hardly any files."""
  train_dir = scratch / 'run'
  limit = '--nofile=%d' % moments.choice([16, 64])
  done = run(train_dir, prefix=['prlimit', limit], **TINY)
  expect((done[0], done[2]) == (0, ''), done)
  expect_consistent(train_dir, 8)


def unprivileged(scratch, moments):
  """A user without a home, who may write into one directory."""
  del moments
  if os.getuid() or not shutil.which('setpriv'):
    raise Skipped('takes root, and setpriv')
  train_dir = scratch / 'run'
  train_dir.mkdir()
  os.chmod(scratch, 0o755)
  os.chown(train_dir, 65534, 65534)
  # Python and this checkout may be where he cannot read.
  may_read = ['--inh-caps=+dac_read_search', '--ambient-caps=+dac_read_search']
  prefix = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups']
  done = run(
    train_dir, prefix=['env', '-u', 'HOME', *prefix, *may_read], **TINY
  )
  expect((done[0], done[2]) == (0, ''), done)
  expect_consistent(train_dir, 8)


def clock_set_back(scratch, moments):
  """A run is stopped, the clock set back by hours, and the run goes on."""
  if not shutil.which('faketime'):
    raise Skipped('there is no faketime')
  train_dir = scratch / 'run'
  steps, _ = stopped_run(train_dir, [(signal.SIGTERM, in_training)], moments)
  before = first_save(train_dir) if steps[-1] else None
  expect_resumed(
    train_dir, run(train_dir, prefix=['faketime', '-f', '-18000 x1']), before
  )
  expect_consistent(train_dir)
  expect(not leftovers(train_dir), leftovers(train_dir))


def stalled_reader(scratch, moments):
  """Nobody reads stdout: the training goes on, and a signal saves."""
  signalled = moments.randrange(2)
  train_dir = scratch / 'run'
  process = start(train_dir, epochs=10000 if signalled else 20)
  fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
  deadline = time.monotonic() + DEADLINE_SECS
  least = 5 * STEPS_PER_EPOCH if signalled else LAST_STEP
  while (train_dir.exists() and newest_step(train_dir) or 0) < least:
    expect(process.poll() is None, 'ended')
    expect(time.monotonic() < deadline, 'stands still')
    time.sleep(0.1)
  if signalled:
    process.terminate()
    process.wait(DEADLINE_SECS)
  code, stdout, stderr = finish(process)
  if signalled:
    expect(code == 143 and 'same command resumes' in stderr, code, stderr)
  else:
    expect((code, stderr) == (0, ''), code, stderr)
    expect(len(stdout.splitlines()) == 23, stdout)  # Title, head, row, result.
  expect_consistent(train_dir, signalled=signalled)


def eval_beside_saves(scratch, moments):
  """eval again and again while every step saves."""
  del moments
  train_dir = scratch / 'run'
  process = start(train_dir, epochs=10000, save_secs=0)
  try:
    read_table(process, 1)
    for _ in range(3):
      done = helpers.command('eval', '--checkpoint=%s' % train_dir)
      expect(done.returncode == 0, done.stderr)
      expect(process.poll() is None, 'the training has ended')
  finally:
    process.kill()
    finish(process)


# Damaged checkpoints and state files.


def flip(path, moments):
  """Changes one byte, or the length, of a file."""
  content = bytearray(path.read_bytes())
  what = moments.choice(['flipped', 'truncated', 'empty'])
  if what == 'flipped':
    content[moments.randrange(len(content))] ^= 1 << moments.randrange(8)
  else:
    del content[moments.randrange(len(content)) if what == 'truncated' else 0 :]
  path.write_bytes(content)
  return what


def parts_of(train_dir, step):
  return [
    train_dir / ('model.ckpt-%d.%s' % (step, part))
    for part in ('index', 'data-00000-of-00001')
  ]


def newest_damaged(scratch, moments):
  """The newest checkpoint is damaged: the run goes on from the one before."""
  train_dir = tiny_copy(scratch)
  part = moments.choice(parts_of(train_dir, 16))
  what = moments.choice(['changed', 'missing'])
  if what == 'changed' or part.suffix == '.index':
    flip(part, moments)
  else:
    part.unlink()
  damaged = part.read_bytes() if part.exists() else None
  resume(train_dir, ['model.ckpt-16: damaged checkpoint'])
  if damaged is not None:  # Nothing was lost.
    aside = train_dir / ('damaged-1-' + part.name)
    expect(aside.read_bytes() == damaged, aside)


def index_missing(scratch, moments):
  """The index of the newest checkpoint is missing: the same."""
  del moments
  train_dir = tiny_copy(scratch)
  (train_dir / 'model.ckpt-16.index').unlink()
  resume(
    train_dir,
    ['naming a checkpoint that is not there', 'its .index file is missing'],
  )
  expect(
    (train_dir / 'damaged-1-model.ckpt-16.data-00000-of-00001').exists(),
    os.listdir(train_dir),
  )


def all_damaged(scratch, moments):
  """No checkpoint can be read: an error, and nothing is touched."""
  train_dir = tiny_copy(scratch)
  for step in (0, 8, 16):
    flip(moments.choice(parts_of(train_dir, step)), moments)
  content = snapshot(train_dir)
  expect_refused(
    run(train_dir, **TINY),
    'every checkpoint is damaged',
    'model.ckpt-0 ',
    'model.ckpt-8 ',
    'model.ckpt-16 ',
  )
  expect(snapshot(train_dir) == content, 'something was changed')


def eval_of_damaged(scratch, moments):
  """eval says which checkpoint is damaged, and which is the one before."""
  train_dir = tiny_copy(scratch)
  flip(moments.choice(parts_of(train_dir, 16)), moments)
  content = snapshot(train_dir)
  done = helpers.command('eval', '--checkpoint=%s' % train_dir)
  expect_refused(
    (done.returncode, done.stdout, done.stderr),
    'model.ckpt-16: damaged',
    'model.ckpt-8',
  )
  expect(snapshot(train_dir) == content, 'something was changed')


def snapshot(train_dir):
  """{name: content} of what belongs to the run; the lock is no part of it."""
  return {
    path.name: path.read_bytes()
    for path in train_dir.iterdir()
    if path.name != 'train.lock'
  }


def state_file(scratch, moments):
  """The `checkpoint` file is missing, or says nothing that could be used."""
  train_dir = tiny_copy(scratch)
  state = train_dir / 'checkpoint'
  state.unlink()
  content = moments.choice(
    [
      None,
      b'',
      b'\xff\x00\xfe garbage',
      moments.randbytes(300),
      b'model_checkpoint_path: ""',
      b'model_checkpoint_path: "',
      b'model_checkpoint_path: "model.ckpt-99"',
      'directory',
    ]
  )
  warnings = ['using the newest one']
  if content == 'directory':
    state.mkdir()
    (state / 'mine').write_text('mine')
    warnings.append('checkpoint: a directory; kept as')
  elif content is not None:
    state.write_bytes(content)
  resume(train_dir, warnings)
  if content == 'directory':
    expect((train_dir / 'damaged-1-checkpoint' / 'mine').exists(), 'lost')


def no_checkpoint_left(scratch, moments):
  """Traces of a run, and no checkpoint: an error instead of step 0."""
  train_dir = tiny_copy(scratch)
  kept = moments.choice(['checkpoint', 'metrics.jsonl', 'data'])
  for path in train_dir.iterdir():
    if kept not in path.name:
      path.unlink()
  content = snapshot(train_dir)
  expect_refused(run(train_dir, **TINY), train_dir)
  expect(snapshot(train_dir) == content, 'something was changed')


def killed_saves(scratch, moments):
  """What killed saves left is removed, and nothing of anybody else."""
  train_dir = tiny_copy(scratch)
  step = moments.randrange(17, 99)
  remove = [
    'model.ckpt-%d_temp/part-00000-of-00001.data-00000-of-00001' % step,
    'model.ckpt-%d.data-00000-of-00001' % step,
    'model.ckpt-%d.index.tempstate123' % step,
    'model.ckpt-%d.meta' % step,
    'metrics.jsonl.tmp',
    'flags.txt.tmp',
    'model.ckpt-%d.meta.tmp' % step + 32 * 'a',
    'checkpoint.tmp' + 32 * '0',
  ]
  keep = [
    'mine_temp/x',
    'model.ckpt-7.index',  # A checkpoint, as far as names tell.
    'model.ckpt-7.data-00000-of-00001',
    'notes.tmp',
    'my-model.ckpt-5_temp/x',
    'data.bin',
    'model.ckpt-best.data-00000-of-00001',
    'model.ckpt-5_temp.txt',
    'checkpoint.tmp',
    'events.out.tfevents.1',
    'x.meta',
    'damaged-1-model.ckpt-4.data-00000-of-00001',
    'model.ckpt-4.txt',
  ]
  for name in moments.sample(remove, len(remove)) + keep:
    (train_dir / name).parent.mkdir(exist_ok=True)
    (train_dir / name).write_text(name)
  resume(train_dir, check_leftovers=False)
  there = [name for name in remove if (train_dir / name).exists()]
  expect(not there, 'still there:', there)
  for name in keep:
    expect((train_dir / name).exists(), name, 'is gone')


# Signals where there is no run yet, or hardly any training.


def signal_in_download(scratch, moments):
  """The network stalls, and a signal ends the command."""
  number = moments.choice([signal.SIGTERM, signal.SIGINT])
  with stalling_server() as (url, body):
    process = start(
      scratch / 'run',
      variables=dict(XDG_CACHE_HOME=str(scratch), no_proxy='*'),
      program=[
        '-c',
        'import runpy\n'
        'from graph_resnet9.inputs import download\n'
        'download.fetch.__defaults__ = (%r, download.SHA256)\n'
        'runpy.run_module("graph_resnet9.train", run_name="__main__")' % url,
      ],
      **{**TINY, 'dataset': 'auto'},
    )
    part = scratch / 'graph_resnet9' / 'cifar-10-binary.tar.gz.part'
    while process.poll() is None and not (
      part.exists() and part.stat().st_size
    ):
      time.sleep(0.01)
    wait(process, moments.uniform(0, 0.3))
    process.send_signal(number)
    code, stdout, stderr = finish(process)
  expect((code, stdout, stderr) == (-number, '', ''), code, stdout, stderr)
  expect(os.listdir(part.parent) == [part.name], os.listdir(part.parent))
  expect(body.startswith(part.read_bytes()), 'not the beginning of the file')


@contextlib.contextmanager
def stalling_server():
  """An HTTP server that sends the beginning of a file, and then nothing.

  Yields:
    (URL, bytes of the file).
  """
  import http.server  # pylint: disable=g-import-not-at-top

  body = random.Random(0).randbytes(1 << 21)
  over = threading.Event()

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
      self.send_response(200)
      self.send_header('Content-Length', str(len(body)))
      self.end_headers()
      self.wfile.write(body[: 3 << 19])
      self.wfile.flush()
      over.wait(DEADLINE_SECS)

    def log_message(self, *args):
      pass

  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
  thread = threading.Thread(target=server.serve_forever, args=(0.01,))
  thread.start()
  try:
    yield 'http://127.0.0.1:%d/a' % server.server_port, body
  finally:
    over.set()
    server.shutdown()
    thread.join()
    server.server_close()


def signal_in_evaluation(scratch, moments):
  """A run that does little else than evaluate is stopped, and resumed."""
  few = dict(train_examples=64, test_examples=10000, epochs=200)
  stops = [(number, in_training) for number in (signal.SIGTERM, signal.SIGINT)]
  train_dir = scratch / 'run'
  for number, moment in stops:
    step, rows_before = newest_step(train_dir) or 0, len(rows(train_dir))
    process = start(train_dir, **few)
    moment(process, train_dir, moments)
    process.send_signal(number)
    code, _, stderr = finish(process)
    # A row that is missing comes first, before there is anything to save.
    expect(
      code == -number
      and not stderr
      or code == 128 + number
      and len(stderr.splitlines()) in (1, 2),  # Answered, then saved.
      code,
      stderr,
    )
    expect((newest_step(train_dir) or 0) >= step, 'went back')
    expect(len(rows(train_dir)) >= rows_before, 'rows are gone')
    expect_consistent_rows_behind(train_dir)


def expect_consistent_rows_behind(train_dir):
  """As expect_consistent, but the last row may be missing: it comes later."""
  steps = [json.loads(row)['step'] for row in rows(train_dir)]
  expect(steps == [2 * (i + 1) for i in range(len(steps))], 'rows', steps)
  expect(
    abs((newest_step(train_dir) or 0) // 2 - len(steps)) <= 1,
    newest_step(train_dir),
    steps,
  )


FAULTS = {
  function.__name__: function
  for function in (
    killed_in_turn,
    signalled_in_turn,
    signal_in_evaluation,
    signal_in_download,
    disk_full,
    files_too_large,
    read_only,
    no_directory,
    second_training,
    other_signals,
    moved_away,
    patterns,
    planted_links,
    few_descriptors,
    unprivileged,
    clock_set_back,
    stalled_reader,
    eval_beside_saves,
    newest_damaged,
    index_missing,
    all_damaged,
    eval_of_damaged,
    state_file,
    no_checkpoint_left,
    killed_saves,
    *cluster_faults.FAULTS,
  )
}


def attempt(name, seed):
  """One fault, once.

  Returns:
    dict(fault, seed, outcome: 'held', 'broken' or 'skipped', detail).
  """
  with tempfile.TemporaryDirectory(prefix='fault_') as scratch:
    try:
      detail = FAULTS[name](pathlib.Path(scratch), random.Random(seed))
      outcome = 'held'
    except Skipped as e:
      outcome, detail = 'skipped', str(e)
    except Broken as e:
      outcome, detail = 'broken', str(e)
    except Exception:  # pylint: disable=broad-except
      outcome, detail = 'broken', traceback.format_exc()
  return dict(fault=name, seed=seed, outcome=outcome, detail=detail)


def define_flags():
  flags.DEFINE_integer('repeats', 10, 'How often each fault is done.', 1)
  flags.DEFINE_integer(
    'kills', 100, 'How often a run is killed, ten times a run.', 0
  )
  flags.DEFINE_integer('seed', 0, 'Of the first of the repetitions.', 0)
  flags.DEFINE_integer('jobs', 2, 'How many are done at once.', 1)
  flags.DEFINE_list('only', sorted(FAULTS), 'Names of faults.')
  flags.register_validator(
    'only',
    lambda names: set(names) <= set(FAULTS),
    'must be among ' + ', '.join(sorted(FAULTS)),
  )
  flags.DEFINE_string('out', '', 'Adds a line of JSON for each to this file.')


def main(argv):
  del argv
  helpers.take_signals()
  values = flags.FLAGS
  work = []
  for name in values.only:
    count = values.kills // 10 if name == 'killed_in_turn' else values.repeats
    work += [(name, values.seed + i) for i in range(count)]
  broken = 0
  counts = {name: {'held': 0, 'broken': 0, 'skipped': 0} for name in FAULTS}
  with concurrent.futures.ThreadPoolExecutor(values.jobs) as pool:
    for future in concurrent.futures.as_completed(
      [pool.submit(attempt, *task) for task in work]
    ):
      result = future.result()
      counts[result['fault']][result['outcome']] += 1
      if result['outcome'] == 'broken':
        broken += 1
        print(
          '%(fault)s, seed %(seed)d: BROKEN: %(detail)s' % result, flush=True
        )
      if values.out:
        with open(values.out, 'a') as f:
          f.write(json.dumps(result) + '\n')
  for name in values.only:
    print(
      '%-20s held %3d of %3d, skipped %d'
      % (
        name,
        counts[name]['held'],
        counts[name]['held'] + counts[name]['broken'],
        counts[name]['skipped'],
      )
    )
  return bool(broken)


if __name__ == '__main__':
  define_flags()
  app.run(main)
