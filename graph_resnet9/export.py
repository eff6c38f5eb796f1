"""Makes a SavedModel of a checkpoint of graph_resnet9.train, for serving.

  python -m graph_resnet9.export --checkpoint=/tmp/r9 --export_dir=/tmp/served/1

Signature serving_default: images, uint8 [batch, 32, 32, 3], RGB; out come
classes, int64 [batch], class_names, string [batch], and probabilities, float32
[batch, 10]. They are those of graph_resnet9.eval: moving statistics, averaged
weights where the checkpoint has them, --mirrored and --shifted as flags.txt
beside it says.
The last line on stdout is JSON. docs/export.md shows how to load it.

What graph_resnet9.lint finds an error in is not exported, such as moving
statistics that never moved.
"""

import json
import os

from absl import flags

from graph_resnet9.cli import command
from graph_resnet9.cli import recipe_flags
from graph_resnet9.cli import shared_flags
from graph_resnet9.errors import UserError

FLAGS = flags.FLAGS


def define_flags(flag_values=FLAGS):
  flags.DEFINE_string(
    'checkpoint',
    None,
    'A train_dir (its newest checkpoint), a checkpoint prefix, or its .index '
    'file; flags.txt beside it says what network it is of.',
    flag_values=flag_values,
    required=True,
  )
  flags.DEFINE_string(
    'export_dir',
    None,
    'New directory for the SavedModel; for TensorFlow Serving one whose name '
    'is a number, the version.',
    flag_values=flag_values,
    required=True,
  )
  shared_flags.define_weights(flag_values)
  recipe_flags.Views.define(flag_values)


def main():
  # pylint: disable=g-import-not-at-top
  from graph_resnet9.checkpoints import held

  with held.held(FLAGS.checkpoint) as checkpoint:
    _export(checkpoint)


def _export(checkpoint):
  # pylint: disable=g-import-not-at-top
  from graph_resnet9.cli import flagfile
  from graph_resnet9.doctor.graph import decoding
  from graph_resnet9.doctor.lint import rules
  from graph_resnet9.evaluation import saved_model

  folder = os.path.dirname(checkpoint.prefix) or '.'
  run = flagfile.read(folder)
  if run is None:
    raise UserError(
      '%s: not there, and it says what network the checkpoint is '
      'of; copy it from the train_dir' % os.path.join(folder, flagfile.NAME)
    )
  views = recipe_flags.Views.read(FLAGS).override(run.views, FLAGS)
  run = run.replace(views=views)

  def check(exported):
    report = rules.lint_meta_graph(
      decoding.read(os.path.join(exported, decoding.SAVED_MODEL))[1],
      (),
      os.path.join(exported, saved_model.VARIABLES),
    )
    for found in report.findings[: report.errors]:  # They come first.
      raise UserError(
        '%s: not exported, lint finds %s: %s; mend: %s'
        % (
          checkpoint.prefix,
          found.code,
          found.title,
          found.cure.partition('  #')[0],
        )
      )

  summary = saved_model.export(
    checkpoint.files, FLAGS.export_dir, run, FLAGS.weights, check
  )
  summary['checkpoint'] = checkpoint.prefix
  print(
    '%(weights)s weights of step %(step)d, width %(width)d, '
    '%(parameters)d parameters in %(bytes)d bytes' % summary
  )
  print(json.dumps(summary))


if __name__ == '__main__':
  command.run(main, define_flags)
