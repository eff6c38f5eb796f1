"""Other data than CIFAR-10: CIFAR-100 in its layouts, folders of one's own."""

import os
import pickle

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from graph_resnet9.errors import UserError
from graph_resnet9.inputs import cifar
from graph_resnet9.inputs import dataset
from graph_resnet9.inputs import formats

PIXELS = np.random.RandomState(0).randint(0, 256, [3, 3072], np.uint8)
COARSE, FINE = [4, 19, 0], [99, 0, 57]


def records(pixels, *labels):
  """Records as bytes: a byte of each label, then the pixels."""
  return np.concatenate([np.array(labels, np.uint8).T, pixels], 1).tobytes()


def images(pixels):
  """[n, 32, 32, 3] by three nested loops, from channel, row, column."""
  result = np.zeros([len(pixels), 32, 32, 3], np.uint8)
  for channel in range(3):
    for row in range(32):
      for column in range(32):
        at = 1024 * channel + 32 * row + column
        result[:, row, column, channel] = pixels[:, at]
  return result


class Cifar100Test(parameterized.TestCase):
  def test_names_of_the_data_set(self):
    """As of https://www.cs.toronto.edu/~kriz/cifar.html."""
    fine = cifar.CIFAR100.class_names
    coarse = cifar.CIFAR100_COARSE.class_names
    self.assertLen(set(fine), 100)
    self.assertLen(set(coarse), 20)
    for names in (fine, coarse):
      self.assertEqual(list(names), sorted(names))
    self.assertEqual((fine[0], fine[57], fine[99]), ('apple', 'pear', 'worm'))
    self.assertEqual(
      (coarse[4], coarse[19]), ('fruit_and_vegetables', 'vehicles_2')
    )

  @parameterized.parameters(
    (cifar.CIFAR100, FINE), (cifar.CIFAR100_COARSE, COARSE)
  )
  def test_either_label_of_a_record(self, kind, expected):
    split = formats.decode_records(
      records(PIXELS, COARSE, FINE), 'train.bin', 3, kind
    )
    self.assertEqual(split.labels.tolist(), expected)
    np.testing.assert_array_equal(split.images, images(PIXELS))

  @parameterized.parameters(
    (cifar.CIFAR100, FINE), (cifar.CIFAR100_COARSE, COARSE)
  )
  def test_either_label_of_a_pickle(self, kind, expected):
    data = pickle.dumps(
      {
        b'data': PIXELS,
        b'fine_labels': FINE,
        b'coarse_labels': COARSE,
        b'filenames': [b'a.png', b'b.png', b'c.png'],
      },
      2,
    )
    split = formats.decode_pickle(data, 'train', 3, kind)
    self.assertEqual(split.labels.tolist(), expected)
    np.testing.assert_array_equal(split.images, images(PIXELS))

  def test_label_out_of_bounds(self):
    with self.assertRaisesRegex(UserError, 'label 100, and CIFAR-100 has.* 99'):
      formats.decode_records(
        records(PIXELS, COARSE, [5, 100, 5]), 'train.bin', 3, cifar.CIFAR100
      )

  def test_files_of_the_real_size(self):
    folder = self.create_tempdir().full_path
    with open(os.path.join(folder, 'test.bin'), 'wb') as f:
      for _ in range(10000 // 10):
        f.write(
          records(PIXELS[[0, 1, 2, 0, 1, 2, 0, 1, 2, 0]], [7] * 10, range(10))
        )
    source = dataset.find('cifar100', folder)
    self.assertEqual((source.name, source.path), ('cifar100', folder))
    split = dataset.load(source, 'test')
    self.assertEqual(split.labels.tolist(), list(range(10)) * 1000)
    scratch = self.create_tempdir().full_path
    (path,), count = dataset.record_files(source, 'test', scratch)
    self.assertEqual((count, os.path.getsize(path)), (10000, 10000 * 3073))
    with self.assertRaisesRegex(UserError, 'train.bin: missing'):
      dataset.load(source, 'train')


class FindTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.dir = self.create_tempdir()

  def refusal(self, *args):
    with self.assertRaises(UserError) as caught:
      dataset.find(*args)
    return str(caught.exception)

  @parameterized.parameters(
    ('cifar10', 'cifar-10-batches-bin'),
    ('cifar10', 'cifar-10-batches-py'),
    ('cifar100', 'cifar-100-binary'),
    ('cifar100_coarse', 'cifar-100-python'),
  )
  def test_data_dir_is_the_folder_itself(self, name, layout):
    folder = self.dir.mkdir(layout).full_path
    self.assertEqual(dataset.find(name, folder).path, folder)
    self.assertEqual(dataset.find(name, self.dir.full_path).path, folder)

  @parameterized.parameters(
    ('cifar10', 'cifar-10-binary.tar.gz'),
    ('cifar100', 'cifar-100-python.tar.gz'),
  )
  def test_data_dir_is_the_archive_itself(self, name, layout):
    path = self.dir.create_file(layout).full_path
    self.assertEqual(dataset.find(name, path).path, path)

  @parameterized.parameters('.bin', '')
  def test_folder_of_another_name(self, end):
    for i in range(1, 6):
      self.dir.create_file('data_batch_%d%s' % (i, end))
    source = dataset.find('cifar10', self.dir.full_path)
    self.assertEqual(source.path, self.dir.full_path)
    self.assertEqual(source.kind.is_binary(source.path), end == '.bin')

  @parameterized.product(
    name=['auto', 'cifar10'],
    layout=[
      'cifar-100-binary',
      'cifar-100-python.tar.gz',
      'cifar-10-batches-bin',
    ],
  )
  def test_cifar100_by_mistake_is_named(self, name, layout):
    path = os.path.join(self.dir.full_path, layout)
    if layout.endswith('.gz'):
      self.dir.create_file(layout)
    elif layout.startswith('cifar-100'):
      self.dir.mkdir(layout)
    else:
      path = self.dir.create_file('renamed/train.bin').full_path
      path = os.path.dirname(path)
    self.assertIn('CIFAR-100; --dataset=cifar100', self.refusal(name, path))
    self.dir.mkdir('cifar-10-batches-py')
    self.assertIn(
      'CIFAR-10; --dataset=cifar10',
      self.refusal(
        'cifar100', os.path.join(self.dir.full_path, 'cifar-10-batches-py')
      ),
    )

  def test_others_are_not_downloaded(self):
    for name in ('cifar100', 'cifar100_coarse', 'folder'):
      self.assertIn('Give --data_dir', self.refusal(name, ''))


class OwnTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.dir = self.create_tempdir()
    for name, labels in (
      ('train_1.bin', [0, 1, 2]),
      ('train_2.bin', [2, 2, 2]),
      ('test.bin', [1, 0, 1]),
    ):
      self.dir.create_file(name, records(PIXELS, labels), mode='wb')

  def find(self, classes=''):
    return dataset.find('folder', self.dir.full_path, classes)

  def test_any_number_of_records_in_files_of_any_name(self):
    source = self.find('3')
    self.assertEqual(source.class_names, ('0', '1', '2'))
    train = dataset.load(source, 'train')
    self.assertEqual(train.labels.tolist(), [0, 1, 2, 2, 2, 2])
    np.testing.assert_array_equal(train.images[3:], images(PIXELS))
    self.assertEqual(dataset.load(source, 'test').labels.tolist(), [1, 0, 1])
    paths, count = dataset.record_files(source, 'train', '')
    self.assertEqual(
      [os.path.basename(path) for path in paths], ['train_1.bin', 'train_2.bin']
    )
    self.assertEqual(count, 6)

  def test_names_from_batches_meta_txt(self):
    self.dir.create_file('batches.meta.txt', 'red fox\nhare, brown\n\nlynx\n')
    names = ('red fox', 'hare  brown', 'lynx')
    self.assertEqual(self.find().class_names, names)
    self.assertEqual(self.find('a,b, c').class_names, ('a', 'b', 'c'))
    self.assertEqual(dataset.class_names('folder', ','.join(names)), names)

  def test_refusals(self):
    for classes, expected in (
      ('', 'batches.meta.txt'),
      ('1', '2 to 256'),
      ('257', '2 to 256'),
      ('a,a', 'different'),
      ('a,,b', 'different'),
      ('9' * 99, '2 to 256'),
    ):
      with self.subTest(classes), self.assertRaisesRegex(UserError, expected):
        self.find(classes)
    with self.assertRaisesRegex(UserError, 'label 2, and .* labels 0 to 1'):
      dataset.load(self.find('2'), 'train')
    self.dir.create_file('train_1.bin', b'x' * 3072, mode='wb')
    with self.assertRaisesRegex(UserError, 'train_1.bin: 3072 bytes'):
      dataset.load(self.find('3'), 'train')
    with self.assertRaisesRegex(UserError, '--classes: is for'):
      dataset.find('cifar10', self.dir.full_path, '3')
    os.remove(os.path.join(self.dir.full_path, 'test.bin'))
    with self.assertRaisesRegex(UserError, 'asks for test'):
      self.find('3')


if __name__ == '__main__':
  absltest.main()
