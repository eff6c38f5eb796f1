"""Failures of batch normalisation, each as a case: broken beside fixed.

  python -m graph_resnet9.demo --list
  python -m graph_resnet9.demo --case=update_ops
  python -m graph_resnet9.demo --case=update_ops --seeds=0-4
  python -m graph_resnet9.demo --case=all --out_dir=/tmp/cases

Trains the broken and the fixed arms of a case from the same seed and data.
Prints a table of training and evaluation, by moving and by batch statistics,
the figures of the case's source beside those seen here, and the claims of the
case with their margins; with --out_dir it leaves CASE.json and CASE.png there.
--seeds repeats all of it and shows ranges. Exits with 0 only if all claims hold
on every seed.
"""

import re

from absl import flags

from graph_resnet9.cli import command
from graph_resnet9.cli.settings import MAX_INT
from graph_resnet9.demos import cases
from graph_resnet9.errors import UserError

FLAGS = flags.FLAGS
_MOST_SEEDS = 100


def define_flags(flag_values=FLAGS):
  flags.DEFINE_bool(
    'list', False, 'Name the cases and stop.', flag_values=flag_values
  )
  flags.DEFINE_string(
    'case',
    '',
    'The case to run, or all; --list names them.',
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    'out_dir',
    '',
    'Directory for CASE.json and CASE.png; by default a case only prints its '
    'table.',
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    'seed',
    0,
    'Seed of weights, order and signals.',
    0,
    MAX_INT,
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    'seeds',
    '',
    'Instead of --seed: a range, as in 0-4. Each case is run with every one of '
    'them, and its table shows ranges.',
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    'data_dir',
    '',
    'Folder with CIFAR-10, as of graph_resnet9.train; by default the embedded '
    'synthetic images.',
    flag_values=flag_values,
  )
  flags.DEFINE_bool(
    'fast',
    False,
    'Shorter trainings; the claims and their margins stay.',
    flag_values=flag_values,
  )


def seeds_of(text):
  """The seeds of a range such as '0-4', as a list.

  Raises:
    UserError: it is none.
  """
  match = re.fullmatch(r'(\d+)(?:-(\d+))?', text)
  first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
  if not first <= last < min(first + _MOST_SEEDS, MAX_INT + 1):
    raise UserError(
      '--seeds=%s: give a range of at most %d seeds, as in --seeds=0-4'
      % (text, _MOST_SEEDS)
    )
  return list(range(first, last + 1))


def main():
  if FLAGS.list:
    for name in cases.NAMES:
      print(cases.title(name))
    return 0
  if not FLAGS.case:
    raise UserError('--case=NAME is missing; --list names the cases')
  seeds = seeds_of(FLAGS.seeds) if FLAGS.seeds else [FLAGS.seed]
  # pylint: disable=g-import-not-at-top
  from graph_resnet9.demos import runner

  names = cases.NAMES if FLAGS.case == 'all' else [FLAGS.case]
  held = runner.run(names, FLAGS.out_dir, seeds, FLAGS.data_dir, FLAGS.fast)
  return 0 if held else 1


if __name__ == '__main__':
  command.run(main, define_flags)
