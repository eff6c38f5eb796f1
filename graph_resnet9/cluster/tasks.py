"""Which process of a cluster this is, and what it may use of the others.

Between-graph replication: parameter servers hold the variables, every worker
builds the graph for itself and runs it on a server in its own process. Worker 0
is the chief.
"""

from collections.abc import Callable
from collections.abc import Mapping
import json
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from graph_resnet9.cli import train_flags
from graph_resnet9.errors import UserError


class Task(NamedTuple):
  """This process: the `index`-th of a job.

  job: 'ps' or 'worker'.
  ps, workers: HOST:PORT of all.
  sync: a step joins the gradients of all workers, each of batch_size / workers
    images. Otherwise each takes steps of its own, of batch_size images.
  bind: 'loopback' or 'all'.
  wait_secs: how long to wait for a host that does not answer.
  """

  job: str
  index: int  # type: ignore[assignment]  # Tuples have a method of the name.
  ps: tuple[str, ...]
  workers: tuple[str, ...]
  sync: bool
  bind: str
  wait_secs: float

  @property
  def chief(self) -> bool:
    """Whether it alone updates the moving statistics, evaluates and saves."""
    return self.job == 'worker' and self.index == 0

  @property
  def device(self) -> str:
    """Where its own ops live."""
    return '/job:%s/task:%d' % (self.job, self.index)

  @property
  def hosts(self) -> tuple[str, ...]:
    return self.ps if self.job == 'ps' else self.workers

  @property
  def needed(self) -> tuple[str, ...]:
    """The hosts without which this process cannot work.

    Every parameter server and the chief; for a synchronous step all workers.
    """
    return self.ps + (self.workers if self.sync else self.workers[:1])


def task_of(
  settings: train_flags.Cluster, environment: Mapping[str, str]
) -> Task | None:
  """The task that flags, or else TF_CONFIG, give this process.

  Args:
    settings: the flags.
    environment: os.environ, or another mapping.
  Returns:
    Task, or None where there is no cluster.
  Raises:
    UserError: they contradict themselves.
  """
  job, index = settings.job_name, settings.task_index
  ps, workers = settings.ps_hosts, settings.worker_hosts
  where = '--job_name=%s' % job
  if not job:
    if ps or workers:
      raise UserError(
        '--ps_hosts, --worker_hosts: say with --job_name and '
        '--task_index which of them this process is'
      )
    job, index, ps, workers = _tf_config(environment)
    where = 'TF_CONFIG'
    if not job:
      if settings.sync:
        raise UserError(
          '--sync: needs a cluster; give --job_name, '
          '--task_index, --ps_hosts and --worker_hosts'
        )
      return None
  if not ps or not workers:
    raise UserError('%s: a cluster needs --ps_hosts and --worker_hosts' % where)
  task = Task(
    job,
    index,
    tuple(ps),
    tuple(workers),
    settings.sync,
    settings.bind,
    settings.wait_secs,
  )
  if index >= len(task.hosts):
    raise UserError(
      '%s, task %d: there are %d hosts of this job'
      % (where, index, len(task.hosts))
    )
  both = set(ps) & set(workers)
  if both:
    raise UserError(
      '%s: stands in --ps_hosts and in --worker_hosts' % min(both)
    )
  return task


def _tf_config(environment):
  """(job, index, ps hosts, worker hosts) of TF_CONFIG; job is '' if none."""
  try:
    config = json.loads(environment.get('TF_CONFIG') or '{}')
    spec = config.get('cluster', {})
    if not spec:
      return '', 0, [], []
    job, index = config['task']['type'], int(config['task']['index'])
    chiefs = spec.get('chief', spec.get('master', []))
    ps, workers = spec.get('ps', []), chiefs + spec.get('worker', [])
    if not isinstance(ps, list):
      raise ValueError('ps: not a list')
    # What the flags are held to.
    for hosts in (ps, workers):
      if not train_flags.are_hosts(hosts):
        raise ValueError(
          '%s: %s' % (', '.join(map(str, hosts)), train_flags.ARE_NO_HOSTS)
        )
    if index < 0:
      raise ValueError('the index is %d' % index)
  except (
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    RecursionError,  # Brackets by the thousand.
  ) as e:
    raise UserError(
      'TF_CONFIG: expected {"cluster": {"ps": [HOST:PORT, ...], '
      '"worker": [...]}, "task": {"type": "worker", "index": 0}}'
      ': %s' % e
    ) from None
  if job in ('chief', 'master'):
    return 'worker', index, ps, workers
  if job not in ('ps', 'worker'):
    raise UserError(
      'TF_CONFIG: task type %s; it must be chief, worker or ps' % job
    )
  return job, index + (len(chiefs) if job == 'worker' else 0), ps, workers


def device_setter(task: Task) -> Callable[[tf.Operation], str]:
  """For tf.device: variables to the parameter servers, all else to the worker.

  Several parameter servers take turns, in the order of creation, which is the
  same in all workers.
  """
  return tf.train.replica_device_setter(
    ps_tasks=len(task.ps), worker_device=task.device
  )


def session_config(task: Task) -> tf.ConfigProto:
  """Of a session of a worker.

  Without filters it would wait for every worker, also for one that is gone.
  """
  return tf.ConfigProto(
    allow_soft_placement=True, device_filters=['/job:ps', task.device]
  )
