"""doctor/measure/rewriting.py: checkpoints with some values replaced."""

import os
import pathlib
import types

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.measure import rewriting
from graph_resnet9.errors import UserError
from tests import helpers
from tests.doctor.hand_made import HandMade

OLD = {
  'kept': np.arange(6.0).reshape(2, 3),
  'mean': np.float32([1, 2]),
  'step': np.int64(7),
  'text': np.array(b'a\0b', object),
  'texts': np.array([b'x', b''], object),
  'flag': np.array([True, False]),
}


def program(**keys):
  """A Program whose saver saves variables under other names: {name: key}."""
  if not keys:
    return types.SimpleNamespace(savers=(), trainable=())
  made = HandMade()
  for name in ('file', 'slices'):
    made.const(name, b'')
  made.const('names', [key.encode() for key in keys.values()])
  for name in keys:
    made.variable(name, 2)
  made.op('save', 'SaveV2', 'file', 'names', 'slices', *keys)
  return types.SimpleNamespace(savers=[made.view().find('save')], trainable=())


class RewriteTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.create_tempdir().full_path)
    self.prefix, self.out = str(self.dir / 'old'), str(self.dir / 'new')
    helpers.save_weights(OLD, self.prefix)

  def rewritten(self, values, of=None):
    rewriting.rewrite(of or program(), self.prefix, self.out, values)
    return helpers.weights(self.out)

  def test_all_else_is_as_it_was(self):
    got = self.rewritten({'mean': np.float32([3, 4])})
    np.testing.assert_array_equal(got.pop('mean'), [3, 4])
    self.assertEqual(set(got), set(OLD) - {'mean'})
    self.assertEqual(got.pop('text'), b'a\0b')  # As a reader gives one string.
    for name, value in got.items():
      np.testing.assert_array_equal(value, OLD[name])
      self.assertEqual(value.dtype, OLD[name].dtype)

  def test_what_lacks_is_added(self):
    got = self.rewritten({'net/variance': np.float32([5])})
    self.assertEqual(set(got), {*OLD, 'net/variance'})
    np.testing.assert_array_equal(got['net/variance'], [5])

  def test_a_saver_has_names_of_its_own(self):
    got = self.rewritten(
      {'m': np.float32([3, 4]), 'v': np.float32([5, 6])}, program(m='mean')
    )
    self.assertEqual(set(got), {*OLD, 'v'})
    np.testing.assert_array_equal(got['mean'], [3, 4])

  def test_the_meta_graph_is_copied_if_there_is_one(self):
    self.rewritten({})
    self.assertFalse(os.path.exists(self.out + '.meta'))
    pathlib.Path(self.prefix + '.meta').write_bytes(b'a graph')
    self.out += '2'
    self.rewritten({})
    self.assertEqual(pathlib.Path(self.out + '.meta').read_bytes(), b'a graph')

  def test_nothing_else_is_left(self):
    before = set(os.listdir(self.dir))
    self.rewritten({})
    self.assertEqual(
      set(os.listdir(self.dir)) - before,
      {'new.index', 'new.data-00000-of-00001'},
    )

  def test_a_prefix_without_a_folder_is_here(self):
    self.addCleanup(os.chdir, os.getcwd())
    os.chdir(self.dir)
    rewriting.check_out('here')
    rewriting.rewrite(program(), 'old', 'here', {})
    self.assertSameElements(helpers.weights('here'), OLD)

  def test_the_index_comes_last(self):
    """Whoever looks before sees no checkpoint."""
    pathlib.Path(self.prefix + '.meta').write_bytes(b'a graph')
    moved = []
    replace = os.replace

    def seen(source, target):
      moved.append(os.path.basename(target))
      replace(source, target)

    with absltest.mock.patch.object(os, 'replace', seen):
      self.rewritten({})
    self.assertLen(moved, 3)
    self.assertEqual(moved[-1], 'new.index')

  @parameterized.parameters(
    (OSError(28, 'disk full'), 'disk full'),
    (OSError('odd\nlines'), 'odd'),
    (tf.errors.UnknownError(None, None, 'no room\nat all'), 'no room'),
  )
  def test_a_disk_that_fails(self, error, reason):
    before = set(os.listdir(self.dir))
    with absltest.mock.patch.object(os, 'replace', side_effect=error):
      with self.assertRaises(UserError) as caught:
        self.rewritten({})
    self.assertEqual(
      str(caught.exception),
      '--out=%s: cannot be written: %s' % (self.out, reason),
    )
    self.assertEqual(set(os.listdir(self.dir)), before)


class CheckOutTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.create_tempdir().full_path)

  def refused(self, out):
    with self.assertRaises(UserError) as caught:
      rewriting.check_out(str(out))
    said = str(caught.exception)
    self.assertStartsWith(said, '--out=%s: ' % out)
    return said[len('--out=%s: ' % out) :]

  def test_a_new_one(self):
    (self.dir / 'new-1.index').write_bytes(b'')  # Of another.
    (self.dir / 'new.data').write_bytes(b'')
    rewriting.check_out(str(self.dir / 'new'))
    self.assertLen(os.listdir(self.dir), 2)

  @parameterized.parameters(
    '.index', '.meta', '', '.data-00000-of-00001', '.data-00003-of-00004'
  )
  def test_one_that_exists(self, end):
    for name in ('new', 'n[e]w*'):
      path = self.dir / (name + end)
      path.write_bytes(b'')
      self.assertEqual(
        self.refused(self.dir / name),
        '%s exists; give another prefix, or remove it first' % path,
      )

  def test_a_link_to_nowhere_exists(self):
    (self.dir / 'new.meta').symlink_to(self.dir / 'nil')
    self.assertIn('new.meta exists', self.refused(self.dir / 'new'))

  def test_no_name(self):
    expected = 'a directory; give a prefix in it, as '
    self.assertEqual(
      self.refused(self.dir), expected + str(self.dir / 'recalibrated')
    )
    self.assertEqual(
      self.refused(str(self.dir) + '/new/'),
      expected + str(self.dir / 'new' / 'recalibrated'),
    )

  def test_no_folder(self):
    self.assertEqual(
      self.refused(self.dir / 'nil' / 'new'),
      'no directory %s' % (self.dir / 'nil'),
    )

  def test_a_folder_that_is_not_ours(self):
    with absltest.mock.patch.object(
      rewriting.tempfile, 'TemporaryFile', side_effect=OSError(13, 'not yours')
    ):
      self.assertEqual(
        self.refused(self.dir / 'new'), 'cannot be written: not yours'
      )


if __name__ == '__main__':
  absltest.main()
