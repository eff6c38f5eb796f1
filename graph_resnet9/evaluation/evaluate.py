"""Evaluation: every example once, in a graph of its own or beside training."""

from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9 import files
from graph_resnet9.checkpoints import choose as checkpoints
from graph_resnet9.inputs import augment
from graph_resnet9.inputs import batches as examples
from graph_resnet9.inputs import dataset
from graph_resnet9.model import average
from graph_resnet9.model import losses
from graph_resnet9.model import resnet9


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
    return np.where(
      counts, np.diag(self.confusion) / np.maximum(counts, 1), np.nan
    )


def tower(batch, training, model, mirrored):
  """The network on an inputs.queues.Batch, without augmentation.

  Args:
    batch: inputs.queues.Batch.
    training: Python bool; True normalises by the statistics of the batch.
    model: train_flags.Model.
    mirrored: Python bool; the mean of the logits of image and mirror image.
  Returns:
    Tower.
  """
  scores = logits(
    augment.crops(batch.pixels, batch.indices), training, model, mirrored
  )
  return Tower(
    losses.cross_entropy(scores, batch.labels),
    tf.argmax(scores, 1, output_type=tf.int32),
    batch.labels,
  )


def logits(images, training, model, mirrored):
  """The logits of images as they are in the data set.

  Args:
    images: [batch, 32, 32, 3] uint8 Tensor.
    training, model, mirrored: as of tower.
  Returns:
    [batch, 10] float32 Tensor.
  """
  images = augment.normalised(images)
  if mirrored:
    images = tf.concat([images, tf.reverse(images, [2])], 0)
  scores = resnet9.logits(images, training, **model)
  if mirrored:
    scores = tf.add_n(tf.split(scores, 2)) / 2
  return scores


def result_of(values):
  """Result from an iterable of fetched Towers."""
  loss = 0.0
  confusion = np.zeros([resnet9.CLASSES] * 2, np.int64)
  for value in values:
    loss += float(np.sum(value.losses, dtype=np.float64))
    np.add.at(confusion, (value.labels, value.predictions), 1)
  return Result(loss / max(confusion.sum(), 1), confusion)


def evaluate(prefix, settings, split, batch_norm, weights):
  """Evaluates a checkpoint.

  Args:
    prefix: of the checkpoint.
    settings: train_flags.Run, of the run that it is of.
    split: 'train' or 'test'.
    batch_norm: 'moving', or 'batch': normalise by the statistics of the batch.
    weights: as of restored_names.
  Returns:
    (dict for the line of JSON, Result, class names).
  Raises:
    UserError: no data, no checkpoint, or one of another network.
  """
  source = dataset.find(settings.data.dataset, settings.data.data_dir)
  with files.scratch_dir() as scratch, tf.Graph().as_default():
    with tf.device('/cpu:0'):
      tf.train.get_or_create_global_step()
    batch, _, feed = examples.batch(settings, source, split, scratch, once=True)
    outputs = tower(
      batch, batch_norm == 'batch', settings.model, settings.mirrored
    )
    names = restored_names(prefix, weights, tf.global_variables())
    with examples.reading(settings, source, split):
      result = result_of(_run(prefix, names, outputs, feed))
  summary = dict(
    checkpoint=prefix,
    step=checkpoint_step(prefix),
    dataset=source.name,
    split=split,
    examples=result.examples,
    loss=result.loss,
    accuracy=result.accuracy,
    batch_norm=batch_norm,
    weights=weights_kind(names),
    mirrored=settings.mirrored,
  )
  return summary, result, source.class_names


def restored_names(prefix, weights, variables):
  """{name in the checkpoint: variable} for the weights that are asked for.

  Args:
    prefix: of the checkpoint.
    weights: 'average', 'trained', or 'auto': averages where it has them.
    variables: those of a graph for evaluation.
  Raises:
    UserError: the checkpoint is damaged, or does not fit.
  """
  found = checkpoints.shapes(prefix)
  names = {variable.op.name: variable for variable in variables}
  averages = average.names(variables)
  if weights == 'average' or (
    weights == 'auto' and not found.keys().isdisjoint(averages)
  ):
    names = {
      **averages,
      **{
        name: variable
        for name, variable in names.items()
        if not variable.dtype.is_floating
      },
    }
  checkpoints.check(prefix, found, names)
  return names


def weights_kind(names):
  """'trained' or 'average': which ones restored_names has chosen."""
  return 'trained' if 'linear/kernel' in names else 'average'


def _run(prefix, names, outputs, feed):
  """Yields the values of `outputs` until the queue ends.

  Args:
    prefix: of the checkpoint.
    names: {name in the checkpoint: variable}.
    outputs: what is fetched.
    feed: for the session's local init op.
  """
  creator = tf.train.ChiefSessionCreator(
    tf.train.Scaffold(saver=tf.train.Saver(names), local_init_feed_dict=feed),
    config=tf.ConfigProto(allow_soft_placement=True),
    checkpoint_filename_with_path=prefix,
  )
  # OutOfRangeError ends the block: MonitoredSession swallows it.
  with tf.train.MonitoredSession(creator) as session:
    while not session.should_stop():
      yield session.run(outputs)


def checkpoint_step(prefix):
  """The global step of a checkpoint."""
  return int(tf.train.load_variable(prefix, 'global_step'))
