"""How right lint is about graphs that other people published.

  python -m tests.tools.foreign_score [--foreign=../shared/foreign]

The graphs are other people's and not part of the project: without the folder
there is nothing to score. It holds graphs.tar.xz with the files and index.tsv,
in which a reader of each graph has written what is wrong with it. Prints a line
for each graph of which lint says something else, then how many were right.
"""

import csv
import os
import sys
import tarfile
import tempfile
from typing import NamedTuple

from absl import app
from absl import flags

from graph_resnet9 import lint
from graph_resnet9.doctor.lint import kinds
from graph_resnet9.errors import UserError
from tests import helpers

FOREIGN = helpers.ROOT.parent / 'shared' / 'foreign'


class Answer(NamedTuple):
  """Of one graph: exit codes and codes of findings, as is right and as found.

  line: the first of what lint printed.
  """

  file: str
  expected_exit: int
  expected: frozenset
  exit: int
  found: frozenset
  line: str

  @property
  def right(self):
    return (self.exit, self.found) == (self.expected_exit, self.expected)


def expected_codes(row):
  """The codes of a row of index.tsv."""
  if 'never normalises' in row['expected_codes']:
    return frozenset(['never-by-batch'])
  if 'noise' in row['note']:  # Right by the letter, and no use to anybody.
    return frozenset()
  return frozenset(row['expected_codes'].split())


def answers(folder):
  """Yields an Answer for each row of index.tsv of an unpacked folder."""
  with open(os.path.join(folder, 'index.tsv')) as f:
    for row in csv.DictReader(f, delimiter='\t'):
      try:
        report = lint.check(os.path.join(folder, row['file']))
        code, line = int(bool(report.errors)), report.headline()
        found = frozenset(f.code for f in report.findings)
      except UserError as e:
        code, line, found = 2, str(e), frozenset()
      yield Answer(
        row['file'],
        int(row['expected_exit']),
        expected_codes(row),
        code,
        found,
        line,
      )


def errors(codes):
  """Of codes those of severity error."""
  return {code for code in codes if kinds.KINDS[code].severity == kinds.ERROR}


def score(scored):
  """Lines that say how many Answers are right."""
  with_norm = [a for a in scored if a.expected_exit != 2]
  faulty = [a for a in with_norm if errors(a.expected)]
  alarmed = [a for a in scored if errors(a.found)]
  named = [a for a in faulty if errors(a.expected) <= a.found]
  true = [a for a in alarmed if errors(a.found) <= a.expected]
  return [
    '%d graphs, %d with batch normalisation: lint is right about %d'
    % (len(scored), len(with_norm), sum(a.right for a in scored)),
    'of %d with an error it names that of %d: recall %.2f'
    % (len(faulty), len(named), len(named) / len(faulty)),
    'of %d in which it finds errors it is right about %d: precision %.2f'
    % (len(alarmed), len(true), len(true) / max(len(alarmed), 1)),
  ]


def main(argv):
  del argv
  path = os.path.join(flags.FLAGS.foreign, 'graphs.tar.xz')
  if not os.path.exists(path):
    print('%s: not there; nothing to score' % path, file=sys.stderr)
    return 2
  with tempfile.TemporaryDirectory() as folder:
    with tarfile.open(path) as archive:
      archive.extractall(folder)
    scored = list(answers(folder))
  for answer in scored:
    if not answer.right:
      print(
        '%s: exit %d %s, and right is %d %s; %s'
        % (
          answer.file,
          answer.exit,
          ' '.join(sorted(answer.found)) or '-',
          answer.expected_exit,
          ' '.join(sorted(answer.expected)) or '-',
          answer.line,
        )
      )
  print('\n'.join(score(scored)))
  return 0


if __name__ == '__main__':
  flags.DEFINE_string('foreign', str(FOREIGN), 'The folder.')
  app.run(main)
