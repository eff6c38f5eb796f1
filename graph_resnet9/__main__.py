"""All commands by name: python -m graph_resnet9 COMMAND."""

import ast
import os
import runpy
import sys
import textwrap

import graph_resnet9

COMMANDS = (
  'train',
  'eval',
  'export',
  'predict',
  'benchmark',
  'lint',
  'diagnose',
  'recalibrate',
  'demo',
)


def _summary(command):
  """The first line of what a command says of itself; nothing is imported."""
  path = os.path.join(os.path.dirname(__file__), command + '.py')
  with open(path, encoding='utf-8') as f:
    return ast.get_docstring(ast.parse(f.read())).splitlines()[0]


def _usage():
  return '\n'.join(
    ['usage: graph_resnet9 COMMAND [FLAG...]', '']
    + [
      textwrap.fill(
        '  %-11s  %s' % (name, _summary(name)), 78, subsequent_indent=' ' * 15
      )
      for name in COMMANDS
    ]
    + [
      '',
      'graph_resnet9 COMMAND --help lists the flags of a command, and',
      'python -m graph_resnet9.COMMAND is the same command.',
    ]
  )


def main():
  """Runs the command that the command line names; returns an exit code."""
  command, *rest = sys.argv[1:] or ['--help']
  if command in ('--help', '-h', 'help'):
    print(_usage())
    return 0
  if command == '--version':
    print(graph_resnet9.__version__)
    return 0
  if command not in COMMANDS:
    print(
      'graph_resnet9: %r is no command; there are %s'
      % (command, ', '.join(COMMANDS)),
      file=sys.stderr,
    )
    return 2
  sys.argv[1:] = rest
  runpy.run_module(
    'graph_resnet9.' + command, run_name='__main__', alter_sys=True
  )
  return 0


if __name__ == '__main__':
  sys.exit(main())
