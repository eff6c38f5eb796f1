"""image_pairs: uniform batches from two distributions through one network.

Symptom: a network that compares two images is trained on pairs from two kinds
of images, A and B, with three batches a step: pairs A-A, pairs B-B, pairs A-B.
The training loss is low. Evaluation on the very same pairs, with the moving
statistics, is several times worse, whatever queue it reads from, and another
decay of the moving averages changes little.

Cause: each of the six towers normalises a batch of A alone or of B alone. All
six share one set of moving statistics, whose mean lies between A and B, where
there are no images, and whose variance is that within A or B, which lacks the
distance between the two. No input was ever normalised like that in training.

Evaluation by batch statistics is as good as training only where its batches are
made as in training: of one kind, and well mixed. From a file in order of label
tf.train.batch gives every tower a batch of one class, and fails by batch
statistics as well; only both changes together, batch statistics and
tf.train.shuffle_batch from a long queue, come near the training loss. In a file
that is mixed already, batch statistics do with either queue. One tower over A
and B together does not help a network that was trained with six: its weights
have only seen A and B each normalised to itself.

Cure: one tower over a batch that holds A and B in equal numbers, in training
too; or bring A and B to a common mean and variance before they reach the
network. All towers then have like inputs, and one of them is enough to update
the moving statistics.
"""

import functools
import os
import tempfile

import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.demos import lab
from graph_resnet9.demos import picture
from graph_resnet9.demos import report
from graph_resnet9.demos import towers
from graph_resnet9.demos.cases import eight_numbers
from graph_resnet9.demos.cases import pair_network
from graph_resnet9.demos.cases import pair_records

SOURCE = (
  'davideng.me, "A bug hidden in plain sight", 2017-10-10, '
  'davideng.me/2017/10/10/batch-normalization-a-bug-hidden-in-plain-sight.html'
)
COMPANIONS = (pair_network, pair_records)
CAUSES = ('calls-differ',)  # Codes of lint and diagnose.
SEEN = """the loss of six towers is {six towers, decay 0.997|training} in
training, {six towers, decay 0.997|moving} by moving and {six towers, decay
0.997|batch} by batch statistics on the same pairs, {six towers, decay
0.9|moving} by moving ones of decay 0.9. With one tower for A and B it is {one
tower for A and B|training} in training and {one tower for A and B|moving} by
moving statistics, with A and B brought to a common distribution {A and B to a
common distribution|training} and {A and B to a common distribution|moving}.
The share of the first layer's variance that lies between the six towers is
{six towers, decay 0.997|between}, with the common distribution {A and B to a
common distribution|between}. All four queues are in the table of the source."""
PAIRS = 16  # Of each kind, a step, in training and in evaluation.
GUESSING = 3.0  # The loss of 0 for every pair.
QUEUES = (
  'tf.train.batch, mixed file',
  'tf.train.shuffle_batch, mixed file',
  'tf.train.batch, file in order of label',
  'tf.train.shuffle_batch, file in order of label',
)
ONE_TOWER = 'one tower'  # Evaluation of the six towers' weights by one.


def run(trainer):
  """Trains the arms; returns a report.Outcome."""
  steps = 200  # Of fewer a decay of 0.997 would keep much of its first values.
  records = pair_records.records_of(trainer.data('train'))
  by_label = np.argsort(-records.labels, kind='stable')

  def build(folder, one_tower, decay, common, every_queue):
    moments = pair_records.moments(records) if common else None

    def tower(batch, training, one_tower=one_tower):
      values = pair_network.outputs(batch, training, one_tower, decay)
      return towers.Tower(pair_network.loss(values, batch.labels), None)

    feed = {}
    batch = pair_records.permuted(records, PAIRS, trainer.seed, feed)
    train = tower(pair_records.pairs(batch, moments), training=True)
    update_ops = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    if common:  # Of the first tower: the inputs of all six are alike.
      update_ops = update_ops[: len(update_ops) // 6]
    train_op = towers.train_op(
      train.loss, towers.learning_rate(steps, 0.005), update_ops
    )

    def queue_of(name):
      path = os.path.join(folder, 'by_label' if 'label' in name else 'mixed')
      if 'shuffle' not in name:
        return pair_records.neighbours(path, PAIRS)
      waiting = len(records.labels) - PAIRS
      return pair_records.mixed(path, PAIRS, waiting, trainer.seed)

    # The training records: no generalisation gap in the way.
    first, *more = QUEUES
    count = len(records.labels) // PAIRS
    batch = queue_of(first)
    seen = pair_records.pairs(batch, moments)
    evaluation = towers.both_towers(
      functools.partial(tower, seen), [{}] * count
    )
    others = {}
    if every_queue:
      for name in more:
        others[name] = evaluation._replace(
          feeds=pair_records.in_place_of(batch, queue_of(name), count)
        )
      others[ONE_TOWER] = towers.both_towers(
        functools.partial(tower, seen, one_tower=True), [{}] * count
      )
    return lab.Graph(
      train, train_op, evaluation, feed, others=others, guessing=GUESSING
    )

  with tempfile.TemporaryDirectory() as folder:
    pair_records.write(os.path.join(folder, 'mixed'), records)
    pair_records.write(
      os.path.join(folder, 'by_label'),
      pair_records.Records(*(values[by_label] for values in records)),
    )
    arms = [
      trainer.train(
        name, broken, functools.partial(build, folder, *how), steps, batches=10
      )
      for name, broken, how in (
        ('six towers, decay 0.997', True, (False, 0.997, False, True)),
        ('six towers, decay 0.9', True, (False, 0.9, False, False)),
        ('one tower for A and B', False, (True, 0.9, False, False)),
        ('A and B to a common distribution', False, (False, 0.9, True, False)),
      )
    ]
  arms = [
    arm._replace(figures={'between': arm.layers[0].share_between_calls})
    for arm in arms
  ]
  return report.Outcome(
    arms,
    list(claims(*arms)),
    list(beside(*arms[:2])),
    {'between': 'between towers'},
    functools.partial(draw, arms),
    ['A layer of batch normalisation by itself:'] + eight_numbers.lines(),
  )


def cells(arm):
  """{queue: (moving, batch) report.Scores} of the arm with every queue."""
  return {QUEUES[0]: (arm.moving, arm.batch), **arm.others}


def beside(slow, quick):
  with tf.Graph().as_default(), tf.Session() as session:
    labels = tf.constant([1.0, -1.0] * 3)
    zeros = session.run(pair_network.loss(tf.zeros_like(labels), labels))
  yield report.Beside('training loss', '0.15', slow.train.loss)
  yield report.Beside('loss of all zeros', '1.6', float(zeros))
  figures = cells(slow)
  for statistics, which, source in (
    ('moving', 0, ('~0.80', '~0.80')),
    ('batch', 1, ('-', '~0.20')),
  ):
    for queue in QUEUES:
      yield report.Beside(
        'evaluation by %s statistics: %s' % (statistics, queue),
        source['shuffle' in queue],
        figures[queue][which].loss,
      )
  yield report.Beside(
    'change of the loss by moving statistics, decay 0.997 to 0.9',
    '+/-0.05',
    quick.moving.loss - slow.moving.loss,
  )
  yield report.Beside(
    'batch statistics of one tower over A and B, weights of six',
    '-',
    slow.others[ONE_TOWER][1].loss,
  )


def claims(slow, quick, one_tower, common):
  figures = cells(slow)
  for arm in (slow, quick):
    yield report.Claim(
      arm.name + ': training loss, all zeros being 3', arm.train.loss, '<=', 1
    )
  for queue in QUEUES:
    yield report.Claim(
      'moving statistics, %s: loss over training loss' % queue,
      figures[queue][0].loss / slow.train.loss,
      '>=',
      1.8,
    )
  for queue in QUEUES[:2]:
    yield report.Claim(
      'batch statistics, %s: loss over training loss' % queue,
      figures[queue][1].loss / slow.train.loss,
      '<=',
      2.5,
    )
  yield report.Claim(
    'batch statistics, file in order of label: loss with tf.train.batch over '
    'that with tf.train.shuffle_batch',
    figures[QUEUES[2]][1].loss / figures[QUEUES[3]][1].loss,
    '>=',
    2,
  )
  yield report.Claim(
    'file in order of label, both changes: loss over that by moving statistics',
    figures[QUEUES[3]][1].loss / figures[QUEUES[3]][0].loss,
    '<=',
    0.6,
  )
  yield report.Claim(
    'decay 0.997 to 0.9: change of the loss by moving statistics, relative',
    abs(quick.moving.loss / slow.moving.loss - 1),
    '<=',
    0.25,
  )
  yield report.Claim(
    'one tower, weights of six: loss by batch statistics over training loss',
    slow.others[ONE_TOWER][1].loss / slow.train.loss,
    '>=',
    1.5,
  )
  yield report.Claim(
    'first layer, %s: share of the variance between the towers' % slow.name,
    slow.figures['between'],
    '>=',
    0.1,
  )
  for arm in (one_tower, common):
    yield report.Claim(
      arm.name + ': training loss, all zeros being 3', arm.train.loss, '<=', 2.4
    )
    yield report.Claim(
      arm.name + ': loss by moving statistics over training loss',
      arm.moving.loss / arm.train.loss,
      '<=',
      1.4,
    )


def draw(arms, axes):
  """Share of each layer's variance between the towers."""
  picture.series(
    axes,
    arms,
    [[layer.share_between_calls for layer in arm.layers] for arm in arms],
  )
  axes.set_xlabel('layer, from first to last', fontsize=9)
  axes.set_ylabel(
    "share of the variance\nbetween the towers' means", fontsize=9
  )
  axes.set_ylim(-0.02, 0.6)
  axes.legend(fontsize=8)
