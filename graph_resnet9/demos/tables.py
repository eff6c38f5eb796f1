"""Tables of a case's result, for a terminal and for a page. No TensorFlow.

A result is what report.together makes: with several seeds every cell is the
range over them.
"""

import textwrap

from graph_resnet9.demos import report

WIDTH = 100  # Of a terminal; tables keep within it.
_NAME_WIDTH = 26
_SCORES = (
  ('training', 'train'),
  ('moving', 'eval_moving'),
  ('batch', 'eval_batch'),
)


class Row:
  """An arm of a result: its cells as texts.

  broken: bool. name, verdict, doctor: str.
  accuracies, losses, figures: {title: text}; no accuracies where the case has
    none.
  """

  def __init__(self, result, index):
    arms = [run['arms'][index] for run in report.runs_of(result)]
    first = arms[0]
    self.name = first['name']
    self.broken = first['broken']
    by_accuracy = first['train_accuracy'] is not None
    self.accuracies = {
      title: span([arm[key + '_accuracy'] for arm in arms], report.PERCENT)
      for title, key in _SCORES
      if by_accuracy
    }
    self.losses = {
      title: span([arm[key + '_loss'] for arm in arms])
      for title, key in _SCORES
    }
    self.figures = {
      title: span([arm['figures'].get(key) for arm in arms])
      if any(key in arm['figures'] for arm in arms)
      else ''
      for key, title in result['columns'].items()
    }
    self.verdict = ' or '.join(dict.fromkeys(arm['verdict'] for arm in arms))
    counts = {}
    for arm in arms:
      for code in dict.fromkeys(arm['lint'] + arm['diagnosis']):
        counts[code] = counts.get(code, 0) + 1
    self.doctor = (
      ', '.join(
        code
        + (
          '' if count == len(arms) else ' (%d of %d seeds)' % (count, len(arms))
        )
        for code, count in counts.items()
      )
      or 'nothing'
    )

  @property
  def state(self):
    return 'broken' if self.broken else 'fixed'


def rows(result):
  """List of Row, one an arm."""
  return [Row(result, k) for k in range(len(result['arms']))]


def number(value, unit=''):
  """A number as every table shows it; '-' for None."""
  if value is None:
    return '-'
  if unit == report.PERCENT:
    return '%.1f%%' % (100 * value)
  if value == int(value) and abs(value) < 1e6:
    return '%d' % value
  return '%.3f' % value if 0.01 <= abs(value) < 100 else '%.3g' % value


def span(values, unit=''):
  """'least to most' of numbers, or the one number that all are shown as."""
  values = [value for value in values if value is not None]
  if not values:
    return '-'
  least, most = number(min(values), unit), number(max(values), unit)
  if least == most:
    return least
  return '%s to %s' % (least.rstrip('%'), most)


def terminal(result):
  """Lines of text, at most WIDTH columns."""
  lines = [_columns(result, '', dict((t, t) for t, _ in _SCORES), True)]
  for row in rows(result):
    name = textwrap.wrap(
      '%s: %s' % (row.state, row.name), _NAME_WIDTH, subsequent_indent='  '
    )
    if row.accuracies:
      scores = [row.accuracies, row.losses]
      labels = ['', 'loss']
    else:
      scores, labels = [row.losses], ['loss']
    for k in range(max(len(name), len(scores))):
      left = name[k] if k < len(name) else ''
      cells = dict(scores[k]) if k < len(scores) else {}
      if k == 0:
        cells.update(row.figures)
      label = labels[k] if k < len(labels) else ''
      lines.append(_columns(result, left, cells, False, label))
    lines += textwrap.wrap(
      '%s; doctor: %s' % (row.verdict, row.doctor),
      WIDTH - 2,
      initial_indent='  ',
      subsequent_indent='    ',
    )
  return lines


def _columns(result, left, cells, header, label=''):
  """One line: a name, a label, the cells under their titles."""
  line = left.ljust(_NAME_WIDTH) + ' ' + label.rjust(4)
  for title, _ in _SCORES:
    line += cells.get(title, '').rjust(16)
  for title in result['columns'].values():
    width = max(14, len(title) + 2)
    line += (title if header else cells.get(title, '')).rjust(width)
  return line.rstrip()


def markdown(result):
  """The table of the arms for a page."""
  by_accuracy = bool(rows(result)[0].accuracies)
  kind = 'accuracy (loss)' if by_accuracy else 'loss'
  header = [
    'arm',
    '',
    *('%s, %s' % (title, kind) for title, _ in _SCORES),
    *result['columns'].values(),
    'verdict',
    'doctor',
  ]
  body = []
  for row in rows(result):
    scores = [
      '%s (%s)' % (row.accuracies[title], row.losses[title])
      if by_accuracy
      else row.losses[title]
      for title, _ in _SCORES
    ]
    body.append(
      [
        row.name,
        '✗ broken' if row.broken else '✓ fixed',
        *scores,
        *row.figures.values(),
        row.verdict,
        row.doctor,
      ]
    )
  return of_cells([header] + body)


def of_cells(cells):
  """A Markdown table of a header and rows, lists of texts."""
  header, *body = cells
  return '\n'.join(
    '| %s |' % ' | '.join(row) for row in [header, ['---'] * len(header), *body]
  )


def beside(result):
  """Cells of the source beside here: a header, a row a figure; [] if none."""
  runs = [run['beside'] for run in report.runs_of(result)]
  if not runs[0]:
    return []
  return [['', 'source', 'here']] + [
    [
      same[0]['what'],
      same[0]['source'],
      span([row['here'] for row in same], same[0]['unit']),
    ]
    for same in zip(*runs)
  ]


def lined_up(cells):
  """Lines of text of cells that line up; the first column is wrapped."""
  widths = [max(map(len, column)) for column in zip(*cells)]
  widths[0] = min(widths[0], WIDTH - sum(widths[1:]) - 2 * len(widths[1:]))
  lines = []
  for first, *rest in cells:
    wrapped = textwrap.wrap(first, widths[0], subsequent_indent='  ') or ['']
    lines.append(
      '  '.join(
        cell.ljust(width) for cell, width in zip([wrapped[0], *rest], widths)
      ).rstrip()
    )
    lines += wrapped[1:]
  return lines


def claims(result):
  """A line a claim: whether it holds on all seeds, and its figures."""
  for same in zip(*(run['claims'] for run in report.runs_of(result))):
    failing = [
      '%d' % run['seed']
      for run, claim in zip(report.runs_of(result), same)
      if not claim['holds']
    ]
    first = same[0]
    figures = [claim['figure'] for claim in same]
    yield '%s  %s: %s %s %s%s' % (
      'FAILS' if failing else 'holds',
      first['text'],
      # A figure that is not finite is None here, and fails.
      'not finite' if None in figures else _figures(figures),
      'is not ' + first['relation'] if failing else first['relation'],
      '%.4g' % first['margin'],
      ' (seed %s)' % ', '.join(failing) if failing and len(same) > 1 else '',
    )


def _figures(values):
  least, most = '%.4g' % min(values), '%.4g' % max(values)
  return least if least == most else '%s to %s' % (least, most)
