"""Failures of batch normalisation, each as a case: broken beside fixed.

  python -m graph_resnet9.demo --list
  python -m graph_resnet9.demo --case=update_ops
  python -m graph_resnet9.demo --case=all --out_dir=/tmp/cases

Trains the broken and the fixed arms of a case from the same seed, data and
number of steps. Prints a table of training and evaluation, by moving and by
batch statistics, and the claims of the case with their margins; with --out_dir
it leaves CASE.json and CASE.png there. Exits with 0 only if all claims hold.
"""

from graph_resnet9.cli import command as command_line
from graph_resnet9.cli import config
from graph_resnet9.cli import settings as options
from graph_resnet9.demos import cases as demos
from graph_resnet9.errors import UserError


def main():
  settings = config.read(options.Demo)
  if settings.list:
    for name in demos.NAMES:
      print(demos.title(name))
    return 0
  if not settings.case:
    raise UserError('--case=NAME is missing; --list names the cases')
  # pylint: disable=g-import-not-at-top
  from graph_resnet9.demos import runner

  names = demos.NAMES if settings.case == 'all' else [settings.case]
  return 0 if runner.run(names, settings) else 1


if __name__ == '__main__':
  command_line.run(main, config.define_demo_flags)
