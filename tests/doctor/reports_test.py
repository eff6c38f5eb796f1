"""doctor/lint/reports.py: a report as text, JSON, SARIF and annotations."""

import json

from absl.testing import absltest
from absl.testing import parameterized

from graph_resnet9.doctor.lint import reports
from graph_resnet9.doctor.lint.findings import Finding
from graph_resnet9.doctor.lint.kinds import KINDS
from graph_resnet9.doctor.lint.reports import Report

SEEN = dict(
  layers=10,
  by_batch=1,
  by_choice=2,
  by_stored=3,
  unused=4,
  updates=4,
  updates_run=2,
)
# An error of which the source is known, and a warning of which it is not.
MADE = Finding(
  'updates-not-run',
  ('assign', 'assign_1'),
  ('mean', 'variance'),
  '50%',
  'run them',
  ('src\\a,b.py:7', 'c.py:9'),
)
FEW = Finding('few-values', ('bn/root',), ())
EMPTY = Report([], SEEN, (), ())
BOTH = Report(
  [MADE, FEW], SEEN, ('train',), ('group',), ('it reads files', 'it runs code')
)


class ReportTest(parameterized.TestCase):
  def test_counts(self):
    self.assertEqual((BOTH.layers, BOTH.errors), (10, 1))
    self.assertEqual(EMPTY.errors, 0)
    self.assertEqual(
      BOTH.summary(),
      dict(
        layers=10,
        by_batch=1,
        by_choice=2,
        by_stored=3,
        unused=4,
        updates=4,
        updates_run=2,
        train_ops=('train',),
        assumed_to_run=('group',),
        notes=('it reads files', 'it runs code'),
        errors=1,
        warnings=1,
      ),
    )

  def test_codes_can_be_left_out(self):
    self.assertEqual(BOTH.without(['few-values']).findings, [MADE])
    self.assertEqual(BOTH.without(['few-values']).notes, BOTH.notes)
    self.assertEqual(BOTH.without([]), BOTH)

  @parameterized.parameters(
    (
      {},
      (),
      '10 layers: 1 by the batch, 2 by a placeholder or variable, 3 never by '
      'the batch, 4 in no step; no train op: taken for evaluation or export',
    ),
    (
      dict(layers=1, by_choice=0, by_stored=0, unused=0),
      ('a', 'b'),
      '1 layer: 1 by the batch; 2 of 4 updates run; train op: a, b',
    ),
    (
      dict(layers=2, by_batch=0, by_choice=0, by_stored=2, unused=0),
      tuple('abcdef'),
      '2 layers: 2 never by the batch; 2 of 4 updates run; train op: a, b, c, '
      'd and 2 more',
    ),
  )
  def test_headline(self, seen, train_ops, expected):
    report = Report([], dict(SEEN, **seen), train_ops, ())
    self.assertEqual(report.headline(), expected)

  def test_text(self):
    self.assertEqual(
      str(BOTH),
      '\n'.join(
        [
          BOTH.headline(),
          str(MADE),
          str(FEW),
          'taken to be run beside the train op: group (--train_op=NAME,NAME '
          'says what a step runs)',
          'note: it reads files',
          'note: it runs code',
          'errors: 1, warnings: 1',
        ]
      ),
    )
    self.assertEqual(str(EMPTY), EMPTY.headline() + '\nerrors: 0, warnings: 0')


class FormatsTest(absltest.TestCase):
  def test_text_of_one_file_and_of_several(self):
    self.assertEqual(reports.text([('a', BOTH)]), str(BOTH))
    headline = EMPTY.headline()
    self.assertEqual(
      reports.text([('a', EMPTY), ('b', EMPTY)]),
      'a:\n  %s\n  errors: 0, warnings: 0\n'
      'b:\n  %s\n  errors: 0, warnings: 0' % (headline, headline),
    )

  def test_json(self):
    first, second = map(
      json.loads, reports.to_json([('a', BOTH), ('b', EMPTY)]).splitlines()
    )
    made, few = first['findings']
    kind = KINDS['updates-not-run']
    self.assertEqual(
      made,
      dict(
        severity='error',
        title=kind.title,
        effect=kind.effect,
        code='updates-not-run',
        ops=['assign', 'assign_1'],
        variables=['mean', 'variance'],
        detail='50%',
        mend='run them',
        places=['src\\a,b.py:7', 'c.py:9'],
      ),
    )
    self.assertEqual(few['mend'], 'use a larger batch')
    self.assertEqual((first['file'], first['warnings']), ('a', 1))
    self.assertEqual(first['assumed_to_run'], ['group'])
    self.assertEqual((second['file'], second['findings']), ('b', []))

  def test_annotations(self):
    """GitHub reads %, line ends, and in properties : and , as escapes."""
    self.assertEqual(
      reports.github([('dir/x:y.meta', BOTH), ('b', EMPTY)]).splitlines(),
      [
        '::error file=src\\a%2Cb.py,line=7,title=updates-not-run::the train '
        'op runs none of the updates of moving statistics (50%25): mean, '
        'variance. mend: run them',
        '::warning file=dir/x%3Ay.meta,title=few-values::batch statistics of '
        'very few values: bn/root. mend: use a larger batch',
      ],
    )

  def test_an_annotation_of_nothing_in_particular(self):
    report = EMPTY._replace(findings=[Finding('few-values', (), ())])
    self.assertEqual(
      reports.github([('b', report)]),
      '::warning file=b,title=few-values::batch statistics of very few '
      'values. mend: use a larger batch',
    )

  def test_sarif(self):
    log = json.loads(
      reports.sarif([('x.meta', BOTH), ('y.meta', BOTH.without([MADE.code]))])
    )
    self.assertEqual(log['version'], '2.1.0')
    self.assertEqual(
      log['$schema'], 'https://json.schemastore.org/sarif-2.1.0.json'
    )
    (run,) = log['runs']
    self.assertEqual(run['tool']['driver']['name'], 'graph_resnet9.lint')
    self.assertEqual(
      run['tool']['driver']['rules'],
      [
        dict(
          id=code,
          shortDescription=dict(text=KINDS[code].title),
          fullDescription=dict(text=KINDS[code].effect),
          help=dict(text=KINDS[code].mend),
          defaultConfiguration=dict(level=level),
        )
        for code, level in (
          ('few-values', 'warning'),
          ('updates-not-run', 'error'),
        )
      ],
    )
    made, few, other = run['results']
    self.assertEqual(
      made,
      dict(
        ruleId='updates-not-run',
        ruleIndex=1,
        level='error',
        message=dict(
          text='the train op runs none of the updates of moving statistics '
          '(50%): mean, variance. mend: run them'
        ),
        locations=[
          dict(
            physicalLocation=dict(
              artifactLocation=dict(uri='src/a,b.py'), region=dict(startLine=7)
            ),
            logicalLocations=[
              dict(fullyQualifiedName='mean'),
              dict(fullyQualifiedName='variance'),
            ],
          )
        ],
      ),
    )
    self.assertEqual((few['ruleIndex'], few['level']), (0, 'warning'))
    self.assertEqual(
      few['locations'],
      [
        dict(
          physicalLocation=dict(artifactLocation=dict(uri='x.meta')),
          logicalLocations=[dict(fullyQualifiedName='bn/root')],
        )
      ],
    )
    self.assertEqual(
      other['locations'][0]['physicalLocation']['artifactLocation']['uri'],
      'y.meta',
    )

  def test_every_format_has_its_name(self):
    self.assertEqual(
      reports.FORMATS,
      {
        'text': reports.text,
        'json': reports.to_json,
        'sarif': reports.sarif,
        'github': reports.github,
      },
    )


if __name__ == '__main__':
  absltest.main()
