"""doctor/graph/paths: which graph and which checkpoint a path means."""

import os
import pathlib

from absl.testing import absltest
from absl.testing import parameterized

from graph_resnet9.doctor.graph import paths
from graph_resnet9.errors import UserError

OLD = bytes(40) + b'\x57\xfb\x80\x8b\x24\x75\x47\xdb'  # As its last bytes are.


class PathsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    self.age = 0

  def write(self, *names, data=b''):
    """Files, each newer than the one before; the path of the last one."""
    for name in names:
      path = self.folder / name
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(data if isinstance(data, bytes) else data.encode())
      self.age += 10
      os.utime(str(path), (self.age, self.age))
    return self.path(names[-1])

  def path(self, name):
    return str(self.folder / name)

  def assert_files(self, found, graph, checkpoint, asked):
    whole = [name and self.path(name) for name in (graph, checkpoint)]
    self.assertEqual(found, (*whole, asked))

  @parameterized.parameters(
    'c', 'c.index', 'c.data-00000-of-00001', 'c.data-00001-of-00002'
  )
  def test_a_checkpoint_by_any_of_its_files(self, name):
    self.write('c.index')
    self.assert_files(paths.find(self.path(name)), None, 'c', False)
    self.write('graph.pbtxt')
    self.assert_files(paths.find(self.path(name)), 'graph.pbtxt', 'c', False)
    self.write('c.meta', 'd.meta')
    self.assert_files(paths.find(self.path(name)), 'c.meta', 'c', False)

  def test_a_graph_of_the_working_directory_is_beside(self):
    self.write('c.index', 'graph.pbtxt')
    self.addCleanup(os.chdir, os.getcwd())
    os.chdir(str(self.folder))
    self.assertEqual(paths.find('c'), ('./graph.pbtxt', 'c', False))

  def test_an_old_checkpoint_is_one_file(self):
    path = self.write('c', data=OLD)
    self.assert_files(paths.find(path), None, 'c', False)
    self.write('c.meta')
    self.assert_files(paths.find(path), 'c.meta', 'c', False)

  def test_a_graph_and_the_checkpoint_of_its_name(self):
    for name in ('c.meta', 'frozen.pb', 'saved.index.pb'):
      path = self.write(name)
      self.assert_files(paths.find(path), name, None, True)
    self.write('c.index', 'frozen.index')
    self.assert_files(paths.find(self.path('c.meta')), 'c.meta', 'c', True)
    self.assert_files(
      paths.find(self.path('frozen.pb')), 'frozen.pb', None, True
    )

  @parameterized.parameters('saved_model.pb', 'saved_model.pbtxt')
  def test_a_saved_model_by_its_file_or_folder(self, name):
    self.write('c.index', 'graph.pbtxt', 'a.meta')  # Come behind it.
    path = self.write(name)
    for asked in (path, str(self.folder)):
      self.assert_files(paths.find(asked), name, None, True)
    self.write('variables/variables.index')
    for asked in (path, str(self.folder)):
      self.assert_files(paths.find(asked), name, 'variables/variables', True)

  def test_what_a_folder_means(self):
    """Each file that comes goes before those that were there."""
    found = lambda: paths.find(str(self.folder))
    self.write('a.tfevents.1', 'a.txt')
    self.assert_files(found(), 'a.tfevents.1', None, True)
    self.write('0.tfevents.2')
    self.assert_files(found(), '0.tfevents.2', None, True)
    self.write('graph.pbtxt')
    self.assert_files(found(), 'graph.pbtxt', None, True)
    self.write('b.meta', 'a.meta')
    self.assert_files(found(), 'a.meta', None, True)
    self.write('b.index')
    self.assert_files(found(), 'b.meta', 'b', False)
    self.write('0.index')
    self.assert_files(found(), 'graph.pbtxt', '0', False)

  def test_a_folder_of_other_files_is_refused(self):
    self.write('a.txt', 'checkpoint')
    (self.folder / 'a.index').mkdir()
    (self.folder / 'a.meta').mkdir()
    with self.assertRaisesRegex(
      UserError, '^--checkpoint=%s: a directory without' % self.folder
    ):
      paths.find(str(self.folder), '--checkpoint=')

  def test_signs_of_patterns_in_the_name_of_a_folder(self):
    self.write('[a]*/c.index', 'a/d.index')
    self.assert_files(paths.find(self.path('[a]*')), None, '[a]*/c', False)

  def test_what_is_not_there_is_refused(self):
    for name in ('c', 'c.index', 'c.meta', 'c.data-00000-of-00001'):
      with self.assertRaisesRegex(UserError, '^-f=.*/c.*: No such file'):
        paths.find(self.path(name), '-f=')

  # The state file.

  def named(self, text):
    """The checkpoint of the folder, as a state file of this text says."""
    self.write('checkpoint', data=text)
    return os.path.basename(paths.find(str(self.folder)).checkpoint)

  def test_the_state_file_names_the_checkpoint(self):
    self.write('a-1.index', 'b-2.index')
    self.write('old', data=OLD)
    for text, expected in (
      ('model_checkpoint_path: "a-1"\n', 'a-1'),
      (' \tmodel_checkpoint_path\t:\t"/else/where/a-1"', 'a-1'),
      ('all_model_checkpoint_paths: "a-1"\n', 'b-2'),
      ('last: 3\nmodel_checkpoint_path: "old"\n', 'old'),
      ('model_checkpoint_path: "c-3"\n', 'b-2'),
      ('# model_checkpoint_path: "a-1"\n', 'b-2'),
      (b'\xff\xfe\nmodel_checkpoint_path: "a-1"\n', 'a-1'),
      ('', 'b-2'),
    ):
      self.assertEqual(self.named(text), expected, text)

  def test_of_a_state_file_a_mebibyte_is_read(self):
    self.write('a-1.index', 'b-2.index')
    line = 'model_checkpoint_path: "a-1"'
    for size, expected in ((1 << 20, 'a-1'), ((1 << 20) + 1, 'b-2')):
      text = '#' * (size - len(line) - 1) + '\n' + line
      self.assertEqual(self.named(text), expected)

  # Of a session.

  def test_what_a_session_is_given(self):
    self.write('c.index', 'c.meta', 'd.index', 'd.meta', 'g.pb')
    c, d, g = (self.path(name) for name in ('c', 'd', 'g.pb'))
    for named, meta_graph, checkpoint, expected in (
      ([c], None, None, ('c.meta', 'c', False)),
      ([c + '.meta'], None, None, ('c.meta', 'c', True)),
      ([g], None, c, ('g.pb', 'c', True)),
      ([d], None, c, ('c.meta', 'c', False)),
      ([d + '.meta'], None, c, ('d.meta', 'c', True)),
      ([], None, c, ('c.meta', 'c', False)),
      ([], g, c, ('g.pb', 'c', True)),
      ([], d + '.meta', c, ('d.meta', 'c', True)),
      ([c], g, None, ('g.pb', 'c', True)),
      ([c], g, d, ('g.pb', 'd', True)),
    ):
      found = paths.of_session(named, meta_graph, checkpoint)
      self.assert_files(found, *expected)

  def test_a_session_without_a_checkpoint(self):
    g = self.write('g.pb')
    for named, meta_graph, checkpoint, pattern in (
      ([], None, None, '^no checkpoint; give'),
      ([g], None, None, '^%s: no checkpoint; give' % g),
      ([], g, None, '^%s: no checkpoint; give' % g),
      ([], None, g, '^%s: no checkpoint; give' % g),
      ([g, 'h'], None, None, '^%s h: one graph at a time' % g),
      ([], None, 'gone', '^--checkpoint=gone: No such'),
      ([], 'gone', None, '^--meta_graph=gone: No such'),
    ):
      with self.assertRaisesRegex(UserError, pattern):
        paths.of_session(named, meta_graph, checkpoint)


if __name__ == '__main__':
  absltest.main()
