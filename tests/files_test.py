"""Files that are something else than they seem, and what is written where."""

import os
import pathlib
import socket
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized

from graph_resnet9 import files
from graph_resnet9.cli import flagfile
from graph_resnet9.errors import UserError
from graph_resnet9.inputs import dataset
from graph_resnet9.inputs import formats
from graph_resnet9.training import rows


class FilesTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    self.path = self.folder / 'file'

  def refused(self, function, *args, error=UserError):
    with self.assertRaises(error) as caught:
      function(*args)
    return str(caught.exception)

  def test_regular_file_is_opened_through_a_link(self):
    self.path.write_bytes(b'content')
    (self.folder / 'link').symlink_to(self.path)
    for name in ('file', 'link'):
      with files.open_regular(str(self.folder / name)) as f:
        self.assertEqual(f.read(), b'content')

  def test_pipes_sockets_devices_and_directories_are_no_files(self):
    """Without a writer open() of a pipe would never return."""
    os.mkfifo(self.path)
    self.addCleanup(os.chdir, os.getcwd())
    os.chdir(self.folder)  # The name of a socket must be short.
    with socket.socket(socket.AF_UNIX) as bound:
      bound.bind('s')
    for path, text in (
      (self.path, 'a named pipe, where a file belongs'),
      (self.folder / 's', 'a socket, where a file belongs'),
      ('/dev/zero', 'a device, where a file belongs'),
      (self.folder, 'Is a directory'),
      (self.folder / 'none', 'No such file'),
    ):
      self.assertIn(
        text, self.refused(files.open_regular, str(path), error=OSError)
      )

  def test_pipe_that_comes_between_look_and_open_is_refused(self):
    os.mkfifo(self.path)
    with mock.patch.object(os, 'stat', return_value=os.stat(__file__)):
      self.assertIn(
        'a named pipe',
        self.refused(files.open_regular, str(self.path), error=OSError),
      )

  def test_every_reader_of_files_refuses_a_pipe_by_name(self):
    for name, read in (
      (
        'cifar-10-batches-bin/data_batch_1.bin',
        lambda: list(
          formats.read_layout(str(self.folder / formats.BINARY_FOLDER))
        ),
      ),
      (
        formats.PICKLE_ARCHIVE,
        lambda: list(
          formats.read_layout(str(self.folder / formats.PICKLE_ARCHIVE))
        ),
      ),
      ('flags.txt', lambda: flagfile.read(str(self.folder))),
      ('metrics.jsonl', lambda: rows.read_rows(str(self.folder))),
    ):
      path = self.folder / name
      path.parent.mkdir(exist_ok=True)
      os.mkfifo(path)
      text = self.refused(read)
      self.assertIn(str(path), text)
      self.assertIn('a named pipe', text)

  def test_text_appears_complete(self):
    files.write(str(self.path), 'grün\n')
    self.assertEqual(self.path.read_bytes(), 'grün\n'.encode())
    self.assertEqual(os.listdir(self.folder), ['file'])

  def test_failed_write_leaves_the_file_as_it_was(self):
    self.path.write_text('before')
    with self.assertRaises(UserError) as caught:
      with files.replacing(str(self.path)) as f:
        f.write(b'half')
        raise OSError(28, 'No space left on device')
    self.assertEqual(
      str(caught.exception),
      '%s: cannot be written: No space left on device' % self.path,
    )
    self.assertEqual(self.path.read_text(), 'before')
    self.assertEqual(os.listdir(self.folder), ['file'])

  def test_error_of_something_else_stays_what_it_is_and_leaves_nothing(self):
    self.path.write_text('before')
    for error in (
      ZeroDivisionError(),
      KeyboardInterrupt(),
      FileNotFoundError(2, 'No such file', 'another.file'),
    ):
      with self.assertRaises(type(error)) as caught:
        with files.replacing(str(self.path)) as f:
          f.write(b'half')
          raise error
      self.assertIs(caught.exception, error)
      self.assertEqual(self.path.read_text(), 'before')
      self.assertEqual(os.listdir(self.folder), ['file'])

  def test_planted_link_is_not_followed(self):
    victim = self.folder / 'victim'
    victim.write_text('mine')
    for name in ('file', 'file.tmp'):
      (self.folder / name).symlink_to(victim)
    files.write(str(self.path), 'result')
    self.assertEqual(victim.read_text(), 'mine')
    self.assertEqual(self.path.read_text(), 'result')
    self.assertFalse(self.path.is_symlink())

  def test_left_over_temporary_file_is_replaced(self):
    (self.folder / 'file.tmp').write_text('a longer text of a killed run')
    files.write(str(self.path), 'result')
    self.assertEqual(self.path.read_text(), 'result')

  def test_own_file_is_opened_as_it_is_or_made(self):
    for content in (b'', b'x'):
      with files.open_own(str(self.path)) as f:
        self.assertEqual(f.read(), content)
        self.assertTrue(files.is_still(f, str(self.path)))
        f.write(b'x')

  def test_own_file_is_no_link_and_no_pipe(self):
    (self.folder / 'victim').write_text('mine')
    self.path.symlink_to(self.folder / 'victim')
    self.assertIn(
      'a symbolic link',
      self.refused(files.open_own, str(self.path), error=OSError),
    )
    self.path.unlink()
    os.mkfifo(self.path)
    self.refused(files.open_own, str(self.path), error=OSError)

  def test_other_file_of_the_same_name_is_noticed(self):
    with files.open_own(str(self.path)) as f:
      self.path.rename(self.folder / 'moved')
      self.assertFalse(files.is_still(f, str(self.path)))
      self.path.write_text('another')
      self.assertFalse(files.is_still(f, str(self.path)))
      self.path.unlink()
      self.path.symlink_to(self.folder / 'moved')
      self.assertFalse(files.is_still(f, str(self.path)))

  @absltest.skipIf(os.geteuid(), 'only root can give files away')
  def test_directory_that_a_stranger_has_made_is_refused(self):
    public = self.folder / 'public'
    for mode, owner, refused in (
      (0o1777, 12345, True),
      (0o1777, 0, False),
      (0o755, 12345, False),
    ):
      stranger = public / 'stranger'
      stranger.mkdir(parents=True, exist_ok=True)
      os.chown(stranger, owner, -1)
      os.chmod(public, mode)
      link = self.folder / 'link'
      link.unlink(missing_ok=True)
      link.symlink_to(stranger)
      for path in (stranger / 'run', link / 'run'):
        if refused:
          text = self.refused(files.make_dir, '--train_dir', str(path))
          self.assertIn('--train_dir=%s: %s was made' % (path, stranger), text)
        else:
          files.make_dir('--train_dir', str(path))

  def test_no_room_for_temporary_files_is_one_line(self):
    with mock.patch('tempfile.TemporaryDirectory') as made:
      made.side_effect = FileNotFoundError(2, 'No usable directory')
      with self.assertRaisesRegex(UserError, 'TMPDIR'):
        with files.scratch_dir():
          pass

  @absltest.skipUnless(os.path.exists('/dev/full'), 'needs /dev/full')
  def test_no_room_for_records_is_one_line(self):
    source = dataset.Source('synthetic', '', ())
    full = mock.patch.object(
      dataset, 'open', lambda *args: open('/dev/full', 'wb', 0), create=True
    )
    with full, self.assertRaises(UserError) as caught:
      dataset.record_files(source, 'test', str(self.folder), 10)
    self.assertIn('No space left on device', str(caught.exception))
    self.assertIn('TMPDIR', str(caught.exception))


if __name__ == '__main__':
  absltest.main()
