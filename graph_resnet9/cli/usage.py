"""What --help prints: the flags that matter first, the others in groups."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import textwrap
from typing import TYPE_CHECKING

from absl import flags

if TYPE_CHECKING:
  from graph_resnet9.cli import settings

_WIDTH = 79


def text(
  about: str,
  flag_values: flags.FlagValues,
  names: Sequence[str],
  first: Sequence[str] = (),
  kind: type[settings.Settings] | None = None,
) -> str:
  """The help of a command.

  Args:
    about: what the command says of itself.
    flag_values: the flags.
    names: of those that are the command's own.
    first: the most important ones, in this order.
    kind: settings whose groups the others are in; None: in one.
  """
  groups = [('Flags to know', list(first))] if first else []
  groups += _groups(kind) if kind else []
  grouped = [name for _, group in groups for name in group]
  rest = [name for name in names if name not in grouped]
  groups.append(('Other flags' if groups else 'Flags', rest))
  parts, shown = [about.strip()], set()
  for title, group in groups:
    group = [name for name in group if name in names and name not in shown]
    shown.update(group)
    if group:
      lines = [_flag(flag_values[name]) for name in group]
      parts.append('\n'.join([title + ':', *lines]))
  parts.append(
    '--flagfile=FILE takes flags from a file, a line each; --helpfull lists '
    'what\nevery absl program has, too.'
  )
  return '\n\n'.join(parts)


def _groups(kind, title='The run'):
  """[(title, names)] of a class of settings and of those in it."""
  own, groups = [], []
  for field in dataclasses.fields(kind):
    if 'define' in field.metadata:
      own.append(field.name)
    else:
      about = field.type.__doc__.strip().splitlines()[0].rstrip('.')
      groups += _groups(field.type, about)
  return [(title, own), *groups]


def _flag(flag):
  """The lines of one flag."""
  if flag.boolean:
    value = '' if flag.default else 'no'
    head = '--[no]%s (%s%s)' % (flag.name, value, flag.name)
  elif flag.default in (None, '', []):
    head = '--%s' % flag.name
  else:
    head = '--%s (%s)' % (flag.name, flag.default_as_str.strip("'"))
  return '  %s\n%s' % (
    head,
    textwrap.fill(
      ' '.join(flag.help.split()),
      _WIDTH,
      initial_indent=' ' * 6,
      subsequent_indent=' ' * 6,
    ),
  )
