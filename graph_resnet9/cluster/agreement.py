"""The chief's recipe, where every worker compares its own with it.

It lies in a table on the first parameter server, as the text of a flagfile.
"""

import contextlib
import time

import tensorflow.compat.v1 as tf

from graph_resnet9.cli import flagfile
from graph_resnet9.cli import train_flags
from graph_resnet9.cluster import tasks
from graph_resnet9.errors import UserError
from graph_resnet9.training import graph

_POLL_SECS = 0.5
# A parameter server that has gone, and may come back.
_LOST = (tf.errors.AbortedError, tf.errors.UnavailableError)
# All that the processes of a cluster must share.
_SHARED = ('ps_hosts', 'worker_hosts')
_APART_FROM = tuple(
  name for name in train_flags.SESSION_FLAGS if name not in _SHARED
)


def refuse_new_run(
  task: tasks.Task, server: tf.train.Server, train_dir: str
) -> None:
  """Raises UserError if the parameter servers hold a training already.

  Of a chief without a checkpoint, which would initialise them anew.
  """
  with tf.Graph().as_default(), tf.device(tasks.device_setter(task)):
    step = graph.global_step()
    there = step.is_initialized()
    with _session(task, server) as session:
      if session.run(there) and (taken := session.run(step)):
        raise UserError(
          '--train_dir=%s: has no checkpoint, and the parameter servers hold a '
          'training at step %d; give its --train_dir, or start them anew, too'
          % (train_dir, taken)
        )


class Announce(tf.train.SessionRunHook):
  """Of the chief: puts its recipe there, whenever a session begins.

  A parameter server that was started again has forgotten it.
  """

  def __init__(
    self, settings: train_flags.Train, task: tasks.Task, server: tf.train.Server
  ) -> None:
    """Makes the hook.

    Args:
      settings: the recipe, the data set found.
      task: the chief's.
      server: its server.
    """
    self._text = flagfile.text(_with_hosts(settings, task), but=_APART_FROM)
    self._open = lambda: _session(task, server)

  def after_create_session(self, session, coord):
    del session, coord
    with tf.Graph().as_default():
      insert = tf.raw_ops.LookupTableInsertV2(
        table_handle=_table(), keys=tf.constant(0, tf.int64), values=self._text
      )
      with self._open() as apart:
        apart.run(insert)


class SameRecipe(tf.train.SessionRunHook):
  """Of another worker: waits for the chief's recipe and compares; each step.

  A chief may be started again with other flags while workers go on.
  """

  def __init__(
    self, settings: train_flags.Train, task: tasks.Task, server: tf.train.Server
  ) -> None:
    """Waits until the chief has put its recipe there.

    Args:
      settings: of this worker, the data set found.
      task: this worker's.
      server: its server.
    Raises:
      UserError: a flag has another value, which it names with both; or the
        chief does not begin for wait_secs.
    """
    self._mine = _with_hosts(settings, task)
    self._chief = task.workers[0]
    self._same = b''
    began = time.monotonic()
    with tf.Graph().as_default():
      text, found = _find(), b''
      while not found:
        if time.monotonic() - began > task.wait_secs:
          raise UserError(
            '%s: the chief has not begun for %g s (--wait_secs); see what it '
            'says' % (self._chief, task.wait_secs)
          )
        with contextlib.suppress(*_LOST):
          with _session(task, server) as session:
            found = session.run(text)
        time.sleep(_POLL_SECS)
    self._check(found)

  def _check(self, found):
    if found in (b'', self._same):
      return  # Empty: a new parameter server that has not been told yet.
    chief = flagfile.parse(found.decode(), 'the flags of ' + self._chief)
    for name, theirs, mine in flagfile.differing(
      chief, self._mine, _APART_FROM
    ):
      raise UserError(
        '--%s=%s: the chief, %s, has --%s=%s; give every process of a cluster '
        'the same flags' % (name, mine, self._chief, name, theirs)
      )
    self._same = found

  def begin(self):
    self._text = _find()

  def before_run(self, run_context):
    del run_context
    return tf.train.SessionRunArgs(self._text)

  def after_run(self, run_context, run_values):
    del run_context
    self._check(run_values.results)


def _session(task, server):
  return tf.Session(server.target, config=tasks.session_config(task))


def _with_hosts(settings, task):
  """The settings with the hosts in them, where TF_CONFIG has given them."""
  return settings.replace(
    cluster=settings.cluster.replace(
      ps_hosts=task.ps, worker_hosts=task.workers
    )
  )


def _table():
  with tf.device('/job:ps/task:0'):
    return tf.raw_ops.MutableHashTableV2(
      key_dtype=tf.int64, value_dtype=tf.string, shared_name='recipe'
    )


def _find():
  """The text in the table; empty if there is none."""
  with tf.device('/job:ps/task:0'):
    return tf.raw_ops.LookupTableFindV2(
      table_handle=_table(), keys=tf.constant(0, tf.int64), default_value=''
    )
