"""cifar_bottleneck: batch norm feeds a dense layer that one step kills.

Symptom: a small residual network for CIFAR-10 stays at 0.1, in training and in
validation. Without batch normalisation it learns.

Cause: not the moving statistics, which take no part in training. Behind Flatten
stand 32 * 32 * 32 = 32,768 features that batch normalisation and ReLU have made
positive, with a mean near 1. Adam's first step moves every weight by its rate,
0.001, and all weights of a unit of Dense(32) in one direction, since their
inputs have one sign: the unit's input moves by about 0.001 * 32,768 * 1 = 33.
Where it moves down, ReLU gives 0 for every image, and no gradient comes back.
Within ten steps all 32 units are dead. Then the output is the same for every
image, the loss is ln 10, and only the last biases still move. Without batch
normalisation the features are about a tenth as large.

Cure, with batch normalisation kept: normalise behind Dense(32) too, which makes
the scale of its inputs indifferent; or normalise behind Flatten, which takes
away the mean; or pool the 32 x 32 positions, which leaves 32 features.

The answer's three changes (axis=1, inputs in [-1, 1], no batch normalisation
before the sum) leave the features as they are, each alone and all together: its
"very sensitive to the random init" is the unit that now and then survives. A
smaller decay changes no digit of the training. axis=1 is not the channel axis
of NHWC images but their height.

What was reported in 2019 has a second way to be stuck. Keras 2.2.4 took the
logarithm of probabilities clipped to 1e-7, so that a wrong logit that leads by
more than 16 gets no gradient. The loss here is of logits.

Lint and diagnose know nothing of dead units: look at the activations, or at a
loss that stands at ln 10. What they say after so few steps, of broken arms and
of fixed ones, is that stored statistics lag: see slow_decay.
"""

import functools

import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.demos import picture
from graph_resnet9.demos import report
from graph_resnet9.demos import towers
from graph_resnet9.demos.cases import bottleneck
from graph_resnet9.inputs import augment

SOURCE = (
  'Serge P. and Dmytro Prylipko, "Why BatchNormalization fails in Keras", '
  'January 2019, datascience.stackexchange.com/questions/44288'
)
COMPANIONS = (bottleneck,)
CAUSES = ()  # Lint and diagnose know nothing of dead units.
SEEN = """as asked, {as asked|living} of 32 units live at the end, with a
training loss of {as asked|training loss} and {as asked|moving} right in
evaluation; with decay 0.9 {decay 0.9|living} and {decay 0.9|training loss};
with all three changes of the answer {all three, the answer|living} and {all
three, the answer|training loss}. Without batch normalisation {no batch
norm|living} live. With it and a cure {batch norm behind Dense(32) + batch norm
behind Flatten + global average pooling|living}, with a training loss of {batch
norm behind Dense(32) + batch norm behind Flatten + global average
pooling|training loss}."""
BATCH_SIZE = 32


# The cures have decay 0.9, so that evaluation can follow after so few steps:
# see slow_decay. It changes nothing in training.
ARMS = (
  ('as asked', True, bottleneck.Variant()),
  (
    'all three, the answer',
    True,
    bottleneck.Variant(bottleneck.as_asked, 1, 0.99, True, False),
  ),
  ('decay 0.9', True, bottleneck.Variant(decay=0.9)),
  ('no batch norm', False, bottleneck.Variant(norm=False)),
  (
    'batch norm behind Dense(32)',
    False,
    bottleneck.Variant(bottleneck.normalised_hidden, decay=0.9),
  ),
  ('axis=1', True, bottleneck.Variant(axis=1)),
  ('inputs in [-1, 1]', True, bottleneck.Variant(signed=True)),
  (
    'no batch norm before the sum',
    True,
    bottleneck.Variant(norm_before_sum=False),
  ),
  (
    'batch norm behind Flatten',
    False,
    bottleneck.Variant(bottleneck.normalised_features, decay=0.9),
  ),
  (
    'global average pooling',
    False,
    bottleneck.Variant(bottleneck.pooled, decay=0.9),
  ),
)
_FAST_ARMS = 5


def build(trainer, variant):
  """The lab.Graph of an arm."""
  seen = []

  def tower(batch, training):
    # Each call makes layers of one name, which share their variables.
    with tf.variable_scope('net', reuse=tf.AUTO_REUSE):
      activations = bottleneck.network(
        augment.crops(batch.pixels, batch.indices), variant, training
      )
    seen.append(activations)
    return towers.scored(activations.logits, batch.labels)

  graph = trainer.image_graph(
    tower, lambda loss: towers.train_op(loss, 0.001), batch_size=BATCH_SIZE
  )
  return graph._replace(
    figures={
      'living': bottleneck.living(seen[0].hidden),
      'features': tf.reduce_mean(seen[0].features),
    }
  )


def run(trainer):
  """Trains the arms; returns a report.Outcome."""
  steps = trainer.steps(40, 30)
  arms = []
  for name, broken, variant in ARMS[: _FAST_ARMS if trainer.fast else None]:
    arm = trainer.train(
      name,
      broken,
      functools.partial(build, trainer, variant),
      steps,
      batches=10,
    )
    arms.append(
      arm._replace(
        figures={
          'living': max(arm.traces['living'][-steps // 4 :]),
          'features': arm.traces['features'][0],
        }
      )
    )
  return report.Outcome(
    arms,
    list(claims(arms)),
    list(beside(arms)),
    {'living': 'living units', 'features': 'mean feature'},
    functools.partial(draw, arms),
  )


def beside(arms):
  asked, answer, _, without, *_ = arms
  yield report.Beside(
    'as asked: training accuracy',
    '0.1 (5 epochs)',
    asked.train.accuracy,
    report.PERCENT,
  )
  yield report.Beside(
    'as asked: validation accuracy',
    '0.1 (5 epochs)',
    asked.moving.accuracy,
    report.PERCENT,
  )
  yield report.Beside(
    'no batch norm: accuracy',
    '0.57 (1 epoch), rising',
    without.moving.accuracy,
    report.PERCENT,
  )
  yield report.Beside(
    'the answer: validation accuracy',
    '59.07%, sometimes no convergence',
    answer.moving.accuracy,
    report.PERCENT,
  )
  yield report.Beside(
    'the answer: living units of 32', '-', answer.figures['living']
  )


def claims(arms):
  asked, _, slow, without, *_ = arms
  for arm in arms:
    if arm.broken:
      yield report.Claim(
        arm.name + ': living units of 32', arm.figures['living'], '<=', 4
      )
      yield report.Claim(
        arm.name + ': mean of the features at the first step',
        arm.figures['features'],
        '>=',
        0.5,
      )
    elif arm is not without:
      yield report.Claim(
        arm.name + ': living units of 32', arm.figures['living'], '>=', 12
      )
  yield report.Claim(
    without.name + ': mean of the features at the first step',
    without.figures['features'],
    '<=',
    0.4,
  )
  for arm in (asked, slow):
    yield report.Claim(
      arm.name + ': training accuracy', arm.train.accuracy, '<=', 0.2
    )
    yield report.Claim(
      arm.name + ': accuracy by moving statistics',
      arm.moving.accuracy,
      '<=',
      0.2,
    )
  yield report.Claim(
    'decay 0.99 to 0.9: change of the training loss',
    abs(asked.train.loss - slow.train.loss),
    '<=',
    0.05,
  )


def draw(arms, axes):
  """The living units by step."""
  steps = len(arms[0].traces['living'])
  at = np.unique(np.geomspace(1, steps, 16).astype(int))
  picture.series(
    axes,
    arms,
    [[arm.traces['living'][step - 1] for step in at] for arm in arms],
    [at] * len(arms),
  )
  axes.set_xscale('log')
  axes.set_ylim(-1.5, 54)  # Room for the legend.
  axes.set_xlabel('step (log)', fontsize=9)
  axes.set_ylabel(
    'units of Dense(32) above 0\nfor any image of the batch', fontsize=9
  )
  axes.legend(fontsize=7, ncols=2, loc='upper right', framealpha=0.8)
