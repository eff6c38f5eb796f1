"""saver_without_statistics: a checkpoint that lacks the moving statistics.

Symptom: evaluation at the end of training is fine. The same network, restored
from its checkpoint by another program, is near chance, and nothing complained.

Cause: the saver was made with Saver(tf.trainable_variables()). The moving
statistics are variables that no optimizer trains, so they are neither saved nor
restored, and the program that restores leaves them at their initial 0 and 1.
Had it made a saver of all variables, the restore would have failed and named
what is missing.

Cure: tf.train.Saver(), which saves every global variable, on both sides.
"""

import os
import tempfile

import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.demos import checks
from graph_resnet9.demos import lab
from graph_resnet9.demos import report
from graph_resnet9.demos import towers
from graph_resnet9.doctor.lint import rules
from graph_resnet9.inputs import queues

SOURCE = (
  'tinghuiz/SfMLearner#17, zhengyang-wang/Unet_3D#5 '
  '(Saver(tf.trainable_variables()))'
)
CAUSES = ('statistics-not-saved',)  # Codes of lint and diagnose.
SEEN = """after Saver() {Saver()|moving} are right by moving statistics, as
before saving; after the saver of trainable variables
{Saver(tf.trainable_variables())| moving}, with a loss of
{Saver(tf.trainable_variables())|moving loss} (guessing: ln 10 = 2.303), and by
batch statistics still {Saver(tf.trainable_variables())|batch}."""


def trainable_saver():
  # [broken: Saver(tf.trainable_variables())]
  return tf.train.Saver(tf.trainable_variables())
  # [end]


def whole_saver():
  # [fixed: Saver()]
  return tf.train.Saver()
  # [end]


def run(trainer):
  """Trains once, saves twice, restores each; returns a report.Outcome."""
  steps = trainer.steps(400, 200)
  savers = (
    ('Saver(tf.trainable_variables())', True, trainable_saver),
    ('Saver()', False, whole_saver),
  )
  with tempfile.TemporaryDirectory() as folder:
    paths = [os.path.join(folder, str(k)) for k in range(len(savers))]
    with trainer.graph():
      graph = trainer.image_graph(
        towers.classes_tower,
        lambda loss: towers.train_op(loss, towers.learning_rate(steps, 0.003)),
      )
      made = [make() for _, _, make in savers]
      doctor = checks.Doctor(graph.train_op)
      with lab.session_of(graph) as session:
        curve, _ = lab.fit(session, graph, steps, 'training for both savers')
        for saver, path in zip(made, paths):
          lab.save(session, saver, path)
        diagnosis = doctor.diagnose(session)
      linted = [
        checks.codes(
          rules.lint_graph(
            tf.get_default_graph(), [graph.train_op.name], saver, path
          )
        )
        for saver, path in zip(made, paths)
      ]
    arms = []
    for (name, broken, make_saver), path, lint in zip(savers, paths, linted):
      with trainer.graph():
        arm = restored(trainer, name, broken, make_saver, path, curve)
        arms.append(arm._replace(lint=lint, diagnosis=diagnosis))
  return report.Outcome(arms, list(claims(curve[-1], *arms)))


def restored(trainer, name, broken, make_saver, path, curve):
  """The program that evaluates: its own graph, and a restore."""
  data = queues.table(trainer.data('test'), 'test')
  evaluation = towers.evaluation_of(towers.classes_tower, data)
  saver = make_saver()
  measured = checks.Measurement(evaluation)
  with tf.Session() as session:
    session.run(tf.global_variables_initializer())
    session.run(tf.local_variables_initializer(), data.feed)
    saver.restore(session, path)
    moving, batch = lab.scores(session, evaluation)
    layers = measured.records(session)
  end = report.Point(curve[-1].step + 1, curve[-1].train, moving, batch)
  return report.Arm(name, broken, curve + [end], layers, {})


def claims(saved, broken, fixed):
  yield report.Claim(
    'before saving: accuracy by moving statistics',
    saved.moving.accuracy,
    '>=',
    0.35,
  )
  yield report.Claim(
    broken.name + ': largest distance of a moving statistic from 0 and 1',
    max(
      max(
        np.abs(layer.stored_mean).max(), np.abs(layer.stored_variance - 1).max()
      )
      for layer in broken.layers
    ),
    '<=',
    0,
  )
  yield report.Claim(
    broken.name + ': loss by moving statistics, guessing being ln 10 = 2.303',
    broken.moving.loss,
    '>=',
    2,
  )
  yield report.Claim(
    broken.name + ': accuracy by moving statistics',
    broken.moving.accuracy,
    '<=',
    0.35,
  )
  for arm in (broken, fixed):
    yield report.Claim(
      arm.name + ': accuracy by batch statistics, change from before saving',
      abs(arm.batch.accuracy - saved.batch.accuracy),
      '<=',
      0.002,
    )
  yield report.Claim(
    fixed.name + ': accuracy by moving statistics, change from before saving',
    abs(fixed.moving.accuracy - saved.moving.accuracy),
    '<=',
    0.002,
  )
