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

Cure: outputs to a loss that takes logits, which is the way around the softmax
that the post asks for:
tf.keras.losses.CategoricalCrossentropy(from_logits=True), or
tf.losses.sparse_softmax_cross_entropy. And batches of many examples; where
memory holds only one, a normalisation that treats an example alike in training
and evaluation: group or layer normalisation.
"""

import functools

import tensorflow.compat.v1 as tf

from graph_resnet9.demos import lab
from graph_resnet9.demos import report
from graph_resnet9.demos import towers
from graph_resnet9.demos.cases import riddle
from graph_resnet9.demos.cases import spectrograms
from graph_resnet9.inputs import queues
from graph_resnet9.model import losses

SOURCE = (
  'the blog post "Tensorflow \'Riddle\'", 2020-10-02, of which are the network '
  'and both faults; tensorflow/tensorflow #9796 (inference on one); Wu and '
  'Johnson 2021, arXiv 2105.07576; Wu and He 2018, arXiv 1803.08494 (group '
  'normalisation)'
)
COMPANIONS = (riddle,)
CAUSES = ('single-example',)  # Codes of lint and diagnose.
SEEN = """with raw outputs a share of {raw outputs, batch size 1|stuck} of the
steps has no gradient, and {raw outputs, batch size 1|training} are right in
training, {raw outputs, batch size 1|moving} by moving statistics. With a
softmax it is {softmax, batch size 1|training} in training, where no signal
comes twice, and {softmax, batch size 1|moving} by moving statistics, with
from_logits {from_logits, batch size 1|training} and {from_logits, batch size
1|moving}; the network has not learned garbage: normalised by its own
statistics, as in training, a share of {softmax, batch size 1 + from_logits,
batch size 1|own} of the test signals is right. With batches of 32 evaluation
has {from_logits, batch size 32|moving}, with group and layer normalisation and
batch size 1 {group norm, batch size 1 + layer norm, batch size 1|moving}."""
BATCH_SIZE = 32  # Of the arm that works.
TRAIN_EXAMPLES = 2000
TEST_EXAMPLES = 500
EVAL_BATCH_SIZE = 250
ONE_BY_ONE = 100  # Test signals that are also evaluated each by itself.
OWN = 'one by one'
# They see the loudness of a signal; behind them it is normalised already.
FIRST_LAYERS = ('block1/first/bn', 'block1/projection/bn')


def scored(loss, outputs, labels):
  """towers.Tower by a loss function of (outputs, labels) to [batch]."""
  return towers.Tower(
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


def evaluation_of(loss, norm, table, count, batch_size):
  """towers.Evaluation on the first `count` rows, `batch_size` at a time."""
  first = tf.placeholder(tf.int32, [])
  inputs, labels = rows(table, tf.range(first, first + batch_size))
  return towers.both_towers(
    lambda training: scored(
      loss, riddle.network(inputs, training, norm), labels
    ),
    [{first: begin} for begin in range(0, count, batch_size)],
  )


def run(trainer):
  """Trains the arms; returns a report.Outcome."""
  steps = trainer.steps(600, 400)
  examples = spectrograms.signals(TRAIN_EXAMPLES + TEST_EXAMPLES, trainer.seed)

  def table(name, part, feed):
    with tf.device('/cpu:0'), tf.variable_scope(name):
      return [
        queues.local_variable(values[part], kind, feed)
        for kind, values in zip(('signals', 'labels'), examples)
      ]

  def build(loss, norm, batch_size):
    feed = {}
    train = table('train', slice(TRAIN_EXAMPLES), feed)
    test = table('test', slice(TRAIN_EXAMPLES, None), feed)
    inputs, labels = rows(
      train,
      queues.index_queue(TRAIN_EXAMPLES, batch_size, 'epoch', trainer.seed),
    )
    outputs = riddle.network(inputs, True, norm)
    tower = scored(loss, outputs, labels)
    # Before the evaluations, which add to UPDATE_OPS.
    train_op = towers.train_op(tower.loss, towers.learning_rate(steps, 0.004))
    return lab.Graph(
      tower,
      train_op,
      evaluation_of(loss, norm, test, TEST_EXAMPLES, EVAL_BATCH_SIZE),
      feed,
      figures={'stuck': without_gradient(tower.loss, outputs)},
      others={OWN: evaluation_of(loss, norm, test, ONE_BY_ONE, 1)},
    )

  arms = [
    trainer.train(name, broken, functools.partial(build, *how), steps)
    for name, broken, how in (
      (
        'raw outputs, batch size 1',
        True,
        (riddle.raw_loss, riddle.batch_norm, 1),
      ),
      (
        'softmax, batch size 1',
        True,
        (riddle.softmax_loss, riddle.batch_norm, 1),
      ),
      (
        'from_logits, batch size 1',
        True,
        (riddle.logits_loss, riddle.batch_norm, 1),
      ),
      (
        'from_logits, batch size %d' % BATCH_SIZE,
        False,
        (riddle.logits_loss, riddle.batch_norm, BATCH_SIZE),
      ),
      (
        'group norm, batch size 1',
        False,
        (riddle.logits_loss, riddle.group_norm, 1),
      ),
      (
        'layer norm, batch size 1',
        False,
        (riddle.logits_loss, riddle.layer_norm, 1),
      ),
    )
  ]
  arms = [
    arm._replace(figures={**arm.figures, 'own': arm.others[OWN][1].accuracy})
    for arm in arms
  ]
  return report.Outcome(
    arms,
    list(claims(*arms)),
    list(beside(*arms[:3])),
    {'stuck': 'no gradient', 'own': 'one by one'},
  )


def beside(raw, softmax, logits):
  for arm, training, validation in (
    (raw, '"on par with a random classifier"', 'the same'),
    (softmax, '"high"', '"terrible"'),
    (logits, 'a way around, not found', '-'),
  ):
    yield report.Beside(
      arm.name + ': training accuracy',
      training,
      arm.train.accuracy,
      report.PERCENT,
    )
    yield report.Beside(
      arm.name + ': validation accuracy',
      validation,
      arm.moving.accuracy,
      report.PERCENT,
    )


def claims(raw, softmax, logits, fixed, group, layer):
  def ratios(arm):
    return [
      one.variance_ratio for one in arm.layers if one.name in FIRST_LAYERS
    ]

  yield report.Claim(
    raw.name + ': share of the steps without a gradient',
    raw.figures['stuck'],
    '>=',
    0.5,
  )
  yield report.Claim(
    raw.name + ': training loss, guessing being ln 10 = 2.303',
    raw.train.loss,
    '>=',
    3,
  )
  for text, figure in (
    ('training accuracy', raw.train.accuracy),
    ('accuracy by moving statistics', raw.moving.accuracy),
    ('accuracy by the statistics of each signal', raw.figures['own']),
  ):
    yield report.Claim('%s: %s' % (raw.name, text), figure, '<=', 0.5)
  for arm in (softmax, logits):
    yield report.Claim(
      arm.name + ': training accuracy', arm.train.accuracy, '>=', 0.8
    )
    yield report.Claim(
      arm.name + ': accuracy by the statistics of each signal',
      arm.figures['own'],
      '>=',
      0.8,
    )
    for statistics, score in (('moving', arm.moving), ('batch', arm.batch)):
      yield report.Claim(
        '%s: training accuracy less that by %s statistics'
        % (arm.name, statistics),
        arm.train.accuracy - score.accuracy,
        '>=',
        0.3,
      )
    yield report.Claim(
      arm.name + ': stored variance / variance, first layers, largest',
      max(ratios(arm)),
      '<=',
      0.75,
    )
  for arm in (fixed, group, layer):
    yield report.Claim(
      arm.name + ': training accuracy', arm.train.accuracy, '>=', 0.8
    )
    yield report.Claim(
      arm.name + ': training accuracy less that by moving statistics',
      arm.train.accuracy - arm.moving.accuracy,
      '<=',
      0.1,
    )
  yield report.Claim(
    fixed.name + ': stored variance / variance, first layers, smallest',
    min(ratios(fixed)),
    '>=',
    0.8,
  )
