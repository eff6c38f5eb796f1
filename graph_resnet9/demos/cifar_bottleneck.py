"""cifar_bottleneck: 0.99 remembers the initial variance for hundreds of steps.

TODO
"""

import functools
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.demos import lab
from graph_resnet9.demos import report
from graph_resnet9.inputs import augment
from graph_resnet9.inputs import queues

SOURCE = ('a question about tf.layers.batch_normalization in a CIFAR-10 '
          'network of bottleneck units, and the answer to it')
EXAMPLES = 100
BATCH_SIZE = 25
UNITS = 3


class Variant(NamedTuple):
  """What the arms differ in; the defaults are the network as asked.

  axis, decay: of batch normalisation.
  signed: bool, inputs in [-1, 1] instead of pixels over 256.
  norm_before_sum: bool, whether a unit's last convolution is normalised.
  """
  axis: int = -1
  decay: float = .99
  signed: bool = False
  norm_before_sum: bool = True


ARMS = (
    ('as asked', True, Variant()),
    ('axis=1', True, Variant(axis=1)),
    ('inputs in [-1, 1]', True, Variant(signed=True)),
    ('no batch norm before the sum', True, Variant(norm_before_sum=False)),
    ('all three', True, Variant(axis=1, signed=True, norm_before_sum=False)),
    ('decay 0.9', False, Variant(decay=.9)))


def logits(images, variant, training):
  """The network: [batch, 32, 32, 3] uint8 to [batch, 10] float32.

  Variables: conv, unit{k}/conv{1,2,3}, unit{k}/bn{1,2,3}, dense1, dense2, each
    as tf.layers names them.
  Collections:
    UPDATE_OPS: + 2 for each batch normalisation, if training.
  """
  def conv(x, filters, size, name):
    return tf.layers.conv2d(x, filters, size, padding='same', name=name)

  def batch_norm(x, name):
    return tf.layers.batch_normalization(
        x, axis=variant.axis, momentum=variant.decay, training=training,
        name=name)

  x = tf.cast(images, tf.float32)
  x = x / 127.5 - 1 if variant.signed else x / 256
  x = tf.nn.relu(conv(x, 32, 3, 'conv'))
  for k in range(UNITS):
    with tf.variable_scope('unit%d' % k):
      y = tf.nn.relu(batch_norm(conv(x, 16, 1, 'conv1'), 'bn1'))
      y = tf.nn.relu(batch_norm(conv(y, 16, 3, 'conv2'), 'bn2'))
      y = conv(y, 32, 1, 'conv3')
      if variant.norm_before_sum:
        y = batch_norm(y, 'bn3')
      x = tf.nn.relu(x + y)
  x = tf.layers.dense(tf.layers.flatten(x), 32, name='dense1')
  return tf.layers.dense(x, 10, name='dense2')


def build(trainer, variant):
  """The lab.Graph of an arm: evaluated on the images that it is trained on."""
  def tower(batch, training):
    images = augment.crops(batch.pixels, batch.indices)
    return lab.scored(logits(images, variant, training), batch.labels)

  split = trainer.data('train')
  data = queues.table(split._replace(images=split.images[:EXAMPLES],
                                     labels=split.labels[:EXAMPLES]), 'train')
  train = tower(lab.shuffled_batch(data, trainer.seed, BATCH_SIZE), True)
  update_ops = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
  with tf.control_dependencies(update_ops):
    train_op = tf.train.AdamOptimizer().minimize(
        train.loss, tf.train.get_global_step())
  everything = queues.table_batch(data, tf.range(EXAMPLES))
  return lab.Graph(
      train, train_op,
      lab.both_towers(functools.partial(tower, everything), [{}]), data.feed)


def run(trainer):
  """Trains the six arms; returns a report.Outcome."""
  steps = trainer.steps(80, 60)
  arms = []
  for name, broken, variant in ARMS:
    arm = trainer.train(name, broken,
                        functools.partial(build, trainer, variant), steps)
    left = variant.decay ** steps
    first = arm.layers[0]
    arms.append(arm._replace(figures={
        'share of the initial 1 in the first stored variance':
            float(np.median(left / first.stored_variance)),
        'first variance': float(np.median(first.variance)),
        'debiased': float(np.median(
            (first.stored_variance - left) / (1 - left) / first.variance)),
    }))
  return report.Outcome(arms, claims(arms))


def claims(arms):
  share = 'share of the initial 1 in the first stored variance'
  for arm in arms:
    yield report.Claim(arm.name + ': batch', arm.batch.accuracy, '>=', .8)
    if arm.broken:
      yield report.Claim(arm.name + ': moving', arm.batch.accuracy - arm.moving.accuracy, '>=', .15)
      yield report.Claim(arm.name + share, arm.figures[share], '>=', .8)
    else:
      yield report.Claim(arm.name + ': moving', arm.batch.accuracy - arm.moving.accuracy, '<=', .1)
      yield report.Claim(arm.name + share, arm.figures[share], '<=', .8)
