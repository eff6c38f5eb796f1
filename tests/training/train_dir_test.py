"""The directory of a run: one training at a time, and no silent new start."""

import contextlib
import errno
import fcntl
import os
import pathlib
import shutil
import subprocess
import sys
from unittest import mock

from absl.testing import absltest

from graph_resnet9.errors import UserError
from graph_resnet9.inputs import cifar
from graph_resnet9.inputs import dataset
from graph_resnet9.model import winograd
from graph_resnet9.training import train_dir
from tests import helpers


class TrainDirTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.create_tempdir().full_path)

  def opened(self):
    return train_dir.opened(
      helpers.settings(train_dir=str(self.dir), **helpers.TINY),
      dataset.find('synthetic'),
    )

  def test_second_one_is_told_directory_and_process(self):
    with self.opened() as run:
      self.assertIsNone(run.checkpoint)
      with (
        self.assertRaisesRegex(
          UserError, '--train_dir=%s: process %d on ' % (self.dir, os.getpid())
        ),
        self.opened(),
      ):
        pass
    with self.opened():  # The first one has ended.
      pass

  def test_names_that_others_read_otherwise_are_refused(self):
    for name in ('run?', 'run*', 'a[x]', 'a\\b', 'a\nb', 'a\udcff'):
      parent = self.dir
      self.dir = parent / name / 'run'
      with self.subTest(ascii(name)), self.assertRaises(UserError) as caught:
        with self.opened():
          pass
      self.assertStartsWith(str(caught.exception), '--train_dir=')
      self.assertEqual(list(parent.iterdir()), [])
      self.dir = parent

  def test_data_dir_that_is_no_line_is_refused(self):
    settings = helpers.settings(
      train_dir=str(self.dir), **{**helpers.TINY, 'data_dir': 'a\n--width=8'}
    )
    with self.assertRaisesRegex(UserError, '--data_dir=.*one line'):
      with train_dir.opened(settings, dataset.find('synthetic')):
        pass

  def test_planted_lock_is_not_followed(self):
    victim = self.dir / 'victim'
    victim.write_text('mine')
    lock = self.dir / train_dir.LOCK
    lock.symlink_to(victim)
    with self.assertRaisesRegex(UserError, 'train.lock: .*symbolic link'):
      with self.opened():
        pass
    lock.unlink()
    os.mkfifo(lock)
    with self.assertRaisesRegex(UserError, 'train.lock: .*a named pipe'):
      with self.opened():
        pass
    self.assertEqual(victim.read_text(), 'mine')

  def test_started_programs_do_not_keep_the_lock(self):
    with self.opened():
      child = subprocess.Popen(
        [sys.executable, '-c', 'print(flush=True); input()'],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        close_fds=False,
      )
      # The kernel closes descriptors after Popen has returned, at times.
      child.stdout.readline()
    with self.opened():
      pass
    child.communicate(b'\n')

  def test_lock_is_let_go_after_an_error(self):
    with contextlib.suppress(ZeroDivisionError), self.opened():
      raise ZeroDivisionError
    with self.opened():
      pass

  def test_file_system_without_locks_gives_a_warning(self):
    with mock.patch.object(
      fcntl, 'flock', side_effect=OSError(errno.ENOLCK, 'No locks available')
    ):
      with self.assertLogs(level='WARNING') as logs, self.opened():
        pass
    self.assertIn(
      '--train_dir=%s: this file system has no locks' % self.dir, logs.output[0]
    )

  def test_garbage_in_the_lock_file_is_no_obstacle(self):
    lock = self.dir / train_dir.LOCK
    lock.write_bytes(b'\xff\xfe' * 1000)
    with self.opened():
      self.assertEqual(lock.read_text().split()[0], str(os.getpid()))

  def test_lock_file_that_cannot_be_is_named(self):
    (self.dir / train_dir.LOCK).mkdir()
    with self.assertRaisesRegex(UserError, 'train.lock: cannot be written'):
      with self.opened():
        pass

  def test_rows_without_a_checkpoint_are_an_error(self):
    row = (helpers.finished_run()[0] / 'metrics.jsonl').read_text()
    (self.dir / 'metrics.jsonl').write_text(row)
    with self.assertRaisesRegex(UserError, 'metrics.jsonl tells of a run'):
      with self.opened():
        pass

  def test_a_resume_takes_the_convolutions_of_the_run(self):
    def conv_of(saved, **values):
      return train_dir.conv_of(
        helpers.settings(train_dir='-', **values),
        saved and helpers.settings(train_dir='-', conv=saved),
      )

    with mock.patch.object(
      winograd,
      'chosen',
      side_effect=(lambda conv: 'here' if conv == 'auto' else conv),
    ):
      self.assertEqual(conv_of(None), 'here')
      for saved, expected in (
        ('winograd', 'winograd'),
        ('direct', 'direct'),
        ('auto', 'direct'),
      ):  # Older than the flag.
        self.assertEqual(conv_of(saved), expected)
        self.assertEqual(conv_of(saved, conv='winograd'), 'winograd')
        self.assertEqual(conv_of(saved, conv='direct'), 'direct')

  def test_resume_under_other_conditions_says_that_bits_will_differ(self):
    shutil.copytree(helpers.finished_run()[0], self.dir, dirs_exist_ok=True)
    with self.assertNoLogs('absl', 'WARNING'), self.opened():
      pass
    other = mock.patch.dict(os.environ, TF_NUM_INTRAOP_THREADS='7')
    with other, self.assertLogs('absl', 'WARNING') as logs, self.opened():
      pass
    self.assertLen(logs.output, 1)
    self.assertIn('TF_NUM_INTRAOP_THREADS=7', logs.output[0])
    self.assertIn('not bit for bit', logs.output[0])

  def test_directory_of_another_inode_ends_the_session_at_any_moment(self):
    with self.opened():
      hook = train_dir.SameDirectory(str(self.dir))
      moments = (
        lambda: hook.after_create_session(None, None),
        lambda: hook.after_run(None, None),
        lambda: hook.end(None),
      )
      for moment in moments:
        moment()
      for change in (
        lambda: (self.dir / train_dir.LOCK).rename(self.dir / 'moved'),
        (self.dir / train_dir.LOCK).touch,
      ):
        change()
        for moment in moments:
          with self.assertRaisesRegex(UserError, 'was moved or removed'):
            moment()

  def test_settings_are_those_of_here_and_now(self):
    settings = helpers.settings(
      train_dir=os.path.relpath(self.dir), data_dir='.', dataset='auto'
    )
    source = dataset.Source('cifar10', '.', cifar.CIFAR10.class_names)
    with train_dir.opened(settings, source) as run:
      self.assertEqual(run.settings.train_dir, str(self.dir))
      self.assertEqual(run.settings.data.data_dir, os.getcwd())
      self.assertEqual(run.settings.data.dataset, 'cifar10')


if __name__ == '__main__':
  absltest.main()
