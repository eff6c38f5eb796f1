"""Checks the batch normalisation of any TensorFlow 1 graph, without running it.

  python -m graph_resnet9.lint --meta_graph=/tmp/r9/model.ckpt-776.meta
  python -m graph_resnet9.lint --meta_graph=FILE.meta --checkpoint=PREFIX \\
      --train_op=train_op --format=json
  python -m graph_resnet9.lint --meta_graph=SAVED_MODEL_DIR

Finds update ops that no step runs, statistics that are not saved or still 0 and
1, batches of one example and a dozen faults more; docs/doctor.md lists them.
Exit code 0: no errors; 1: errors; 2: the input cannot be read.
"""

from graph_resnet9.cli import command as command_line
from graph_resnet9.cli import config
from graph_resnet9.cli import doctor_flags
from graph_resnet9.cli import settings as options


def main():
  # pylint: disable=g-import-not-at-top
  from graph_resnet9.doctor.graph import program
  from graph_resnet9.doctor.lint import findings
  from graph_resnet9.doctor.lint import rules as graph_lint

  settings = config.read(options.Lint)
  report = graph_lint.lint_meta_graph(
    program.read_graph(settings.meta_graph),
    settings.train_op,
    settings.checkpoint,
  )
  print(findings.to_json(report) if settings.format == 'json' else report)
  return 1 if report.errors else 0


if __name__ == '__main__':
  command_line.run(main, doctor_flags.define_lint_flags, error_code=2)
