"""Training runs: what they print and leave, how they stop and resume."""

import json
import os
import pathlib
import shutil
import signal
from unittest import mock

from absl.testing import absltest
import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.checkpoints import choose as checkpoints
from graph_resnet9.cli import flagfile
from graph_resnet9.errors import UserError
from graph_resnet9.model import winograd
from graph_resnet9.training import hooks
from graph_resnet9.training import loop as training
from graph_resnet9.training import rows as report
from tests import helpers


class TrainingTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.done, cls.code, cls.lines = helpers.finished_run()

  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.create_tempdir().full_path) / 'run'

  # What a run gives.

  def test_prints_a_row_an_epoch_and_a_line_of_json(self):
    self.assertEqual(self.code, 0)
    self.assertLen(self.lines, 5)
    self.assertIn('dataset: synthetic', self.lines[0])
    self.assertEqual(self.lines[1], report.table_header())
    self.assertEqual([line.split()[0] for line in self.lines[2:4]], ['1', '2'])
    last = json.loads(self.lines[4])
    self.assertEqual((last['step'], last['dataset']), (16, 'synthetic'))

  def test_metrics_hold_the_rows_and_the_schedule(self):
    rows = [json.loads(line) for line in open(self.done / 'metrics.jsonl')]
    self.assertEqual([row['step'] for row in rows], [8, 16])
    self.assertEqual([row['dataset'] for row in rows], ['synthetic'] * 2)
    expected = np.interp([1, 2], [0, 5 / 12, 2], [0, 0.4, 0])
    np.testing.assert_allclose(
      [row['learning_rate'] for row in rows], expected, atol=1e-6
    )

  def test_row_agrees_with_eval_of_the_checkpoint(self):
    row = report.read_rows(self.done)[-1]
    summary, _, _ = helpers.evaluate(
      self.done / 'model.ckpt-16',
      dataset='synthetic',
      width=4,
      test_examples=100,
      batch_size=7,
      shuffle='none',
    )
    self.assertEqual(summary['step'], 16)
    self.assertEqual(summary['accuracy'], row.test_accuracy)
    self.assertAlmostEqual(summary['loss'], row.test_loss, places=5)

  def test_checkpoints_hold_the_network_and_no_image(self):
    names = helpers.weights(self.done / 'model.ckpt-16')
    self.assertLen(names, 41 + 25 + 1)  # Variables, velocities, global_step.
    self.assertIn('prep/bn/moving_mean', names)
    self.assertLess((self.done / 'model.ckpt-16.meta').stat().st_size, 1 << 20)

  def test_moving_statistics_follow_the_data(self):
    values = helpers.weights(self.done / 'model.ckpt-16')
    for name, value in values.items():
      if name.endswith(('moving_mean', 'moving_variance')):
        initial = 1.0 if name.endswith('variance') else 0.0
        self.assertGreater(np.abs(value - initial).min(), 0, name)

  def test_flags_txt_reproduces_the_run(self):
    saved = flagfile.read(str(self.done))
    training.train(saved.replace(train_dir=str(self.dir)))
    self.assertEqual(
      helpers.differing(
        self.dir / 'model.ckpt-16', self.done / 'model.ckpt-16'
      ),
      [],
    )

  def test_a_run_may_go_on_with_the_other_convolutions(self):
    self.assertEqual(
      flagfile.read(str(self.done)).model.conv, winograd.chosen('auto')
    )
    self.stop_at(5, signal.SIGTERM, conv='direct')
    self.assertEqual(helpers.train(self.dir, conv='winograd')[0], 0)
    self.assertEqual(flagfile.read(str(self.dir)).model.conv, 'winograd')
    self.assertLen(report.read_rows(self.dir), 2)

  def test_summaries_are_there_for_tensorboard(self):
    tags = set()
    for path in self.done.glob('events*'):
      for event in tf.train.summary_iterator(str(path)):
        tags.update(value.tag for value in event.summary.value)
    self.assertContainsSubset(
      [
        'train/loss',
        'train/learning_rate',
        'epoch/test_accuracy',
        'epoch/images_per_sec',
      ],
      tags,
    )

  # Variants.

  def test_every_input_and_precision_trains(self):
    for values in (
      dict(shuffle='shuffle_batch'),
      dict(shuffle='none'),
      dict(input='records', shuffle='shuffle_batch'),
      dict(precision='float16'),
      dict(precision='bfloat16'),
      dict(pad=0, flip=False, cutout=0, order='class_sorted'),
    ):
      with self.subTest(**values):
        shutil.rmtree(self.dir, ignore_errors=True)
        code, _ = helpers.train(self.dir, epochs=0.5, **values)
        self.assertEqual(code, 0)
        (row,) = report.read_rows(self.dir)
        self.assertEqual(row.step, 4)
        self.assertLess(abs(row.train_loss - np.log(10)), 0.5)

  def test_update_ops_none_leaves_the_statistics(self):
    helpers.train(self.dir, update_ops='none')
    broken = helpers.weights(self.dir / 'model.ckpt-16')
    fixed = helpers.weights(self.done / 'model.ckpt-16')
    for name, value in broken.items():
      if name.endswith('moving_mean'):
        np.testing.assert_array_equal(value, 0 * value)
      elif name.endswith('moving_variance'):
        np.testing.assert_array_equal(value, 0 * value + 1)
      else:  # The training itself is the same: it uses batch statistics.
        np.testing.assert_array_equal(value, fixed[name])

  # Stopping and resuming.

  def stop_at(self, step, number, **values):
    """Trains until `number` is raised while `step` runs; returns exit code."""
    after_step = hooks.Progress.after_step

    def raising(hook, run_context, **progress):
      if progress['step'] == step:
        os.kill(os.getpid(), number)
      after_step(hook, run_context, **progress)

    with mock.patch.object(hooks.Progress, 'after_step', raising):
      return helpers.train(self.dir, **values)[0]

  def test_signals_save_and_the_same_command_resumes_exactly(self):
    for number in (signal.SIGTERM, signal.SIGINT):
      with self.subTest(signal=number):
        shutil.rmtree(self.dir, ignore_errors=True)
        handler = signal.getsignal(number)
        self.assertEqual(self.stop_at(5, number), 128 + number)
        self.assertEqual(signal.getsignal(number), handler)
        self.assertTrue((self.dir / 'model.ckpt-5.index').exists())
        self.assertEqual(helpers.train(self.dir)[0], 0)
        self.assertEqual(
          helpers.differing(
            self.dir / 'model.ckpt-16', self.done / 'model.ckpt-16'
          ),
          [],
        )
        self.assertLen(report.read_rows(self.dir), 2)

  def test_row_lost_to_a_signal_in_evaluation_comes_with_the_resume(self):
    def interrupted(session, graph, interrupted):
      os.kill(os.getpid(), signal.SIGTERM)
      return test(session, graph, interrupted)

    test = training._test  # pylint: disable=protected-access
    with mock.patch.object(training, '_test', interrupted):
      self.assertEqual(helpers.train(self.dir)[0], 143)
    self.assertEqual(report.read_rows(self.dir), [])
    helpers.train(self.dir)
    rows = report.read_rows(self.dir)
    self.assertEqual([row.step for row in rows], [8, 16])
    self.assertIsNone(rows[0].train_loss)
    self.assertEqual(
      [row.test_accuracy for row in rows],
      [row.test_accuracy for row in report.read_rows(self.done)],
    )

  def test_finished_run_says_its_result_again(self):
    shutil.copytree(self.done, self.dir)
    code, lines = helpers.train(self.dir, save_secs=5)
    self.assertEqual(code, 0)
    self.assertEqual(lines[:4], self.lines[:4])
    self.assertEqual(
      lines[4], self.lines[4].replace(str(self.done), str(self.dir))
    )
    self.assertEqual(
      checkpoints.newest(str(self.dir)), str(self.dir / 'model.ckpt-16')
    )

  def test_row_ahead_of_the_checkpoint_is_replaced(self):
    self.stop_at(5, signal.SIGTERM)
    ahead = report.read_rows(self.done)
    report.write_rows(self.dir, ahead)
    helpers.train(self.dir)
    self.assertLen(report.read_rows(self.dir), 2)

  def test_diverged_run_names_step_and_last_good_checkpoint(self):
    with self.assertRaisesRegex(
      UserError, r'at step \d+; last good checkpoint: .*model.ckpt-\d+'
    ):
      helpers.train(self.dir, lr_values='0,1e30,0')
    for path in self.dir.glob('*.index'):
      for name, value in helpers.weights(str(path)[:-6]).items():
        self.assertTrue(np.isfinite(value).all(), name)

  # A train_dir that is not this run's.

  def test_other_flags_are_refused_by_name(self):
    shutil.copytree(self.done, self.dir)
    before = sorted(os.listdir(self.dir))
    for values in (dict(width=8), dict(epochs=3), dict(seed=1)):
      ((name, value),) = values.items()
      with (
        self.subTest(**values),
        self.assertRaisesRegex(
          UserError, r'holds a run with --%s=.*, not %s' % (name, value)
        ),
      ):
        helpers.train(self.dir, **values)
    self.assertEqual(sorted(os.listdir(self.dir)), before)

  def test_other_width_is_refused_without_flags_txt_too(self):
    shutil.copytree(self.done, self.dir)
    (self.dir / 'flags.txt').unlink()
    with self.assertRaisesRegex(UserError, 'another --width'):
      helpers.train(self.dir, width=8)

  def test_train_dir_that_is_a_file_is_refused(self):
    self.dir.write_text('')
    with self.assertRaisesRegex(UserError, '--train_dir=.*/run: cannot be'):
      helpers.train(self.dir)

  def test_batch_larger_than_the_data_is_refused(self):
    with self.assertRaisesRegex(UserError, '--batch_size=512'):
      helpers.train(self.dir, batch_size=512)


if __name__ == '__main__':
  absltest.main()
