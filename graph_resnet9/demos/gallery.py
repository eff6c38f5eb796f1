"""The gallery page: what the cases say of themselves and what they measured."""

import json
import os

from graph_resnet9.demos import cases as demos
from graph_resnet9.demos import report

_HEAD = """# The cases

Failures of batch normalisation that people report, each broken beside fixed:
same seed, same data, same number of steps. This page is made by
`python docs/make_cases.py`, which runs every case, from the cases' own texts,
tables and pictures; a test compares it with them.

In the tables, *moving* is evaluation with the moving statistics and *batch*
with those of each batch of evaluation data. In the pictures, the upper row
shows training and evaluation over the steps, the lower one how far the stored
statistics of each layer are from those of the evaluation data (left of the
dotted line: nothing to speak of). *doctor* is what
[lint and diagnose](doctor.md) find in the training graph of the arm, the latter
on 100 of its batches.
"""


def page(folder):
  """The page as Markdown.

  Args:
    folder: where NAME.json and NAME.png of all cases lie; its base name is what
      the page links to.
  Returns:
    str.
  """
  base = os.path.basename(os.path.normpath(folder))
  parts = [
    _HEAD,
    '\n'.join(
      '- [%s](#%s)' % (demos.title(name), name) for name in demos.NAMES
    ),
  ]
  for name in demos.NAMES:
    with open(os.path.join(folder, name + '.json')) as f:
      parts.append(_section(name, json.load(f), base))
  return '\n\n'.join(part.strip() for part in parts) + '\n'


def _section(name, result, base):
  _, _, text = demos.load(name).__doc__.partition('\n')
  header, *body = report.rows(result)
  rows = [header, ['---'] * len(header)] + body
  table = '\n'.join('| %s |' % ' | '.join(row) for row in rows)
  claims = '\n'.join(
    '- '
    + str(
      report.Claim(
        claim['text'], claim['figure'], claim['relation'], claim['margin']
      )
    )
    for claim in result['claims']
  )
  notes = '```\n%s\n```' % '\n'.join(result['notes']) if result['notes'] else ''
  return '\n\n'.join(
    part
    for part in (
      '## %s' % name,
      '**%s.**' % demos.title(name).partition(': ')[2],
      text.strip(),
      'Reported in: %s.' % result['source'],
      table,
      notes,
      '![%s](%s/%s.png)' % (name, base, name),
      'Claims, with their margins:\n\n' + claims,
      '`python -m graph_resnet9.demo --case=%s --seed=%d`, %s data, '
      'TensorFlow %s, Python %s.'
      % (
        name,
        result['seed'],
        result['dataset'],
        result['tensorflow'],
        result['python'],
      ),
    )
    if part
  )
