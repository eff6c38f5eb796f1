"""What a case reports: claims, verdicts, table, JSON, picture, exit codes."""

import contextlib
import io
import json
import operator
import os
import types
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from matplotlib import figure
import numpy as np

from graph_resnet9.demos import cases as demos
from graph_resnet9.demos import gallery
from graph_resnet9.demos import report
from graph_resnet9.demos import runner
from graph_resnet9.demos.cases import shuffle_batch
from graph_resnet9.errors import UserError
from tests import helpers
from tests.inputs import small_records

CASES = helpers.ROOT / 'docs' / 'cases'


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
    {},
    ['cause'] if broken else [],
  )


def outcome(holds):
  return report.Outcome(
    [
      arm('bad', True, (0.1, 0.9), (2.3, 0.1), (0.1, 0.9)),
      arm('good', False, (0.1, 0.9), (0.2, 0.85), (0.1, 0.9)),
    ],
    [report.Claim('gap', np.float32(0.25), '<=', 0.5 if holds else 0.125)],
    notes=['a note'],
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
    self.assertStartsWith(str(claim), 'holds' if holds else 'FAILS')

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
    result = json.loads(
      report.to_json(report.as_dict('n', 's', outcome(True), seed=3))
    )
    self.assertEqual(
      (result['case'], result['source'], result['claim_holds'], result['seed']),
      ('n', 's', True, 3),
    )
    bad = result['arms'][0]
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
    bad = json.loads(report.to_json(report.as_dict('n', 's', done)))['arms'][0]
    self.assertIsNone(bad['train_accuracy'])
    self.assertIsNone(bad['eval_moving_loss'])
    self.assertIsNone(bad['eval_batch_loss'])

  def test_table_lines_up(self):
    lines = report.table(report.as_dict('n', 's', outcome(True))).splitlines()
    self.assertLen(lines, 3)
    self.assertLen(
      {
        line.index(word)
        for line, word in zip(lines, ('verdict', 'stored', 'evaluation'))
      },
      1,
    )

  def test_another_evaluation_is_an_arm_of_its_own(self):
    scores = report.Scores(7.0, 0.7), report.Scores(8.0, 0.8)
    first = arm('a', True, (0.1, 0.9), (2.3, 0.1), (0.1, 0.9))._replace(
      others={'mixed': scores}
    )
    got = first.evaluated('b', 'mixed')
    self.assertEqual((got.name, got.moving, got.batch), ('b', *scores))
    self.assertEqual(got.train, first.train)


class RunnerTest(absltest.TestCase):
  def run_case(self, holds, **flags):
    module = types.ModuleType('fake', 'fake: a case\n\nText.')
    module.SOURCE = 's'
    module.CAUSES = ('cause',)
    module.run = lambda trainer: outcome(holds)
    stdout = io.StringIO()
    with mock.patch.object(demos, 'load', lambda name: module):
      with contextlib.redirect_stdout(stdout):
        held = runner.run(
          ['fake'],
          **{**dict(out_dir='', seed=0, data_dir='', fast=True), **flags},
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
    self.assertIn('FAILS  gap: 0.25 is not <= 0.125', text)
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
      list(demos.NAMES),
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
    for name in demos.NAMES:
      text = demos.load(name).__doc__
      with self.subTest(name):
        self.assertStartsWith(text, name + ': ')
        for word in ('Symptom:', 'Cause:', 'Cure:', 'Seen'):
          self.assertIn('\n\n' + word, text)
        self.assertTrue(demos.load(name).SOURCE)

  def test_the_page_is_what_the_cases_make_of_it(self):
    self.assertEqual(CASES.with_suffix('.md').read_text(), gallery.page(CASES))

  def test_every_claim_of_the_page_holds(self):
    for name in demos.NAMES:
      result = json.loads((CASES / (name + '.json')).read_text())
      with self.subTest(name):
        self.assertEqual(result['case'], name)
        self.assertTrue(result['claim_holds'])
        self.assertNotEmpty(result['claims'])
        for claim in result['claims']:
          compare = {'<=': operator.le, '>=': operator.ge}[claim['relation']]
          self.assertTrue(claim['holds'])
          self.assertTrue(compare(claim['figure'], claim['margin']), claim)
        self.assertIn(True, [one['broken'] for one in result['arms']])
        self.assertIn(False, [one['broken'] for one in result['arms']])


if __name__ == '__main__':
  absltest.main()
