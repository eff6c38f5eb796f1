"""Makes a SavedModel of a checkpoint of graph_resnet9.train, for serving.

  python -m graph_resnet9.export --checkpoint=/tmp/r9 --export_dir=/tmp/served/1

Signature serving_default: images, uint8 [batch, 32, 32, 3], RGB; out come
classes, int64 [batch], class_names, string [batch], and probabilities, float32
[batch, 10]. They are those of graph_resnet9.eval: moving statistics, averaged
weights where the checkpoint has them, --mirrored as flags.txt beside it says.
The last line on stdout is JSON. docs/export.md shows how to load it.

What graph_resnet9.lint finds an error in is not exported, such as moving
statistics that never moved.
"""

import json
import os

from graph_resnet9.cli import command as command_line
from graph_resnet9.cli import config
from graph_resnet9.cli import settings as options
from graph_resnet9.errors import UserError


def main():
  # pylint: disable=g-import-not-at-top
  from graph_resnet9.checkpoints import choose as checkpoints
  from graph_resnet9.doctor.graph import program
  from graph_resnet9.doctor.lint import findings
  from graph_resnet9.doctor.lint import rules as graph_lint
  from graph_resnet9.evaluation import saved_model

  settings = config.read(options.Export)
  prefix = checkpoints.prefix_of(settings.checkpoint)
  folder = os.path.dirname(prefix) or '.'
  run = config.read_flagfile(folder)
  if run is None:
    raise UserError(
      '%s: not there, and it says what network the checkpoint is '
      'of; copy it from the train_dir' % os.path.join(folder, config.FLAGFILE)
    )
  settings = config.override(settings._replace(checkpoint=prefix), run)

  def check(exported):
    report = graph_lint.lint_meta_graph(
      program.read_graph(exported),
      (),
      os.path.join(exported, saved_model.VARIABLES),
    )
    for found in report.findings[: report.errors]:  # They come first.
      kind = findings.KINDS[found.code]
      raise UserError(
        '%s: not exported, lint finds %s: %s; mend: %s'
        % (prefix, found.code, kind.title, kind.mend.partition('  #')[0])
      )

  summary = saved_model.export(settings, run, check)
  print(
    '%(weights)s weights of step %(step)d, width %(width)d, '
    '%(parameters)d parameters in %(bytes)d bytes' % summary
  )
  print(json.dumps(summary))


if __name__ == '__main__':
  command_line.run(main, config.define_export_flags)
