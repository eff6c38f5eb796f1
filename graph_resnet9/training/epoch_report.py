"""The hook that ends an epoch: evaluation, a row of the table, its records."""

from collections.abc import Callable
import select
import sys
import time

import tensorflow.compat.v1 as tf
import tqdm

from graph_resnet9.cli import train_flags
from graph_resnet9.evaluation import evaluate
from graph_resnet9.training import graph
from graph_resnet9.training import rows
from graph_resnet9.training import step_hook


class EpochReport(step_hook.StepHook):
  """At the end of an epoch: evaluates, prints a row, records it."""

  def __init__(
    self,
    settings: train_flags.Train,
    step: graph.Step,
    test: evaluate.BesideTraining,
    interrupted: Callable[[], bool],
    fail: Callable[[Exception], None],
  ) -> None:
    """Makes the hook.

    Args:
      settings: of the run.
      step: the graph that the session runs.
      test: is evaluated; not to the end if `interrupted` turns true meanwhile,
        and then there is no row.
      interrupted: whether the session is to stop.
      fail: is told the error when there is no stdout any more.
    """
    super().__init__(
      step=step.step,
      learning_rate=step.learning_rate,
      loss=step.loss,
      accuracy=step.accuracy,
    )
    self._now = tf.train.get_global_step(), step.learning_rate
    self._test = test
    self._train_dir = settings.train_dir
    self._dataset = settings.data.dataset
    self._batch_size = settings.batches.batch_size
    self._steps_per_epoch = step.steps_per_epoch
    self._last_step = step.last_step
    self._interrupted = interrupted
    self._fail = fail
    self._rows: list[rows.Row] | None = None
    self._lines: list[str] = []
    self._forget()

  def _forget(self):
    self._losses, self._accuracies, self._secs = [], [], 0.0

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
    step, learning_rate = session.run(self._now)
    first = self._rows is None  # Else a lost session has been made anew.
    # A row that is ahead of the checkpoint will come again.
    self._rows = [
      row for row in rows.read_rows(self._train_dir) if row.step <= step
    ]
    if first:
      self._show(rows.table_header())
      for row in self._rows:
        self._show(rows.table_row(row))
    self._forget()
    self._first_step = step
    if self._due(step):  # Interrupted in evaluation.
      self._report(session, step, learning_rate)

  def before_run(self, run_context):
    self._begin = time.monotonic()
    return super().before_run(run_context)

  def after_step(self, run_context, step, learning_rate, loss, accuracy):
    # Of the steps alone: what comes after them, such as a save, is not counted.
    self._secs += time.monotonic() - self._begin
    self._losses.append(loss)
    self._accuracies.append(accuracy)
    if self._due(step) and not self._interrupted():
      self._report(run_context.session, step, learning_rate)

  def end(self, session):
    del session
    while self._lines and not self._interrupted():
      self._print_lines(wait_millisecs=500)

  def _show(self, line):
    self._lines.append(line)
    self._print_lines(wait_millisecs=0)

  def _print_lines(self, wait_millisecs):
    """Prints what stdout takes: a reader that stalls holds up no training."""
    try:
      while self._lines and _takes_a_line(sys.stdout, wait_millisecs):
        # Above the progress bar where there is one.
        with tqdm.tqdm.external_write_mode(file=sys.stdout):
          print(self._lines[0], flush=True)
        del self._lines[0]
    except OSError as e:
      self._lines.clear()
      self._fail(e)

  def _report(self, session, step, learning_rate):
    test = self._test.run(session, self._interrupted)
    if test is None:
      return
    total_secs = self._rows[-1].total_secs if self._rows else 0.0
    mean = lambda values: float(sum(values) / len(values)) if values else None
    row = rows.Row(
      epoch=step / self._steps_per_epoch,
      step=int(step),
      dataset=self._dataset,
      learning_rate=float(learning_rate),
      train_secs=self._secs,
      train_loss=mean(self._losses),
      train_accuracy=mean(self._accuracies),
      test_loss=test.loss,
      test_accuracy=test.accuracy,
      total_secs=total_secs + self._secs,
    )
    self._rows.append(row)
    rows.write_rows(self._train_dir, self._rows)
    rows.write_summary(
      self._writer, row, (step - self._first_step) * self._batch_size
    )
    self._show(rows.table_row(row))
    self._forget()
    self._first_step = step


def _takes_a_line(stream, wait_millisecs):
  """Whether writing a line would not wait, or ends in an error."""
  try:
    number = stream.fileno()
  except (OSError, ValueError):
    return True  # No file, as in a notebook.
  poll = select.poll()
  poll.register(number, select.POLLOUT)
  return bool(poll.poll(wait_millisecs))
