"""slow_decay: decay 0.99 keeps the initial variance for too long.

Symptom: a small network fits its images at once, and evaluation of the very
same images stays near chance, early in the training. The update ops do run.

Cause: tf.layers.batch_normalization has decay 0.99,
tf.contrib.layers.batch_norm 0.999, and the moving variance starts from 1. After
100 steps 0.99**100 = 0.37 of that 1 is left. With inputs over 256 the first
layers have variances of a few thousandths, so nearly all of what is stored
there is still the 1, and evaluation shrinks their output to almost nothing.

Cure: decay 0.9, with which the same 100 steps leave 0.9**100 = 3e-5; or more
steps: with 0.99 it takes 1,000 to forget as much. A checkpoint can be
recalibrated.
"""

import functools

import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.demos import lab
from graph_resnet9.demos import report
from graph_resnet9.demos import towers
from graph_resnet9.inputs import augment
from graph_resnet9.inputs import queues

SOURCE = (
  'tf.contrib.layers.batch_norm in TensorFlow 1.15: "recommend trying '
  'decay=0.9" where training does well and evaluation does not; '
  'tensorlayer/TensorLayer #104; ctlearn-project/ctlearn commit 16c2c13, '
  '0.999 to 0.95'
)
CAUSES = ('too-few-steps', 'decay-too-slow')  # Codes of lint and diagnose.
SEEN = """after the same steps decay 0.99 has {decay 0.99|batch} right by batch
and {decay 0.99|moving} by moving statistics, decay 0.999 {decay 0.999|moving};
the initial 1 makes up {decay 0.99 + decay 0.999|initial} of the first stored
variance. Decay 0.9 has {decay 0.9|moving} by moving statistics, and 0.99 after
ten times the steps {decay 0.99, ten times the steps|moving}."""
EXAMPLES = 100
BATCH_SIZE = 25
FILTERS = (16, 32, 64)
# Name, whether it is broken, decay, steps.
ARMS = (
  ('decay 0.999', True, 0.999, 100),
  ('decay 0.99', True, 0.99, 100),
  ('decay 0.9', False, 0.9, 100),
  ('decay 0.99, ten times the steps', False, 0.99, 1000),
)


def normalised(x, decay, training):
  if decay == 0.99:
    # [broken: the default of tf.layers]
    return tf.layers.batch_normalization(x, training=training)
    # [end]
  if decay == 0.9:
    # [fixed: decay 0.9]
    return tf.layers.batch_normalization(x, momentum=0.9, training=training)
    # [end]
  return tf.layers.batch_normalization(x, momentum=decay, training=training)


def logits(images, decay, training):
  """Three convolutions with pooling: uint8 images to [batch, 10] float32."""
  x = tf.cast(images, tf.float32) / 256
  for filters in FILTERS:
    x = tf.layers.conv2d(x, filters, 3, padding='same', use_bias=False)
    x = tf.nn.relu(normalised(x, decay, training))
    x = tf.nn.max_pool2d(x, 2, 2, 'VALID')
  return tf.layers.dense(tf.layers.flatten(x), 10)


def build(trainer, decay):
  """The lab.Graph of an arm: evaluated on the images that it is trained on."""

  def tower(batch, training):
    images = augment.crops(batch.pixels, batch.indices)
    with tf.variable_scope('net', reuse=tf.AUTO_REUSE):
      return towers.scored(logits(images, decay, training), batch.labels)

  split = trainer.data('train')
  data = queues.table(
    split._replace(
      images=split.images[:EXAMPLES], labels=split.labels[:EXAMPLES]
    ),
    'train',
  )
  train = tower(towers.shuffled_batch(data, trainer.seed, BATCH_SIZE), True)
  train_op = towers.train_op(train.loss, 0.001)
  everything = queues.table_batch(data, tf.range(EXAMPLES))
  return lab.Graph(
    train,
    train_op,
    towers.both_towers(functools.partial(tower, everything), [{}]),
    data.feed,
  )


def run(trainer):
  """Trains the arms; returns a report.Outcome."""
  arms = []
  for name, broken, decay, steps in ARMS[: 3 if trainer.fast else None]:
    arm = trainer.train(
      name, broken, functools.partial(build, trainer, decay), steps
    )
    arms.append(
      arm._replace(
        figures={
          'initial': float(
            np.median(decay**steps / arm.layers[0].stored_variance)
          )
        }
      )
    )
  return report.Outcome(
    arms, list(claims(arms)), columns={'initial': 'initial share'}
  )


def claims(arms):
  for arm in arms:
    yield report.Claim(
      arm.name + ': accuracy by batch statistics', arm.batch.accuracy, '>=', 0.6
    )
    yield report.Claim(
      arm.name + ': share of the initial 1 in the first stored variance',
      arm.figures['initial'],
      *(('>=', 0.8) if arm.broken else ('<=', 0.1)),
    )
    yield report.Claim(
      arm.name + ': accuracy by batch less that by moving statistics',
      arm.batch.accuracy - arm.moving.accuracy,
      *(('>=', 0.3) if arm.broken else ('<=', 0.15)),
    )
