"""Session hooks, where TensorFlow's own do not fit.

of_a_training has them in the order in which they belong into a session: the
loss is looked at before an epoch is reported, an epoch is reported before its
checkpoint is saved (so that a kill in between repeats the report instead of
losing it), and a signal is honoured last.
"""

import os
import sys
import time

import numpy as np
import tensorflow.compat.v1 as tf
import tqdm

from graph_resnet9 import interrupts
from graph_resnet9.checkpoints import choose
from graph_resnet9.checkpoints import names
from graph_resnet9.cli import train_flags
from graph_resnet9.errors import UserError
from graph_resnet9.evaluation import evaluate
from graph_resnet9.training import epoch_report
from graph_resnet9.training import graph
from graph_resnet9.training import step_hook
from graph_resnet9.training import tensorboard
from graph_resnet9.training import train_dir

# When a duration is said: after so many steps and seconds, if so long is left.
_TIMED_STEPS, _TIMED_SECS, _LONG_SECS = 2, 10, 600


def of_a_training(
  settings: train_flags.Train,
  step: graph.Step,
  test: evaluate.BesideTraining,
  saver: tf.train.Saver,
  stop: interrupts.StopOnSignal,
) -> list[tf.train.SessionRunHook]:
  """The hooks of the session that evaluates and saves, in their order.

  Args:
    settings: of the run.
    step: the graph that it runs.
    test: the test images, for the row of an epoch.
    saver: saves what a resume needs.
    stop: hears signals.
  """
  folder = settings.train_dir
  return [
    train_dir.SameDirectory(folder),
    LossGuard(step, folder),
    tensorboard.ImagesPerSec(step, settings.batches.batch_size, folder),
    tensorboard.EpochSummaries(step, folder),
    epoch_report.EpochReport(settings, step, test, stop.interrupted, stop.fail),
    Progress(step),
    Duration(step, _shorter(settings)),
    Checkpoints(step, saver, folder, settings.save_secs),
    StopAtStep(step),
    stop,
  ]


class LossGuard(step_hook.StepHook):
  """Stops with UserError when the loss is not finite.

  tf.train.NanTensorHook lets infinity pass, and its message is of no help.
  """

  def __init__(self, step: graph.Step, train_dir: str) -> None:
    super().__init__(step=step.step, loss=step.loss)
    self._train_dir = train_dir

  def after_step(self, run_context, step, loss):
    if np.isfinite(loss):
      return
    raise UserError(_diverged('the loss is %s' % loss, step, self._train_dir))


def _diverged(what, step, train_dir):
  good = choose.newest(train_dir)
  return (
    '%s at step %d; last good checkpoint: %s. Try a lower --lr_values, '
    'with another --train_dir' % (what, step, good or 'none')
  )


class Progress(step_hook.StepHook):
  """A progress bar on stderr, if that is a terminal."""

  def __init__(self, step: graph.Step) -> None:
    super().__init__(step=step.step, loss=step.loss)
    self._last_step = step.last_step
    self._bar = None
    self._timed = False

  def after_create_session(self, session, coord):
    del coord
    taken = session.run(tf.train.get_global_step())
    if self._bar is not None:  # A lost session has been made anew.
      self._bar.n = taken
      return
    self._bar = tqdm.tqdm(
      total=self._last_step,
      initial=taken,
      unit='step',
      disable=None,
      dynamic_ncols=True,
    )

  def after_step(self, run_context, step, loss):
    del run_context
    self._bar.set_postfix(loss='%.3f' % loss, refresh=False)
    if not self._timed:  # The first step is slow: no measure of the others.
      self._timed = True
      self._bar.initial = self._bar.n = step
      self._bar.unpause()
    self._bar.update(step - self._bar.n)

  def end(self, session):
    del session
    self._bar.close()


class Duration(step_hook.StepHook):
  """Says once, on stderr, how long a training will take that takes long."""

  def __init__(self, step: graph.Step, shorter: str) -> None:
    """Makes the hook.

    Args:
      step: the graph of a step.
      shorter: what to say besides.
    """
    super().__init__(step=step.step)
    self._last_step = step.last_step
    self._shorter = shorter
    self._first = None  # (step, time), of the second step and later.
    self._said = False

  def after_step(self, run_context, step):
    del run_context
    now = time.monotonic()
    if self._first is None:
      self._first = step, now
    steps, secs = step - self._first[0], now - self._first[1]
    if self._said or steps < _TIMED_STEPS or secs < _TIMED_SECS:
      return
    self._said = True
    left = (self._last_step - step) * secs / steps
    if left >= _LONG_SECS:
      tqdm.tqdm.write(
        'train: about %s to go, at %.2g s a step%s'
        % (_duration(left), secs / steps, self._shorter),
        file=sys.stderr,
      )
      sys.stderr.flush()


def _duration(secs):
  minutes = round(secs / 60)
  if minutes < 60:
    return '%d min' % minutes
  return '%d h %02d min' % divmod(minutes, 60)


def _shorter(settings):
  """Which flags shorten a training, where it must be long."""
  if settings.model.width <= 16 or tf.config.list_physical_devices('GPU'):
    return ''
  return '; --width=16 takes about a twelfth on a CPU, --epochs sets the length'


class StepCount(step_hook.StepHook):
  """Counts the steps of this session's own, and remembers the last.

  steps: taken here. step: the last one, of all that train.
  """

  def __init__(self, step: tf.Tensor) -> None:
    super().__init__(step=step)
    self.steps = self.step = 0

  def after_step(self, run_context, step):
    del run_context
    self.steps += 1
    self.step = int(step)


class Checkpoints(step_hook.StepHook):
  """Saves at step 0, at the end of each epoch, every save_secs and at the end.

  Weights that are not finite are never saved, so the newest checkpoint is
  always one to go back to.
  """

  def __init__(
    self,
    step: graph.Step,
    saver: tf.train.Saver,
    train_dir: str,
    save_secs: float,
  ) -> None:
    super().__init__(step=step.step)
    self._saver = saver
    self._train_dir = train_dir
    newest = choose.newest(train_dir)
    self._least_step = names.step_of(newest) if newest else 0
    self._save_secs = save_secs
    self._steps_per_epoch = step.steps_per_epoch
    self._saved_step = self._saved_at = None

  def begin(self):
    self._global_step = tf.train.get_global_step()
    with tf.name_scope('save/'):
      self._finite = tf.reduce_all(
        [
          tf.reduce_all(tf.is_finite(v))
          for v in tf.global_variables()
          if v.dtype.base_dtype.is_floating
        ],
        name='all_finite',
      )

  def after_create_session(self, session, coord):
    del coord
    step = session.run(self._global_step)
    if step < self._least_step:  # The variables are new: nothing is restored.
      raise UserError(
        '--train_dir=%s: the session began at step %d instead of %d: its '
        'checkpoint was not restored; the same command tries again'
        % (self._train_dir, step, self._least_step)
      )
    if step:
      self._saved_step, self._saved_at = step, time.monotonic()
    else:
      self._save(session, step)

  def after_step(self, run_context, step):
    if (
      step // self._steps_per_epoch > self._saved_step // self._steps_per_epoch
      or time.monotonic() - self._saved_at >= self._save_secs
    ):
      self._save(run_context.session, step)

  def end(self, session):
    step = session.run(self._global_step)
    if step != self._saved_step:
      self._save(session, step)

  def _save(self, session, step):
    if not session.run(self._finite):
      raise UserError(
        _diverged('a variable is not finite', step, self._train_dir)
      )
    prefix = os.path.join(self._train_dir, names.NAME)
    try:
      # First: a checkpoint that has an index then lacks nothing.
      self._saver.export_meta_graph('%s-%d.meta' % (prefix, step))
      self._saver.save(session, prefix, step, write_meta_graph=False)
    except (tf.errors.AbortedError, tf.errors.UnavailableError):
      raise  # A process of the cluster is lost: the session is made anew.
    except tf.errors.OpError as e:
      raise choose.not_saved(self._train_dir, e) from None
    self._saved_step, self._saved_at = step, time.monotonic()
    self._least_step = int(step)


class StopAtStep(step_hook.StepHook):
  """Stops when the last step is reached, at once if the checkpoint is there.

  tf.train.StopAtStepHook would take a step too many in a finished run.
  """

  def __init__(self, step: graph.Step) -> None:
    super().__init__(step=step.step)
    self._last_step = step.last_step

  def after_create_session(self, session, coord):
    if session.run(tf.train.get_global_step()) >= self._last_step:
      coord.request_stop()

  def after_step(self, run_context, step):
    if step >= self._last_step:
      run_context.request_stop()
