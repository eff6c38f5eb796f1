"""A finding of the static check. No TensorFlow."""

from typing import NamedTuple
from typing import Tuple

from graph_resnet9.doctor.lint.kinds import KINDS


class Finding(NamedTuple):
  """Something that the static check found.

  code: key of KINDS. ops, variables: names concerned.
  detail: the figures of this case, or ''.
  mend: what helps here, where that of the kind does not; or ''.
  places: 'file:line' of the source that made the layers, of a live graph.
  """

  code: str
  ops: Tuple[str, ...]
  variables: Tuple[str, ...]
  detail: str = ''
  mend: str = ''
  places: Tuple[str, ...] = ()

  @property
  def severity(self):
    return KINDS[self.code].severity

  @property
  def title(self):
    """What is wrong, with the figures of this case."""
    title = KINDS[self.code].title
    return '%s (%s)' % (title, self.detail) if self.detail else title

  @property
  def cure(self):
    """The line that helps."""
    return self.mend or KINDS[self.code].mend

  def __str__(self):
    """Several lines: code and title, what is concerned, effect, mend."""
    lines = ['%s %s: %s' % (self.severity, self.code, self.title)]
    for label, concerned in (
      ('made at', self.places),
      ('ops', self.ops),
      ('variables', self.variables),
    ):
      if concerned:
        lines.append('  %s: %s' % (label, listed(concerned)))
    lines.append('  effect: ' + KINDS[self.code].effect)
    return '\n'.join(lines + ['  mend: ' + self.cure])


def names(nodes):
  """Tuple of the names of Nodes, each once, in order."""
  return tuple(dict.fromkeys(node.name for node in nodes))


def of(code, nodes, variables, detail='', mend=''):
  """Finding from Nodes."""
  return Finding(code, names(nodes), names(variables), detail, mend)


def listed(names, most=4):
  """The first names, and how many more there are."""
  shown = ', '.join(names[:most])
  return shown + (
    ' and %d more' % (len(names) - most) if len(names) > most else ''
  )
