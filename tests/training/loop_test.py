"""Training runs: what they print and leave, how they stop and resume."""

import json
import os
import pathlib
import shutil
import signal
import sys
import types
from unittest import mock

from absl.testing import absltest
import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.checkpoints import choose
from graph_resnet9.cli import flagfile
from graph_resnet9.errors import UserError
from graph_resnet9.evaluation import evaluate
from graph_resnet9.model import winograd
from graph_resnet9.training import epoch_report
from graph_resnet9.training import hooks
from graph_resnet9.training import loop
from graph_resnet9.training import rows
from tests import helpers


class SignalAt(tf.train.SessionRunHook):
  """Sends this process a signal before the session runs a step."""

  def __init__(self, step, number):
    self._step, self._number = step, number

  def after_create_session(self, session, coord):
    self._next = session.run(tf.train.get_global_step()) + 1

  def before_run(self, run_context):
    if self._next == self._step:
      os.kill(os.getpid(), self._number)
    self._next += 1


class StopAt(tf.train.SessionRunHook):
  """Ends the session in the middle of a run, as no hook of ours does."""

  def __init__(self, steps):
    self._left = steps

  def after_run(self, run_context, run_values):
    self._left -= 1
    if not self._left:
      run_context.request_stop()


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
    self.assertEqual(self.lines[1], rows.table_header())
    self.assertEqual([line.split()[0] for line in self.lines[2:4]], ['1', '2'])
    last = json.loads(self.lines[4])
    self.assertEqual((last['step'], last['dataset']), (16, 'synthetic'))

  def test_what_is_trained_is_said_before_anything_slow(self):
    said = self.dir.parent / 'stdout'

    class Look(tf.train.SessionRunHook):
      seen = None

      def begin(self):  # No session yet.
        self.seen = said.read_text()

    look = Look()
    with open(said, 'w') as f, mock.patch.object(sys, 'stdout', f):
      loop.train(
        helpers.settings(
          train_dir=str(self.dir), **{**helpers.TINY, 'epochs': 0.125}
        ),
        [look],
      )
    self.assertEqual(look.seen.splitlines(), self.lines[:1])

  def test_metrics_hold_the_rows_and_the_schedule(self):
    found = [json.loads(line) for line in open(self.done / 'metrics.jsonl')]
    self.assertEqual([row['step'] for row in found], [8, 16])
    self.assertEqual([row['dataset'] for row in found], ['synthetic'] * 2)
    expected = np.interp([1, 2], [0, 5 / 12, 2], [0, 0.4, 0])
    np.testing.assert_allclose(
      [row['learning_rate'] for row in found], expected, atol=1e-6
    )

  def test_row_agrees_with_eval_of_the_checkpoint(self):
    row = rows.read_rows(self.done)[-1]
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
    loop.train(saved.replace(train_dir=str(self.dir)))
    self.assertEqual(
      helpers.differing(
        self.dir / 'model.ckpt-16', self.done / 'model.ckpt-16'
      ),
      [],
    )

  def test_a_run_may_go_on_with_the_other_convolutions(self):
    self.stop_at(5, signal.SIGTERM, conv='auto')
    self.assertEqual(
      flagfile.read(str(self.dir)).model.conv, winograd.chosen('auto')
    )
    self.assertEqual(helpers.train(self.dir, conv='direct')[0], 0)
    self.assertEqual(flagfile.read(str(self.dir)).model.conv, 'direct')
    self.assertLen(rows.read_rows(self.dir), 2)

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

  def test_graph_has_a_handful_of_parts(self):
    """What TensorBoard shows first: scopes by what they do, and variables."""
    meta = tf.MetaGraphDef.FromString(
      (self.done / 'model.ckpt-16.meta').read_bytes()
    )
    parts = {node.name.partition('/')[0] for node in meta.graph_def.node}
    work = {'input', 'model', 'loss', 'optimizer', 'evaluation', 'summaries'}
    variables = {'prep', 'layer1', 'layer2', 'layer3', 'linear', 'global_step'}
    self.assertContainsSubset(work | variables, parts)
    self.assertLessEqual(len(parts), 28, sorted(parts))

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
        (row,) = rows.read_rows(self.dir)
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
    return helpers.train(self.dir, [SignalAt(step, number)], **values)[0]

  def test_signals_save_and_the_same_command_resumes_exactly(self):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
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
        self.assertLen(rows.read_rows(self.dir), 2)

  def test_signal_that_was_ignored_stays_ignored(self):
    """As nohup ignores SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    self.addCleanup(signal.signal, signal.SIGHUP, before)
    self.assertEqual(self.stop_at(5, signal.SIGHUP), 0)

  def after_step_5(self, function):
    """Trains, saves each step, and calls the function after step 5 of 16."""
    after_step = hooks.Progress.after_step

    def calling(hook, run_context, **progress):
      after_step(hook, run_context, **progress)
      if progress['step'] == 5:
        function()

    with mock.patch.object(hooks.Progress, 'after_step', calling):
      return helpers.train(self.dir, save_secs=0)

  def test_directory_that_is_moved_away_ends_the_run_and_stays_as_it_is(self):
    moved = self.dir.parent / 'moved'

    def move():
      self.dir.rename(moved)
      shutil.copytree(self.done, self.dir)  # Another run, in its place.

    with mock.patch.object(hooks.Checkpoints, 'after_step'):  # Not at step 5.
      with self.assertRaisesRegex(
        UserError, '--train_dir=%s: was moved' % self.dir
      ):
        self.after_step_5(move)
    self.assertEqual(
      {path.name for path in self.dir.iterdir()},
      {path.name for path in self.done.iterdir()},
    )
    self.assertTrue((moved / 'model.ckpt-0.index').exists())

  def test_directory_that_is_removed_is_not_made_anew(self):
    with mock.patch.object(hooks.Checkpoints, 'after_step'):
      with self.assertRaisesRegex(UserError, 'was moved or removed'):
        self.after_step_5(lambda: shutil.rmtree(self.dir))
    self.assertFalse(self.dir.exists())

  def test_stdout_that_is_lost_ends_the_run_saved(self):
    def lost(line, **_):
      if line != rows.table_header():
        raise BrokenPipeError(32, 'Broken pipe')

    with mock.patch.object(epoch_report, 'print', lost, create=True):
      with self.assertRaises(BrokenPipeError):
        helpers.train(self.dir)
    self.assertEqual(
      choose.newest(str(self.dir)), str(self.dir / 'model.ckpt-8')
    )
    self.assertLen(rows.read_rows(self.dir), 1)
    self.assertEqual(helpers.train(self.dir)[0], 0)
    self.assertEqual(
      helpers.differing(
        self.dir / 'model.ckpt-16', self.done / 'model.ckpt-16'
      ),
      [],
    )

  def test_checkpoint_that_is_not_restored_is_no_new_start(self):
    shutil.copytree(self.done, self.dir)

    def prepared(manager, master, init_op=None, **kwargs):
      """As TensorFlow does where it finds no checkpoint: initialises."""
      kwargs.update(checkpoint_dir=None, checkpoint_filename_with_path=None)
      return prepare(manager, master, init_op=init_op, **kwargs)

    prepare = tf.train.SessionManager.prepare_session
    with mock.patch.object(
      tf.train.SessionManager, 'prepare_session', prepared
    ):
      with self.assertRaisesRegex(UserError, 'began at step 0 instead of 16'):
        helpers.train(self.dir)
    self.assertEqual(
      choose.newest(str(self.dir)), str(self.dir / 'model.ckpt-16')
    )

  def test_row_lost_to_a_signal_in_evaluation_comes_with_the_resume(self):
    def interrupted(test, *args):
      os.kill(os.getpid(), signal.SIGTERM)
      return run(test, *args)

    run = evaluate.BesideTraining.run
    with mock.patch.object(evaluate.BesideTraining, 'run', interrupted):
      self.assertEqual(helpers.train(self.dir)[0], 143)
    self.assertEqual(rows.read_rows(self.dir), [])
    helpers.train(self.dir)
    epochs = rows.read_rows(self.dir)
    self.assertEqual([row.step for row in epochs], [8, 16])
    self.assertIsNone(epochs[0].train_loss)
    self.assertEqual(
      [row.test_accuracy for row in epochs],
      [row.test_accuracy for row in rows.read_rows(self.done)],
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
      choose.newest(str(self.dir)), str(self.dir / 'model.ckpt-16')
    )

  def test_row_ahead_of_the_checkpoint_is_replaced(self):
    self.stop_at(5, signal.SIGTERM)
    ahead = rows.read_rows(self.done)
    rows.write_rows(self.dir, ahead)
    helpers.train(self.dir)
    self.assertLen(rows.read_rows(self.dir), 2)

  def test_diverged_run_names_step_and_last_good_checkpoint(self):
    with self.assertRaisesRegex(
      UserError, r'at step \d+; last good checkpoint: .*model.ckpt-\d+'
    ):
      helpers.train(self.dir, lr_values='0,1e30,0')
    for path in self.dir.glob('*.index'):
      for name, value in helpers.weights(str(path)[:-6]).items():
        self.assertTrue(np.isfinite(value).all(), name)

  def test_session_that_ends_before_the_first_row_is_an_error(self):
    with self.assertRaisesRegex(
      UserError, 'ended before step 16, saved .*ckpt-3; the same command resum'
    ):
      helpers.train(self.dir, [StopAt(3)])

  def test_times_are_of_the_steps_and_of_no_save(self):
    """By a clock in which a step takes a second, and a save a hundred."""
    clock = types.SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    save = tf.train.Saver.save

    class Step(tf.train.SessionRunHook):
      def before_run(self, run_context):
        clock.now += 1

    def saving(*args, **kwargs):
      clock.now += 100
      return save(*args, **kwargs)

    with (
      mock.patch.object(epoch_report, 'time', clock),
      mock.patch.object(hooks, 'time', clock),
      mock.patch.object(tf.train.Saver, 'save', saving),
    ):
      helpers.train(self.dir, [Step()], save_secs=2)
    self.assertEqual(
      [(row.train_secs, row.total_secs) for row in rows.read_rows(self.dir)],
      [(8, 8), (8, 16)],
    )

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
    with (
      self.assertLogs('absl', level='WARNING') as logs,
      self.assertRaisesRegex(UserError, 'another --width'),
    ):
      helpers.train(self.dir, width=8)
    self.assertIn('flags.txt: not there; that the run had', logs.output[0])

  def test_train_dir_that_is_a_file_is_refused(self):
    self.dir.write_text('')
    with self.assertRaisesRegex(UserError, '--train_dir=.*/run: cannot be'):
      helpers.train(self.dir)

  def test_batch_larger_than_the_data_is_refused(self):
    with self.assertRaisesRegex(UserError, '--batch_size=512'):
      helpers.train(self.dir, batch_size=512)


if __name__ == '__main__':
  absltest.main()
