"""What TensorBoard shows of a training: see docs/tensorboard.md.

Everything here is of the step that it is logged for, as the step found it: the
loss, the weights that it was computed with, and the stored statistics before
the step updates them. Fetched beside the train op the summaries therefore
change nothing and run no update; not fetched they cost nothing.

MonitoredTrainingSession's own tf.train.SummarySaverHook writes the scalars of
add() every STEPS steps, counted from the first of a session; the hooks here
write the rest.
"""

import math
import time

from absl import logging
import tensorflow.compat.v1 as tf

from graph_resnet9.inputs import augment
from graph_resnet9.training import graph
from graph_resnet9.training import step_hook

STEPS = 20  # For MonitoredTrainingSession(save_summaries_steps=), too.
# The collection of those that are written once an epoch.
EPOCH_SUMMARIES = 'epoch_summaries'
_PLANNING_STEPS = 2
_GRID_SIDE = 4  # Images beside and below each other.
# A histogram looks no different for more, and the op takes 80 ns a value.
_MOST_VALUES = 1 << 16


def add(step: graph.Step, epsilon: float) -> None:
  """Adds the summaries of a training step to the default graph.

  Args:
    step: what is shown.
    epsilon: that of batch normalisation.

  Collections:
    SUMMARIES: + 3, and + 2 for each layer of batch normalisation.
    EPOCH_SUMMARIES: + 1, and + 1 for each trainable variable and each stored
      statistic.
    UPDATE_OPS is read; it must hold those of the training alone.
  """
  with tf.name_scope('summaries'):
    _scalar('train/loss', step.loss)
    _scalar('train/accuracy', step.accuracy)
    _scalar('train/learning_rate', step.learning_rate)
    for name, (mean_gap, variance_gap) in gaps(epsilon).items():
      _scalar('gap_mean/' + name, mean_gap)
      _scalar('gap_variance/' + name, variance_gap)
    _later(
      tf.raw_ops.ImageSummary(
        tag='train/images', tensor=grid(step.images), max_images=1
      )
    )
    for name, weights in _weights(step.loss).items():
      _histogram('weights/' + name, weights)
    for op in tf.get_collection(tf.GraphKeys.UPDATE_OPS):
      if operands := _operands(op):
        _histogram('statistics/' + op.inputs[0].op.name, operands[0])


# The ops themselves: tf.summary puts the name scope in front of the tag.


def _scalar(tag, value):
  tf.add_to_collection(
    tf.GraphKeys.SUMMARIES, tf.raw_ops.ScalarSummary(tags=tag, values=value)
  )


def _histogram(tag, values):
  _later(tf.raw_ops.HistogramSummary(tag=tag, values=_sample(values)))


def _later(summary):
  tf.add_to_collection(EPOCH_SUMMARIES, summary)


def gaps(epsilon: float) -> dict[str, tuple[tf.Tensor, tf.Tensor]]:
  """How far the stored statistics are from those of the batch, by layer.

  Over the channels, with the layer's epsilon added to both variances:
    mean gap = sqrt(mean((stored mean - mean)^2 / variance))
    variance gap = sqrt(mean(log2(stored variance / variance)^2))
  that is in standard deviations of the batch and in factors of two. As in
  graph_resnet9.diagnose, a channel's standard deviation is taken to be a
  hundredth of the layer's at least.

  Both statistics are the operands of the subtraction that an update op takes a
  share of, which runs before the update and without it. With ghost batches
  those of the batch are means over the groups, as they are stored. An update of
  another form is left out, with a warning.

  Returns:
    {scope of the layer's variables: (mean gap, variance gap)}, float32 scalars.
  """
  by_layer: dict[str, dict[str, tuple[tf.Tensor, tf.Tensor]]] = {}
  for op in tf.get_collection(tf.GraphKeys.UPDATE_OPS):
    operands = _operands(op)
    kind = operands and _kind(operands[1])
    if not kind:
      logging.warning('no gap in TensorBoard: %s updates otherwise', op.name)
      continue
    name = op.inputs[0].op.name.rpartition('/')[0]
    by_layer.setdefault(name, {})[kind] = operands
  return {
    name: _gap(statistics['mean'], statistics['variance'], epsilon)
    for name, statistics in by_layer.items()
    if len(statistics) == 2
  }


def _gap(means, variances, epsilon):
  """(mean gap, variance gap) of (stored, batch) means and variances."""
  with tf.name_scope('gap'):
    stored_mean, mean = means
    stored_variance, variance = variances[0] + epsilon, variances[1] + epsilon
    least = 1e-4 * tf.reduce_mean(variance)
    return (
      _root_mean((stored_mean - mean) ** 2 / tf.maximum(variance, least)),
      _root_mean((tf.log(stored_variance / variance) / math.log(2)) ** 2),
    )


def _root_mean(squares):
  return tf.sqrt(tf.reduce_mean(squares))


def _operands(update_op):
  """(stored, batch) of stored -= (1 - decay) * (stored - batch), or None."""
  if len(update_op.inputs) != 2:
    return None
  handle, change = update_op.inputs
  for factor in change.op.inputs:
    if (
      factor.op.type == 'Sub'
      and factor.op.inputs[0].op.type == 'ReadVariableOp'
      and factor.op.inputs[0].op.inputs[0].op is handle.op
    ):
      return tuple(factor.op.inputs)
  return None


def _kind(statistic):
  """'mean' or 'variance', whichever this is, or the mean over groups of them.

  By the op that gives it: the fused kernel's output 1 or 2, or a reduction, in
  the variance's case of squared differences. None: of neither.
  """
  while statistic.op.inputs:
    if statistic.op.type == 'FusedBatchNormV3':
      return {1: 'mean', 2: 'variance'}.get(statistic.value_index)
    source = statistic.op.inputs[0]
    if statistic.op.type == 'Mean' and source.op.type == 'SquaredDifference':
      return 'variance'
    if statistic.op.type == 'Mean' and source.shape.rank == 4:
      return 'mean'
    statistic = source
  return None


def grid(images: tf.Tensor) -> tf.Tensor:
  """The first images, 4 x 4 where there are as many, as one reads them.

  Args:
    images: [batch, 32, 32, 3] float32 Tensor, normalised; batch must be static.
  Returns:
    [1, 32 * n, 32 * n, 3] uint8 Tensor, row by row; a hole of cutout is grey,
    the mean colour.
  """
  side = min(_GRID_SIDE, math.isqrt(int(images.shape[0])))
  with tf.name_scope('grid'):
    pixels = images[: side**2] * augment.STD + augment.MEAN
    pixels = tf.saturate_cast(tf.round(pixels), tf.uint8)
    rows = tf.reshape(pixels, [side, side, augment.SIDE, augment.SIDE, 3])
    return tf.reshape(
      tf.transpose(rows, [0, 2, 1, 3, 4]),
      [1, side * augment.SIDE, side * augment.SIDE, 3],
    )


def _weights(loss):
  """{name of a trainable variable: its value as the loss was computed with}.

  A read of our own would come before the step at times and at times after it.
  """
  reads, waiting, seen = {}, [loss.op], {loss.op}
  while waiting:
    op = waiting.pop()
    if op.type == 'ReadVariableOp':
      reads[op.inputs[0].op.name] = op.outputs[0]
    new = {tensor.op for tensor in op.inputs} - seen
    seen |= new
    waiting += new
  return {v.op.name: reads[v.op.name] for v in tf.trainable_variables()}


def _sample(weights):
  """At most about 65,536 of the values, in [n]; those not finite become 0."""
  # Every so many, and not in step with the filters, the last axis: then each
  # filter is met.
  stride = int(weights.shape.num_elements()) // _MOST_VALUES | 1
  while math.gcd(stride, ([1, *weights.shape.as_list()])[-1]) > 1:
    stride += 2
  values = tf.reshape(weights, [-1])[::stride]
  # The op refuses what is not finite, but the loss has to be looked at first.
  return tf.where_v2(tf.is_finite(values), values, 0.0)


class ImagesPerSec(step_hook.StepHook):
  """Writes train/images_per_sec: of the last 20 steps, and of nothing else.

  tf.train.StepCounterHook counts evaluation and saving as part of the steps
  that they fall between. The first steps of a session, in which TensorFlow
  plans the graph with summaries and without, are left out.

  It belongs behind the hooks that look at the loss and before those that
  evaluate or save, so that only the step is timed.
  """

  def __init__(self, step: graph.Step, batch_size: int, train_dir: str) -> None:
    super().__init__(step=step.step)
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
      rate = STEPS * self._batch_size / self._secs
      self._writer.add_summary(
        tf.Summary(
          value=[
            tf.Summary.Value(tag='train/images_per_sec', simple_value=rate)
          ]
        ),
        step,
      )
      self._steps, self._secs = 0, 0.0


class EpochSummaries(step_hook.StepHook):
  """Writes EPOCH_SUMMARIES of the first step of a session, and of an epoch.

  Of an epoch: at its first step at which the scalars are written, too. Every
  set of fetches makes TensorFlow plan the graph anew, and compile it where XLA
  is on; this makes it one set more, not two.

  A second tf.train.SummarySaverHook would log a second start of the session,
  at which TensorBoard drops what the first one has written.
  """

  def __init__(self, step: graph.Step, train_dir: str) -> None:
    super().__init__(step=step.step)
    self._steps_per_epoch = step.steps_per_epoch
    self._train_dir = train_dir

  def begin(self):
    with tf.name_scope('summaries/'):
      self._summary = tf.summary.merge_all(EPOCH_SUMMARIES)

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
