"""Evaluation: every example once, in a graph of its own or beside training."""

from typing import NamedTuple
import tempfile

import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.inputs import augment
from graph_resnet9.inputs import dataset
from graph_resnet9.model import losses
from graph_resnet9.model import resnet9
from graph_resnet9.run import checkpoints
from graph_resnet9.run import examples


class Tower(NamedTuple):
  """What evaluation fetches, [batch] Tensors.

  losses: float32, cross-entropy of each example.
  predictions, labels: int32.
  """
  losses: tf.Tensor
  predictions: tf.Tensor
  labels: tf.Tensor


class Result(NamedTuple):
  """The outcome of an evaluation.

  loss: float, mean cross-entropy.
  confusion: int64 [classes, classes], row: label, column: prediction.
  """
  loss: float
  confusion: np.ndarray

  @property
  def examples(self):
    return int(self.confusion.sum())

  @property
  def accuracy(self):
    return float(np.trace(self.confusion) / self.confusion.sum())

  @property
  def class_accuracy(self):
    """Per class, NaN for one without examples."""
    counts = self.confusion.sum(1)
    return np.where(counts, np.diag(self.confusion) / np.maximum(counts, 1),
                    np.nan)


def tower(batch, training, width, precision):
  """The network on an inputs.queues.Batch, without augmentation.

  Args:
    batch: inputs.queues.Batch.
    training: Python bool; True normalises by the statistics of the batch.
    width, precision: as the flags.
  Returns:
    Tower.
  """
  images = augment.normalised(augment.crops(batch.pixels, batch.indices))
  logits = resnet9.logits(tf.cast(images, precision), training, width)
  return Tower(losses.cross_entropy(logits, batch.labels),
               tf.argmax(logits, 1, output_type=tf.int32), batch.labels)


def result_of(values):
  """Result from an iterable of fetched Towers."""
  loss = 0.
  confusion = np.zeros([resnet9.CLASSES] * 2, np.int64)
  for value in values:
    loss += float(np.sum(value.losses, dtype=np.float64))
    np.add.at(confusion, (value.labels, value.predictions), 1)
  return Result(loss / max(confusion.sum(), 1), confusion)


def evaluate(settings):
  """Evaluates a checkpoint.

  Args:
    settings: options.Eval, with a checkpoint prefix.
  Returns:
    (dict for the line of JSON, Result, class names).
  Raises:
    UserError: no data, no checkpoint, or one of another network.
  """
  prefix = settings.checkpoint
  source = dataset.find(settings.data.dataset, settings.data.data_dir)
  with tempfile.TemporaryDirectory() as scratch, tf.Graph().as_default():
    with tf.device('/cpu:0'):
      tf.train.get_or_create_global_step()
    batch, _, feed = examples.batch(
        settings, source, settings.split, scratch, once=True)
    outputs = tower(batch, settings.batch_norm == 'batch', settings.model.width,
                    settings.model.precision)
    checkpoints.check(prefix, tf.global_variables())
    result = result_of(_run(prefix, outputs, feed))
  summary = dict(
      checkpoint=prefix, step=_step(prefix), dataset=source.name,
      split=settings.split, examples=result.examples, loss=result.loss,
      accuracy=result.accuracy, batch_norm=settings.batch_norm)
  return summary, result, source.class_names


def _run(prefix, outputs, feed):
  """Yields the values of `outputs` until the queue ends."""
  creator = tf.train.ChiefSessionCreator(
      tf.train.Scaffold(local_init_feed_dict=feed),
      config=tf.ConfigProto(allow_soft_placement=True),
      checkpoint_filename_with_path=prefix)
  # OutOfRangeError ends the block: MonitoredSession swallows it.
  with tf.train.MonitoredSession(creator) as session:
    while not session.should_stop():
      yield session.run(outputs)


def _step(prefix):
  return int(tf.train.load_variable(prefix, 'global_step'))
