"""Checks the batch normalisation of any TensorFlow 1 graph, without running it.

  python -m graph_resnet9.lint model.ckpt-776.meta
  python -m graph_resnet9.lint model.ckpt-776        # the checkpoint, too
  python -m graph_resnet9.lint TRAIN_DIR SAVED_MODEL_DIR graph.pbtxt frozen.pb
  python -m graph_resnet9.lint --format=github --fail_on=warning */model.meta
  python -m graph_resnet9.lint --meta_graph=FILE.meta --checkpoint=PREFIX \\
      --train_op=train_op

Finds update ops that no step runs, layers that never normalise, statistics that
are not saved or still 0 and 1, batches of one example and a dozen faults more;
docs/doctor.md lists them. It reads files and runs nothing; diagnose,
recalibrate and predict do run what a graph says, so give them only those of
people you trust. Exit code 0: no errors; 1: errors; 2: something cannot be
read.
"""

import sys

from absl import flags

from graph_resnet9.cli import command
from graph_resnet9.cli import shared_flags
from graph_resnet9.errors import UserError

FLAGS = flags.FLAGS


def define_flags(flag_values=FLAGS):
  shared_flags.define_graph(flag_values)
  flags.DEFINE_list(
    'train_op',
    [],
    'Names of the ops that a step runs, all of them, with commas between them; '
    'by default the ops that change trained variables, and what depends on '
    'them.',
    flag_values=flag_values,
  )
  flags.DEFINE_enum(
    'format',
    'text',
    ['text', 'json', 'sarif', 'github'],
    'How to print the findings; json: one line a graph; sarif: one log, for '
    'code scanning; github: annotations of a workflow.',
    flag_values=flag_values,
  )
  flags.DEFINE_enum(
    'fail_on',
    'error',
    ['error', 'warning'],
    'From which findings on the exit code is 1.',
    flag_values=flag_values,
  )
  flags.DEFINE_list(
    'ignore',
    [],
    'Codes of findings to leave out, with commas between them.',
    flag_values=flag_values,
  )


def main(named=()):
  # pylint: disable=g-import-not-at-top
  from graph_resnet9.doctor.lint import kinds
  from graph_resnet9.doctor.lint import reports

  unknown = sorted(set(FLAGS.ignore) - set(kinds.KINDS))
  if unknown:
    raise UserError('--ignore=%s: no such code' % ','.join(unknown))
  named = list(named)
  if FLAGS.meta_graph or (FLAGS.checkpoint and not named):
    named.append(FLAGS.meta_graph or FLAGS.checkpoint)
  if not named:
    raise UserError(
      'nothing to check; give a .meta file, a checkpoint, a SavedModel, '
      'graph.pbtxt, a frozen .pb or an event file; see --help'
    )
  checked, unread = [], []
  for path in named:
    try:
      report = check(path, FLAGS.train_op, FLAGS.checkpoint)
      checked.append((path, report.without(FLAGS.ignore)))
    except UserError as e:
      if len(named) == 1:
        raise
      unread.append(path)
      print('lint: %s' % ' '.join(str(e).split()), file=sys.stderr)
  lines = checked and reports.FORMATS[FLAGS.format](checked)
  if lines:
    print(lines)
  if unread:
    return 2
  return int(
    any(
      report.errors or FLAGS.fail_on == 'warning' and report.findings
      for _, report in checked
    )
  )


def check(path, train_ops=(), checkpoint=None):
  """The reports.Report of what a path means.

  Args:
    path: as of paths.find; where it means a checkpoint, that is checked, too.
    train_ops: as of anatomy.Anatomy.
    checkpoint: what --checkpoint says, or None.
  Raises:
    UserError: names the file or the flag.
  """
  # pylint: disable=g-import-not-at-top
  from graph_resnet9.doctor.graph import decoding
  from graph_resnet9.doctor.graph import paths
  from graph_resnet9.doctor.lint import rules

  files = paths.find(path)
  if not files.graph:
    raise UserError(
      '%s: a checkpoint without its graph; give the .meta file that '
      'tf.train.Saver writes beside it: --meta_graph=FILE' % path
    )
  prefix = None if files.asked else files.checkpoint
  if checkpoint:
    prefix = paths.find(checkpoint, '--checkpoint=').checkpoint
    if prefix is None:
      raise UserError('--checkpoint=%s: no checkpoint' % checkpoint)
  form, meta_graph = decoding.read(files.graph)
  try:
    report = rules.lint_meta_graph(meta_graph, train_ops, prefix)
  except UserError as e:
    # What is wrong with a flag says so itself. Names of ops may be anything.
    line = ' '.join(str(e).split())[:1000]
    raise UserError(
      line if line.startswith('--') else '%s: %s' % (files.graph, line)
    ) from None
  if form in ('GraphDef', 'event file'):
    report = report._replace(
      notes=(
        *report.notes,
        'a %s says nothing of savers and collections; a .meta file does' % form,
      )
    )
  return report


if __name__ == '__main__':
  command.run(
    main,
    define_flags,
    error_code=2,
    takes_files=True,
    least_files=0,
    anywhere=True,
  )
