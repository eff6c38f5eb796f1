"""Evaluates a checkpoint of graph_resnet9.train, every example exactly once.

  python -m graph_resnet9.eval --checkpoint=/tmp/r9
  python -m graph_resnet9.eval --checkpoint=/tmp/r9 --batch_norm=batch

Loss, accuracy and per-class accuracy on stdout, the last line as JSON. Flags
that are not given are taken from flags.txt beside the checkpoint. Averaged
weights are used where the checkpoint has them; --weights=trained is the other.
"""

import json
import os

from absl import flags
from absl import logging

from graph_resnet9.cli import command
from graph_resnet9.cli import shared_flags
from graph_resnet9.cli import train_flags

FLAGS = flags.FLAGS


def define_flags(flag_values=FLAGS):
  flags.DEFINE_string(
    'checkpoint',
    None,
    'A train_dir (its newest checkpoint), a checkpoint prefix, or its .index '
    'file. Flags that are not given are taken from flags.txt beside it.',
    flag_values=flag_values,
    required=True,
  )
  flags.DEFINE_enum(
    'split',
    'test',
    ['train', 'test'],
    'Which images to evaluate.',
    flag_values=flag_values,
  )
  flags.DEFINE_enum(
    'batch_norm',
    'moving',
    ['moving', 'batch'],
    'Normalise by the moving statistics, or by those of each batch, as in '
    'training.',
    flag_values=flag_values,
  )
  shared_flags.define_weights(flag_values)
  flags.DEFINE_string(
    'confusion_png',
    '',
    'Draw the confusion matrix into this file.',
    flag_values=flag_values,
  )
  train_flags.Run.define(flag_values)


def main():
  # pylint: disable=g-import-not-at-top
  from graph_resnet9.checkpoints import held

  with held.held(FLAGS.checkpoint) as checkpoint:
    _evaluate(checkpoint)


def _evaluate(checkpoint):
  # pylint: disable=g-import-not-at-top
  from graph_resnet9 import files
  from graph_resnet9.cli import flagfile
  from graph_resnet9.evaluation import confusion
  from graph_resnet9.evaluation import evaluate
  from graph_resnet9.inputs import dataset

  folder = os.path.dirname(checkpoint.prefix)
  run = train_flags.Run.read(FLAGS)
  saved = flagfile.read(folder)
  if saved:
    run = run.override(saved, FLAGS)
  else:
    logging.warning(
      '%s: not there; flags that are not given have their defaults',
      os.path.join(folder, flagfile.NAME),
    )
  if FLAGS.confusion_png:
    files.check_png('--confusion_png', FLAGS.confusion_png)
  with dataset.opened(**run.data) as data:
    summary, result, class_names = evaluate.evaluate(
      data, checkpoint.files, run, FLAGS.split, FLAGS.batch_norm, FLAGS.weights
    )
  summary['checkpoint'] = checkpoint.prefix
  if FLAGS.confusion_png:
    confusion.draw(
      FLAGS.confusion_png,
      result.confusion,
      class_names,
      '%(dataset)s %(split)s, step %(step)d, %(batch_norm)s '
      'statistics' % summary,
    )
  print(
    '%(examples)d %(split)s images of %(dataset)s, step %(step)d, batch '
    'norm by %(batch_norm)s statistics, %(weights)s weights' % summary
  )
  print('loss      %8.4f' % result.loss)
  print('accuracy  %8.2f%%' % (100 * result.accuracy))
  width = max(10, *map(len, class_names))
  for name, accuracy in zip(class_names, result.class_accuracy):
    print('  %-*s %6.2f%%' % (width, name, 100 * accuracy))
  print(json.dumps(summary))


if __name__ == '__main__':
  command.run(main, define_flags)
