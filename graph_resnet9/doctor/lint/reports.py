"""What the static check says of a graph, as text and for other programs."""

import json
from typing import Any
from typing import Dict
from typing import List
from typing import NamedTuple
from typing import Tuple

from graph_resnet9.doctor.lint.findings import Finding
from graph_resnet9.doctor.lint.findings import listed
from graph_resnet9.doctor.lint.kinds import ERROR
from graph_resnet9.doctor.lint.kinds import KINDS

_LEVELS = {'error': 'error', 'warning': 'warning'}  # Of SARIF and of GitHub.


class Report(NamedTuple):
  """What the static check says.

  findings: list of findings.Finding, errors first.
  seen: dict of what there was to see: 'layers' and how many of them normalise
    'by_batch', 'by_choice' and 'by_stored', and how many are 'unused' in a
    step; 'updates' and 'updates_run'.
  train_ops, assumed: names of ops, as of anatomy.Anatomy.
  notes: lines that are no findings.
  """

  findings: List[Finding]
  seen: Dict[str, int]
  train_ops: Tuple[str, ...]
  assumed: Tuple[str, ...]
  notes: Tuple[str, ...] = ()

  @property
  def layers(self):
    return self.seen['layers']

  @property
  def errors(self):
    return sum(f.severity == ERROR for f in self.findings)

  def without(self, codes):
    """The Report without findings of these codes."""
    return self._replace(
      findings=[f for f in self.findings if f.code not in codes]
    )

  def summary(self):
    """dict of what was checked and how many findings there are."""
    return dict(
      self.seen,
      train_ops=self.train_ops,
      assumed_to_run=self.assumed,
      notes=self.notes,
      errors=self.errors,
      warnings=len(self.findings) - self.errors,
    )

  def headline(self):
    """A line of what was seen."""
    seen = self.seen
    kinds = [
      '%d %s' % (seen[key], words)
      for key, words in (
        ('by_batch', 'by the batch'),
        ('by_choice', 'by a placeholder or variable'),
        ('by_stored', 'never by the batch'),
        ('unused', 'in no step'),
      )
      if seen[key]
    ]
    line = '%d layer%s: %s' % (
      seen['layers'],
      's' * (seen['layers'] != 1),
      ', '.join(kinds),
    )
    if self.train_ops:
      return line + '; %d of %d updates run; train op: %s' % (
        seen['updates_run'],
        seen['updates'],
        listed(self.train_ops),
      )
    return line + '; no train op: taken for evaluation or export'

  def __str__(self):
    lines = [self.headline()] + [str(f) for f in self.findings]
    if self.assumed:
      lines.append(
        'taken to be run beside the train op: '
        + listed(self.assumed)
        + ' (--train_op=NAME,NAME says what a step runs)'
      )
    lines += ['note: ' + note for note in self.notes]
    lines.append(
      'errors: %d, warnings: %d'
      % (self.errors, len(self.findings) - self.errors)
    )
    return '\n'.join(lines)


def text(checked):
  """Lines for people of a list of (path, Report)."""
  if len(checked) == 1:
    return str(checked[0][1])
  return '\n'.join(
    '%s:\n  %s' % (path, str(report).replace('\n', '\n  '))
    for path, report in checked
  )


def to_json(checked):
  """A line of JSON for each of a list of (path, Report)."""
  return '\n'.join(
    json.dumps(
      dict(
        report.summary(),
        file=path,
        findings=[
          dict(
            KINDS[f.code]._asdict(),
            code=f.code,
            ops=f.ops,
            variables=f.variables,
            detail=f.detail,
            mend=f.cure,
            places=f.places,
          )
          for f in report.findings
        ],
      )
    )
    for path, report in checked
  )


def github(checked):
  """Workflow commands of GitHub Actions, a line a finding."""
  lines = []
  for path, report in checked:
    for finding in report.findings:
      properties = dict(_place(path, finding), title=finding.code)
      lines.append(
        '::%s %s::%s'
        % (
          _LEVELS[finding.severity],
          ','.join(
            '%s=%s' % (key, _escaped(value, ',:'))
            for key, value in properties.items()
          ),
          _escaped(_message(finding)),
        )
      )
  return '\n'.join(lines)


def _escaped(value, more=''):
  for character in '%\r\n' + more:
    value = value.replace(character, '%%%02X' % ord(character))
  return value


def _place(path, finding):
  """file and line of the source that made a layer, or the graph's file."""
  if not finding.places:
    return dict(file=path)
  name, _, line = finding.places[0].rpartition(':')
  return dict(file=name, line=line)


def _message(finding):
  concerned = listed(finding.variables or finding.ops)
  where = ': ' + concerned if concerned else ''
  return '%s%s. mend: %s' % (finding.title, where, finding.cure)


def sarif(checked):
  """A log of SARIF 2.1.0, the Static Analysis Results Interchange Format."""
  codes = sorted({f.code for _, report in checked for f in report.findings})
  rules = [
    dict(
      id=code,
      shortDescription=dict(text=KINDS[code].title),
      fullDescription=dict(text=KINDS[code].effect),
      help=dict(text=KINDS[code].mend),
      defaultConfiguration=dict(level=_LEVELS[KINDS[code].severity]),
    )
    for code in codes
  ]
  results = [
    _result(path, finding, codes)
    for path, report in checked
    for finding in report.findings
  ]
  driver = dict(name='graph_resnet9.lint', rules=rules)
  return json.dumps(
    {
      '$schema': 'https://json.schemastore.org/sarif-2.1.0.json',
      'version': '2.1.0',
      'runs': [dict(tool=dict(driver=driver), results=results)],
    }
  )


def _result(path, finding, codes):
  place = _place(path, finding)
  physical: Dict[str, Any] = dict(
    artifactLocation=dict(uri=place['file'].replace('\\', '/'))
  )
  if 'line' in place:
    physical['region'] = dict(startLine=int(place['line']))
  return dict(
    ruleId=finding.code,
    ruleIndex=codes.index(finding.code),
    level=_LEVELS[finding.severity],
    message=dict(text=_message(finding)),
    locations=[
      dict(
        physicalLocation=physical,
        logicalLocations=[
          dict(fullyQualifiedName=name)
          for name in (finding.variables or finding.ops)
        ],
      )
    ],
  )


FORMATS = {'text': text, 'json': to_json, 'sarif': sarif, 'github': github}
