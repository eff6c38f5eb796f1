"""Training by several processes: servers, sessions, and the end."""

from collections.abc import Iterator
import contextlib
import time

from absl import logging
import tensorflow.compat.v1 as tf

from graph_resnet9 import interrupts
from graph_resnet9.cluster import sockets
from graph_resnet9.cluster import tasks
from graph_resnet9.errors import UserError

_POLL_SECS = 0.5
# How long a parameter server goes on when all is done, so that the workers'
# sessions close before it is gone.
_LINGER_SECS = 2
# A signal reaches the chief, too, as a rule, and it needs the variables to save
# them. Less than the 10 s after which containers are killed.
_SIGNAL_GRACE_SECS = 8
_REPORT_MILLISECS = 10000
# How long a closing session waits for its threads. One of the chief's waits for
# gradients until the session is closed.
STOP_GRACE_SECS = 1


def start_server(task: tasks.Task) -> tf.train.Server:
  """Starts the server of this process in a thread of TensorFlow's.

  Raises:
    UserError: its port is taken, or another process answers at its address,
      or two hosts have one, or other machines cannot be kept away.
  """
  host, port = task.hosts[task.index].rsplit(':', 1)
  if task.bind == 'loopback' and not sockets.is_loopback(host):
    raise UserError(
      '%s:%s: other machines reach this process with --bind=all only; '
      "TensorFlow's servers know no authentication, so in a private network "
      'only' % (host, port)
    )
  twins = sockets.twins(task.ps + task.workers)
  if twins:
    raise UserError(
      '--ps_hosts, --worker_hosts: %s and %s are one address' % twins
    )
  if sockets.answers('%s:%s' % (host, port)):
    raise UserError(
      '%s:%s: a server answers there already; is %s %d started twice, or on '
      'another machine than its address says?'
      % (host, port, task.job, task.index)
    )
  # The variables belong into memory: a GPU here is for the worker.
  config = tf.ConfigProto(device_count={'GPU': 0} if task.job == 'ps' else {})
  try:
    server = tf.train.Server(
      {'ps': task.ps, 'worker': task.workers},
      task.job,
      task.index,
      config=config,
      start=False,
    )
  except tf.errors.OpError as e:
    raise UserError(
      '%s:%s: cannot listen there: %s' % (host, port, e.message.splitlines()[0])
    ) from None
  if task.bind == 'loopback':
    sockets.keep_to_loopback(int(port))
  server.start()
  logging.info('%s %d listens on %s:%s', task.job, task.index, host, port)
  return server


def wait_for(task: tasks.Task) -> None:
  """Waits until the hosts that this process needs (Task.needed) answer.

  Raises:
    UserError: one has not answered for wait_secs; names it.
  """
  for host in task.needed:
    _wait(host, task.wait_secs)


def _wait(host, secs):
  began, warned = time.monotonic(), False
  while not sockets.answers(host):
    waited = time.monotonic() - began
    if waited > secs:
      raise UserError(sockets.silent(host, secs))
    if waited > 5 and not warned:
      warned = True
      logging.warning('waiting for %s, at most %g s', host, secs)
    time.sleep(_POLL_SECS)


def session(
  task: tasks.Task,
  server: tf.train.Server,
  scaffold: tf.train.Scaffold,
  hooks: list[tf.train.SessionRunHook],
) -> tf.train.MonitoredSession:
  """A MonitoredSession of a worker that is not the chief.

  tf.train.MonitoredTrainingSession looks every 30 seconds whether the chief has
  initialised the variables, and a short training is over by then.
  """
  return tf.train.MonitoredSession(
    _WorkerSessionCreator(task, scaffold, server.target),
    hooks,
    stop_grace_period_secs=STOP_GRACE_SECS,
  )


class _WorkerSessionCreator(tf.train.WorkerSessionCreator):
  """Looks every second whether the chief has initialised the variables."""

  def __init__(self, task, scaffold, target):
    super().__init__(
      scaffold, target, tasks.session_config(task), task.wait_secs
    )
    self._chief = task.workers[0]

  def create_session(self):
    try:
      return super().create_session()
    except tf.errors.DeadlineExceededError:
      raise UserError(
        '%s: the chief has not initialised the variables for %g s '
        '(--wait_secs); see what it says' % (self._chief, self._max_wait_secs)
      ) from None

  def _get_session_manager(self):
    if not self._session_manager:
      scaffold = self._scaffold
      self._session_manager = tf.train.SessionManager(
        local_init_op=scaffold.local_init_op,
        local_init_feed_dict=scaffold.local_init_feed_dict,
        ready_op=scaffold.ready_op,
        ready_for_local_init_op=scaffold.ready_for_local_init_op,
        graph=tf.get_default_graph(),
        recovery_wait_secs=1,
      )
    return self._session_manager


# The end: each worker tells the parameter servers, and they and the other
# workers look whether the chief has.


def _ended_queue(server_index, worker_index):
  """A queue on a parameter server; its size is how often a worker has ended."""
  with tf.device('/job:ps/task:%d' % server_index):
    return tf.FIFOQueue(
      1000, [tf.bool], [[]], shared_name='worker_%d_ended' % worker_index
    )


@contextlib.contextmanager
def joined(task: tasks.Task, server: tf.train.Server) -> Iterator[None]:
  """Tells the parameter servers when this worker has ended, well or not.

  Inside, sessions are opened and closed.
  """
  try:
    yield
  finally:
    _report_end(task, server)


def _report_end(task, server):
  with tf.Graph().as_default():
    enqueue = [
      _ended_queue(i, task.index).enqueue(True) for i in range(len(task.ps))
    ]
    config = tasks.session_config(task)
    config.operation_timeout_in_ms = _REPORT_MILLISECS
    try:
      with tf.Session(server.target, config=config) as session_:
        session_.run(enqueue)
    except tf.errors.OpError as e:
      logging.warning(
        '%s: not told that worker %d has ended: %s',
        ', '.join(task.ps),
        task.index,
        e.message.splitlines()[0],
      )


class StopAfterChief(tf.train.SessionRunHook):
  """Ends the session of another worker when the chief has ended."""

  def __init__(self):
    self.step = 0

  def begin(self):
    self._ended = _ended_queue(0, 0).size()
    self._step = tf.train.get_global_step()

  def before_run(self, run_context):
    del run_context
    return tf.train.SessionRunArgs(self._ended)

  def after_run(self, run_context, run_values):
    if run_values.results:
      # Read after the chief has ended, so it is the last one.
      self.step = int(run_context.session.run(self._step))
      run_context.request_stop()


def serve(task: tasks.Task) -> int:
  """Runs a parameter server until the workers have ended, or a signal.

  It ends when the chief has said that it has ended, and every other worker has,
  or does not answer any more. After a signal it goes on for 8 seconds at most
  while there are workers.

  Args:
    task: Task with job 'ps'.
  Returns:
    Exit code: 0, or 128 + the number of the signal that stopped it.
  Raises:
    UserError: no worker has answered for wait_secs.
  """
  stop = interrupts.StopOnSignal(
    'stopping when no worker needs the variables, in %d s at the latest'
    % _SIGNAL_GRACE_SECS
  )
  stop.listen()
  server = start_server(task)
  with tf.Graph().as_default():
    ended = [
      _ended_queue(task.index, i).size() for i in range(len(task.workers))
    ]
    config = tf.ConfigProto(device_filters=[task.device])
    with tf.Session(server.target, config=config) as watching:
      heard, signalled = time.monotonic(), None
      while True:
        time.sleep(_POLL_SECS)
        if stop.interrupted():
          signalled = signalled or time.monotonic()
          if time.monotonic() - signalled > _SIGNAL_GRACE_SECS:
            break
        running = [
          host
          for host, times in zip(task.workers, watching.run(ended))
          if not times
        ]
        chief_ended = task.workers[0] not in running
        answering = any(map(sockets.answers, running))
        if not answering and (chief_ended or signalled):
          time.sleep(_LINGER_SECS)
          break
        if answering:
          heard = time.monotonic()
        elif time.monotonic() - heard > task.wait_secs:
          raise UserError(
            sockets.silent(', '.join(task.workers), task.wait_secs)
          )
  return 128 + stop.signal if stop.signal is not None else 0
