"""update_ops: the train op never updates the moving statistics.

Symptom: the network trains, and evaluation with the moving statistics stays
near chance however long it trains.

Cause: tf.layers.batch_normalization(training=True) puts the two ops that update
moving_mean and moving_variance into the collection UPDATE_OPS and leaves it to
you to run them. Nothing does, so the mean stays 0 and the variance 1. It is not
enough to construct the optimizer inside tf.control_dependencies(update_ops):
only ops made inside depend on them, and minimize() is what makes ops.

Cure: call minimize() inside tf.control_dependencies(update_ops).
"""

import functools

import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.demos import report
from graph_resnet9.demos import towers

SOURCE = (
  'tensorflow/tensorflow #1122, #3926, #7469; yd8534976/conGAN#1 '
  '(constructor inside, minimize outside)'
)
CAUSES = ('updates-not-run',)  # Codes of lint and diagnose.
SEEN = """both broken arms train to {no control dependency + constructor inside,
minimize outside|training} and evaluate to {no control dependency + constructor
inside, minimize outside|moving}, with a loss of {no control dependency +
constructor inside, minimize outside|moving loss} (guessing: ln 10 = 2.303). By
batch statistics they reach {no control dependency + constructor inside,
minimize outside|batch}, and the fixed arm by moving ones {minimize
inside|moving}."""


def no_dependency(loss, rate):
  # [broken: no control dependency]
  optimizer = tf.train.AdamOptimizer(rate)
  return optimizer.minimize(loss, tf.train.get_global_step())
  # [end]


def constructor_inside(loss, rate):
  # [broken: constructor inside, minimize outside]
  update_ops = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
  with tf.control_dependencies(update_ops):
    optimizer = tf.train.AdamOptimizer(rate)
  return optimizer.minimize(loss, tf.train.get_global_step())
  # [end]


def minimize_inside(loss, rate):
  # [fixed: minimize inside]
  update_ops = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
  optimizer = tf.train.AdamOptimizer(rate)
  with tf.control_dependencies(update_ops):
    return optimizer.minimize(loss, tf.train.get_global_step())
  # [end]


def run(trainer):
  """Trains the three arms; returns a report.Outcome."""
  steps = trainer.steps(400, 200)

  def build(train_op):
    return trainer.image_graph(
      towers.classes_tower,
      lambda loss: train_op(loss, towers.learning_rate(steps, 0.003)),
    )

  arms = [
    trainer.train(name, broken, functools.partial(build, train_op), steps)
    for name, broken, train_op in (
      ('no control dependency', True, no_dependency),
      ('constructor inside, minimize outside', True, constructor_inside),
      ('minimize inside', False, minimize_inside),
    )
  ]
  return report.Outcome(arms, list(claims(*arms)))


def claims(no_dependency_arm, constructor_arm, fixed):
  for arm in (no_dependency_arm, constructor_arm):
    yield report.Claim(
      arm.name + ': largest change of a moving statistic since step 0',
      max(
        max(
          np.abs(layer.stored_mean).max(),
          np.abs(layer.stored_variance - 1).max(),
        )
        for layer in arm.layers
      ),
      '<=',
      0,
    )
    yield report.Claim(
      arm.name + ': loss by moving statistics, guessing being ln 10 = 2.303',
      arm.moving.loss,
      '>=',
      2,
    )
    yield report.Claim(
      arm.name + ': accuracy by moving statistics',
      arm.moving.accuracy,
      '<=',
      0.35,
    )
    yield report.Claim(
      arm.name + ': training accuracy less that by batch statistics',
      arm.train.accuracy - arm.batch.accuracy,
      '<=',
      0.1,
    )
  yield report.Claim(
    '%s: training accuracy' % fixed.name, fixed.train.accuracy, '>=', 0.35
  )
  yield report.Claim(
    fixed.name + ': training accuracy less that by moving statistics',
    fixed.train.accuracy - fixed.moving.accuracy,
    '<=',
    0.1,
  )
