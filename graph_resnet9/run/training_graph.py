"""The graph of a training run, in the order in which a batch travels."""

from typing import Any, Dict, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.inputs import augment
from graph_resnet9.inputs import dataset
from graph_resnet9.inputs import queues
from graph_resnet9.model import average
from graph_resnet9.model import losses
from graph_resnet9.model import optimizer
from graph_resnet9.model import resnet9
from graph_resnet9.model import whitening
from graph_resnet9.run import evaluation
from graph_resnet9.run import examples
from graph_resnet9.run import xla

# The loss of the reference is a sum over 512 images, which keeps small float16
# gradients from becoming 0; so does this factor, taken out again in float32.
_FLOAT16_LOSS_SCALE = 512.


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
  feed: Dict[tf.Tensor, Any]


class TrainGraph(NamedTuple):
  """The tensors of a training graph that the session needs.

  logits: [batch, 10] float32.
  train_op: Operation, takes a step.
  step: int64 scalar, steps taken when train_op has run.
  learning_rate, loss, accuracy: float32 scalars of the step.
  test: evaluation.Tower over the next batch of test images, with the moving
    statistics, and averaged weights where they are kept.
  test_first: int32 scalar placeholder, where that batch begins.
  test_batch_size, test_examples: ints.
  steps_per_epoch, last_step: ints.
  feed: for Scaffold(local_init_feed_dict=).
  """
  logits: tf.Tensor
  train_op: tf.Operation
  step: tf.Tensor
  learning_rate: tf.Tensor
  loss: tf.Tensor
  accuracy: tf.Tensor
  test: evaluation.Tower
  test_first: tf.Tensor
  test_batch_size: int
  test_examples: int
  steps_per_epoch: int
  last_step: int
  feed: Dict[tf.Tensor, Any]


def _global_step():
  with tf.device('/cpu:0'), tf.variable_scope('', use_resource=True):
    return tf.train.get_or_create_global_step()


def input_batch(settings, source, scratch):
  """The next batch of the training images; arguments as of build.

  Returns:
    Input.
  """
  step = _global_step().read_value()
  # Which examples: a shuffle queue of indices or records.
  batch, count, feed = examples.batch(
      settings, source, 'train', scratch, first_step=step)
  # Augmentation, on the device that trains.
  chosen = augment.draws(settings.batches.batch_size, settings.seed, step,
                         **settings.augment._asdict())
  images = augment.normalised(
      augment.crops(batch.pixels, batch.indices, chosen))
  images = augment.cut_out(images, chosen, settings.augment.cutout)
  return Input(images, batch.labels, count, feed)


def build(settings, source, scratch):
  """Builds the training graph in the default graph.

  Args:
    settings: options.Train or options.Benchmark.
    source: dataset.Source.
    scratch: existing directory for record files, if they have to be written.
  Returns:
    TrainGraph.
  """
  tf.set_random_seed(settings.seed)
  global_step = _global_step()
  batch = input_batch(settings, source, scratch)
  steps_per_epoch = batch.examples // settings.batches.batch_size

  how = settings.optimizer
  with xla.scope(settings.xla):
    # Logits and loss.
    logits = resnet9.logits(
        batch.images, training=True, ghost_batch=settings.ghost_batch,
        filters=_whitening_filters(settings, source),
        **settings.model._asdict())
    loss = tf.reduce_mean(
        losses.cross_entropy(logits, batch.labels, how.label_smoothing))
    accuracy = tf.reduce_mean(
        tf.cast(losses.correct(logits, batch.labels), tf.float32))
    weights = [v for v in tf.global_variables() if v.dtype.is_floating]

    # The train op, after the update ops.
    scale = how.epochs / how.lr_epochs[-1]
    learning_rate = optimizer.learning_rate(
        global_step, steps_per_epoch, [scale * knot for knot in how.lr_epochs],
        how.lr_values)
    train_op = optimizer.train_op(
        loss, learning_rate, how.momentum, how.weight_decay, how.bias_lr_scale,
        run_update_ops=how.update_ops != 'none',
        loss_scale=_FLOAT16_LOSS_SCALE if settings.model.precision == 'float16'
        else 1.)
  with tf.control_dependencies([train_op]):
    step = global_step.read_value()

  # Averages of weights and statistics over the steps.
  getter = None
  if how.ema_decay:
    with tf.control_dependencies([step]):
      train_op, getter = average.averaging_op(
          weights, step, how.ema_decay, how.ema_steps)

  # The same network on the test images, with the moving statistics.
  test_data = queues.table(
      dataset.load(source, 'test', settings.data.test_examples), 'test')
  test_first = tf.placeholder(tf.int32, [], 'test_first')
  test_batch_size = min(settings.batches.batch_size, test_data.examples)
  with tf.variable_scope(tf.get_variable_scope(), reuse=True,
                         custom_getter=getter):
    test = evaluation.tower(
        queues.table_batch(test_data, tf.range(test_first, tf.minimum(
            test_first + test_batch_size, test_data.examples))),
        training=False, model=settings.model, mirrored=settings.mirrored)

  for name, value in (('loss', loss), ('accuracy', accuracy),
                      ('learning_rate', learning_rate)):
    tf.summary.scalar('train/' + name, value)
  return TrainGraph(
      logits, train_op, step, learning_rate, loss, accuracy, test, test_first,
      test_batch_size, test_data.examples, steps_per_epoch,
      max(1, round(how.epochs * steps_per_epoch)),
      {**batch.feed, **test_data.feed})


def _whitening_filters(settings, source):
  """Filters from the first training images as they are, or None."""
  if not settings.model.whitening:
    return None
  count = min(settings.data.train_examples or whitening.IMAGES,
              whitening.IMAGES)
  images = dataset.load(source, 'train', count).images
  return whitening.filters(
      (images[i:i + 500] - np.float32(augment.MEAN)) / np.float32(augment.STD)
      for i in range(0, len(images), 500))
