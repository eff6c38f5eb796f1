"""What TensorBoard shows of a training: see docs/tensorboard.md.

Everything here is of the step that it is logged for, as the step found it: the
loss, the weights that it was computed with, and the stored statistics before
the step updates them. Fetched beside the train op the summaries therefore
change nothing and run no update; not fetched they cost nothing.
"""

import math

import tensorflow.compat.v1 as tf

from graph_resnet9.inputs import augment
from graph_resnet9.model import layers

# The collection of those that are written once an epoch.
EPOCH_SUMMARIES = 'epoch_summaries'
_GRID_SIDE = 4  # Images beside and below each other.
# A histogram looks no different for more, and the op takes 80 ns a value.
_MOST_VALUES = 1 << 16


def add(images, loss, accuracy, learning_rate):
  """Adds the summaries of a training step to the default graph.

  Args:
    images: [batch, 32, 32, 3] float32 Tensor, augmented and normalised; batch
      must be static.
    loss, accuracy, learning_rate: float32 scalar Tensors.
  Collections:
    SUMMARIES: + 3, and + 2 for each layer of batch normalisation.
    EPOCH_SUMMARIES: + 1, and + 1 for each trainable variable.
    UPDATE_OPS is read; it must hold those of the training alone.
  """
  for name, value in (
    ('loss', loss),
    ('accuracy', accuracy),
    ('learning_rate', learning_rate),
  ):
    tf.summary.scalar('train/' + name, value)
  for name, (mean_gap, variance_gap) in gaps().items():
    tf.summary.scalar('gap_mean/' + name, mean_gap)
    tf.summary.scalar('gap_variance/' + name, variance_gap)
  later = dict(collections=[EPOCH_SUMMARIES])
  tf.summary.image('train/images', grid(images), 1, **later)
  for name, weights in _weights(loss).items():
    tf.summary.histogram('weights/' + name, _sample(weights), **later)


def gaps():
  """How far the stored statistics are from those of the batch, by layer.

  Over the channels, with the layer's epsilon added to both variances:
    mean gap = sqrt(mean((stored mean - mean)^2 / variance))
    variance gap = sqrt(mean(log2(stored variance / variance)^2))
  that is in standard deviations of the batch and in factors of two. As in
  graph_resnet9.diagnose, a channel's standard deviation is taken to be a
  hundredth of the layer's at least.

  Both statistics are the operands of the subtraction that an update op takes a
  share of, which runs before the update and without it. With ghost batches
  those of the batch are means over the groups, as they are stored.

  Returns:
    {scope of the layer's variables: (mean gap, variance gap)}, float32 scalars.
  """
  found = {}
  for op in tf.get_collection(tf.GraphKeys.UPDATE_OPS):
    stored, batch = _operands(op)
    name = op.inputs[0].op.name.rpartition('/')[0]
    found.setdefault(name, {})[_output_index(batch)] = stored, batch
  result = {}
  for name, statistics in found.items():
    with tf.name_scope('gap'):
      (stored_mean, mean), (stored_variance, variance) = (
        statistics[1],
        statistics[2],
      )
      stored_variance += layers.BATCH_NORM_EPSILON
      variance += layers.BATCH_NORM_EPSILON
      least = 1e-4 * tf.reduce_mean(variance)
      result[name] = (
        _root_mean((stored_mean - mean) ** 2 / tf.maximum(variance, least)),
        _root_mean((tf.log(stored_variance / variance) / math.log(2)) ** 2),
      )
  return result


def _root_mean(squares):
  return tf.sqrt(tf.reduce_mean(squares))


def _operands(update_op):
  """(stored, batch) of stored -= (1 - decay) * (stored - batch)."""
  handle, change = update_op.inputs
  for factor in change.op.inputs:
    if (
      factor.op.type == 'Sub'
      and factor.op.inputs[0].op.type == 'ReadVariableOp'
      and factor.op.inputs[0].op.inputs[0].op is handle.op
    ):
      return tuple(factor.op.inputs)
  raise ValueError('not the update of a moving average: %s' % update_op.name)


def _output_index(statistic):
  """Which output of the fused kernel this, or the mean of these, is.

  1: the mean, 2: the variance.
  """
  while statistic.op.type != 'FusedBatchNormV3':
    statistic = statistic.op.inputs[0]
  return statistic.value_index


def grid(images):
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
  values = tf.reshape(weights, [-1])
  # An odd stride meets every filter, since these are a power of two.
  values = values[:: int(values.shape[0]) // _MOST_VALUES | 1]
  # The op refuses what is not finite, but the loss has to be looked at first.
  return tf.where_v2(tf.is_finite(values), values, 0.0)
