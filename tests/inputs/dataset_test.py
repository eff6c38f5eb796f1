"""Tests of graph_resnet9.inputs.dataset: the same images from every layout."""

import io
import os
import pickle
import tarfile
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from graph_resnet9.errors import UserError
from graph_resnet9.inputs import dataset
from graph_resnet9.inputs import download
from graph_resnet9.inputs import formats
from graph_resnet9.inputs import synthetic

STEMS = (
  'data_batch_1',
  'data_batch_2',
  'data_batch_3',
  'data_batch_4',
  'data_batch_5',
  'test_batch',
)
LAYOUTS = (
  'cifar-10-batches-bin',
  'cifar-10-batches-py',
  'cifar-10-binary.tar.gz',
  'cifar-10-python.tar.gz',
)


def file_records(number):
  """uint8 [10000, 3073] for one file: labels and some pixels at random."""
  random_state = np.random.RandomState(number)
  records = np.zeros([10000, 3073], np.uint8)
  records[:, 0] = random_state.randint(0, 10, 10000)
  # Three bytes name the record, in the red, green and blue plane.
  index = 10000 * number + np.arange(10000)
  records[:, 1 + 70] = index >> 16
  records[:, 1 + 1024 + 170] = index >> 8 & 255
  records[:, 1 + 2048 + 370] = index & 255
  return records


def record_index(images):
  """The numbers that file_records wrote into the images."""
  red = images[:, 2, 6, 0].astype(int)
  green = images[:, 5, 10, 1].astype(int)
  blue = images[:, 11, 18, 2].astype(int)
  return (red << 16) + (green << 8) + blue


def write_layout(folder, layout, files):
  """Writes name -> bytes as the folder or the archive `layout`."""
  path = os.path.join(folder, layout)
  if not layout.endswith('.gz'):
    os.mkdir(path)
    for name, data in files.items():
      with open(os.path.join(path, name), 'wb') as f:
        f.write(data)
    return
  inner = LAYOUTS[LAYOUTS.index(layout) - 2]
  with tarfile.open(path, 'w:gz', compresslevel=1) as archive:
    for name in reversed(files):  # An archive has an order of its own.
      info = tarfile.TarInfo('%s/%s' % (inner, name))
      info.size = len(files[name])
      archive.addfile(info, io.BytesIO(files[name]))


def make_layouts(root):
  """Writes the same 60,000 records in each layout, to root/LAYOUT/LAYOUT."""
  for layout in LAYOUTS:
    os.mkdir(os.path.join(root, layout))
  binary, pickled = {}, {}
  for number, stem in enumerate(STEMS):
    records = file_records(number)
    binary[stem + '.bin'] = records.tobytes()
    pickled[stem] = pickle.dumps(
      {
        b'data': np.ascontiguousarray(records[:, 1:]),
        b'labels': records[:, 0].tolist(),
      },
      4,
    )
  for layout in LAYOUTS:
    write_layout(
      os.path.join(root, layout), layout, pickled if 'py' in layout else binary
    )


class LayoutsTest(parameterized.TestCase):
  """Sixty thousand records on disk, four times."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.temp_dir = tempfile.TemporaryDirectory()
    cls.addClassCleanup(cls.temp_dir.cleanup)
    cls.root = cls.temp_dir.name
    make_layouts(cls.root)
    cls.train_labels = np.concatenate(
      [file_records(n)[:, 0] for n in range(5)]
    ).astype(int)
    cls.test_labels = file_records(5)[:, 0].astype(int)

  def setUp(self):
    super().setUp()
    self.enter_context(
      mock.patch.object(
        download, 'fetch', side_effect=AssertionError('a download')
      )
    )

  def source(self, layout='cifar-10-batches-bin', name='cifar10'):
    return dataset.find(name, os.path.join(self.root, layout))

  @parameterized.parameters(*LAYOUTS)
  def test_training_images_of_every_layout(self, layout):
    data = dataset.load(self.source(layout), 'train')
    self.assertEqual(data.images.shape, (50000, 32, 32, 3))
    np.testing.assert_array_equal(record_index(data.images), np.arange(50000))
    np.testing.assert_array_equal(data.labels, self.train_labels)
    self.assertEqual(
      (data.images.dtype, data.labels.dtype), (np.uint8, np.int32)
    )

  @parameterized.parameters(*LAYOUTS)
  def test_test_images_of_every_layout(self, layout):
    data = dataset.load(self.source(layout), 'test')
    self.assertEqual(data.images.shape, (10000, 32, 32, 3))
    np.testing.assert_array_equal(
      record_index(data.images), np.arange(50000, 60000)
    )
    np.testing.assert_array_equal(data.labels, self.test_labels)

  @parameterized.product(layout=LAYOUTS, name=('cifar10', 'auto'))
  def test_source_of_a_data_dir(self, layout, name):
    source = self.source(layout, name)
    self.assertEqual(source.name, 'cifar10')
    self.assertEqual(source.path, os.path.join(self.root, layout, layout))
    self.assertEqual(source.class_names[3], 'cat')

  def test_data_dir_may_end_in_a_slash(self):
    source = dataset.find('cifar10', os.path.join(self.root, LAYOUTS[0], ''))
    self.assertLen(dataset.load(source, 'test').labels, 10000)

  @parameterized.parameters(
    (1, 1),
    (150, 150),
    (10050, 10050),
    (0, 50000),
    (50000, 50000),
    (50001, 50000),
  )
  def test_examples_are_the_first_ones(self, examples, expected):
    data = dataset.load(self.source(), 'train', examples)
    np.testing.assert_array_equal(
      record_index(data.images), np.arange(expected)
    )
    np.testing.assert_array_equal(data.labels, self.train_labels[:expected])

  def test_class_sorted_keeps_the_order_within_a_class(self):
    data = dataset.load(self.source(), 'test', order='class_sorted')
    rank = sorted(range(10000), key=lambda i: (self.test_labels[i], i))
    np.testing.assert_array_equal(record_index(data.images) - 50000, rank)
    np.testing.assert_array_equal(data.labels, self.test_labels[rank])

  def test_class_sorted_sorts_the_first_examples(self):
    data = dataset.load(self.source(), 'test', 100, 'class_sorted')
    rank = sorted(range(100), key=lambda i: (self.test_labels[i], i))
    np.testing.assert_array_equal(record_index(data.images) - 50000, rank)

  @parameterized.parameters(
    ('train', ['data_batch_%d.bin' % i for i in (1, 2, 3, 4, 5)], 50000),
    ('test', ['test_batch.bin'], 10000),
  )
  def test_record_files_of_a_binary_folder_are_its_own(
    self, split, names, count
  ):
    source = self.source()
    with tempfile.TemporaryDirectory() as folder:
      found = dataset.record_files(source, split, folder)
      self.assertEmpty(os.listdir(folder))
    self.assertEqual(
      found, ([os.path.join(source.path, name) for name in names], count)
    )

  @parameterized.parameters(*LAYOUTS[1:])
  def test_record_files_of_another_layout_are_written(self, layout):
    with tempfile.TemporaryDirectory() as folder:
      (path,), count = dataset.record_files(self.source(layout), 'test', folder)
      self.assertEqual(os.path.dirname(path), folder)
      with open(path, 'rb') as f:
        self.assertEqual(f.read(), file_records(5).tobytes())
    self.assertEqual(count, 10000)

  @parameterized.parameters(
    (7, 'file'), (0, 'class_sorted'), (300, 'class_sorted')
  )
  def test_record_files_of_a_choice_are_written(self, examples, order):
    records = file_records(5)[: examples or None]
    if order == 'class_sorted':
      records = records[
        sorted(range(len(records)), key=lambda i: (records[i, 0], i))
      ]
    with tempfile.TemporaryDirectory() as folder:
      (path,), count = dataset.record_files(
        self.source(), 'test', folder, examples, order
      )
      with open(path, 'rb') as f:
        self.assertEqual(f.read(), records.tobytes())
    self.assertLen(records, count)

  def test_binary_folder_comes_before_the_other_layouts(self):
    with tempfile.TemporaryDirectory() as folder:
      for layout in LAYOUTS:
        os.symlink(
          os.path.join(self.root, layout, layout), os.path.join(folder, layout)
        )
      self.assertEqual(
        dataset.find('auto', folder).path, os.path.join(folder, LAYOUTS[0])
      )

  def test_cache_folder_is_looked_into(self):
    with tempfile.TemporaryDirectory() as cache:
      os.mkdir(os.path.join(cache, 'graph_resnet9'))
      path = os.path.join(cache, 'graph_resnet9', LAYOUTS[2])
      os.symlink(os.path.join(self.root, LAYOUTS[2], LAYOUTS[2]), path)
      with mock.patch.dict(os.environ, XDG_CACHE_HOME=cache):
        source = dataset.find('auto')
      self.assertEqual(source.path, path)
      self.assertLen(dataset.load(source, 'test').labels, 10000)


class FindTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = self.enter_context(tempfile.TemporaryDirectory())
    cache = os.path.join(self.folder, 'cache')
    self.archive = os.path.join(
      cache, 'graph_resnet9', 'cifar-10-binary.tar.gz'
    )
    self.enter_context(mock.patch.dict(os.environ, XDG_CACHE_HOME=cache))
    self.fetch = self.enter_context(mock.patch.object(download, 'fetch'))

  def refusal(self, name, data_dir):
    with self.assertRaises(UserError) as caught:
      dataset.find(name, data_dir)
    self.assertLen(str(caught.exception).splitlines(), 1)
    self.fetch.assert_not_called()
    return str(caught.exception)

  @parameterized.parameters('cifar10', 'auto')
  def test_missing_data_dir_is_refused(self, name):
    path = os.path.join(self.folder, 'nowhere')
    self.assertIn('--data_dir=%s: no such' % path, self.refusal(name, path))

  @parameterized.parameters('cifar10', 'auto')
  def test_data_dir_that_is_a_file_is_refused(self, name):
    path = os.path.join(self.folder, 'file')
    with open(path, 'wb') as f:
      f.write(b'x')
    self.assertIn('--data_dir=%s: a file' % path, self.refusal(name, path))

  @parameterized.parameters('cifar10', 'auto')
  def test_data_dir_without_data_is_refused_and_says_what_belongs(self, name):
    text = self.refusal(name, self.folder)
    for part in LAYOUTS + ('--data_dir=' + self.folder,):
      self.assertIn(part, text)

  @parameterized.parameters('cifar10', 'auto')
  def test_archive_is_downloaded_into_the_cache(self, name):
    source = dataset.find(name)
    self.fetch.assert_called_once_with(self.archive)
    self.assertEqual(source.path, self.archive)
    self.assertEqual(source.name, 'cifar10')

  def test_auto_takes_synthetic_images_with_a_warning_if_unreachable(self):
    self.fetch.side_effect = download.Unreachable('http://x: no route')
    with self.assertLogs('absl', 'WARNING') as logged:
      source = dataset.find('auto')
    self.assertEqual((source.name, source.path), ('synthetic', ''))
    self.assertEqual(source.class_names, synthetic.CLASS_NAMES)
    text = ''.join(logged.output)
    for part in (
      'NOT CIFAR-10',
      'SYNTHETIC',
      '--data_dir',
      'http://x: no route',
    ):
      self.assertIn(part, text)

  def test_cifar10_does_not_take_synthetic_images(self):
    self.fetch.side_effect = download.Unreachable('http://x: no route')
    with self.assertRaises(UserError) as caught:
      dataset.find('cifar10')
    self.assertIn('http://x: no route', str(caught.exception))
    self.assertIn('--data_dir', str(caught.exception))

  def test_auto_does_not_hide_a_wrong_checksum(self):
    self.fetch.side_effect = UserError('wrong SHA-256')
    with self.assertRaisesRegex(UserError, 'wrong SHA-256'):
      dataset.find('auto')

  def test_real_data_brings_no_warning(self):
    with self.assertLogs('absl', 'WARNING') as logged:
      dataset.find('auto')
      dataset.logging.warning('so that there is one')
    self.assertLen(logged.output, 1)

  def test_synthetic_looks_nowhere(self):
    source = dataset.find('synthetic', os.path.join(self.folder, 'nowhere'))
    self.fetch.assert_not_called()
    self.assertEqual(source.name, 'synthetic')

  def test_cache_dir_honours_xdg_cache_home(self):
    self.assertEqual(dataset.cache_dir(), os.path.dirname(self.archive))

  @parameterized.parameters('', None)
  def test_cache_dir_is_in_the_home_directory_otherwise(self, value):
    with mock.patch.dict(os.environ, HOME='/home/somebody'):
      os.environ.pop('XDG_CACHE_HOME')
      if value is not None:
        os.environ['XDG_CACHE_HOME'] = value
      self.assertEqual(
        dataset.cache_dir(), '/home/somebody/.cache/graph_resnet9'
      )


class EarlyTest(parameterized.TestCase):
  @parameterized.parameters(
    ('cifar10', 50000), ('auto', 50000), ('synthetic', 10000)
  )
  def test_batch_of_more_than_all_is_refused_before_anything_is_read(
    self, name, examples
  ):
    dataset.refuse_early(examples, name)
    with self.assertRaisesRegex(UserError, 'has %d examples' % examples):
      dataset.refuse_early(examples + 1, name)
    with self.assertRaisesRegex(UserError, 'has 700 examples'):
      dataset.refuse_early(701, name, train_examples=700)


class DamagedTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = self.enter_context(tempfile.TemporaryDirectory())
    self.path = os.path.join(self.root, 'cifar-10-batches-bin')
    os.mkdir(self.path)
    self.source = dataset.find('cifar10', self.root)
    self.write('test_batch.bin', bytes(30730000))

  def write(self, name, data):
    with open(os.path.join(self.path, name), 'wb') as f:
      f.write(data)

  def test_the_test_split_does_not_need_the_training_files(self):
    self.assertLen(dataset.load(self.source, 'test').labels, 10000)

  @parameterized.parameters(dataset.load, dataset.record_files)
  def test_missing_file_is_named(self, function):
    arguments = [self.root] if function is dataset.record_files else []
    with self.assertRaisesRegex(UserError, 'data_batch_1.bin'):
      function(self.source, 'train', *arguments)

  @parameterized.parameters(dataset.load, dataset.record_files)
  def test_damaged_file_is_named(self, function):
    self.write('test_batch.bin', bytes(30729999))
    arguments = [self.root] if function is dataset.record_files else []
    with self.assertRaisesRegex(UserError, 'test_batch.bin'):
      function(self.source, 'test', *arguments)

  def test_examples_do_not_hide_damage_in_the_last_file(self):
    for i in range(1, 6):
      self.write('data_batch_%d.bin' % i, bytes(30730000 - (i == 5)))
    with self.assertRaisesRegex(UserError, 'data_batch_5.bin'):
      dataset.load(self.source, 'train', 10)


class SyntheticTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.source = dataset.find('synthetic')

  @parameterized.parameters('train', 'test')
  def test_examples_are_the_first_ones_of_the_split(self, split):
    data = dataset.load(self.source, split, 60)
    expected = synthetic.split(60, synthetic.SPLITS[split][1])
    np.testing.assert_array_equal(data.images, expected.images)
    np.testing.assert_array_equal(data.labels, expected.labels)

  @parameterized.parameters(0, 2000, 3000)
  def test_a_split_has_no_more_than_its_size(self, examples):
    self.assertLen(dataset.load(self.source, 'test', examples).labels, 2000)

  def test_record_files_are_written(self):
    expected = synthetic.split(40, synthetic.SPLITS['train'][1])
    with tempfile.TemporaryDirectory() as folder:
      (path,), count = dataset.record_files(self.source, 'train', folder, 40)
      with open(path, 'rb') as f:
        split = formats.decode_records(f.read(), path, 40)
    self.assertEqual(count, 40)
    np.testing.assert_array_equal(split.images, expected.images)
    np.testing.assert_array_equal(split.labels, expected.labels)


if __name__ == '__main__':
  absltest.main()
