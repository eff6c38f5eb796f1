"""What the loops need to build the graph of a training step."""

from collections.abc import Callable
from collections.abc import Sequence
import contextlib
from typing import Any
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.cli import recipe_flags
from graph_resnet9.cli import train_flags
from graph_resnet9.errors import UserError
from graph_resnet9.inputs import augment
from graph_resnet9.inputs import dataset
from graph_resnet9.model import whitening

# The loss of the reference is a sum over 512 images, which keeps small float16
# gradients from becoming 0; so does this factor, taken out again in float32.
_FLOAT16_LOSS_SCALE = 512.0


class Step(NamedTuple):
  """The graph of a training step, as a session and its hooks need it.

  images: [batch, 32, 32, 3] float32 Tensor, what the network is given.
  logits: [batch, 10] float32 Tensor.
  loss, accuracy, learning_rate: float32 scalar Tensors, of this step.
  train_op: Operation, takes the step.
  step: int64 scalar Tensor, steps taken when train_op has run.
  steps_per_epoch, last_step: ints.
  feed: {placeholder: array} for tf.train.Scaffold(local_init_feed_dict=).
  averages: custom getter for tf.variable_scope, from a weight to its average;
    None if there are no averages.
  """

  images: tf.Tensor
  logits: tf.Tensor
  loss: tf.Tensor
  accuracy: tf.Tensor
  learning_rate: tf.Tensor
  train_op: tf.Operation
  step: tf.Tensor
  steps_per_epoch: int
  last_step: int
  feed: dict[tf.Tensor, Any]
  averages: Callable | None


def global_step() -> tf.Variable:
  """The step counter, on the CPU, where the hooks read it.

  Variables:
    global_step: int64 scalar, made if missing.
  Collections:
    GLOBAL_STEP: + 1 if it is made.
  """
  with tf.device('/cpu:0'), tf.variable_scope('', use_resource=True):
    return tf.train.get_or_create_global_step()


def compiled(xla: str) -> contextlib.AbstractContextManager:
  """A context in which ops, and the gradients of these, are compiled or not.

  On two CPU cores XLA was slower than TensorFlow's own kernels (oneDNN); on a
  GPU it joins normalisation, activation and pooling into few kernels.

  Args:
    xla: 'on', 'off', or 'auto': where there is a GPU.
  """
  if xla == 'auto':
    xla = 'on' if tf.config.list_physical_devices('GPU') else 'off'
  if xla == 'off':
    return contextlib.nullcontext()
  return tf.xla.experimental.jit_scope()


def devices(num_gpus: int) -> tuple[str, ...]:
  """For on_each: '' for whatever device there is, or so many GPUs.

  Raises:
    UserError: this machine has fewer GPUs.
  """
  if num_gpus == 1:
    return ('',)
  there = len(tf.config.list_physical_devices('GPU'))
  if there < num_gpus:
    raise UserError(
      '--num_gpus=%d: TensorFlow finds %d GPUs here' % (num_gpus, there)
    )
  return tuple('/gpu:%d' % i for i in range(num_gpus))


def on_each(
  names: Sequence[str],
  tower: Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
  images: tf.Tensor,
  labels: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
  """Runs a network over equal parts of a batch, one on each device.

  The update ops of the first tower alone are kept. Several would race: each
  reads the moving statistics, and the last to write would win. The statistics
  of one part of each batch are as good a sample of the images as any.

  Args:
    names: of devices; one of them gets the batch as it is.
    tower: function from images and labels to (logits, mean loss).
    images, labels: [batch, ...] Tensors; the batch must be a multiple.
  Returns:
    (logits, mean loss) of the whole batch.
  Collections:
    UPDATE_OPS: those of the first tower.
  """
  if len(names) == 1:
    with tf.device(names[0]):
      return tower(images, labels)
  update_ops = tf.get_collection_ref(tf.GraphKeys.UPDATE_OPS)
  with tf.device('/cpu:0'):
    label_parts = tf.split(labels, len(names))
  logits: list[tf.Tensor] = []
  losses: list[tf.Tensor] = []
  for device, *part in zip(names, tf.split(images, len(names)), label_parts):
    before = len(update_ops)
    with (
      tf.device(device),
      tf.name_scope('tower'),
      tf.variable_scope(tf.get_variable_scope(), reuse=bool(logits)),
    ):
      outputs, loss = tower(*part)
    if logits:
      del update_ops[before:]
    logits.append(outputs)
    losses.append(loss)
  # The gradient of this mean is the mean of the towers' gradients.
  return tf.concat(logits, 0), tf.add_n(losses) / len(losses)


def check_batch_size(
  settings: train_flags.Recipe, towers: int, workers: int = 1
) -> None:
  """Raises UserError if a batch cannot be split.

  Args:
    settings: of the run.
    towers: devices of a worker.
    workers: that share a batch.
  """
  parts = workers, towers, settings.ghost_batch or 1
  if settings.batches.batch_size % np.prod(parts):
    raise UserError(
      '--batch_size=%d: must be a multiple of %d workers x %d GPUs x '
      '%d images of a ghost batch' % (settings.batches.batch_size, *parts)
    )


def knots(settings: recipe_flags.Optimizer) -> tuple[list[float], list[float]]:
  """(epochs, rates) of the schedule, scaled to the length of the run."""
  scale = settings.epochs / settings.lr_epochs[-1]
  return [scale * knot for knot in settings.lr_epochs], list(settings.lr_values)


def loss_scale(precision: str) -> float:
  """For optimizer.train_op."""
  return _FLOAT16_LOSS_SCALE if precision == 'float16' else 1.0


def last_step(settings: recipe_flags.Optimizer, steps_per_epoch: int) -> int:
  return max(1, round(settings.epochs * steps_per_epoch))


def whitening_filters(data: dataset.Data) -> np.ndarray:
  """For layers.whitened, from the first training images as they are."""
  images = data.train.images[: whitening.IMAGES]
  mean, std = np.array([augment.MEAN, augment.STD], np.float32)
  return whitening.filters(
    (images[i : i + 500] - mean) / std for i in range(0, len(images), 500)
  )
