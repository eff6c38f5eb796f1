"""Training by several processes, and what it survives.

Real processes of the real command on free ports of this machine; each test goes
through several faults, since a start takes seconds.
"""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from absl.testing import absltest
from absl.testing import parameterized
import tensorflow.compat.v1 as tf

from graph_resnet9.checkpoints import choose
from graph_resnet9.cluster import sockets
from graph_resnet9.training import rows
from tests import helpers

# A deadline against hangs, not a measurement.
PATIENCE_SECS = 240
STEPS_PER_EPOCH = 8  # Of helpers.TINY.


def free_ports(count):
  """Ports that nothing listens on."""
  taken = [socket.create_server(('127.0.0.1', 0)) for _ in range(count)]
  ports = [each.getsockname()[1] for each in taken]
  for each in taken:
    each.close()
  return ports


class Cluster:
  """Processes of a cluster; their output in files."""

  def __init__(self, folder, workers=2, servers=1, **flags):
    self.folder = pathlib.Path(folder)
    self.train_dir = self.folder / 'train'
    hosts = ['127.0.0.1:%d' % port for port in free_ports(servers + workers)]
    self._hosts = dict(ps=hosts[:servers], worker=hosts[servers:])
    self._flags = {
      **helpers.TINY,
      'ps_hosts': ','.join(self._hosts['ps']),
      'worker_hosts': ','.join(self._hosts['worker']),
      'train_dir': self.train_dir,
      'wait_secs': 120,
      **flags,
    }
    self._processes = {}

  def hosts(self, job):
    return self._hosts[job]

  def start(self, job, index=0, **flags):
    """Starts a process, or starts it again; with other flags if need be."""
    arguments = helpers.arguments(
      **{**self._flags, **flags}, job_name=job, task_index=index
    )
    files = [self._path(job, index, kind) for kind in ('in', 'out', 'err')]
    for file in files:
      file.touch()
    self._processes[job, index] = helpers.forked('train', arguments, files)

  def _path(self, job, index, kind):
    return self.folder / ('%s%d.%s' % (job, index, kind))

  def said(self, job, index=0, kind='out'):
    return helpers.heard(self._path(job, index, kind).read_text())

  def refused(self, job, index=0, **flags):
    """What a process says that is started besides with other flags."""
    done = helpers.command(
      'train',
      *helpers.arguments(
        **{**self._flags, **flags}, job_name=job, task_index=index
      ),
    )
    if done.returncode != 1 or len(done.stderr.splitlines()) != 1:
      raise AssertionError(done)
    return done.stderr

  def signal(self, number, job, index=0):
    os.kill(self._processes[job, index].pid, number)

  def kill(self, job, index=0):
    self.signal(signal.SIGKILL, job, index)
    self.code(job, index)
    del self._processes[job, index]

  def code(self, job, index=0):
    """The exit code, once it has ended."""
    process = self._processes[job, index]
    process.join(PATIENCE_SECS)
    return process.exitcode

  def step(self):
    """The step of the newest row of the table."""
    done = (
      rows.read_rows(str(self.train_dir)) if self.train_dir.is_dir() else []
    )
    return done[-1].step if done else 0

  def wait_for(self, what):
    """Waits until what() is true, and all processes run meanwhile."""
    deadline = time.monotonic() + PATIENCE_SECS
    while not what():
      ended = [
        key for key, each in self._processes.items() if not each.is_alive()
      ]
      if ended or time.monotonic() > deadline:
        raise AssertionError(
          '%s ended' % ended if ended else 'in vain',
          {
            path.name: path.read_text()[-2000:]
            for path in self.folder.glob('*.*')
          },
        )
      time.sleep(0.1)

  def saved_step(self):
    """The step of the newest checkpoint."""
    return int(choose.newest(str(self.train_dir)).rpartition('-')[2])

  def goes_on(self):
    """Waits until two epochs more have been reported."""
    begin = self.step()
    self.wait_for(lambda: self.step() >= begin + 2 * STEPS_PER_EPOCH)

  def joins(self, index):
    """Starts a worker and waits until it and the chief are at work."""
    said = lambda: (
      self.said('worker', index).count('joined')
      if self._path('worker', index, 'out').exists()
      else 0
    )
    before = said()
    self.start('worker', index)
    self.wait_for(lambda: said() > before)
    self.goes_on()

  def close(self):
    for process in self._processes.values():
      process.kill()
      process.join()


class ClusterTest(parameterized.TestCase):
  def cluster(self, **flags):
    folder = tempfile.mkdtemp()
    self.addCleanup(shutil.rmtree, folder)
    found = Cluster(folder, **flags)
    self.addCleanup(found.close)
    return found

  @parameterized.parameters(False, True)
  def test_survives_a_late_worker_and_kills_of_each_process(self, sync):
    cluster = self.cluster(sync=sync, epochs=100000, save_secs=1)
    cluster.start('ps')
    cluster.start('worker', 0)
    if not sync:  # A synchronous step waits for every worker.
      cluster.goes_on()
    cluster.joins(1)

    cluster.kill('worker', 1)
    if not sync:
      cluster.goes_on()
    cluster.joins(1)

    cluster.signal(signal.SIGTERM, 'worker', 1)
    self.assertEqual(cluster.code('worker', 1), 143)
    cluster.joins(1)

    cluster.kill('worker', 0)
    saved = cluster.saved_step()
    # A checkpoint comes with each row, and a row within an epoch or so.
    self.assertGreaterEqual(saved, cluster.step() - 2 * STEPS_PER_EPOCH)
    cluster.start('worker', 0)
    cluster.goes_on()
    # A row is kept before it is printed.
    reported = rows.read_rows(str(cluster.train_dir))
    last = rows.table_row(reported[-1])
    resumed = lambda: cluster.said('worker', 0).split('dataset:')[2]
    cluster.wait_for(lambda: last in resumed())
    table = resumed()
    for row in reported:
      self.assertIn(rows.table_row(row), table)

    saved = cluster.saved_step()
    cluster.kill('ps')
    cluster.start('ps')
    cluster.wait_for(lambda: cluster.saved_step() > saved)
    cluster.goes_on()

    cluster.signal(signal.SIGTERM, 'worker', 0)
    self.assertEqual(cluster.code('worker', 0), 143)
    self.assertEqual(cluster.code('ps'), 0)
    self.assertEqual(cluster.code('worker', 1), 1)
    self.assertIn(
      'the chief has ended at step', cluster.said('worker', 1, 'err')
    )
    for job, index in (('ps', 0), ('worker', 0), ('worker', 1)):
      self.assertNotIn('Traceback', cluster.said(job, index, 'err'))

  def test_host_that_never_comes_ends_the_wait_by_name(self):
    """Four clusters at once, in each of which somebody is missing."""
    cases = []
    for start, silent, sync in (
      ([('worker', 0)], 'ps', False),
      ([('ps', 0)], 'worker', False),
      ([('ps', 0), ('worker', 1)], 'worker', False),
      ([('ps', 0), ('worker', 0)], 'worker', True),
    ):
      cluster = self.cluster(sync=sync, wait_secs=8)
      for job, index in start:
        cluster.start(job, index)
      cases.append(
        (cluster, start[-1], cluster.hosts(silent)[1 if sync else 0])
      )
    for cluster, (job, index), host in cases:
      with self.subTest(job=job, index=index, missing=host):
        self.assertEqual(cluster.code(job, index), 1)
        self.assertRegex(
          cluster.said(job, index, 'err').splitlines()[-1],
          'train: .*%s.*: has not answered for 8 s' % host,
        )

  def test_chief_that_never_begins_ends_the_wait(self):
    cluster = self.cluster(wait_secs=8)
    ps, workers = cluster.hosts('ps'), cluster.hosts('worker')
    chief = tf.train.Server({'ps': ps, 'worker': workers}, 'worker', 0)
    cluster.start('ps')
    cluster.start('worker', 1)
    self.assertEqual(cluster.code('worker', 1), 1)
    self.assertRegex(
      cluster.said('worker', 1, 'err').splitlines()[-1],
      'train: %s: the chief has not begun for 8 s' % workers[0],
    )
    del chief

  def test_processes_that_do_not_belong_are_refused_and_nobody_is_harmed(self):
    cluster = self.cluster(epochs=100000)
    chief, other = cluster.hosts('worker')
    cluster.start('ps')
    cluster.start('worker', 0)
    cluster.goes_on()
    elsewhere = str(cluster.folder / 'elsewhere')
    for expected, job, index, flags in (
      (
        '--lr_values=0.0,0.3,0.0: the chief, %s, has --lr_values=0.0,0.4,0.0;'
        % chief,
        'worker',
        1,
        dict(lr_values='0,0.3,0'),
      ),
      (
        '--worker_hosts=%s,%s,127.0.0.1:1: the chief' % (chief, other),
        'worker',
        1,
        dict(worker_hosts='%s,%s,127.0.0.1:1' % (chief, other)),
      ),
      ('is training in it', 'worker', 0, {}),
      (
        '%s: a server answers there already; is worker 0 started twice' % chief,
        'worker',
        0,
        dict(train_dir=elsewhere),
      ),
      ('is ps 0 started twice', 'ps', 0, {}),
    ):
      with self.subTest(expected):
        self.assertIn(expected, cluster.refused(job, index, **flags))
    cluster.joins(1)

    cluster.kill('worker', 0)
    self.assertIn(
      'has no checkpoint, and the parameter servers hold a training at step',
      cluster.refused('worker', 0, train_dir=elsewhere),
    )
    cluster.start('worker', 0)
    cluster.goes_on()

  @parameterized.parameters(False, True)
  def test_frozen_worker(self, signalled):
    """A step of all waits for it: the chief saves, and ends."""
    cluster = self.cluster(
      sync=True,
      epochs=100000,
      save_secs=10**6,
      train_examples=32 * 1000,  # No save at the end of an epoch.
    )
    cluster.start('ps')
    cluster.start('worker', 0, wait_secs=120 if signalled else 12)
    cluster.start('worker', 1)
    cluster.wait_for(lambda: 'joined' in cluster.said('worker', 1))
    time.sleep(5)
    cluster.signal(signal.SIGSTOP, 'worker', 1)
    if signalled:
      time.sleep(2)
      cluster.signal(signal.SIGTERM, 'worker', 0)
      expected = 'train: stopped by SIGTERM, saved %s' % cluster.train_dir
    else:
      expected = 'train: %s: has not answered' % cluster.hosts('worker')[1]
    self.assertEqual(cluster.code('worker', 0), 143 if signalled else 1)
    self.assertStartsWith(
      cluster.said('worker', 0, 'err').splitlines()[-1], expected
    )
    self.assertGreater(cluster.saved_step(), 0)
    self.assertEqual(cluster.code('ps'), 0)

  def test_frozen_parameter_server_ends_the_wait_by_name(self):
    cluster = self.cluster(epochs=100000, wait_secs=8)
    cluster.start('ps')
    cluster.start('worker', 0)
    cluster.goes_on()
    cluster.signal(signal.SIGSTOP, 'ps')
    self.assertEqual(cluster.code('worker', 0), 1)
    self.assertRegex(
      cluster.said('worker', 0, 'err').splitlines()[-1],
      'train: %s: has not answered for 8 s .*; not saved since %s'
      % (cluster.hosts('ps')[0], cluster.train_dir),
    )

  def test_one_of_two_parameter_servers_comes_back_empty(self):
    cluster = self.cluster(servers=2, epochs=100000, save_secs=1)
    for index in (0, 1):
      cluster.start('ps', index)
    cluster.start('worker', 0)
    cluster.goes_on()
    cluster.kill('ps', 1)
    before, saved = len(cluster.said('worker')), cluster.saved_step()
    cluster.start('ps', 1)
    cluster.goes_on()
    steps = [row.step for row in rows.read_rows(str(cluster.train_dir))]
    self.assertEqual(steps, sorted(set(steps)))
    self.assertGreater(cluster.saved_step(), saved)
    self.assertNotIn('epoch', cluster.said('worker')[before:])

  def test_parameter_server_that_is_gone_ends_the_wait_by_name(self):
    cluster = self.cluster(epochs=100000, wait_secs=8)
    cluster.start('ps')
    cluster.start('worker', 0)
    cluster.goes_on()
    cluster.kill('ps')
    self.assertEqual(cluster.code('worker', 0), 1)
    self.assertRegex(
      cluster.said('worker', 0, 'err').splitlines()[-1],
      'train: %s: has not answered for 8 s' % cluster.hosts('ps')[0],
    )

  def test_sigterm_ends_a_parameter_server_without_workers(self):
    cluster = self.cluster()
    cluster.start('ps')
    cluster.wait_for(lambda: sockets.answers(cluster.hosts('ps')[0]))
    cluster.signal(signal.SIGTERM, 'ps')
    self.assertEqual(cluster.code('ps'), 143)
    self.assertEqual(
      cluster.said('ps', 0, 'err'),
      'SIGTERM: stopping when no worker needs the variables, in 8 s at the '
      'latest; again to stop now\n',
    )

  def test_chief_that_fails_ends_the_cluster(self):
    cluster = self.cluster(epochs=100000, lr_values='0,1e30', lr_epochs='0,1')
    for job, index in (('ps', 0), ('worker', 0), ('worker', 1)):
      cluster.start(job, index)
    self.assertEqual(cluster.code('worker', 0), 1)
    self.assertRegex(cluster.said('worker', 0, 'err'), 'the loss is .* at step')
    self.assertEqual(cluster.code('worker', 1), 1)
    self.assertEqual(cluster.code('ps'), 0)


class LocalClusterTest(absltest.TestCase):
  """scripts/local_cluster.sh, with a flagfile."""

  def start(self, train_dir):
    flags = helpers.arguments(
      flagfile='flags/cluster_sync.flags',
      epochs=16,
      width=4,
      train_examples=512,
      test_examples=100,
      batch_size=64,
      train_dir=train_dir,
    )
    return subprocess.Popen(
      ['scripts/local_cluster.sh', *flags],
      cwd=helpers.ROOT,
      text=True,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      env=helpers.environment(PYTHON=sys.executable),
    )

  def test_sigterm_saves_and_the_same_command_resumes(self):
    folder = self.create_tempdir().full_path
    process = self.start(folder)
    _, _, first_row = (process.stdout.readline() for _ in range(3))
    process.terminate()
    _, err = process.communicate(timeout=PATIENCE_SECS)
    self.assertEqual(process.returncode, 143, err)

    out, err = self.start(folder).communicate(timeout=PATIENCE_SECS)
    result = json.loads(out.splitlines()[-1])
    self.assertGreaterEqual(result['step'], 128, err)
    self.assertEqual(out.splitlines(keepends=True)[2], first_row)
    self.assertRegex(err, '"worker": 1, "steps": [1-9]')
    self.assertNotIn('Traceback', err)


if __name__ == '__main__':
  absltest.main()
