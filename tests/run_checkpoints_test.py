"""Damaged train_dirs: a clear error or a resume, never a silent step 0."""

import os
import pathlib
import shutil

from absl.testing import absltest

import graph_resnet9  # pylint: disable=unused-import
import tensorflow.compat.v1 as tf

from graph_resnet9.errors import UserError
from graph_resnet9.run import checkpoints
from tests import helpers


class CheckpointsTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.done = helpers.finished_run()[0]

  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.create_tempdir().full_path) / 'run'
    shutil.copytree(self.done, self.dir)
    self.data = self.dir / 'model.ckpt-16.data-00000-of-00001'

  def resume(self):
    return helpers.train(self.dir)[0]

  def test_damaged_newest_checkpoint_is_named(self):
    content = self.data.read_bytes()
    middle = len(content) // 2
    flipped = bytes([content[middle] ^ 255])
    for what, damage in (
        ('truncated', content[:middle]), ('empty', b''),
        ('flipped', content[:middle] + flipped + content[middle + 1:])):
      with self.subTest(what):
        self.data.write_bytes(damage)
        with self.assertRaisesRegex(UserError, 'ckpt-16: damaged checkpoint'):
          self.resume()

  def test_damaged_or_missing_parts_are_named(self):
    index = self.dir / 'model.ckpt-16.index'
    index.write_bytes(b'')
    with self.assertRaisesRegex(UserError, 'ckpt-16: damaged checkpoint'):
      self.resume()
    shutil.copy(self.done / index.name, index)
    self.data.unlink()
    with self.assertRaisesRegex(UserError, 'ckpt-16: damaged checkpoint'):
      self.resume()

  def test_bad_state_file_does_not_start_at_step_0(self):
    state = self.dir / 'checkpoint'
    for content in (None, b'', b'\xff\x00garbage',
                    b'model_checkpoint_path: "model.ckpt-99"'):
      with self.subTest(content=content):
        state.unlink() if content is None else state.write_bytes(content)
        with self.assertLogs(level='WARNING') as logs:
          self.assertEqual(self.resume(), 0)
        self.assertIn('using the newest one', logs.output[0])
        self.assertEqual(checkpoints.newest(str(self.dir)),
                         str(self.dir / 'model.ckpt-16'))

  def test_state_file_without_any_checkpoint_is_an_error(self):
    for path in self.dir.glob('model.ckpt*'):
      path.unlink()
    with self.assertRaisesRegex(UserError, 'names no checkpoint that exists'):
      self.resume()

  def test_leftovers_of_killed_saves_are_removed(self):
    leftover = self.dir / 'model.ckpt-12_temp'
    leftover.mkdir()
    (leftover / 'part-00000-of-00001.data').write_bytes(b'x')
    self.resume()
    self.assertFalse(leftover.exists())

  def test_moved_train_dir_still_works(self):
    moved = self.dir.with_name('moved')
    shutil.copytree(self.done, moved)
    shutil.rmtree(self.dir)
    self.assertEqual(helpers.train(moved)[0], 0)
    self.assertEqual(checkpoints.newest(str(moved)),
                     str(moved / 'model.ckpt-16'))

  def test_prefix_of_takes_the_three_forms(self):
    prefix = str(self.dir / 'model.ckpt-16')
    for path in (str(self.dir), prefix, prefix + '.index'):
      self.assertEqual(checkpoints.prefix_of(path), prefix)
    for path in (prefix + '0', os.path.dirname(self.dir)):
      with self.assertRaisesRegex(UserError, '--checkpoint=.*no (such )?check'):
        checkpoints.prefix_of(path)

  def test_check_names_what_does_not_fit(self):
    prefix = str(self.dir / 'model.ckpt-16')
    found = checkpoints.shapes(prefix)
    with tf.Graph().as_default():
      checkpoints.check(
          prefix, found, {'prep/bn/gamma': tf.get_variable('any', [4])})
      for name, shape, message in (
          ('prep/bn/beta', [5], r'prep/bn/beta is \[4\] there and \[5\]'),
          ('extra', [4], 'holds no variable extra')):
        with self.assertRaisesRegex(UserError, message):
          checkpoints.check(prefix, found, {name: tf.get_variable(name, shape)})


if __name__ == '__main__':
  absltest.main()
