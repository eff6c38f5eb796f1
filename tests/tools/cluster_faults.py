"""The faults of fault_harness that are done to a cluster.

Each is a function as those there, of a directory of its own and moments.
"""

import contextlib
import signal
import time

from graph_resnet9.training import rows
from tests import helpers
from tests.cluster import processes_test


@contextlib.contextmanager
def _cluster(scratch, *first, **flags):
  """A processes_test.Cluster in which the processes `first` are at work."""
  cluster = processes_test.Cluster(scratch, epochs=100000, **flags)
  try:
    for job, index in first:
      cluster.start(job, index)
    cluster.goes_on()
    yield cluster
  finally:
    cluster.close()


def _last_line(cluster, job, index, code):
  found = cluster.code(job, index)
  stderr = cluster.said(job, index, 'err')
  assert found == code and 'Traceback' not in stderr, (found, stderr)
  return stderr.splitlines()[-1]


def frozen_worker(scratch, moments):
  """A synchronous step waits for a frozen worker; SIGTERM saves.

  Returns:
    Seconds from the signal to the end of the chief.
  """
  with _cluster(
    scratch,
    *(('ps', 0), ('worker', 0), ('worker', 1)),
    sync=True,
    save_secs=10**6,
  ) as cluster:
    time.sleep(moments.uniform(0, 1))
    cluster.signal(signal.SIGSTOP, 'worker', 1)
    time.sleep(moments.uniform(0, 3))
    cluster.signal(signal.SIGTERM, 'worker', 0)
    began = time.monotonic()
    line = _last_line(cluster, 'worker', 0, 143)
    secs, saved = time.monotonic() - began, cluster.saved_step()
    assert 'saved %s/model.ckpt-%d;' % (cluster.train_dir, saved) in line, line
    assert cluster.step() <= saved, (cluster.step(), saved)
    helpers.weights(cluster.train_dir / ('model.ckpt-%d' % saved))
    assert cluster.code('ps') == 0
    return round(secs, 1)


def frozen_server(scratch, moments):
  """A frozen parameter server ends the chief by name, and nothing is lost."""
  with _cluster(scratch, ('ps', 0), ('worker', 0), wait_secs=20) as cluster:
    time.sleep(moments.uniform(0, 1))
    cluster.signal(signal.SIGSTOP, 'ps')
    line = _last_line(cluster, 'worker', 0, 1)
    assert cluster.hosts('ps')[0] + ': has not answered' in line, line
    assert 'not saved since %s' % cluster.train_dir in line, line
    helpers.weights(
      cluster.train_dir / ('model.ckpt-%d' % cluster.saved_step())
    )


def empty_server(scratch, moments):
  """One of two parameter servers comes back empty: no random weights."""
  with _cluster(
    scratch, *(('ps', 0), ('ps', 1), ('worker', 0)), servers=2, save_secs=1
  ) as cluster:
    first = cluster.train_dir / 'metrics.jsonl'
    before = first.read_text().splitlines()[0]
    index, saved = moments.randrange(2), cluster.saved_step()
    cluster.kill('ps', index)
    time.sleep(moments.uniform(0, 2))
    cluster.start('ps', index)
    cluster.goes_on()
    cluster.signal(signal.SIGTERM, 'worker', 0)
    line = _last_line(cluster, 'worker', 0, 143)
    assert cluster.saved_step() > saved, line
    steps = [row.step for row in rows.read_rows(str(cluster.train_dir))]
    assert steps == sorted(set(steps)), steps
    assert first.read_text().splitlines()[0] == before


def other_flags(scratch, moments):
  """A worker with another flag than the chief ends with both values."""
  name, value = moments.choice(
    [('lr_values', '0,0.3,0'), ('width', 8), ('batch_size', 16), ('seed', 3)]
  )
  with _cluster(scratch, ('ps', 0), ('worker', 0)) as cluster:
    line = cluster.refused('worker', 1, **{name: value})
    assert '--%s=' % name in line and 'the chief' in line, line
    cluster.joins(1)


def task_twice(scratch, moments):
  """A process of a task that is running already ends; the running goes on."""
  with _cluster(scratch, ('ps', 0), ('worker', 0)) as cluster:
    job = moments.choice(['ps', 'worker'])
    line = cluster.refused(job, 0, train_dir=scratch / 'other')
    assert 'is %s 0 started twice' % job in line, line
    cluster.goes_on()


FAULTS = (frozen_worker, frozen_server, empty_server, other_flags, task_twice)
