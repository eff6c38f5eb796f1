"""Damaged train_dirs: a clear error or a resume, never a silent step 0."""

import os
import pathlib
import resource
import shutil
from unittest import mock

from absl.testing import absltest
import tensorflow.compat.v1 as tf

from graph_resnet9.checkpoints import choose
from graph_resnet9.checkpoints import reader
from graph_resnet9.errors import UserError
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

  def flipped(self):
    content = self.data.read_bytes()
    middle = len(content) // 2
    return (
      content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
    )

  def test_damaged_newest_checkpoint_gives_way_to_the_one_before(self):
    index = self.dir / 'model.ckpt-16.index'
    content = self.data.read_bytes()
    for what, path, damage in (
      ('truncated', self.data, content[: len(content) // 2]),
      ('empty', self.data, b''),
      ('flipped', self.data, self.flipped()),
      ('missing', self.data, None),
      ('empty index', index, b''),
    ):
      with self.subTest(what):
        shutil.rmtree(self.dir)
        shutil.copytree(self.done, self.dir)
        path.unlink() if damage is None else path.write_bytes(damage)
        with self.assertLogs('absl', level='WARNING') as logs:
          self.assertEqual(self.resume(), 0)
        (warning,) = logs.output
        self.assertRegex(warning, 'ckpt-16: damaged.*going on from .*ckpt-8. ')
        self.assertEqual(
          helpers.differing(
            self.dir / 'model.ckpt-16', self.done / 'model.ckpt-16'
          ),
          [],
        )
        aside = self.dir / ('damaged-1-' + path.name)
        if damage is not None:
          self.assertEqual(aside.read_bytes(), damage)
        # They don't win again, and what is damaged next gets another name.
        self.assertEqual(self.resume(), 0)
        self.data.write_bytes(b'')
        self.resume()
        self.assertTrue((self.dir / ('damaged-2-' + self.data.name)).exists())

  def test_nothing_is_read_twice(self):
    read = []
    load = tf.train.load_checkpoint

    def loading(prefix):
      read.append(os.path.basename(prefix))
      return load(prefix)

    self.data.write_bytes(b'')
    with mock.patch.object(tf.train, 'load_checkpoint', loading):
      self.resume()
    self.assertEqual(read, ['model.ckpt-16', 'model.ckpt-8'])

  def test_index_of_endless_size_is_damage(self):
    load = tf.train.load_checkpoint

    def loading(prefix):
      if prefix.endswith('-16'):
        raise MemoryError('std::bad_alloc')
      return load(prefix)

    with mock.patch.object(tf.train, 'load_checkpoint', loading):
      with self.assertLogs('absl', level='WARNING') as logs:
        self.assertEqual(self.resume(), 0)
    self.assertIn(
      'ckpt-16: damaged checkpoint (std::bad_alloc)', logs.output[0]
    )

  def test_all_damaged_is_an_error_that_changes_nothing(self):
    for path in self.dir.glob('model.ckpt-*.data*'):
      path.write_bytes(b'')
    before = sorted(os.listdir(self.dir))
    with self.assertRaisesRegex(
      UserError, 'every checkpoint is damaged: .*-16 .*-8 .*-0 '
    ):
      self.resume()
    self.assertEqual(sorted(os.listdir(self.dir)), before)

  def test_unreadable_checkpoint_is_not_taken_for_damaged(self):
    self.data.unlink()
    self.data.mkdir()
    with self.assertRaisesRegex(UserError, 'ckpt-16.data.*: cannot be read'):
      self.resume()

  def test_run_that_is_refused_stays_as_it_is(self):
    self.data.write_bytes(b'')
    (self.dir / 'flags.txt').unlink()
    before = sorted(os.listdir(self.dir))
    with self.assertRaisesRegex(UserError, 'another --width'):
      helpers.train(self.dir, width=8)
    self.assertEqual(sorted(os.listdir(self.dir)), before)

  def test_damaged_checkpoint_of_eval_is_named_with_the_one_before(self):
    for step, text in (
      (16, 'ckpt-16: damaged .* the one before is .*ckpt-8$'),
      (0, 'ckpt-0: damaged .* there is none before it$'),
    ):
      prefix = self.dir / ('model.ckpt-%d' % step)
      prefix.with_suffix('.ckpt-%d.index' % step).write_bytes(b'')
      with self.assertRaisesRegex(UserError, text):
        reader.shapes(str(prefix))

  def test_bad_state_file_does_not_start_at_step_0(self):
    state = self.dir / 'checkpoint'
    for content in (
      None,
      b'',
      b'\xff\x00garbage',
      b'model_checkpoint_path: "',
      b'model_checkpoint_path: ""',
      b'model_checkpoint_path: "model.ckpt-99"',
    ):
      with self.subTest(content=content):
        state.unlink() if content is None else state.write_bytes(content)
        with self.assertLogs('absl', level='WARNING') as logs:
          self.assertEqual(self.resume(), 0)
        self.assertIn('using the newest one', logs.output[0])
        self.assertLen(logs.output, 1)
        self.assertEqual(
          choose.newest(str(self.dir)), str(self.dir / 'model.ckpt-16')
        )

  def test_state_file_of_gigabytes_is_not_read(self):
    """TensorFlow would take seven times its size; the kernel counts nothing."""
    os.truncate(self.dir / 'checkpoint', 2 << 30)
    self.assertEqual(
      choose.newest(str(self.dir)), str(self.dir / 'model.ckpt-16')
    )

  def test_directory_as_state_file_is_kept_under_another_name(self):
    (self.dir / 'checkpoint').unlink()
    (self.dir / 'checkpoint').mkdir()
    (self.dir / 'checkpoint' / 'mine').touch()
    self.assertEqual(self.resume(), 0)
    self.assertTrue((self.dir / 'damaged-1-checkpoint' / 'mine').exists())
    self.assertEqual(
      choose.newest(str(self.dir)), str(self.dir / 'model.ckpt-16')
    )

  def test_state_file_without_any_checkpoint_is_an_error(self):
    for path in self.dir.glob('model.ckpt*'):
      path.unlink()
    with self.assertRaisesRegex(
      UserError,
      'names no checkpoint that exists; .* or give another --train_dir',
    ):
      self.resume()

  def test_parts_without_any_checkpoint_are_an_error(self):
    for path in self.dir.iterdir():
      if path != self.data:
        path.unlink()
    with self.assertRaisesRegex(
      UserError, 'without its .index file; .* or give another --tr'
    ):
      self.resume()

  def test_killed_first_save_is_no_obstacle(self):
    for path in self.dir.iterdir():
      path.unlink()
    (self.dir / 'model.ckpt-0.meta').write_bytes(b'x')
    (self.dir / 'model.ckpt-0.data-00000-of-00001').write_bytes(b'x')
    self.assertEqual(self.resume(), 0)
    self.assertEqual(
      helpers.differing(
        self.dir / 'model.ckpt-16', self.done / 'model.ckpt-16'
      ),
      [],
    )

  def test_save_that_fails_says_why_and_leaves_nothing(self):
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    for name in self.dir.glob('model.ckpt-*'):
      name.unlink()
    (self.dir / 'checkpoint').unlink()
    (self.dir / 'metrics.jsonl').unlink()
    save = tf.train.Saver.save

    def saving(*args, **kwargs):
      resource.setrlimit(resource.RLIMIT_FSIZE, (100 << 10, limit[1]))
      try:
        return save(*args, **kwargs)
      finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)

    with mock.patch.object(tf.train.Saver, 'save', saving):
      with self.assertRaisesRegex(
        UserError,
        r'--train_dir=%s: cannot save a checkpoint: .*File too '
        r'large$' % self.dir,
      ):
        self.resume()
    self.assertEqual(list(self.dir.glob('model.ckpt*')), [])
    self.assertEqual(self.resume(), 0)

  def test_lost_process_of_a_cluster_is_no_save_that_failed(self):
    lost = [
      tf.errors.AbortedError(None, None, 'lost'),
      tf.errors.UnavailableError(None, None, 'lost'),
    ]
    save = tf.train.Saver.save

    def saving(saver, session, prefix, step, **kwargs):
      if step == 8 and lost:
        raise lost.pop()
      return save(saver, session, prefix, step, **kwargs)

    shutil.rmtree(self.dir)
    with mock.patch.object(tf.train.Saver, 'save', saving):
      self.assertEqual(self.resume(), 0)
    self.assertEqual(lost, [])
    self.assertEqual(
      helpers.differing(
        self.dir / 'model.ckpt-16', self.done / 'model.ckpt-16'
      ),
      [],
    )

  def test_whole_checkpoint_that_nothing_names_is_kept(self):
    for path in self.dir.glob('model.ckpt-16.*'):
      shutil.copy(path, self.dir / path.name.replace('16', '99'))
    self.resume()
    self.assertEqual(
      helpers.differing(
        self.dir / 'model.ckpt-99', self.done / 'model.ckpt-16'
      ),
      [],
    )

  def test_whole_checkpoint_without_a_meta_graph_is_kept(self):
    """As tf.train.Saver.save(write_meta_graph=False) and backups have it."""
    for step in ('4', '99'):
      for part in ('index', 'data-00000-of-00001'):
        shutil.copy(
          self.dir / ('model.ckpt-8.' + part),
          self.dir / ('model.ckpt-%s.%s' % (step, part)),
        )
    self.assertEqual(helpers.train(self.dir)[0], 0)
    for step in ('4', '99'):
      self.assertEqual(
        helpers.differing(
          self.dir / ('model.ckpt-' + step), self.done / 'model.ckpt-8'
        ),
        [],
      )

  def test_saver_does_not_take_over_what_it_has_not_saved(self):
    """It deletes the oldest of the checkpoints that the state file names."""
    for part in ('index', 'data-00000-of-00001', 'meta'):
      shutil.copy(
        self.dir / ('model.ckpt-8.' + part), self.dir / ('model.ckpt-4.' + part)
      )
    self.resume()
    named = tf.train.get_checkpoint_state(str(self.dir))
    self.assertEqual(
      [path.rpartition('-')[2] for path in named.all_model_checkpoint_paths],
      ['0', '8', '16'],
    )

  def test_every_save_has_a_graph_that_can_be_read(self):
    for prefix in (0, 8, 16):
      with tf.Graph().as_default():
        tf.train.import_meta_graph(
          str(self.dir / ('model.ckpt-%d.meta' % prefix))
        )

  def test_moved_train_dir_still_works(self):
    moved = self.dir.with_name('moved')
    shutil.copytree(self.done, moved)
    shutil.rmtree(self.dir)
    self.assertEqual(helpers.train(moved)[0], 0)
    self.assertEqual(choose.newest(str(moved)), str(moved / 'model.ckpt-16'))

  def test_prefix_of_takes_the_three_forms(self):
    prefix = str(self.dir / 'model.ckpt-16')
    for path in (str(self.dir), prefix, prefix + '.index'):
      self.assertEqual(choose.prefix_of(path), prefix)
    for path in (prefix + '0', os.path.dirname(self.dir)):
      with self.assertRaisesRegex(UserError, '--checkpoint=.*no (such )?check'):
        choose.prefix_of(path)

  def foreign(self, name='my.ckpt-800'):
    """A directory with a checkpoint of somebody else's program."""
    folder = self.dir.with_name('foreign')
    folder.mkdir()
    with tf.Graph().as_default(), tf.Session() as session:
      tf.get_variable('v', [3], use_resource=True)
      session.run(tf.global_variables_initializer())
      tf.train.Saver().save(session, str(folder / name))
    return folder

  def test_checkpoint_of_another_program_is_found(self):
    folder = self.foreign()
    self.assertEqual(choose.prefix_of(str(folder)), str(folder / 'my.ckpt-800'))
    moved = folder.with_name('moved')
    folder.rename(moved)
    self.assertEqual(choose.prefix_of(str(moved)), str(moved / 'my.ckpt-800'))

  def test_other_programs_without_a_state_file_are_asked_for_by_name(self):
    folder = self.foreign()
    (folder / 'checkpoint').unlink()
    with self.assertRaisesRegex(
      UserError,
      'no checkpoint .* give the prefix of one, such as .*my.ckpt-800',
    ):
      choose.prefix_of(str(folder))

  def test_training_leaves_the_directory_of_another_program_alone(self):
    folder = self.foreign()
    before = sorted(os.listdir(folder))
    with self.assertRaisesRegex(
      UserError, 'names my.ckpt-800, .* of another program; give another --tr'
    ):
      helpers.train(folder)
    self.assertCountEqual(os.listdir(folder), [*before, 'train.lock'])

  def test_check_names_what_does_not_fit(self):
    prefix = str(self.dir / 'model.ckpt-16')
    found = reader.shapes(prefix)
    with tf.Graph().as_default():
      reader.check(
        prefix, found, {'prep/bn/gamma': tf.get_variable('any', [4])}
      )
      for name, shape, message in (
        ('prep/bn/beta', [5], r'prep/bn/beta is \[4\] there and \[5\]'),
        ('extra', [4], 'holds no variable extra'),
      ):
        with self.assertRaisesRegex(UserError, message):
          reader.check(prefix, found, {name: tf.get_variable(name, shape)})


if __name__ == '__main__':
  absltest.main()
