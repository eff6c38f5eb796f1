"""The hooks that write to TensorBoard; MonitoredTrainingSession has one more.

That one is its tf.train.SummarySaverHook, which writes the scalars of
summaries.add every STEPS steps, counted from the first of a session.
"""

import time

import tensorflow.compat.v1 as tf

from graph_resnet9.training import hooks as hooks_lib
from graph_resnet9.training import summaries

STEPS = 20  # For MonitoredTrainingSession(save_summaries_steps=), too.
_PLANNING_STEPS = 2


def hooks(step, batch_size, steps_per_epoch, train_dir):
  """Images/s of the steps, and what summaries.add leaves for once an epoch.

  They belong before the hooks that evaluate or save, so that only the step is
  timed, and after those that look at the loss.

  Args:
    step: integer scalar Tensor, steps taken after this one.
    batch_size, steps_per_epoch: ints.
    train_dir: directory of the event files.
  Returns:
    List of SessionRunHook.
  """
  return [
    ImagesPerSec(step, batch_size, train_dir),
    EpochSummaries(step, steps_per_epoch, train_dir),
  ]


class ImagesPerSec(hooks_lib.StepValues):
  """Writes train/images_per_sec: of the last 20 steps, and of nothing else.

  tf.train.StepCounterHook counts evaluation and saving as part of the steps
  that they fall between. The first steps of a session, in which TensorFlow
  plans the graph with summaries and without, are left out.
  """

  def __init__(self, step, batch_size, train_dir):
    super().__init__(step=step)
    self._batch_size = batch_size
    self._train_dir = train_dir

  def after_create_session(self, session, coord):
    del session, coord
    self._writer = tf.summary.FileWriterCache.get(self._train_dir)
    self._steps, self._secs = -_PLANNING_STEPS, 0.0

  def before_run(self, run_context):
    self._begin = time.perf_counter()
    return super().before_run(run_context)

  def after_step(self, run_context, step):
    self._steps += 1
    if self._steps > 0:
      self._secs += time.perf_counter() - self._begin
    if self._steps == STEPS:
      self._writer.add_summary(
        tf.Summary(
          value=[
            tf.Summary.Value(
              tag='train/images_per_sec',
              simple_value=STEPS * self._batch_size / self._secs,
            )
          ]
        ),
        step,
      )
      self._steps, self._secs = 0, 0.0


class EpochSummaries(hooks_lib.StepValues):
  """Writes EPOCH_SUMMARIES of the first step of a session, and of an epoch.

  Of an epoch: at its first step at which the scalars are written, too. Every
  set of fetches makes TensorFlow plan the graph anew, and compile it where XLA
  is on; this makes it one set more, not two.

  A second tf.train.SummarySaverHook would log a second start of the session,
  at which TensorBoard drops what the first one has written.
  """

  def __init__(self, step, steps_per_epoch, train_dir):
    super().__init__(step=step)
    self._steps_per_epoch = steps_per_epoch
    self._train_dir = train_dir

  def begin(self):
    self._summary = tf.summary.merge_all(summaries.EPOCH_SUMMARIES)

  def after_create_session(self, session, coord):
    del coord
    self._writer = tf.summary.FileWriterCache.get(self._train_dir)
    self._taken = session.run(tf.train.get_global_step())
    self._steps, self._epoch = 0, None

  def before_run(self, run_context):
    fetches = super().before_run(run_context).fetches
    epoch = self._taken // self._steps_per_epoch
    if self._steps % STEPS == 0 and epoch != self._epoch:
      self._epoch = epoch
      fetches = dict(fetches, summary=self._summary)
    return tf.train.SessionRunArgs(fetches)

  def after_step(self, run_context, step, summary=None):
    self._taken = step
    self._steps += 1
    if summary is not None:
      self._writer.add_summary(summary, step)
