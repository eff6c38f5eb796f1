"""Checks the batch normalisation of any TensorFlow 1 graph, without running it.

  python -m graph_resnet9.lint --meta_graph=/tmp/r9/model.ckpt-776.meta
  python -m graph_resnet9.lint --meta_graph=FILE.meta --checkpoint=PREFIX \\
      --train_op=train_op --format=json
  python -m graph_resnet9.lint --meta_graph=SAVED_MODEL_DIR

Finds update ops that no step runs, statistics that are not saved or still 0 and
1, batches of one example and a dozen faults more; docs/doctor.md lists them.
Exit code 0: no errors; 1: errors; 2: the input cannot be read.
"""

from absl import flags

from graph_resnet9.cli import command

FLAGS = flags.FLAGS


def define_flags(flag_values=FLAGS):
  flags.DEFINE_string(
    'meta_graph',
    None,
    'The .meta file of a graph, as tf.train.Saver writes it beside a '
    'checkpoint; or a SavedModel, its directory or the file saved_model.pb in '
    'it.',
    flag_values=flag_values,
    required=True,
  )
  flags.DEFINE_list(
    'train_op',
    [],
    'Names of the ops that a step runs, all of them, with commas between them; '
    'by default the ops that change trained variables, and what depends on '
    'them.',
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    'checkpoint',
    '',
    'Prefix of a checkpoint of this graph: are the moving statistics in it, '
    'and are they still 0 and 1?',
    flag_values=flag_values,
  )
  flags.DEFINE_enum(
    'format',
    'text',
    ['text', 'json'],
    'How to print the findings; json: one line.',
    flag_values=flag_values,
  )


def main():
  # pylint: disable=g-import-not-at-top
  from graph_resnet9.doctor.graph import program
  from graph_resnet9.doctor.lint import findings
  from graph_resnet9.doctor.lint import rules

  report = rules.lint_meta_graph(
    program.read_graph(FLAGS.meta_graph), FLAGS.train_op, FLAGS.checkpoint
  )
  print(findings.to_json(report) if FLAGS.format == 'json' else report)
  return 1 if report.errors else 0


if __name__ == '__main__':
  command.run(main, define_flags, error_code=2)
