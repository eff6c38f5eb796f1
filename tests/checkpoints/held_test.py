"""A checkpoint that is read while a training deletes it."""

import glob
import os
import pathlib
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import tensorflow.compat.v1 as tf

from graph_resnet9.checkpoints import choose
from graph_resnet9.checkpoints import held
from graph_resnet9.checkpoints import names
from graph_resnet9.checkpoints import reader
from graph_resnet9.errors import UserError
from tests import helpers


class HeldTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.create_tempdir().full_path) / 'a[x]*\\'
    self.dir.mkdir()

  def save(self, *steps, kept=2):
    """Saves checkpoints that hold their step, and deletes all but `kept`."""
    for step in steps:
      with tf.Graph().as_default(), tf.Session() as session:
        value = tf.get_variable('step', initializer=tf.constant(step))
        session.run(value.initializer)
        tf.train.Saver(save_relative_paths=True).save(
          session, str(self.dir / 'model.ckpt'), step
        )
    paths = names.by_step(str(self.dir))
    for prefix in paths[:-kept]:
      for path in glob.glob(glob.escape(prefix) + '.*'):
        os.remove(path)

  def step_of(self, checkpoint):
    return int(helpers.weights(checkpoint.files)['step'])

  def test_stays_whole_when_it_is_deleted(self):
    """And in a directory whose name TensorFlow takes for a pattern."""
    self.save(1, 2)
    with held.held(str(self.dir)) as checkpoint:
      self.save(3, 4)
      self.assertFalse(os.path.exists(checkpoint.prefix + '.index'))
      self.assertEqual(checkpoint.prefix, str(self.dir / 'model.ckpt-2'))
      self.assertEqual(self.step_of(checkpoint), 2)
    self.assertFalse(os.path.exists(checkpoint.files + '.index'))

  @parameterized.parameters('.index', '.data-00000-of-00001')
  def test_newest_is_chosen_again_when_one_vanishes(self, suffix):
    """It is deleted after it was chosen, before or while it is opened."""
    self.save(1, 2)
    opened, open_regular = [], held.files.open_regular

    def opening(path):
      opened.append(path)
      if path.endswith('-2' + suffix):
        self.save(3, 4)
      return open_regular(path)

    with mock.patch.object(held.files, 'open_regular', opening):
      with held.held(str(self.dir)) as checkpoint:
        self.assertEqual(self.step_of(checkpoint), 4)
    self.assertIn('-2.index', opened[0])

  def test_prefix_that_vanishes_is_superseded(self):
    self.save(1, 2)
    open_regular = held.files.open_regular

    def opening(path):
      self.save(3, 4)
      return open_regular(path)

    with mock.patch.object(held.files, 'open_regular', opening):
      with self.assertRaisesRegex(
        UserError, r'ckpt-2: superseded: .* the newest is .*ckpt-4'
      ):
        with held.held(str(self.dir / 'model.ckpt-2')):
          pass

  def test_prefix_that_has_vanished_is_superseded(self):
    self.save(2, 3)
    with self.assertRaisesRegex(UserError, 'ckpt-1: superseded: .*ckpt-3'):
      with held.held(str(self.dir / 'model.ckpt-1')):
        pass
    with self.assertRaisesRegex(UserError, 'ckpt-4: no such checkpoint'):
      with held.held(str(self.dir / 'model.ckpt-4')):
        pass

  def test_damage_is_told_of_its_own_name(self):
    self.save(1, 2)
    (self.dir / 'model.ckpt-2.data-00000-of-00001').write_bytes(b'')
    with self.assertRaises(UserError) as caught:
      with held.held(str(self.dir)):
        pass
    text = str(caught.exception)
    self.assertStartsWith(text, '%s: damaged' % (self.dir / 'model.ckpt-2'))
    self.assertIn('one before is %s' % (self.dir / 'model.ckpt-1'), text)

  def test_errors_inside_name_the_checkpoint(self):
    self.save(1)
    with self.assertRaisesRegex(UserError, r'^/.*/model.ckpt-1: mine'):
      with held.held(str(self.dir)) as checkpoint:
        raise UserError('%s: mine' % checkpoint.files)

  def test_pipe_in_the_place_of_a_part(self):
    self.save(1)
    path = self.dir / 'model.ckpt-1.index'
    path.unlink()
    os.mkfifo(path)
    for use in (
      lambda: held.held(str(self.dir)).__enter__(),
      lambda: reader.shapes(str(self.dir / 'model.ckpt-1')),
    ):
      with self.assertRaisesRegex(UserError, 'index: .*a named pipe'):
        use()

  def test_pipe_in_the_place_of_the_state_file(self):
    self.save(1)
    (self.dir / 'checkpoint').unlink()
    os.mkfifo(self.dir / 'checkpoint')
    with self.assertLogs('absl', 'WARNING'):
      self.assertEqual(
        choose.newest(str(self.dir)), str(self.dir / 'model.ckpt-1')
      )

  def test_copy_where_open_files_have_no_names(self):
    self.save(1)
    exists = os.path.exists
    with mock.patch.object(
      os.path, 'exists', lambda path: '/fd/' not in path and exists(path)
    ):
      with held.held(str(self.dir)) as checkpoint:
        self.save(2, 3)
        self.assertEqual(self.step_of(checkpoint), 1)

  def test_no_memory_is_no_damage(self):
    self.save(1)
    with (
      mock.patch.object(tf.train, 'load_checkpoint', side_effect=MemoryError),
      mock.patch.object(reader, '_SPARE_BYTES', 1 << 62),
    ):
      with self.assertRaisesRegex(UserError, 'not enough memory'):
        choose.newest_whole(str(self.dir), str(self.dir / 'model.ckpt-1'))


if __name__ == '__main__':
  absltest.main()
