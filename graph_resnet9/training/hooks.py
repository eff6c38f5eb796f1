"""Session hooks, where TensorFlow's own do not fit.

They belong into a session in the order in which they stand here: the loss is
looked at before an epoch is reported, an epoch is reported before its
checkpoint is saved (so that a kill in between repeats the report instead of
losing it), and a signal is honoured last.
"""

import os
import signal
import sys
import time

import numpy as np
import tensorflow.compat.v1 as tf
import tqdm

from graph_resnet9.checkpoints import choose as checkpoints
from graph_resnet9.errors import UserError
from graph_resnet9.training import rows as report


class StepValues(tf.train.SessionRunHook):
  """Base of hooks that look at named values after each step."""

  def __init__(self, **tensors):
    self._tensors = tensors

  def before_run(self, run_context):
    del run_context
    return tf.train.SessionRunArgs(self._tensors)

  def after_run(self, run_context, run_values):
    self.after_step(run_context, **run_values.results)

  def after_step(self, run_context, **values):
    raise NotImplementedError


class LossGuard(StepValues):
  """Stops with UserError when the loss is not finite."""

  def __init__(self, step, loss, train_dir):
    super().__init__(step=step, loss=loss)
    self._train_dir = train_dir

  def after_step(self, run_context, step, loss):
    if np.isfinite(loss):
      return
    raise UserError(not_finite('the loss is %s' % loss, step, self._train_dir))


def not_finite(what, step, train_dir):
  """The message when a run has diverged."""
  good = checkpoints.newest(train_dir)
  return (
    '%s at step %d; last good checkpoint: %s. Try a lower --lr_values, '
    'with another --train_dir' % (what, step, good or 'none')
  )


class Progress(StepValues):
  """A progress bar on stderr, if that is a terminal."""

  def __init__(self, step, loss, last_step):
    super().__init__(step=step, loss=loss)
    self._last_step = last_step
    self._bar = None

  def after_create_session(self, session, coord):
    del coord
    self._bar = tqdm.tqdm(
      total=self._last_step,
      initial=session.run(tf.train.get_global_step()),
      unit='step',
      disable=None,
      dynamic_ncols=True,
    )

  def after_step(self, run_context, step, loss):
    del run_context
    self._bar.set_postfix(loss='%.3f' % loss, refresh=False)
    self._bar.update(step - self._bar.n)

  def end(self, session):
    del session
    self._bar.close()


class StepCount(StepValues):
  """Counts the steps of this session's own, and remembers the last."""

  def __init__(self, step):
    super().__init__(step=step)
    self.steps = self.step = 0

  def after_step(self, run_context, step):
    del run_context
    self.steps += 1
    self.step = int(step)


class EpochReport(StepValues):
  """At the end of an epoch: evaluates, prints a row, records it."""

  def __init__(
    self,
    step,
    learning_rate,
    loss,
    accuracy,
    evaluate,
    train_dir,
    dataset,
    batch_size,
    steps_per_epoch,
    last_step,
    interrupted,
  ):
    """Makes the hook.

    Args:
      step: integer scalar Tensor, steps taken after this one.
      learning_rate, loss, accuracy: float scalar Tensors, of this step.
      evaluate: function from a session to (loss, accuracy) on the test images,
        or to None if `interrupted` turns true meanwhile.
      train_dir: directory with metrics.jsonl and event files.
      dataset: name for the rows.
      batch_size, steps_per_epoch, last_step: ints.
      interrupted: function without arguments to bool.
    """
    super().__init__(
      step=step, learning_rate=learning_rate, loss=loss, accuracy=accuracy
    )
    self._first_fetch = (tf.train.get_global_step(), learning_rate)
    self._evaluate = evaluate
    self._train_dir = train_dir
    self._dataset = dataset
    self._batch_size = batch_size
    self._steps_per_epoch = steps_per_epoch
    self._last_step = last_step
    self._interrupted = interrupted
    self._rows = []
    self._losses, self._accuracies, self._begin = [], [], None

  @property
  def rows(self):
    """report.Row of every epoch so far."""
    return list(self._rows)

  def _due(self, step):
    """Whether an epoch, or the run, has ended since the last row.

    In a cluster the steps of other workers come in between.
    """
    done = self._rows[-1].step if self._rows else 0
    return (
      step // self._steps_per_epoch > done // self._steps_per_epoch
      or step >= self._last_step > done
    )

  def after_create_session(self, session, coord):
    del coord
    self._writer = tf.summary.FileWriterCache.get(self._train_dir)
    step, learning_rate = session.run(self._first_fetch)
    # A row that is ahead of the checkpoint will come again.
    self._rows = [
      row for row in report.read_rows(self._train_dir) if row.step <= step
    ]
    if self._begin is None:  # Not again when a lost session has been made anew.
      print(report.table_header(), flush=True)
      for row in self._rows:
        print(report.table_row(row), flush=True)
    self._start(step)
    if self._due(step):  # Interrupted in evaluation.
      self._report(session, step, learning_rate)

  def _start(self, step):
    self._losses, self._accuracies = [], []
    self._first_step, self._begin = step, time.time()

  def after_step(self, run_context, step, learning_rate, loss, accuracy):
    self._losses.append(loss)
    self._accuracies.append(accuracy)
    if self._due(step) and not self._interrupted():
      self._report(run_context.session, step, learning_rate)

  def _report(self, session, step, learning_rate):
    steps = len(self._losses)
    train_secs = time.time() - self._begin if steps else 0.0
    test = self._evaluate(session)
    if test is None:
      return
    total_secs = self._rows[-1].total_secs if self._rows else 0.0
    row = report.Row(
      epoch=step / self._steps_per_epoch,
      step=int(step),
      dataset=self._dataset,
      learning_rate=float(learning_rate),
      train_secs=train_secs,
      train_loss=float(sum(self._losses) / steps) if steps else None,
      train_accuracy=float(sum(self._accuracies) / steps) if steps else None,
      test_loss=test[0],
      test_accuracy=test[1],
      total_secs=total_secs + train_secs,
    )
    self._rows.append(row)
    report.write_rows(self._train_dir, self._rows)
    report.write_summary(
      self._writer, row, (step - self._first_step) * self._batch_size
    )
    # Above the progress bar where there is one.
    with tqdm.tqdm.external_write_mode(file=sys.stdout):
      print(report.table_row(row), flush=True)
    self._start(step)


class Checkpoints(StepValues):
  """Saves at step 0, at the end of each epoch, every save_secs and at the end.

  Weights that are not finite are never saved, so the newest checkpoint is
  always one to go back to.
  """

  def __init__(self, step, saver, train_dir, save_secs, steps_per_epoch):
    super().__init__(step=step)
    self._saver = saver
    self._train_dir = train_dir
    self._save_secs = save_secs
    self._steps_per_epoch = steps_per_epoch
    self._saved_step = self._saved_at = None

  def begin(self):
    self._global_step = tf.train.get_global_step()
    with tf.name_scope('all_finite'):
      self._finite = tf.reduce_all(
        [
          tf.reduce_all(tf.is_finite(v))
          for v in tf.global_variables()
          if v.dtype.base_dtype.is_floating
        ]
      )

  def after_create_session(self, session, coord):
    del coord
    step = session.run(self._global_step)
    if step:
      self._saved_step, self._saved_at = step, time.time()
    else:
      self._save(session, step)

  def after_step(self, run_context, step):
    if (
      step // self._steps_per_epoch > self._saved_step // self._steps_per_epoch
      or time.time() - self._saved_at >= self._save_secs
    ):
      self._save(run_context.session, step)

  def end(self, session):
    step = session.run(self._global_step)
    if step != self._saved_step:
      self._save(session, step)

  def _save(self, session, step):
    if not session.run(self._finite):
      raise UserError(
        not_finite('a variable is not finite', step, self._train_dir)
      )
    prefix = os.path.join(self._train_dir, checkpoints.NAME)
    try:
      # First: a checkpoint that has an index then lacks nothing.
      self._saver.export_meta_graph('%s-%d.meta' % (prefix, step))
      self._saver.save(session, prefix, step, write_meta_graph=False)
    except (tf.errors.AbortedError, tf.errors.UnavailableError):
      raise  # A process of the cluster is lost: the session is made anew.
    except tf.errors.OpError as e:
      raise checkpoints.not_saved(self._train_dir, e) from None
    self._saved_step, self._saved_at = step, time.time()


class StopAtStep(StepValues):
  """Stops when `last_step` is reached, at once if the checkpoint is there.

  tf.train.StopAtStepHook would take a step too many in a finished run.
  """

  def __init__(self, step, last_step):
    super().__init__(step=step)
    self._last_step = last_step

  def after_create_session(self, session, coord):
    if session.run(tf.train.get_global_step()) >= self._last_step:
      coord.request_stop()

  def after_step(self, run_context, step):
    if step >= self._last_step:
      run_context.request_stop()


class StopOnSignal(tf.train.SessionRunHook):
  """Ends the session after the current step on SIGTERM and SIGINT.

  The hooks' end() then runs, which saves. A second signal of the same kind acts
  as if this hook were not there.
  """

  def __init__(self):
    self.signal = None
    self._before = {}

  def interrupted(self):
    return self.signal is not None

  def after_create_session(self, session, coord):
    del session, coord
    for number in (signal.SIGTERM, signal.SIGINT):
      self._before.setdefault(number, signal.signal(number, self._note))

  def _note(self, number, frame):
    del frame
    self.signal = number
    signal.signal(number, self._before[number])

  def after_run(self, run_context, run_values):
    del run_values
    if self.signal is not None:
      run_context.request_stop()

  def end(self, session):
    del session
    for number, handler in self._before.items():
      signal.signal(number, handler)
