"""Evaluation: every example once, in a graph of its own or beside training."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.checkpoints import reader
from graph_resnet9.cli import recipe_flags
from graph_resnet9.cli import train_flags
from graph_resnet9.errors import UserError
from graph_resnet9.inputs import augment
from graph_resnet9.inputs import batches
from graph_resnet9.inputs import dataset
from graph_resnet9.inputs import formats
from graph_resnet9.inputs import queues
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
  def examples(self) -> int:
    return int(self.confusion.sum())

  @property
  def accuracy(self) -> float:
    return float(np.trace(self.confusion) / self.confusion.sum())

  @property
  def class_accuracy(self) -> np.ndarray:
    """Per class, NaN for one without examples."""
    counts = self.confusion.sum(1)
    return np.where(
      counts, np.diag(self.confusion) / np.maximum(counts, 1), np.nan
    )


def tower(
  batch: queues.Batch,
  training: bool,
  model: recipe_flags.Model,
  views: recipe_flags.Views,
  classes: int = resnet9.CLASSES,
) -> Tower:
  """The network on an inputs.queues.Batch, without augmentation.

  Args:
    batch: inputs.queues.Batch.
    training: Python bool; True normalises by the statistics of the batch.
    model: recipe_flags.Model.
    views: recipe_flags.Views, of each image.
    classes: int, of the network.
  Returns:
    Tower.
  Collections:
    UPDATE_OPS: + 16 if training, which nothing here runs.
  """
  images = augment.crops(batch.pixels, batch.indices)
  scores = logits(images, training, model, views, classes)
  return Tower(
    losses.cross_entropy(scores, batch.labels),
    tf.argmax(scores, 1, output_type=tf.int32),
    batch.labels,
  )


def logits(
  images: tf.Tensor,
  training: bool,
  model: recipe_flags.Model,
  views: recipe_flags.Views,
  classes: int = resnet9.CLASSES,
) -> tf.Tensor:
  """The logits of images as they are in the data set.

  Args:
    images: [batch, 32, 32, 3] uint8 Tensor.
    training, model, views, classes: as of tower.
  Returns:
    [batch, classes] float32 Tensor.
  Collections:
    UPDATE_OPS, BIASES: as of resnet9.logits.
  Source: davidcpage/cifar10-fast, new_dawn.py (mirrored); Jordan 2024, arXiv
    2404.00498, section 3.5, multi-crop evaluation (shifted).
  """
  shots, shares = _shots(augment.normalised(images), **views)
  scores = resnet9.logits(
    tf.concat(shots, 0), training, classes=classes, **model
  )
  return tf.add_n(
    [
      share * score
      for share, score in zip(shares, tf.split(scores, len(shots)))
    ]
  )


def _shots(images, mirrored, shifted):
  """The views of a batch, and what share of the mean each is."""
  shots, shares = [images], [1.0]
  if shifted:
    padded = tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]], 'REFLECT')
    shots += [padded[:, :-2, :-2], padded[:, 2:, 2:]]
    shares = [0.5, 0.25, 0.25]
  if mirrored:
    shots += [tf.reverse(shot, [2]) for shot in shots]
    shares = [share / 2 for share in shares * 2]
  return shots, shares


def result_of(
  values: Iterable[Tower], classes: int = resnet9.CLASSES
) -> Result:
  """Result from an iterable of fetched Towers."""
  loss = 0.0
  confusion = np.zeros([classes] * 2, np.int64)
  for value in values:
    loss += float(np.sum(value.losses, dtype=np.float64))
    np.add.at(confusion, (value.labels, value.predictions), 1)
  return Result(loss / max(confusion.sum(), 1), confusion)


class BesideTraining:
  """The test images through the variables of a training, in its graph.

  examples: int. feed: {placeholder: array} for
  tf.train.Scaffold(local_init_feed_dict=).
  """

  def __init__(
    self,
    split: formats.Split,
    settings: train_flags.Run,
    averages: Callable | None = None,
    classes: int = resnet9.CLASSES,
  ) -> None:
    """Adds the network with the moving statistics to the default graph.

    Args:
      split: the test images.
      settings: of the run.
      averages: custom getter for tf.variable_scope, from weights to their
        averages, where there are some.
      classes: int, of the network.
    Collections:
      LOCAL_VARIABLES: + 2.
      UPDATE_OPS: + 0.
    """
    with tf.variable_scope('evaluation'):
      table = queues.table(split, 'test')
      self._first = tf.placeholder(tf.int32, [], 'first')
      batch_size = settings.views.images(settings.batches.batch_size)
      self._batch_size = min(batch_size, table.examples)
      last = tf.minimum(self._first + self._batch_size, table.examples)
      batch = queues.table_batch(table, tf.range(self._first, last))
    with (
      tf.variable_scope(
        tf.get_variable_scope(), reuse=True, custom_getter=averages
      ),
      tf.name_scope('evaluation/'),
    ):
      self._tower = tower(batch, False, settings.model, settings.views, classes)
    self._classes = classes
    self.examples, self.feed = table.examples, table.feed

  def run(
    self, session: tf.Session, interrupted: Callable[[], bool]
  ) -> Result | None:
    """Evaluates; returns None if `interrupted` turns true meanwhile."""
    values = []
    for first in range(0, self.examples, self._batch_size):
      if interrupted():
        return None
      values.append(session.run(self._tower, {self._first: first}))
    return result_of(values, self._classes)


def evaluate(
  data: dataset.Data,
  prefix: str,
  settings: train_flags.Run,
  split: str,
  batch_norm: str,
  weights: str,
) -> tuple[dict[str, Any], Result, tuple[str, ...]]:
  """Evaluates a checkpoint.

  Args:
    data: has the images.
    prefix: of the checkpoint.
    settings: of the run that it is of.
    split: 'train' or 'test'.
    batch_norm: 'moving', or 'batch': normalise by the statistics of the batch.
    weights: as of restored_names.
  Returns:
    (dict for the line of JSON, Result, class names).
  Raises:
    UserError: no data, no checkpoint, or one of another network; or not every
      example came.
  """
  queue = settings.batches
  if batch_norm == 'moving':  # Then it does not matter who meets whom.
    queue = queue.replace(
      batch_size=settings.views.images(queue.batch_size),
      shuffle='none',
      min_after_dequeue=None,
      capacity=None,
    )
  with tf.Graph().as_default():
    with tf.device('/cpu:0'):
      tf.train.get_or_create_global_step()
    batch, examples, feed = batches.batch(
      data, split, settings.seed, once=True, **queue
    )
    classes = len(data.source.class_names)
    outputs = tower(
      batch, batch_norm == 'batch', settings.model, settings.views, classes
    )
    names = restored_names(prefix, weights, tf.global_variables())
    result = result_of(_run(prefix, names, outputs, feed), classes)
  if result.examples != examples:
    raise UserError(
      '--data_dir=%s: gave %d of the %d %s images; did its files change '
      'meanwhile?' % (settings.data.data_dir, result.examples, examples, split)
    )
  summary = dict(
    checkpoint=prefix,
    step=checkpoint_step(prefix),
    dataset=data.source.name,
    split=split,
    examples=result.examples,
    loss=result.loss,
    accuracy=result.accuracy,
    batch_norm=batch_norm,
    weights=weights_kind(names),
    **settings.views,
  )
  return summary, result, data.source.class_names


def restored_names(
  prefix: str, weights: str, variables: Iterable[tf.Variable]
) -> dict[str, tf.Variable]:
  """{name in the checkpoint: variable} for the weights that are asked for.

  Args:
    prefix: of the checkpoint.
    weights: 'average', 'trained', or 'auto': averages where it has them.
    variables: those of a graph for evaluation.
  Raises:
    UserError: the checkpoint is damaged, or does not fit.
  """
  shapes = reader.shapes(prefix)
  names = {variable.op.name: variable for variable in variables}
  averages = average.names(variables)
  if weights == 'average' or (
    weights == 'auto' and not shapes.keys().isdisjoint(averages)
  ):
    names = {
      **averages,
      **{
        name: variable
        for name, variable in names.items()
        if not variable.dtype.is_floating
      },
    }
  reader.check(prefix, shapes, names)
  return names


def weights_kind(names: Mapping[str, tf.Variable]) -> str:
  """'trained' or 'average': which ones restored_names has chosen."""
  return 'trained' if 'linear/kernel' in names else 'average'


def _run(
  prefix: str, names: dict, outputs: Tower, feed: dict
) -> Iterator[Tower]:
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


def checkpoint_step(prefix: str) -> int:
  """The global step of a checkpoint."""
  return int(tf.train.load_variable(prefix, 'global_step'))
