"""batch_size_one: batch normalisation trained on one example at a time.

Symptom: first, training and validation accuracy both stay near chance. With a
softmax added, training accuracy is high and validation accuracy poor.

Cause: two faults. The loss expects probabilities and is given raw outputs. It
divides them by their sum and clips to 1e-7 .. 1 - 1e-7; outputs of both signs
have a sum near 0 and shares far outside, where clipping leaves no gradient.
Mended, the other shows: a batch of one example is normalised by the mean and
the variance of that example alone, over its 49 or 25 frames. That takes its
loudness and background away, and the network learns to rely on it. The moving
statistics are averages over examples: their variance lacks what examples differ
by, and no constants can do to each example what its own statistics did. So the
statistics of a large mixed batch do not save the network either.

Cure: outputs to a loss that takes logits, and batches of many examples. Where
memory holds only one, use a normalisation that treats an example alike in
training and evaluation: layer, group or instance normalisation.

Seen on seeds 0 to 4: as reported, though not because the network learns
garbage. Raw outputs: 92 to 95% of the steps have no gradient, the loss is 9 to
13, accuracy 15 to 31% in training and 11 to 28% by moving statistics. Softmax:
100% in training, where no signal comes twice, 31 to 42% by moving statistics,
30 to 44% by those of 250 signals, and 100% when each test signal is normalised
by its own, as in training. The first layers have stored about half the
variance. Batch size 32: 100% in training and in evaluation.
"""

import functools

import tensorflow.compat.v1 as tf

from graph_resnet9.demos import lab
from graph_resnet9.demos import report
from graph_resnet9.demos.cases import spectrograms as signals
from graph_resnet9.inputs import queues
from graph_resnet9.model import losses

SOURCE = (
  'tensorflow/tensorflow #9796 (inference on one); the network and '
  'both faults from the blog post "Tensorflow \'Riddle\'", October '
  '2020; Wu and Johnson 2021, arXiv 2105.07576'
)
CAUSES = ('single-example',)  # Codes of lint and diagnose.
EPSILON = 1e-7  # Keras clips probabilities to EPSILON .. 1 - EPSILON.
BATCH_SIZE = 32  # Of the arm that works.
TRAIN_EXAMPLES = 2000
TEST_EXAMPLES = 500
EVAL_BATCH_SIZE = 250
ONE_BY_ONE = 100  # Test signals that are also evaluated each by itself.
# They see the loudness of a signal; behind them it is normalised already.
FIRST_LAYERS = ('block1/first/bn', 'block1/projection/bn')


def conv(inputs, filters, size, strides):
  """[batch, frames / strides, filters]: a convolution over time, no bias."""
  return tf.layers.conv1d(
    inputs, filters, size, strides, 'same', use_bias=False, name='conv'
  )


def conv_bn_relu(inputs, filters, size, strides, training, name):
  """conv, then batch normalisation over batch and frames, then ReLU."""
  with tf.variable_scope(name):
    return tf.nn.relu(
      tf.layers.batch_normalization(
        conv(inputs, filters, size, strides), training=training, name='bn'
      )
    )


def block(inputs, filters, training, name):
  """A residual block that halves the number of frames.

  Args:
    inputs: [batch, frames, channels] float32 Tensor.
    filters: int.
    training: Python bool.
    name: of the scope of the variables.
  Returns:
    [batch, frames / 2 rounded up, filters] float32 Tensor.
  """
  with tf.variable_scope(name):
    branch = conv_bn_relu(inputs, filters, 9, 2, training, 'first')
    branch = conv_bn_relu(branch, filters, 9, 1, training, 'second')
    return tf.nn.relu(
      branch + conv_bn_relu(inputs, filters, 1, 2, training, 'projection')
    )


def network(inputs, training):
  """The network of the riddle.

  conv 16 of 98 frames, blocks of 24 and 32 filters with 49 and 25 frames, an
  average pool of 13, dense 10. The pool has stride 13, as Keras has it unless
  told otherwise, and so reads the first 13 of the 25 frames.

  Args:
    inputs: [batch, 98, 64] float32 Tensor.
    training: Python bool.
  Returns:
    [batch, 10] float32 Tensor.
  Variables:
    conv/kernel, {block1,block2}/{first,second,projection}/{conv/kernel,
    bn/{gamma,beta,moving_mean,moving_variance}}, dense/{kernel,bias}.
  Collections:
    UPDATE_OPS: + 12 if training, else + 0.
  """
  x = conv(inputs, 16, 9, 1)
  x = block(x, 24, training, 'block1')
  x = block(x, 32, training, 'block2')
  x = tf.layers.average_pooling1d(x, 13, 13)
  return tf.layers.dense(tf.layers.flatten(x), signals.CLASSES, name='dense')


def probability_loss(outputs, labels):
  """Cross-entropy of what should be probabilities, and may be anything.

  -log of the label's share in the sum of the outputs, the share clipped to
  EPSILON .. 1 - EPSILON; as tf.keras.losses.categorical_crossentropy, but for
  a sum of 0, which is NaN there and EPSILON here.

  Args:
    outputs: [batch, classes] float32 Tensor.
    labels: [batch] int32 Tensor.
  Returns:
    [batch] float32 Tensor. Its gradient is 0 wherever the share is clipped.
  """
  total = tf.reduce_sum(outputs, 1, keepdims=True)
  total = tf.where(
    tf.abs(total) < EPSILON, EPSILON * tf.ones_like(total), total
  )
  share = tf.clip_by_value(outputs / total, EPSILON, 1 - EPSILON)
  return -tf.log(tf.gather(share, labels, axis=1, batch_dims=1))


def scored(loss, outputs, labels):
  """lab.Tower by a loss function of (outputs, labels) to [batch]."""
  return lab.Tower(
    tf.reduce_mean(loss(outputs, labels)),
    tf.reduce_mean(tf.cast(losses.correct(outputs, labels), tf.float32)),
  )


def without_gradient(loss, outputs):
  """Share of the examples whose loss has gradient 0: float32 scalar Tensor."""
  (gradient,) = tf.gradients(loss, outputs)
  return tf.reduce_mean(
    tf.cast(tf.reduce_all(tf.equal(gradient, 0), 1), tf.float32)
  )


def rows(table, indices):
  """The rows at [batch] int32 `indices` of each variable of `table`."""
  with tf.device('/cpu:0'):
    return [tf.gather(variable, indices) for variable in table]


def evaluation_of(loss, table, count, batch_size):
  """lab.Evaluation on the first `count` rows, `batch_size` at a time."""
  first = tf.placeholder(tf.int32, [])
  inputs, labels = rows(table, tf.range(first, first + batch_size))
  return lab.both_towers(
    lambda training: scored(loss, network(inputs, training), labels),
    [{first: begin} for begin in range(0, count, batch_size)],
  )


def run(trainer):
  """Trains the three arms; returns a report.Outcome."""
  steps = trainer.steps(1200, 400)
  examples = signals.signals(TRAIN_EXAMPLES + TEST_EXAMPLES, trainer.seed)

  def table(name, part, feed):
    with tf.device('/cpu:0'), tf.variable_scope(name):
      return [
        queues.local_variable(values[part], kind, feed)
        for kind, values in zip(('signals', 'labels'), examples)
      ]

  def build(loss, batch_size):
    feed = {}
    train = table('train', slice(TRAIN_EXAMPLES), feed)
    test = table('test', slice(TRAIN_EXAMPLES, None), feed)
    inputs, labels = rows(
      train,
      queues.index_queue(TRAIN_EXAMPLES, batch_size, 'epoch', trainer.seed),
    )
    outputs = network(inputs, training=True)
    tower = scored(loss, outputs, labels)
    # Before the evaluations, which add to UPDATE_OPS.
    train_op = lab.train_op(tower.loss, lab.learning_rate(steps, 0.004))
    return lab.Graph(
      tower,
      train_op,
      evaluation_of(loss, test, TEST_EXAMPLES, EVAL_BATCH_SIZE),
      feed,
      figures={'without_gradient': without_gradient(tower.loss, outputs)},
      others={'one by one': evaluation_of(loss, test, ONE_BY_ONE, 1)},
    )

  arms = [
    trainer.train(name, broken, functools.partial(build, *how), steps)
    for name, broken, how in (
      (
        'raw outputs as probabilities, batch size 1',
        True,
        (probability_loss, 1),
      ),
      ('softmax, batch size 1', True, (losses.cross_entropy, 1)),
      (
        'softmax, batch size %d' % BATCH_SIZE,
        False,
        (losses.cross_entropy, BATCH_SIZE),
      ),
    )
  ]
  return report.Outcome(arms, claims(*arms))


def claims(raw, single, fixed):
  def own_accuracy(arm):
    _, own = arm.others['one by one']
    return own.accuracy

  def ratios(arm):
    return [
      layer.variance_ratio for layer in arm.layers if layer.name in FIRST_LAYERS
    ]

  yield report.Claim(
    raw.name + ': share of the steps without a gradient',
    raw.figures['without_gradient'],
    '>=',
    0.5,
  )
  yield report.Claim(
    raw.name + ': training loss, guessing being ln 10 = 2.303',
    raw.train.loss,
    '>=',
    3,
  )
  yield report.Claim(
    raw.name + ': accuracy by moving statistics', raw.moving.accuracy, '<=', 0.5
  )
  yield report.Claim(
    raw.name + ': accuracy by the statistics of each signal',
    own_accuracy(raw),
    '<=',
    0.5,
  )
  yield report.Claim(
    single.name + ': training accuracy', single.train.accuracy, '>=', 0.8
  )
  yield report.Claim(
    single.name + ': accuracy by the statistics of each signal',
    own_accuracy(single),
    '>=',
    0.8,
  )
  yield report.Claim(
    single.name + ': training accuracy less that by moving statistics',
    single.train.accuracy - single.moving.accuracy,
    '>=',
    0.35,
  )
  yield report.Claim(
    single.name + ': training accuracy less that by batch statistics',
    single.train.accuracy - single.batch.accuracy,
    '>=',
    0.35,
  )
  yield report.Claim(
    single.name + ': stored variance / variance, first layers, largest',
    max(ratios(single)),
    '<=',
    0.75,
  )
  yield report.Claim(
    fixed.name + ': training accuracy', fixed.train.accuracy, '>=', 0.8
  )
  yield report.Claim(
    fixed.name + ': training accuracy less that by moving statistics',
    fixed.train.accuracy - fixed.moving.accuracy,
    '<=',
    0.1,
  )
  yield report.Claim(
    fixed.name + ': stored variance / variance, first layers, smallest',
    min(ratios(fixed)),
    '>=',
    0.8,
  )
