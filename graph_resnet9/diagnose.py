"""Runs a TensorFlow 1 training graph and says what ails its batch norm.

  python -m graph_resnet9.diagnose model.ckpt-776
  python -m graph_resnet9.diagnose --meta_graph=FILE.meta --checkpoint=PREFIX
  python -m graph_resnet9.diagnose --meta_graph=FILE.meta --checkpoint=PREFIX \\
      --feed=module:function --png=layers.png
  python -m graph_resnet9.diagnose /tmp/r9

Restores the checkpoint, runs batches of the graph's own input or of a function
of yours without changing a variable, and compares for each layer what it has
stored with what it is given. Of checkpoints of graph_resnet9.train also loss
and accuracy by moving, batch and recalibrated statistics. It runs what a graph
says, reading of files and Python functions included: only graphs of people you
trust. Exit code 0: healthy; 1: not; 2: it cannot be told, or the input cannot
be used.
"""

import os

from absl import flags

from graph_resnet9.cli import command
from graph_resnet9.cli import shared_flags

FLAGS = flags.FLAGS


def define_flags(flag_values=FLAGS):
  shared_flags.define_training_graph(flag_values, batches=50)
  flags.DEFINE_string(
    'png', '', 'Draw the layers into this file.', flag_values=flag_values
  )
  flags.DEFINE_enum(
    'format',
    'text',
    ['text', 'json'],
    'How to print the figures; json: one line.',
    flag_values=flag_values,
  )
  shared_flags.define_json(flag_values)


def main(named=()):
  # pylint: disable=g-import-not-at-top
  from graph_resnet9 import files
  from graph_resnet9.doctor.graph import paths
  from graph_resnet9.doctor.measure import diagnosis
  from graph_resnet9.training import runnables

  if FLAGS.png:
    files.check_png('--png', FLAGS.png)
  chosen = paths.of_session(named, FLAGS.meta_graph, FLAGS.checkpoint)
  with runnables.opened(chosen, FLAGS.feed, FLAGS.data_dir) as opened:
    result = diagnosis.diagnose(opened.runnable(), opened.prefix, FLAGS.batches)
    scores = test_scores(opened) if opened.settings else []
  if FLAGS.png:
    with files.replacing(FLAGS.png) as f:
      diagnosis.draw(f, result, opened.source)
  if FLAGS.json or FLAGS.format == 'json':
    print(diagnosis.to_json(result, scores))
  else:
    print(diagnosis.table(result, scores))
  return 1 if result.faults else 0 if result.healthy else 2


def test_scores(opened):
  """Accuracy and loss on the test images, by three kinds of statistics.

  Args:
    opened: runnables.Opened of a run of graph_resnet9.train.
  Returns:
    list of dicts of statistics ('moving', 'batch' or 'recalibrated'), accuracy
    and loss.
  """
  # pylint: disable=g-import-not-at-top
  from graph_resnet9 import files
  from graph_resnet9.doctor.measure import recalibration
  from graph_resnet9.evaluation import evaluate

  scores = []
  with files.scratch_dir() as scratch:
    cured = os.path.join(scratch, 'recalibrated')
    recalibration.recalibrate(
      opened.runnable(),
      opened.prefix,
      cured,
      FLAGS.batches,
      held_out=0,  # The test images compare them.
      force=True,
    )
    for name, path, batch_norm in (
      ('moving', opened.prefix, 'moving'),
      ('batch', opened.prefix, 'batch'),
      ('recalibrated', cured, 'moving'),
    ):
      summary, _, _ = evaluate.evaluate(
        opened.data, path, opened.settings, 'test', batch_norm, 'trained'
      )
      scores.append(
        dict(
          statistics=name, accuracy=summary['accuracy'], loss=summary['loss']
        )
      )
  return scores


if __name__ == '__main__':
  command.run(
    main,
    define_flags,
    error_code=2,
    takes_files=True,
    least_files=0,
    anywhere=True,
  )
