"""What a case reports: claims, verdicts, tables, JSON, picture, exit codes."""

import contextlib
import io
import json
import operator
import os
import re
import types
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from matplotlib import figure
import numpy as np

from graph_resnet9 import demo
from graph_resnet9.demos import cases
from graph_resnet9.demos import excerpts
from graph_resnet9.demos import gallery
from graph_resnet9.demos import picture
from graph_resnet9.demos import report
from graph_resnet9.demos import runner
from graph_resnet9.demos import tables
from graph_resnet9.demos.cases import shuffle_batch
from graph_resnet9.errors import UserError
from tests import helpers
from tests.inputs import small_records

FOLDER = helpers.ROOT / 'docs' / 'cases'


def arm(name, broken, train, moving, batch):
  """An Arm whose three Scores are tuples of loss and accuracy."""
  point = report.Point(10, *(report.Scores(*s) for s in (train, moving, batch)))
  layer = small_records.record(
    [np.random.RandomState(0).normal(1, 2, [50, 2])],
    mean=[0, 0],
    variance=[1, 1],
  )
  return report.Arm(
    name,
    broken,
    [point._replace(step=5), point],
    [layer],
    {'entropy': 0.5},
    lint=['cause'] if broken else [],
  )


def outcome(holds, moving=0.1):
  return report.Outcome(
    [
      arm('bad', True, (0.1, 0.9), (2.3, moving), (0.1, 0.9)),
      arm('good', False, (0.1, 0.9), (0.2, 0.85), (0.1, 0.9)),
    ],
    [report.Claim('gap', np.float32(0.25), '<=', 0.5 if holds else 0.125)],
    [report.Beside('evaluation', '0.1', moving, report.PERCENT)],
    {'entropy': 'label entropy'},
    notes=['a note'],
  )


def result(*outcomes):
  """What is written of outcomes with seeds 0, 1, ..."""
  return report.together(
    'n',
    's',
    outcomes[0].columns,
    [report.as_dict(done, seed) for seed, done in enumerate(outcomes)],
    dataset='synthetic',
    fast=False,
  )


class ReportTest(parameterized.TestCase):
  @parameterized.parameters(
    (0.5, '<=', 0.5, True),
    (0.51, '<=', 0.5, False),
    (0.5, '>=', 0.5, True),
    (0.49, '>=', 0.5, False),
    (float('nan'), '<=', 0.5, False),
    (float('nan'), '>=', 0.5, False),
  )
  def test_claim_holds_up_to_its_margin(self, figure, relation, margin, holds):
    claim = report.Claim('x', figure, relation, margin)
    self.assertIs(claim.holds, holds)
    (line,) = tables.claims(result(outcome(True)._replace(claims=[claim])))
    self.assertStartsWith(line, 'holds' if holds else 'FAILS')

  @parameterized.parameters(
    ((0.1, 0.9), (2.3, 0.1), (0.1, 0.9), 'stored statistics are wrong'),
    ((0.1, 0.9), (0.2, 0.8), (0.1, 0.9), 'evaluation follows training'),
    ((0.1, 0.9), (2.3, 0.1), (2.3, 0.1), 'evaluation fails either way'),
    ((0.2,), (0.8,), (0.2,), 'stored statistics are wrong'),
    ((0.2,), (0.3,), (0.2,), 'evaluation follows training'),
    ((0.2,), (float('nan'),), (0.2,), 'stored statistics are wrong'),
  )
  def test_verdict(self, train, moving, batch, expected):
    self.assertEqual(
      report.verdict(*(report.Scores(*s) for s in (train, moving, batch))),
      expected,
    )

  def test_json_has_what_scripts_look_for(self):
    got = json.loads(report.to_json(result(outcome(True))))
    self.assertEqual(
      (got['case'], got['source'], got['claim_holds'], got['seed']),
      ('n', 's', True, 0),
    )
    bad = got['arms'][0]
    self.assertEqual(
      [
        bad[key]
        for key in (
          'name',
          'broken',
          'train_loss',
          'train_accuracy',
          'eval_moving_loss',
          'eval_moving_accuracy',
          'eval_batch_loss',
          'eval_batch_accuracy',
        )
      ],
      ['bad', True, 0.1, 0.9, 2.3, 0.1, 0.1, 0.9],
    )

  def test_no_accuracy_is_null_and_what_is_not_finite_too(self):
    done = report.Outcome(
      [arm('a', True, (0.1,), (float('inf'),), (float('nan'),))], []
    )
    bad = json.loads(report.to_json(result(done)))['arms'][0]
    self.assertIsNone(bad['train_accuracy'])
    self.assertIsNone(bad['eval_moving_loss'])
    self.assertIsNone(bad['eval_batch_loss'])

  def test_a_claim_holds_only_if_it_does_on_every_seed(self):
    got = result(outcome(True), outcome(False))
    self.assertFalse(got['claim_holds'])
    self.assertEqual([run['seed'] for run in report.runs_of(got)], [0, 1])
    (line,) = tables.claims(got)
    self.assertEqual(line, 'FAILS  gap: 0.25 is not <= 0.5 (seed 1)')

  def test_another_evaluation_is_an_arm_of_its_own(self):
    scores = report.Scores(7.0, 0.7), report.Scores(8.0, 0.8)
    first = arm('a', True, (0.1, 0.9), (2.3, 0.1), (0.1, 0.9))._replace(
      others={'mixed': scores}
    )
    got = first.evaluated('b', 'mixed')
    self.assertEqual((got.name, got.moving, got.batch), ('b', *scores))
    self.assertEqual(got.train, first.train)


class TablesTest(parameterized.TestCase):
  def test_several_seeds_are_ranges(self):
    row, _ = tables.rows(result(outcome(True), outcome(True, moving=0.123)))
    self.assertEqual(
      row.accuracies,
      {'training': '90.0%', 'moving': '10.0 to 12.3%', 'batch': '90.0%'},
    )
    self.assertEqual(row.losses['moving'], '2.300')
    self.assertEqual(row.figures, {'label entropy': '0.500'})

  def test_a_code_that_only_some_seeds_have_says_so(self):
    clean = outcome(True)
    clean = clean._replace(arms=[a._replace(lint=[]) for a in clean.arms])
    row, other = tables.rows(result(outcome(True), clean))
    self.assertEqual(row.doctor, 'cause (1 of 2 seeds)')
    self.assertEqual(other.doctor, 'nothing')

  @parameterized.parameters(
    ((0.1,), '%', '10.0%'),
    ((0.1, 0.25), '%', '10.0 to 25.0%'),
    ((0.25, None), '', '0.250'),
    ((None,), '', '-'),
    ((3.0, 31.0), '', '3 to 31'),
    ((4e-5,), '', '4e-05'),
  )
  def test_span(self, values, unit, expected):
    self.assertEqual(tables.span(values, unit), expected)

  def test_terminal_lines_up_within_100_columns(self):
    done = outcome(True)
    long = done.arms[0]._replace(
      name='a name of an arm ' * 4, lint=['code'] * 9
    )
    lines = tables.terminal(
      result(*[done._replace(arms=[long, done.arms[1]])] * 2)
    )
    self.assertLessEqual(max(map(len, lines)), tables.WIDTH)
    ends = {
      line.index(word) + len(word)
      for line, word in ((lines[0], 'training'), (lines[1], '90.0%'))
    }
    self.assertLen(ends, 1)

  def test_the_source_stands_beside_what_is_seen_here(self):
    self.assertEqual(
      tables.beside(result(outcome(True), outcome(True, moving=0.2))),
      [['', 'source', 'here'], ['evaluation', '0.1', '10.0 to 20.0%']],
    )


class ExcerptsTest(absltest.TestCase):
  def test_marked_lines_without_their_indentation(self):
    path = self.create_tempfile(
      'case.py',
      'def f():\n  # [broken: a]\n  if x:\n    y()\n  # [end]\n'
      '  z()\n  # [fixed: b, c]\n  w()\n  # [end]\n',
    ).full_path
    module = types.ModuleType('case')
    module.__file__ = path
    self.assertEqual(
      excerpts.of(module), [(True, 'a', 'if x:\n  y()'), (False, 'b, c', 'w()')]
    )

  def test_every_case_shows_broken_and_fixed_lines(self):
    for name in cases.NAMES:
      with self.subTest(name):
        states = {one.broken for one in excerpts.of(cases.load(name))}
        self.assertEqual(states, {True, False})


class RunnerTest(absltest.TestCase):
  def run_case(self, holds, **flags):
    module = types.ModuleType('fake', 'fake: a case\n\nText.')
    module.SOURCE = 's'
    module.CAUSES = ('cause',)
    module.run = lambda trainer: outcome(holds and trainer.seed != 3)
    stdout = io.StringIO()
    with mock.patch.object(cases, 'load', lambda name: module):
      with contextlib.redirect_stdout(stdout):
        held = runner.run(
          ['fake'],
          **{**dict(out_dir='', seeds=[0], data_dir='', fast=True), **flags},
        )
    return held, stdout.getvalue()

  def test_claims_that_the_doctor_names_the_cause_and_nothing_else(self):
    def hold(*codes):
      arms = [
        a._replace(lint=c[:1], diagnosis=c[1:])
        for a, c in zip(outcome(True).arms, codes)
      ]
      return [c.holds for c in report.doctor_claims(arms, ('cause', 'other'))]

    self.assertEqual(hold(['cause'], []), [True, True])
    self.assertEqual(hold(['more', 'other'], []), [True, True])
    self.assertEqual(hold(['more'], []), [False, True])
    self.assertEqual(hold([], []), [False, True])
    self.assertEqual(hold(['cause'], ['more']), [True, False])

  def test_a_failed_claim_is_told(self):
    held, text = self.run_case(True)
    self.assertTrue(held)
    self.assertIn('fake: all claims hold', text)
    held, text = self.run_case(False)
    self.assertFalse(held)
    self.assertIn('FAILS  gap: 0.25 is not <= 0.125\n', text)
    self.assertIn('claims failed in fake', text)

  def test_out_dir_gets_json_and_picture(self):
    folder = os.path.join(self.create_tempdir().full_path, 'new')
    held, _ = self.run_case(False, out_dir=folder)
    self.assertFalse(held)
    self.assertCountEqual(os.listdir(folder), ['fake.json', 'fake.png'])
    with open(os.path.join(folder, 'fake.png'), 'rb') as f:
      self.assertEqual(f.read(4), b'\x89PNG')
    with open(os.path.join(folder, 'fake.json')) as f:
      self.assertFalse(json.load(f)['claim_holds'])

  def test_every_seed_is_run_and_one_that_fails_is_named(self):
    held, text = self.run_case(True, seeds=[2, 3, 4])
    self.assertFalse(held)
    self.assertIn('(seed 3)', text)
    held, text = self.run_case(True, seeds=[0, 1])
    self.assertTrue(held)

  def test_seeds_are_a_range(self):
    self.assertEqual(demo.seeds_of('7'), [7])
    self.assertEqual(demo.seeds_of('0-2'), [0, 1, 2])
    for text in ('4-0', 'a', '1-', '-3', '0-100', '2147483648'):
      with self.subTest(text), self.assertRaisesRegex(UserError, '--seeds='):
        demo.seeds_of(text)

  def test_arms_of_a_picture_differ_in_words_and_marks(self):
    axes = figure.Figure().add_subplot()
    arms = outcome(True).arms
    picture.series(axes, arms, [[1, 2], [3, 4]])
    bad, good = axes.lines
    self.assertEqual(
      [line.get_label() for line in axes.lines],
      ['✗ broken: bad', '✓ fixed: good'],
    )
    self.assertNotEqual(bad.get_marker(), good.get_marker())
    self.assertEqual(good.get_markerfacecolor(), 'white')

  def test_panel_of_the_sweep_has_a_tick_an_arm(self):
    arms = [
      arm(name, True, (0.1, 0.9), (2.3, 0.1), (2.3, 0.1))._replace(
        figures={'label_entropy': 0.5}
      )
      for name in ('tf.train.batch', 'shuffle_batch, min_after_dequeue=7')
    ]
    axes = figure.Figure().add_subplot()
    shuffle_batch.draw(arms, axes)
    self.assertEqual(
      [label.get_text() for label in axes.get_xticklabels()],
      ['tf.train.batch', '7'],
    )

  def test_out_dir_that_is_a_file_is_refused_before_any_training(self):
    path = self.create_tempfile().full_path
    with self.assertRaisesRegex(UserError, '--out_dir=' + path):
      self.run_case(True, out_dir=path)


class CommandTest(absltest.TestCase):
  def test_list_names_every_case(self):
    done = helpers.command('demo', '--list')
    self.assertEqual((done.returncode, done.stderr), (0, ''))
    self.assertEqual(
      [line.partition(': ')[0] for line in done.stdout.splitlines()],
      list(cases.NAMES),
    )

  def test_wrong_flags_are_one_line(self):
    for args, expected in (
      (['--case=foo'], '--case=foo: no such case; give one of update_ops'),
      ([], '--case=NAME is missing'),
      (['--case=update_ops', '--data_dir=/nowhere'], '--data_dir=/nowhere'),
    ):
      done = helpers.command('demo', *args)
      with self.subTest(args):
        self.assertEqual((done.returncode, done.stdout), (1, ''))
        self.assertLen(done.stderr.splitlines(), 1)
        self.assertIn(expected, done.stderr)


class GalleryTest(absltest.TestCase):
  def test_every_case_says_what_people_look_for(self):
    for name in cases.NAMES:
      module = cases.load(name)
      with self.subTest(name):
        self.assertStartsWith(module.__doc__, name + ': ')
        for word in ('Symptom:', 'Cause:', 'Cure'):
          self.assertIn('\n\n' + word, module.__doc__)
        self.assertTrue(module.SOURCE)
        self.assertTrue(module.SEEN)

  def test_places_are_filled_with_ranges(self):
    both = result(outcome(True), outcome(True, moving=0.2))
    self.assertEqual(
      gallery.filled(
        '{bad|moving}, {bad + good|moving}, {good|moving\nloss}, {bad|entropy}',
        both,
      ),
      '10.0 to 20.0%, 10.0 to 85.0%, 0.200, 0.500',
    )
    for place in ('{other|moving}', '{bad|other}'):
      with self.assertRaises(KeyError):
        gallery.filled(place, both)

  def test_the_page_is_what_the_cases_make_of_it(self):
    self.assertEqual(
      FOLDER.with_suffix('.md').read_text(), gallery.page(FOLDER)
    )

  def test_ranges_in_the_prose_of_the_page_stand_in_its_tables(self):
    text = FOLDER.with_suffix('.md').read_text()
    _, *sections = re.split('^## ', text, flags=re.M)
    self.assertLen(sections, len(cases.NAMES))
    ranges = []
    for section in sections:
      if '\n![' not in section:
        continue  # Not recorded.
      (seen,) = re.findall(
        r'^Seen on seeds? [^:]*: (.*?)\n\n', section, re.M | re.S
      )
      table = ' '.join(
        line for line in section.splitlines() if line.startswith('| ')
      )
      known = set(re.findall(r'[\d.]+', table))
      found = re.findall(
        r'([\d.]+) to ([\d.]*\d)|([\d.]+)%', ' '.join(seen.split())
      )
      ranges += found
      with self.subTest(section.splitlines()[0]):
        for ends in found:
          self.assertContainsSubset(set(ends) - {''}, known)
    self.assertGreater(len(ranges), 10)

  def test_every_claim_of_the_page_holds(self):
    paths = sorted(FOLDER.rglob('*.json'))
    self.assertNotEmpty(paths)
    for path in paths:
      got = json.loads(path.read_text())
      with self.subTest(str(path)):
        self.assertEqual(got['case'], path.stem)
        self.assertIn(path.stem, cases.NAMES)
        self.assertTrue(got['claim_holds'])
        for run in report.runs_of(got):
          self.assertNotEmpty(run['claims'])
          for claim in run['claims']:
            compare = {'<=': operator.le, '>=': operator.ge}[claim['relation']]
            self.assertTrue(claim['holds'])
            self.assertTrue(compare(claim['figure'], claim['margin']), claim)
        self.assertIn(True, [one['broken'] for one in got['arms']])
        self.assertIn(False, [one['broken'] for one in got['arms']])


if __name__ == '__main__':
  absltest.main()
