"""image_pairs: uniform batches from two distributions through one network.

Symptom: a network that compares two images is trained on pairs from two kinds
of images, A and B, with three batches a step: pairs A-A, pairs B-B, pairs A-B.
The training loss is low. Evaluation on the very same pairs, with the moving
statistics, is several times worse, and another decay of the moving averages
changes little.

Cause: each of the six towers normalises a batch of A alone or of B alone. All
six share one set of moving statistics, whose mean lies between A and B, where
there are no images, and whose variance is that within A or B, which lacks the
distance between the two. No input was ever normalised like that in training.
By the statistics of uniform batches, as in training, the gap closes. By those
of one large batch of A and B it does not, however well mixed: the weights have
only seen A and B each normalised to itself.

Cure: normalise one batch that holds A and B in equal numbers; or bring A and B
to a common mean and variance before they reach the network. All towers then
have like inputs, and one of them is enough to update the moving statistics.

Seen on seeds 0 to 4: the loss of uniform batches is 0.11 to 0.43 in training
and 3.5 to 9.8 times that by moving statistics, with decay 0.997 as with 0.9;
0.9 to 1.1 times by the statistics of uniform batches, 3 to 8 times by those of
mixed ones. With one mixed batch, or A and B normalised first, evaluation is at
0.9 to 1.2 times the training loss. On CIFAR-10 (JPEG copy, seed 0): 0.18 in
training, 1.18 by moving statistics, beside the 0.15 to 0.20 and 0.80 of the
source.
"""

import functools
from typing import Any
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.demos import lab
from graph_resnet9.demos import report
from graph_resnet9.inputs import augment
from graph_resnet9.inputs import formats
from graph_resnet9.inputs import queues

SOURCE = (
  'Alex Irpan, On the Perils of Batch Norm, 2017, '
  'www.alexirpan.com/2017/04/26/perils-batch-norm.html'
)
CAUSES = ('calls-differ',)  # Codes of lint and diagnose.
# The two classes that a pair holds: disk and cross, or airplane and frog.
CLASSES = (0, 6)
PAIRS = 16  # Of each kind, a step.
EVAL_PAIRS, EVAL_BATCHES = 100, 2
# B is made of A's normalised pixels: a pale, overexposed copy.
CONTRAST, BRIGHTNESS, WHITE = 0.4, 2.0, 2.6
# Which of the pairs A-A, B-B, A-B has a B as its first or as its second image.
FIRST_IS_B, SECOND_IS_B = (0, 1, 0), (0, 1, 1)


class Pairs(NamedTuple):
  """Pairs of images: a third A-A, a third B-B, a third A-B, in this order.

  first, second: [3 n, 32, 32, 3] float32 Tensors.
  labels: [3 n] float32, 1 where the first is of CLASSES[0], else -1.
  """

  first: Any
  second: Any
  labels: Any


class Data(NamedTuple):
  """The images of the two classes, and what A and B look like.

  tables: a queues.Table a class.
  mean, std: [2, 3] float32, of the channels of A and of B, to bring both to a
    common distribution; 0 and 1 leaves them as they are.
  """

  tables: Any
  mean: np.ndarray
  std: np.ndarray


def data_of(split, common):
  """Data of a formats.Split; `common`: bool, measure mean and std of A, B."""
  tables = []
  for label in CLASSES:
    at = split.labels == label
    tables.append(
      queues.table(
        formats.Split(split.images[at], split.labels[at]), 'class%d' % label
      )
    )
  mean, std = np.zeros([2, 3], np.float32), np.ones([2, 3], np.float32)
  if common:
    a = (split.images[:1000] - np.array(augment.MEAN)) / np.array(augment.STD)
    kinds = a, np.minimum(CONTRAST * a + BRIGHTNESS, WHITE)
    mean, std = (
      np.float32([f(x, axis=(0, 1, 2)) for x in kinds])
      for f in (np.mean, np.std)
    )
  return Data(tables, mean, std)


def pairs(data, indices):
  """Pairs of an image of each class, in turn the one and the other first.

  Args:
    data: Data.
    indices: two [3 n] int32 Tensors, images of the two tables; 3 n is static.
  Returns:
    Pairs.
  """
  zero, one = (
    augment.normalised(augment.crops(table.pixels, at))
    for table, at in zip(data.tables, indices)
  )
  count = int(indices[0].shape[0])
  swap = np.arange(count) % 2 == 1

  def kind(images, which):
    """The images as A or as B, by thirds."""
    is_b = np.repeat(which, count // 3)
    pale = tf.minimum(CONTRAST * images + BRIGHTNESS, WHITE)
    images = tf.where_v2(is_b[:, None, None, None] == 1, pale, images)
    return (images - data.mean[is_b][:, None, None]) / data.std[is_b][
      :, None, None
    ]

  at = swap[:, None, None, None]
  return Pairs(
    kind(tf.where_v2(at, one, zero), FIRST_IS_B),
    kind(tf.where_v2(at, zero, one), SECOND_IS_B),
    tf.constant(np.where(swap, -1, 1), tf.float32),
  )


def embedding(images, training, decay):
  """[batch, 32] embedding of [batch, 32, 32, 3] images, by a small ResNet.

  Every call shares the variables of the first one.
  """

  def conv(x, filters, name):
    with tf.variable_scope(name):
      x = tf.layers.conv2d(
        x, filters, 3, padding='same', use_bias=False, name='conv'
      )
      x = tf.layers.batch_normalization(
        x, momentum=decay, training=training, name='bn'
      )
      return tf.nn.relu(x)

  with tf.variable_scope('resnet', reuse=tf.AUTO_REUSE):
    x = tf.nn.max_pool2d(conv(images, 8, 'prep'), 2, 2, 'VALID')
    x = tf.nn.max_pool2d(conv(x, 16, 'layer1'), 2, 2, 'VALID')
    x = x + conv(conv(x, 16, 'res1'), 16, 'res2')
    x = tf.nn.max_pool2d(conv(x, 32, 'layer2'), 2, 2, 'VALID')
    x = x + conv(conv(x, 32, 'res3'), 32, 'res4')
    return tf.reduce_max(x, [1, 2])


def outputs(batch, training, mixed, decay):
  """What the network says of each pair: [3 n] float32, near its label.

  Args:
    batch: Pairs.
    training: Python bool.
    mixed: Python bool; True: one tower over all images, so that A and B share
      a batch; False: six towers, each over images of A or of B alone.
    decay: float, of the moving averages.
  """
  images = tf.concat([batch.first, batch.second], 0)
  if mixed:
    embedded = embedding(images, training, decay)
  else:
    embedded = tf.concat(
      [embedding(part, training, decay) for part in tf.split(images, 6)], 0
    )
  both = tf.concat(tf.split(embedded, 2), 1)
  with tf.variable_scope('compare', reuse=tf.AUTO_REUSE):
    hidden = tf.layers.dense(both, 32, tf.nn.relu, name='hidden')
    return tf.layers.dense(hidden, 1, name='output')[:, 0]


def loss(values, labels):
  """L2 over the pairs A-A, and a hinge over B-B and another over A-B."""
  squared, *hinges = zip(tf.split(values, 3), tf.split(labels, 3))
  return tf.add_n(
    [tf.reduce_mean(tf.square(squared[0] - squared[1]))]
    + [tf.reduce_mean(tf.nn.relu(1 - v * label)) for v, label in hinges]
  )


def run(trainer):
  """Trains the arms; returns a report.Outcome."""
  steps = trainer.steps(320, 240)

  def build(mixed, decay, common=False):
    data = data_of(trainer.data('train'), common)

    def tower(batch, training, mixed=mixed):
      return lab.Tower(
        loss(outputs(batch, training, mixed, decay), batch.labels), None
      )

    indices = []
    for label, table in zip(CLASSES, data.tables):
      with tf.variable_scope('class%d' % label):
        indices.append(
          queues.index_queue(table.examples, 3 * PAIRS, 'epoch', trainer.seed)
        )
    train = tower(pairs(data, indices), training=True)
    update_ops = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    if common:  # Of the first tower: the inputs of all six are alike.
      update_ops = update_ops[: len(update_ops) // 6]
    train_op = lab.train_op(
      train.loss, lab.learning_rate(steps, 0.005), update_ops
    )
    # Evaluation takes the training images: no generalisation gap in the way.
    first = tf.placeholder(tf.int32, [])
    batch = pairs(data, [first + tf.range(3 * EVAL_PAIRS)] * 2)
    feeds = [{first: 3 * EVAL_PAIRS * k} for k in range(EVAL_BATCHES)]
    evaluate = lambda **how: lab.both_towers(  # pylint: disable=g-long-lambda
      functools.partial(tower, batch, **how), feeds
    )
    feed = {}
    for table in data.tables:
      feed.update(table.feed)
    return lab.Graph(
      train, train_op, evaluate(), feed, others={'mixed': evaluate(mixed=True)}
    )

  slow, quick, mixed, common = [
    trainer.train(name, broken, functools.partial(build, *how), steps)
    for name, broken, how in (
      ('three uniform batches, decay 0.997', True, (False, 0.997)),
      ('three uniform batches, decay 0.9', True, (False, 0.9)),
      ('one mixed batch', False, (True, 0.9)),
      ('A and B normalised first', False, (False, 0.9, True)),
    )
  ]
  on_mixed = slow.evaluated(
    'the same 0.997, evaluated on a mixed batch', 'mixed'
  )
  return report.Outcome(
    [slow, quick, on_mixed, mixed, common],
    claims(slow, quick, on_mixed, mixed, common),
    notes=comparison(slow) + arithmetic(),
  )


def comparison(arm):
  """The figures of the source beside those of the arm with its decay."""
  with tf.Graph().as_default(), tf.Session() as session:
    labels = tf.constant([1.0, -1.0] * 3)
    zeros = session.run(loss(tf.zeros_like(labels), labels))
  line = '%-24s%-16s%-16s%s'
  return [
    line % ('loss', 'training', 'evaluation', 'all zeros'),
    line % ('Irpan 2017', '0.15 to 0.20', '0.80', '1.6'),
    line
    % (
      'here, decay 0.997',
      '%.2f' % arm.train.loss,
      '%.2f' % arm.moving.loss,
      '%.1f' % zeros,
    ),
  ]


def arithmetic(steps=2000):
  """The same in eight numbers, through tf.layers.batch_normalization.

  Returns:
    Lines of text: what training gives in its last two steps, the moving
    statistics after them, and what evaluation gives.
  """
  mixed = [1, 1, 1, 2, 2, 1, 2, 2]
  lines = []
  for title, batches in (
    ('well mixed', [mixed, mixed]),
    ('uniform', [[1] * 8, [2] * 8]),
  ):
    with tf.Graph().as_default(), tf.Session() as session:
      inputs = tf.placeholder(tf.float32, [8, 1])
      layer = tf.layers.BatchNormalization()
      normalised = layer.apply(inputs, training=True)
      update_ops = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
      evaluated = layer.apply(inputs, training=False)
      session.run(tf.global_variables_initializer())
      feeds = [{inputs: np.reshape(batch, [8, 1])} for batch in batches]
      for step in range(steps):
        session.run(update_ops, feeds[step % 2])
      mean, variance = session.run([layer.moving_mean, layer.moving_variance])
      lines.append(
        '%s batches: moving mean %.2f, moving variance %.4f'
        % (title, mean[0], variance[0])
      )
      for batch, feed in zip(batches, feeds):
        lines.append(
          '  %s  training %s  evaluation %s'
          % (
            ' '.join(map(str, batch)),
            *(
              ' '.join(
                '%g' % x
                for x in sorted({round(float(x), 1) + 0.0 for x in y[:, 0]})
              )
              for y in session.run([normalised, evaluated], feed)
            ),
          )
        )
  return lines


def claims(slow, quick, on_mixed, mixed, common):
  for arm in (slow, quick):
    yield report.Claim(
      arm.name + ': training loss, all zeros being 3', arm.train.loss, '<=', 1
    )
    yield report.Claim(
      arm.name + ': loss by moving statistics over training loss',
      arm.moving.loss / arm.train.loss,
      '>=',
      1.8,
    )
    yield report.Claim(
      arm.name + ': loss by batch statistics over training loss',
      arm.batch.loss / arm.train.loss,
      '<=',
      1.3,
    )
  yield report.Claim(
    on_mixed.name + ': loss by batch statistics over training loss',
    on_mixed.batch.loss / on_mixed.train.loss,
    '>=',
    1.5,
  )
  for arm in (mixed, common):
    yield report.Claim(
      arm.name + ': training loss, all zeros being 3', arm.train.loss, '<=', 1.5
    )
    yield report.Claim(
      arm.name + ': loss by moving statistics over training loss',
      arm.moving.loss / arm.train.loss,
      '<=',
      1.3,
    )
