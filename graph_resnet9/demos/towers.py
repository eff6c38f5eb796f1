"""What most arms are made of: towers, their evaluation, train ops."""

import functools
from typing import Any
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from graph_resnet9.inputs import augment
from graph_resnet9.inputs import queues
from graph_resnet9.model import losses
from graph_resnet9.model import optimizer
from graph_resnet9.model import resnet9

BATCH_SIZE = 64
WIDTH = 8  # Of ResNet9, where a case uses it: 1/8 of the published one.
EVAL_BATCH_SIZE = 250


class Tower(NamedTuple):
  """Means over a batch, float32 scalar Tensors; accuracy None if none."""

  loss: tf.Tensor
  accuracy: tf.Tensor | None


class Evaluation(NamedTuple):
  """The network on the evaluation data, beside the training tower.

  moving, batch: Tower over a batch, by the stored statistics and by its own.
  batch_ops: names of the ops of the tower that uses batch statistics.
  feeds: feed dicts; one a batch, of one size, all data once; or a function of
    the session to such.
  """

  moving: Tower
  batch: Tower
  batch_ops: frozenset[str]
  feeds: Any


def classes_logits(batch, training):
  """Logits of narrow ResNet9 on the images of a queues.Batch, as they are.

  Args:
    batch: queues.Batch.
    training: Python bool.
  Returns:
    [batch, 10] float32 Tensor.
  Variables, Collections: as of resnet9.logits.
  """
  images = augment.normalised(augment.crops(batch.pixels, batch.indices))
  return resnet9.logits(images, training, WIDTH)


def classes_tower(batch, training):
  """Tower of classes_logits."""
  return scored(classes_logits(batch, training), batch.labels)


def scored(logits, labels):
  """Tower of [batch, classes] logits: cross-entropy and share of right ones."""
  return Tower(
    tf.reduce_mean(losses.cross_entropy(logits, labels)),
    tf.reduce_mean(tf.cast(losses.correct(logits, labels), tf.float32)),
  )


def shuffled_batch(table, seed, batch_size=BATCH_SIZE):
  """The next queues.Batch of a table: every epoch another permutation."""
  return queues.table_batch(
    table, queues.index_queue(table.examples, batch_size, 'epoch', seed)
  )


def evaluation_of(tower, test):
  """Evaluation of `tower` on a table, beside the training tower.

  Args:
    tower: function of (queues.Batch, training) to Tower.
    test: queues.Table; a multiple of EVAL_BATCH_SIZE examples.
  Returns:
    Evaluation.
  Collections:
    UPDATE_OPS: + 2 a layer. Read it for the train op before this is called.
  """
  first = tf.placeholder(tf.int32, [])
  batch = queues.table_batch(test, tf.range(first, first + EVAL_BATCH_SIZE))
  return both_towers(
    functools.partial(tower, batch),
    [{first: begin} for begin in range(0, test.examples, EVAL_BATCH_SIZE)],
  )


def both_towers(tower, feeds):
  """Evaluation of tower(training), by moving and by batch statistics.

  Variables: shares those of the training tower, or makes them if there is none.
  """
  with tf.variable_scope(tf.get_variable_scope(), reuse=tf.AUTO_REUSE):
    moving = tower(training=False)
    before = len(tf.get_default_graph().get_operations())
    batch = tower(training=True)
  ops = tf.get_default_graph().get_operations()[before:]
  return Evaluation(moving, batch, frozenset(op.name for op in ops), feeds)


def learning_rate(steps, peak):
  """Up to `peak` in a fifth of the steps, then down to 0, linearly."""
  return optimizer.learning_rate(
    tf.train.get_global_step(), steps, [0, 0.2, 1], [0, peak, 0]
  )


def train_op(loss, rate, update_ops=None):
  """A step of Adam at `rate`, a float or Tensor, after the update ops.

  update_ops: list of Operations; None: all of the collection.
  """
  if update_ops is None:
    update_ops = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
  with tf.control_dependencies(update_ops):
    return tf.train.AdamOptimizer(rate).minimize(
      loss, tf.train.get_global_step()
    )
