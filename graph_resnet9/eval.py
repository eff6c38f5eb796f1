"""Evaluates a checkpoint of graph_resnet9.train, every example exactly once.

  python -m graph_resnet9.eval --checkpoint=/tmp/r9
  python -m graph_resnet9.eval --checkpoint=/tmp/r9 --batch_norm=batch

Loss, accuracy and per-class accuracy on stdout, the last line as JSON. Flags
that are not given are taken from flags.txt beside the checkpoint. Averaged
weights are used where the checkpoint has them; --weights=trained is the other.

Measured in November 2026 on a checkpoint of --update_ops=none (width 16, 8
epochs, JPEG q75 copy of CIFAR-10): 20.1% with moving, 83.3% with batch
statistics.
"""

import json
import os

from absl import logging

from graph_resnet9.cli import command as command_line
from graph_resnet9.cli import config
from graph_resnet9.cli import settings as options


def main():
  # pylint: disable=g-import-not-at-top
  from graph_resnet9 import files
  from graph_resnet9.checkpoints import choose as checkpoints
  from graph_resnet9.evaluation import confusion
  from graph_resnet9.evaluation import evaluate as evaluation

  settings = config.read(options.Eval)
  prefix = checkpoints.prefix_of(settings.checkpoint)
  settings = settings._replace(checkpoint=prefix)
  folder = os.path.dirname(prefix)
  saved = config.read_flagfile(folder)
  if saved:
    settings = config.override(settings, saved)
  else:
    logging.warning(
      '%s: not there; flags that are not given have their defaults',
      os.path.join(folder, config.FLAGFILE),
    )
  if settings.confusion_png:
    files.check_png('--confusion_png', settings.confusion_png)
  summary, result, class_names = evaluation.evaluate(settings)
  if settings.confusion_png:
    confusion.draw(
      settings.confusion_png,
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
  for name, accuracy in zip(class_names, result.class_accuracy):
    print('  %-10s %6.2f%%' % (name, 100 * accuracy))
  print(json.dumps(summary))


if __name__ == '__main__':
  command_line.run(main, config.define_eval_flags)
