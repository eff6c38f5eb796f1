"""The gallery page: what the cases say of themselves and what they measured."""

import json
import os
import re
import textwrap

from graph_resnet9.demos import cases
from graph_resnet9.demos import excerpts
from graph_resnet9.demos import report
from graph_resnet9.demos import tables

_HEAD = """# The cases

Failures of batch normalisation that people report, each broken beside fixed:
same seed, same data, and unless an arm says otherwise the same number of
steps. This page is made by `python docs/make_cases.py`, which runs every case,
from the cases' own texts, code, tables and pictures; a test compares it with
them. [cases.ipynb](cases.ipynb) runs any of them in a notebook.

In the tables, *moving* is evaluation with the moving statistics and *batch*
with those of each batch of evaluation data; with several seeds each cell is the
range over them. *doctor* is what [lint and diagnose](doctor.md) find in the
training graph of the arm, the latter on 4 to 50 batches. In the pictures, of
the first seed, broken arms have a ✗, a dashed frame and filled marks, fixed
ones a ✓, a solid frame and hollow marks; the lowest panel shows the quantity
that explains the case. Where it is the gap of the layers, what is below the
dotted line is nothing to speak of.
"""
# Results on the canonical images, beside those on the synthetic ones.
CIFAR10 = 'cifar10'
_PLACE = re.compile(r'\{([^{}|]+)\|([^{}|]+)\}')


def page(folder):
  """The page as Markdown.

  Args:
    folder: where NAME.json and NAME.png of the cases lie, and NAME.json of the
      run on CIFAR-10 in its folder CIFAR10; its base name is what the page
      links to. A case without a file is shown without figures.
  Returns:
    str.
  """
  base = os.path.basename(os.path.normpath(folder))
  parts = [
    _HEAD,
    '\n'.join(
      '- [%s](#%s)' % (cases.title(name), name) for name in cases.NAMES
    ),
  ]
  for name in cases.NAMES:
    parts.append(
      _section(
        name,
        _read(os.path.join(folder, name + '.json')),
        _read(os.path.join(folder, CIFAR10, name + '.json')),
        base,
      )
    )
  return '\n\n'.join(part.strip() for part in parts) + '\n'


def _read(path):
  """The result in a file, or None where it has not been recorded."""
  if not os.path.exists(path):
    return None
  with open(path) as f:
    return json.load(f)


def _section(name, result, on_cifar10, base):
  module = cases.load(name)
  _, _, text = module.__doc__.partition('\n')
  parts = [
    '## %s' % name,
    '**%s.**' % cases.title(name).partition(': ')[2],
    text.strip(),
    'Source: %s' % module.SOURCE,
    *_code(module),
  ]
  if result:
    parts += _seen(name, result, on_cifar10, base)
  else:
    parts.append('`python -m graph_resnet9.demo --case=%s` runs it.' % name)
  return '\n\n'.join(part for part in parts if part)


def _seen(name, result, on_cifar10, base):
  """Parts of a section: what was measured."""
  seen = filled(cases.load(name).SEEN, result)
  commands = '`%s`' % command(result)
  yield textwrap.fill('Seen on %s: %s' % (seeds(result), seen), 80)
  yield _beside(result, on_cifar10)
  yield 'On the embedded images, %s:' % seeds(result)
  yield tables.markdown(result)
  if on_cifar10:
    yield 'On CIFAR-10, %s:' % seeds(on_cifar10)
    yield tables.markdown(on_cifar10)
    commands += ', `%s --data_dir=DIR`' % command(on_cifar10)
  if result['notes']:
    yield '```\n%s\n```' % '\n'.join(result['notes'])
  yield '![%s](%s/%s.png)' % (name, base, name)
  yield 'Claims, with their margins, over these seeds:'
  yield '\n'.join('- ' + claim for claim in tables.claims(result))
  yield '%s; %s, TensorFlow %s, Python %s.' % (
    commands,
    result['machine'],
    result['tensorflow'],
    result['python'],
  )


def command(result):
  """The command that gives a result again."""
  numbers = [run['seed'] for run in report.runs_of(result)]
  return 'python -m graph_resnet9.demo --case=%s %s%s' % (
    result['case'],
    '--seed=%d' % numbers[0]
    if len(numbers) == 1
    else '--seeds=%d-%d' % (numbers[0], numbers[-1]),
    ' --fast' if result['fast'] else '',
  )


def seeds(result):
  """'seed 0', or 'seeds 0 to 4'."""
  numbers = [run['seed'] for run in report.runs_of(result)]
  if len(numbers) == 1:
    return 'seed %d' % numbers[0]
  return 'seeds %d to %d' % (numbers[0], numbers[-1])


def filled(text, result):
  """A text with the ranges of a result in its places.

  A place is {ARM|COLUMN}, or {ARM + ARM|COLUMN} for the range over several.
  COLUMN: training, moving or batch, which is the accuracy, or the loss where
  there is none; 'training loss' and so on; or a key of Outcome.columns.

  Raises:
    KeyError: no such arm or column.
  """

  def value(arm, column):
    field, _, loss = column.partition(' ')
    if field not in ('training', 'moving', 'batch'):
      return arm['figures'][column], ''
    key = 'train' if field == 'training' else 'eval_' + field
    accuracy = arm[key + '_accuracy']
    if loss or accuracy is None:
      return arm[key + '_loss'], ''
    return accuracy, report.PERCENT

  def shown(match):
    column = ' '.join(match[2].split())
    names = ' '.join(match[1].split()).split(' + ')
    found = [
      value(arm, column)
      for run in report.runs_of(result)
      for arm in run['arms']
      if arm['name'] in names
    ]
    known = {arm['name'] for arm in result['arms']}
    for name in names:
      if name not in known:
        raise KeyError(name)
    return tables.span([v for v, _ in found], found[0][1])

  return ' '.join(_PLACE.sub(shown, text).split())


def _beside(result, on_cifar10):
  """The table of the figures of the source."""
  cells = tables.beside(result)
  if not cells:
    return ''
  cells[0][2] = 'here, embedded images, ' + seeds(result)
  if on_cifar10:
    others = tables.beside(on_cifar10)
    others[0][2] = 'here, CIFAR-10, ' + seeds(on_cifar10)
    cells = [row + [other[2]] for row, other in zip(cells, others)]
  return tables.of_cells(cells)


def _code(module):
  """The lines that differ, as code."""
  for excerpt in excerpts.of(module):
    yield '%s: %s' % (
      '✗ broken' if excerpt.broken else '✓ fixed',
      excerpt.title,
    )
    yield '```python\n%s\n```' % excerpt.code
