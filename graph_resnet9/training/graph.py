"""The graph of a training run, in the order in which a batch travels."""

from typing import Any
from typing import NamedTuple
from typing import Optional

import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.cluster import synchronous
from graph_resnet9.errors import UserError
from graph_resnet9.evaluation import evaluate as evaluation
from graph_resnet9.inputs import augment
from graph_resnet9.inputs import batches as examples
from graph_resnet9.inputs import dataset
from graph_resnet9.inputs import queues
from graph_resnet9.model import average
from graph_resnet9.model import losses
from graph_resnet9.model import optimizer
from graph_resnet9.model import resnet9
from graph_resnet9.model import whitening
from graph_resnet9.training import summaries
from graph_resnet9.training import xla

# The loss of the reference is a sum over 512 images, which keeps small float16
# gradients from becoming 0; so does this factor, taken out again in float32.
_FLOAT16_LOSS_SCALE = 512.0


class Replica(NamedTuple):
  """One of the processes that train the same variables.

  index, count: ints; this one of so many. Replica 0 is the chief: it alone
    updates the moving statistics, evaluates and saves.
  sync: Python bool; a step joins the gradients of all, each of batch_size /
    count images. Otherwise each takes steps of its own, of batch_size images.
  device: where its own ops and data live; '' where it is the only one.
  towers: devices, each of which computes an equal part of its batch.
  """

  index: int = 0
  count: int = 1
  sync: bool = False
  device: str = ''
  towers: tuple[str, ...] = ('',)

  @property
  def chief(self):
    return self.index == 0


class Input(NamedTuple):
  """A batch to train on.

  images: [batch, 32, 32, 3] float32 Tensor, augmented and normalised.
  labels: [batch] int32 Tensor.
  examples: int, of the split.
  feed: for Scaffold(local_init_feed_dict=).
  """

  images: tf.Tensor
  labels: tf.Tensor
  examples: int
  feed: dict[tf.Tensor, Any]


class TrainGraph(NamedTuple):
  """The tensors of a training graph that the session needs.

  logits: [batch, 10] float32.
  train_op: Operation, takes a step.
  step: int64 scalar, steps taken when train_op has run.
  learning_rate, loss, accuracy: float32 scalars of the step.
  steps_per_epoch, last_step: ints.
  feed: for Scaffold(local_init_feed_dict=).
  sync_hooks: what a synchronous step needs in its session.
  test: TestGraph, None unless chief.
  """

  logits: tf.Tensor
  train_op: tf.Operation
  step: tf.Tensor
  learning_rate: tf.Tensor
  loss: tf.Tensor
  accuracy: tf.Tensor
  steps_per_epoch: int
  last_step: int
  feed: dict[tf.Tensor, Any]
  sync_hooks: list[tf.train.SessionRunHook]
  test: Optional['TestGraph']


class TestGraph(NamedTuple):
  """The same network over the test images.

  tower: evaluation.Tower over the next batch, with the moving statistics, and
    averaged weights where they are kept.
  first: int32 scalar placeholder, where that batch begins.
  batch_size, examples: ints.
  """

  tower: evaluation.Tower
  first: tf.Tensor
  batch_size: int
  examples: int


def _global_step():
  with tf.device('/cpu:0'), tf.variable_scope('', use_resource=True):
    return tf.train.get_or_create_global_step()


def input_batch(settings, source, scratch, replica=Replica()):
  """The next batch of the training images; arguments as of build.

  Returns:
    Input.
  """
  step = _global_step().read_value()
  batch_size = settings.batches.batch_size
  if replica.sync:
    batch_size //= replica.count
  # Its own order and its own crops.
  settings = settings.replace(
    seed=(settings.seed + replica.index) % 2**31,
    batches=settings.batches.replace(batch_size=batch_size),
  )
  # Which examples: a shuffle queue of indices or records. A replica that takes
  # steps of its own takes one in `count` of all.
  batch, count, feed = examples.batch(
    settings,
    source,
    'train',
    scratch,
    share=(replica.index, replica.count),
    first_step=step if replica.sync else step // replica.count,
  )
  # Augmentation, on the device that trains.
  images = augment.augmented(
    batch.pixels,
    batch.indices,
    batch_size,
    settings.seed,
    step,
    **settings.augment,
  )
  return Input(images, batch.labels, count * replica.count, feed)


def build(settings, source, scratch, replica=Replica(), restored=False):
  """Builds the training graph in the default graph.

  Args:
    settings: train_flags.Recipe.
    source: dataset.Source.
    scratch: existing directory for record files, if they have to be written.
    replica: Replica.
    restored: Python bool; the variables will be those of a checkpoint, so that
      costly initial values are left out.
  Returns:
    TrainGraph.
  Raises:
    UserError: --batch_size cannot be split among replicas, towers and ghosts.
  """
  _check_batch_size(settings, replica)
  tf.set_random_seed(settings.seed)
  global_step = _global_step()
  with tf.device(replica.device):
    batch = input_batch(settings, source, scratch, replica)
  steps_per_epoch = batch.examples // settings.batches.batch_size

  how = settings.optimizer
  with xla.scope(settings.xla):
    # Logits and loss.
    logits, loss, accuracy = _towers(
      settings,
      batch,
      replica.towers,
      None
      if restored or not replica.chief
      else _whitening_filters(settings, source),
    )
    weights = [v for v in tf.global_variables() if v.dtype.is_floating]

    # The train op, after the update ops.
    scale = how.epochs / how.lr_epochs[-1]
    learning_rate = optimizer.learning_rate(
      global_step,
      steps_per_epoch,
      [scale * knot for knot in how.lr_epochs],
      how.lr_values,
      how.lr_shift_steps,
    )
    sync_hooks = []
    train_op = optimizer.train_op(
      loss,
      learning_rate,
      how.momentum,
      how.weight_decay,
      how.bias_lr_scale,
      run_update_ops=replica.chief and how.update_ops != 'none',
      loss_scale=_FLOAT16_LOSS_SCALE
      if settings.model.precision == 'float16'
      else 1.0,
      nesterov=how.nesterov,
      rate_in_velocity=how.rate_in_velocity,
      wrap=_synchronised(replica, sync_hooks),
    )
  with tf.control_dependencies([train_op]):
    step = global_step.read_value()

  # Averages of weights and statistics over the steps.
  getter = None
  if how.ema_decay and (replica.chief or not replica.sync):
    with tf.control_dependencies([step]):
      train_op, getter = average.averaging_op(
        weights, step, how.ema_decay, how.ema_steps
      )

  feed, test = batch.feed, None
  if replica.chief:
    summaries.add(batch.images, loss, accuracy, learning_rate)
    test, more_feed = _test_graph(settings, source, replica, getter)
    feed = {**feed, **more_feed}
  return TrainGraph(
    logits,
    train_op,
    step,
    learning_rate,
    loss,
    accuracy,
    steps_per_epoch,
    max(1, round(how.epochs * steps_per_epoch)),
    feed,
    sync_hooks,
    test,
  )


def towers(num_gpus):
  """The devices for Replica.towers.

  Raises:
    UserError: this machine has fewer GPUs.
  """
  if num_gpus == 1:
    return ('',)
  found = len(tf.config.list_physical_devices('GPU'))
  if found < num_gpus:
    raise UserError(
      '--num_gpus=%d: TensorFlow finds %d GPUs here' % (num_gpus, found)
    )
  return tuple('/gpu:%d' % i for i in range(num_gpus))


def _check_batch_size(settings, replica):
  parts = (
    replica.count if replica.sync else 1,
    len(replica.towers),
    settings.ghost_batch or 1,
  )
  if settings.batches.batch_size % np.prod(parts):
    raise UserError(
      '--batch_size=%d: must be a multiple of %d workers x %d GPUs x '
      '%d images of a ghost batch' % (settings.batches.batch_size, *parts)
    )


def _towers(settings, batch, devices, filters):
  """The network over equal parts of a batch, one on each device.

  The update ops of the first tower alone are kept. Several would race: each
  reads the moving statistics, and the last to write would win. The statistics
  of one part of each batch are as good a sample of the images as any.

  Returns:
    ([batch, 10] float32 logits, loss, accuracy): of the whole batch.
  """
  update_ops = tf.get_collection_ref(tf.GraphKeys.UPDATE_OPS)
  logits, loss, correct = [], [], []
  image_parts = tf.split(batch.images, len(devices))
  with tf.device('/cpu:0'):
    label_parts = tf.split(batch.labels, len(devices))
  for device, images, labels in zip(devices, image_parts, label_parts):
    kept = len(update_ops)
    with (
      tf.device(device),
      tf.variable_scope(tf.get_variable_scope(), reuse=bool(logits)),
    ):
      logits.append(
        resnet9.logits(
          images,
          training=True,
          ghost_batch=settings.ghost_batch,
          filters=filters,
          **settings.model,
        )
      )
      loss.append(
        tf.reduce_mean(
          losses.cross_entropy(
            logits[-1], labels, settings.optimizer.label_smoothing
          )
        )
      )
      correct.append(losses.correct(logits[-1], labels))
    if len(logits) > 1:
      del update_ops[kept:]
  # The gradient of this mean is the mean of the towers' gradients.
  return (
    tf.concat(logits, 0),
    tf.add_n(loss) / len(loss),
    tf.reduce_mean(tf.cast(tf.concat(correct, 0), tf.float32)),
  )


def _synchronised(replica, hooks):
  """For optimizer.train_op(wrap=); adds the hook that it needs to `hooks`."""
  if not replica.sync:
    return None

  def wrap(inner):
    outer = synchronous.Optimizer(inner, replica.count)
    hooks.append(outer.make_session_run_hook(replica.chief))
    return outer

  return wrap


def _test_graph(settings, source, replica, getter):
  """(TestGraph, feed): the test images through the variables of training.

  Args:
    settings, source, replica: as of build.
    getter: for tf.variable_scope, from weights to their averages, or None.
  """
  data = dataset.load(source, 'test', settings.data.test_examples)
  with tf.device(replica.device):
    table = queues.table(data, 'test')
    first = tf.placeholder(tf.int32, [], 'test_first')
    batch_size = min(settings.batches.batch_size, table.examples)
    last = tf.minimum(first + batch_size, table.examples)
    batch = queues.table_batch(table, tf.range(first, last))
  with tf.variable_scope(
    tf.get_variable_scope(), reuse=True, custom_getter=getter
  ):
    tower = evaluation.tower(
      batch, training=False, model=settings.model, mirrored=settings.mirrored
    )
  return TestGraph(tower, first, batch_size, table.examples), table.feed


def _whitening_filters(settings, source):
  """Filters from the first training images as they are, or None."""
  if not settings.model.whitening:
    return None
  count = min(
    settings.data.train_examples or whitening.IMAGES, whitening.IMAGES
  )
  images = dataset.load(source, 'train', count).images
  return whitening.filters(
    (images[i : i + 500] - np.float32(augment.MEAN)) / np.float32(augment.STD)
    for i in range(0, len(images), 500)
  )
