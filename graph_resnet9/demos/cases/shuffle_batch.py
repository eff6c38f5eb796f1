"""shuffle_batch: batches of few classes, from a queue too short to mix.

Symptom: training accuracy is high, and evaluation near chance, by moving and by
batch statistics alike. The training loss jumps again and again. The files hold
one class after the other.

Cause: tf.train.batch keeps the order of the files, and tf.train.shuffle_batch
mixes only what waits in its queue: a batch is drawn from little more than
min_after_dequeue neighbours. With fewer examples waiting than a class has, a
batch holds a class or two. The network only has to know which class it is the
turn of; batch normalisation takes the statistics of that class for those of the
data; and the weights forget what is long past.

Cure: let an epoch wait in the queue, or shuffle the files when you write them.
The entropy of the labels in a batch tells which of the two you have: it is one
line in the graph.
"""

import functools

import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.demos import lab
from graph_resnet9.demos import report
from graph_resnet9.demos import towers
from graph_resnet9.inputs import queues

SOURCE = 'tensorflow/tensorflow #11910 (CIFAR-10, one class a file)'
CAUSES = ('batches-not-mixed',)  # Codes of lint and diagnose.
SEEN = """with tf.train.batch a batch of 32 has a label entropy of
{tf.train.batch|label_entropy} of the possible, {tf.train.batch|training} are
right in training and {tf.train.batch|moving} in evaluation,
{tf.train.batch|batch} by batch statistics: the weights are spoiled, not only
the statistics. With 500 of 10,000 examples waiting, 1,000 a class, it is
{shuffle_batch, min_after_dequeue=500|label_entropy}, {shuffle_batch,
min_after_dequeue=500|training} and {shuffle_batch,
min_after_dequeue=500|moving}. With all of them waiting it is {shuffle_batch,
min_after_dequeue=10000|label_entropy}, {shuffle_batch,
min_after_dequeue=10000|training} and {shuffle_batch,
min_after_dequeue=10000|batch} by batch statistics."""
CLASSES = 10
BATCH_SIZE = 32  # Half of lab's: a class lasts long enough to be learned.
# Not lowered towards the end: the network must keep up with the classes, as it
# does in a long training.
LEARNING_RATE = 0.1
# How many of the 10,000 examples, 1,000 a class, wait in the queue at least.
WAITING = (1, 500, 2000, 10000)


def label_entropy(labels):
  """Entropy of the labels of a batch over that of ten even classes: 0 to 1.

  Args:
    labels: [batch] int32 Tensor.
  Returns:
    float32 scalar Tensor.
  """
  share = tf.reduce_mean(tf.one_hot(labels, CLASSES), 0)
  return -tf.reduce_sum(tf.math.xlogy(share, share)) / np.log(CLASSES)


def tower(batch, training):
  """towers.Tower of narrow ResNet9 with a bias, as most networks have one.

  Variables: those of resnet9.logits, and bias: [10] float32, trainable.
  """
  logits = towers.classes_logits(batch, training)
  bias = tf.get_variable('bias', [CLASSES], initializer=tf.zeros_initializer())
  return towers.scored(logits + bias, batch.labels)


def in_order(examples, seed):
  """Indices of the next batch, in the order of the file."""
  # [broken: tf.train.batch]
  return queues.index_queue(examples, BATCH_SIZE, 'none', seed)
  # [end]


def mixed(examples, seed, waiting):
  """The same, drawn from a queue in which `waiting` examples wait at least."""
  if waiting < examples:
    # [broken: fewer examples wait than a class or two have]
    return queues.index_queue(
      examples,
      BATCH_SIZE,
      'shuffle_batch',
      seed,
      min_after_dequeue=waiting,
      capacity=waiting + 3 * BATCH_SIZE,
    )
    # [end]
  # [fixed: an epoch waits]
  return queues.index_queue(
    examples,
    BATCH_SIZE,
    'shuffle_batch',
    seed,
    min_after_dequeue=examples,
    capacity=examples + 3 * BATCH_SIZE,
  )
  # [end]


def train_op(loss):
  update_ops = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
  with tf.control_dependencies(update_ops):
    return tf.train.MomentumOptimizer(LEARNING_RATE, 0.9).minimize(
      loss, tf.train.get_global_step()
    )


def run(trainer):
  """Trains an arm for each length of the queue; returns a report.Outcome."""
  steps = 480
  sweep = WAITING[1::2] if trainer.fast else WAITING

  def build(waiting):
    train_data = queues.table(trainer.data('train', 'class_sorted'), 'train')
    test_data = queues.table(trainer.data('test'), 'test')
    indices = (
      mixed(train_data.examples, trainer.seed, waiting)
      if waiting
      else in_order(train_data.examples, trainer.seed)
    )
    batch = queues.table_batch(train_data, indices)
    train = tower(batch, training=True)
    return lab.Graph(
      train,
      train_op(train.loss),
      towers.evaluation_of(tower, test_data),
      {**train_data.feed, **test_data.feed},
      figures={'label_entropy': label_entropy(batch.labels)},
    )

  arms = [
    trainer.train('tf.train.batch', True, functools.partial(build, 0), steps)
  ]
  for waiting in sweep:
    arms.append(
      trainer.train(
        'shuffle_batch, min_after_dequeue=%d' % waiting,
        waiting < trainer.data('train').labels.size,
        functools.partial(build, waiting),
        steps,
      )
    )
  return report.Outcome(
    arms,
    list(claims(arms)),
    columns={'label_entropy': 'label entropy'},
    draw=functools.partial(draw, arms),
  )


def late_training_accuracy(arm):
  """Training accuracy over the second half, which is several classes long."""
  points = arm.curve[len(arm.curve) // 2 :]
  return np.mean([point.train.accuracy for point in points])


def claims(arms):
  fixed = arms[-1]
  entropies = [arm.figures['label_entropy'] for arm in arms]
  yield report.Claim(
    'label entropy: the least rise from arm to arm',
    min(np.diff(entropies)),
    '>=',
    0.02,
  )
  yield report.Claim(fixed.name + ': label entropy', entropies[-1], '>=', 0.85)
  for arm in arms[: arms.index(fixed) // 2 + 1]:
    yield report.Claim(
      arm.name + ': training accuracy, second half, less that by moving '
      'statistics',
      late_training_accuracy(arm) - arm.moving.accuracy,
      '>=',
      0.2,
    )
    yield report.Claim(
      arm.name + ': accuracy by moving statistics',
      arm.moving.accuracy,
      '<=',
      0.2,
    )
  yield report.Claim(
    fixed.name + ': accuracy by batch statistics',
    fixed.batch.accuracy,
    '>=',
    0.18,
  )
  yield report.Claim(
    fixed.name + ': training accuracy less that by batch statistics',
    fixed.train.accuracy - fixed.batch.accuracy,
    '<=',
    0.15,
  )


def draw(arms, axes):
  """Accuracy and entropy over the length of the queue."""
  at = range(len(arms))
  for label, style, values in (
    (
      'label entropy of a batch, of 1',
      'C2^-',
      [arm.figures['label_entropy'] for arm in arms],
    ),
    ('training accuracy', 'k-', [arm.train.accuracy for arm in arms]),
    (
      'evaluation accuracy, moving statistics',
      'C1s-',
      [arm.moving.accuracy for arm in arms],
    ),
    (
      'evaluation accuracy, batch statistics',
      'C0o--',
      [arm.batch.accuracy for arm in arms],
    ),
  ):
    axes.plot(at, values, style, label=label)
  axes.set_xticks(at, [arm.name.rpartition('=')[2] for arm in arms])
  axes.set_xlabel('min_after_dequeue of tf.train.shuffle_batch', fontsize=9)
  axes.axhline(1 / CLASSES, color='.4', linestyle=':', label='guessing')
  axes.set_ylim(0, 1.03)
  axes.grid(alpha=0.3)
  axes.tick_params(labelsize=8)
  axes.legend(fontsize=8)
