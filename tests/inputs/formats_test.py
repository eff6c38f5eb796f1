"""Tests of graph_resnet9.inputs.formats: bytes built here, arrays there."""

import copyreg
import gzip
import io
import os
import pickle
import random
import struct
import subprocess
import sys
import tarfile
import tempfile
import tracemalloc
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from graph_resnet9.errors import UserError
from graph_resnet9.inputs import cifar
from graph_resnet9.inputs import formats

RECORDS = 3
LABELS = [9, 0, 4]
REPO = os.path.abspath(os.path.join(os.path.dirname(__file__), '../..'))


def pixel(image, row, column, channel):
  """The value at a place of one of the test images: all places differ much."""
  return (89 * image + 31 * row + 7 * column + 101 * channel) % 251


def record(label, image):
  """One record, byte by byte: the label, then channel, row, column."""
  data = [label]
  for channel in range(3):
    for row in range(32):
      for column in range(32):
        data.append(pixel(image, row, column, channel))
  return bytes(data)


def expected_images(count=RECORDS):
  return np.array(
    [
      [
        [[pixel(n, r, c, k) for k in range(3)] for c in range(32)]
        for r in range(32)
      ]
      for n in range(count)
    ],
    np.uint8,
  )


def records(labels=tuple(LABELS)):
  return b''.join(record(label, n) for n, label in enumerate(labels))


def rows(count=RECORDS):
  """The pixels of the test images as the pickled layout has them."""
  return np.array([list(record(0, n)[1:]) for n in range(count)], np.uint8)


class FormatsTestCase(parameterized.TestCase):
  def refusal(self, name, function, *args):
    """The text of the UserError of a call: one line that names the file."""
    with self.assertRaises(UserError) as caught:
      function(*args)
    text = str(caught.exception)
    self.assertIn(name, text)
    self.assertLen(text.splitlines(), 1)
    return text

  def temp_dir(self):
    return self.enter_context(tempfile.TemporaryDirectory())


class RecordsTest(FormatsTestCase):
  def test_every_pixel_is_where_its_byte_says(self):
    split = formats.decode_records(records(), 'a.bin', RECORDS)
    np.testing.assert_array_equal(split.images, expected_images())

  def test_labels_are_the_first_bytes(self):
    split = formats.decode_records(records(), 'a.bin', RECORDS)
    self.assertEqual(split.labels.tolist(), LABELS)

  def test_dtypes(self):
    split = formats.decode_records(records(), 'a.bin', RECORDS)
    self.assertEqual(
      (split.images.dtype, split.labels.dtype), (np.uint8, np.int32)
    )

  def test_encoded_records_are_the_hand_built_bytes(self):
    split = formats.Split(expected_images(), np.array(LABELS, np.int32))
    self.assertEqual(formats.encode_records(split).tobytes(), records())

  def test_decoding_undoes_encoding(self):
    random_state = np.random.RandomState(0)
    images = random_state.randint(0, 256, (20, 32, 32, 3)).astype(np.uint8)
    labels = random_state.randint(0, 10, 20).astype(np.int32)
    data = formats.encode_records(formats.Split(images, labels)).tobytes()
    split = formats.decode_records(data, 'a.bin', 20)
    np.testing.assert_array_equal(split.images, images)
    np.testing.assert_array_equal(split.labels, labels)

  @parameterized.parameters(
    0, 1, 2 * 3073, 3 * 3073 - 1, 3 * 3073 + 1, 4 * 3073
  )
  def test_wrong_size_is_refused(self, size):
    data = (records() + records())[:size]
    text = self.refusal('a.bin', formats.decode_records, data, 'a.bin', RECORDS)
    self.assertIn('%d bytes' % size, text)

  def test_a_file_must_hold_ten_thousand_records_by_default(self):
    self.refusal('a.bin', formats.decode_records, records(), 'a.bin')
    split = formats.decode_records(bytes(10000 * 3073), 'a.bin')
    self.assertLen(split.labels, 10000)

  @parameterized.parameters(10, 128, 255)
  def test_label_over_nine_is_refused(self, label):
    data = records([1, 2, label])
    text = self.refusal('a.bin', formats.decode_records, data, 'a.bin', RECORDS)
    self.assertIn('record 2 has label %d' % label, text)

  def test_first_takes_that_many_and_zero_takes_all(self):
    split = formats.decode_records(records(), 'a.bin', RECORDS)
    self.assertEqual(split.first(2).labels.tolist(), LABELS[:2])
    self.assertEqual(
      split.first(2).images.tolist(), expected_images(2).tolist()
    )
    self.assertEqual(split.first(0).labels.tolist(), LABELS)


class FolderTest(FormatsTestCase):
  def setUp(self):
    super().setUp()
    self.folder = os.path.join(self.temp_dir(), 'cifar-10-batches-bin')
    os.mkdir(self.folder)

  def write(self, name, data):
    path = os.path.join(self.folder, name)
    with open(path, 'wb') as f:
      f.write(data)
    return path

  def read(self, *stems):
    return list(formats.read_layout(self.folder, stems))

  def test_files_come_in_the_order_asked_for(self):
    for label, name in enumerate(('data_batch_1.bin', 'test_batch.bin')):
      self.write(name, (bytes([label]) + bytes(3072)) * 10000)
    parts = self.read('test_batch', 'data_batch_1')
    self.assertEqual(
      [(stem, set(part.labels)) for stem, part in parts],
      [('test_batch', {1}), ('data_batch_1', {0})],
    )

  def test_pickled_files_have_no_suffix(self):
    folder = os.path.join(self.temp_dir(), 'cifar-10-batches-py')
    os.mkdir(folder)
    with open(os.path.join(folder, 'test_batch'), 'wb') as f:
      pickle.dump(
        {b'data': np.full([10000, 3072], 5, np.uint8), b'labels': [7] * 10000},
        f,
        4,
      )
    ((stem, split),) = formats.read_layout(folder, ['test_batch'])
    self.assertEqual((stem, set(split.labels)), ('test_batch', {7}))
    self.assertEqual(
      (split.images.shape, split.images.min()), ((10000, 32, 32, 3), 5)
    )

  def test_truncated_file_is_named(self):
    path = self.write('test_batch.bin', bytes(3073 * 9999 + 100))
    self.refusal(path, self.read, 'test_batch')

  def test_missing_file_is_named(self):
    path = os.path.join(self.folder, 'data_batch_4.bin')
    self.assertIn('missing', self.refusal(path, self.read, 'data_batch_4'))

  def test_directory_instead_of_a_file_is_named(self):
    path = os.path.join(self.folder, 'test_batch.bin')
    os.mkdir(path)
    self.assertIn('directory', self.refusal(path, self.read, 'test_batch'))

  def test_file_instead_of_the_folder_is_named(self):
    os.rmdir(self.folder)
    with open(self.folder, 'wb') as f:
      f.write(b'not a folder')
    self.refusal(self.folder, self.read, 'test_batch')

  def test_file_too_large_to_be_cifar10_is_not_read(self):
    path = self.write('test_batch.bin', bytes(3073 * 10000))
    small = cifar.CIFAR10._replace(max_file_bytes=3073 * 10000 - 1)
    read = lambda: list(formats.read_layout(self.folder, ['test_batch'], small))
    self.assertIn('too large', self.refusal(path, read))


# Pickles put together by hand, opcode by opcode.


def short_string(data):
  """SHORT_BINSTRING: str of Python 2."""
  return b'U' + struct.pack('<B', len(data)) + data


def string(data):
  """BINSTRING."""
  return b'T' + struct.pack('<i', len(data)) + data


def text(data):
  """BINUNICODE."""
  return b'X' + struct.pack('<I', len(data)) + data


def number(value):
  """BININT."""
  return b'J' + struct.pack('<i', value)


def called(module, name, *arguments):
  """GLOBAL, arguments, TUPLE, REDUCE: the result of a call."""
  return b'c%s\n%s\n(%stR' % (module, name, b''.join(arguments))


def dtype(code, order=b'|'):
  """numpy.dtype(code, 0, 1) with its state (3, order, ...), in Python 2."""
  return (
    called(b'numpy', b'dtype', short_string(code), b'K\x00', b'K\x01')
    + b'(K\x03'
    + short_string(order)
    + b'NNN'
    + number(-1)
    + number(-1)
    + b'K\x00tb'
  )


def array(
  shape,
  code,
  data,
  order=b'|',
  fortran=False,
  module=b'numpy.core.multiarray',
  opcodes=None,
):
  """An ndarray: _reconstruct(ndarray, (0,), 'b') and its state.

  Its bytes are `data`, or what `opcodes` make.
  """
  return (
    called(
      module,
      b'_reconstruct',
      b'cnumpy\nndarray\n',
      b'K\x00\x85',
      short_string(b'b'),
    )
    + b'(K\x01('
    + b''.join(number(n) for n in shape)
    + b't'
    + dtype(code, order)
    + (b'\x88' if fortran else b'\x89')
    + (string(data) if opcodes is None else opcodes)
    + b'tb'
  )


def from_buffer(shape, code, opcodes, module=b'numpy._core.numeric'):
  """An ndarray as protocol 5 has it: _frombuffer(bytes, dtype, shape, 'C')."""
  return called(
    module,
    b'_frombuffer',
    opcodes,
    dtype(code),
    b'(' + b''.join(number(n) for n in shape) + b't',
    short_string(b'C'),
  )


def int_list(values):
  return b'](' + b''.join(number(v) for v in values) + b'e'


def batch(data=None, labels=None, key=None, extra=b''):
  """A protocol 2 pickle of {'data': ..., 'labels': ...}; parts: opcodes."""
  if data is None:
    data = array((RECORDS, 3072), b'u1', rows().tobytes())
  return (
    b'\x80\x02}('
    + (key or short_string(b'data'))
    + data
    + short_string(b'labels')
    + (labels or int_list(LABELS))
    + extra
    + b'u.'
  )


def python2_file():
  """A batch file as cPickle of Python 2 wrote the canonical ones, memo too."""
  pixels = rows().tobytes()
  return (
    b'\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x15training batch 1 of 5q\x03'
    b'U\x06labelsq\x04]q\x05(K\x09K\x00K\x04eU\x04dataq\x06'
    b'cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08'
    b'K\x00\x85U\x01b\x87Rq\x09(K\x01K\x03M\x00\x0c\x86cnumpy\ndtype\nq\x0a'
    b'U\x02u1K\x00K\x01\x87Rq\x0b(K\x03U\x01|NNNJ\xff\xff\xff\xff'
    b'J\xff\xff\xff\xffK\x00tb\x89T'
    + struct.pack('<i', len(pixels))
    + pixels
    + b'tbU\x09filenamesq\x0c]q\x0d(U\x05a.pngq\x0eU\x05b.pngq\x0f'
    b'U\x05c.pngq\x10eu.'
  )


class PickleTestCase(FormatsTestCase):
  def assert_decodes(self, data):
    split = formats.decode_pickle(data, 'batch', RECORDS)
    np.testing.assert_array_equal(split.images, expected_images())
    self.assertEqual(split.labels.tolist(), LABELS)
    self.assertEqual(
      (split.images.dtype, split.labels.dtype), (np.uint8, np.int32)
    )

  def assert_refused(self, data):
    return self.refusal('batch', formats.decode_pickle, data, 'batch', RECORDS)


class PickleTest(PickleTestCase):
  @parameterized.product(protocol=tuple(range(6)), keys=(str, bytes))
  def test_what_this_python_and_numpy_write(self, protocol, keys):
    content = {'data': rows(), 'labels': LABELS, 'filenames': ['a', 'b', 'c']}
    if keys is bytes:
      content = {k.encode(): v for k, v in content.items()}
    self.assert_decodes(pickle.dumps(content, protocol))

  def test_what_python_2_wrote(self):
    self.assert_decodes(python2_file())

  @parameterized.parameters(b'numpy.core.multiarray', b'numpy._core.multiarray')
  def test_arrays_of_numpy_1_and_2(self, module):
    self.assert_decodes(
      batch(array((RECORDS, 3072), b'u1', rows().tobytes(), module=module))
    )

  @parameterized.product(
    module=(b'numpy.core.numeric', b'numpy._core.numeric'),
    opcode=(b'B', b'\x96'),
  )
  def test_protocol_5_arrays_of_numpy_1_and_2(self, module, opcode):
    size = struct.pack('<I' if opcode == b'B' else '<Q', RECORDS * 3072)
    self.assert_decodes(
      batch(
        from_buffer(
          (RECORDS, 3072), b'u1', opcode + size + rows().tobytes(), module
        )
      )
    )

  @parameterized.parameters(0, 2, 5)
  def test_fortran_order(self, protocol):
    pixels = np.asfortranarray(rows())
    self.assert_decodes(
      pickle.dumps({'data': pixels, 'labels': LABELS}, protocol)
    )

  def test_fortran_order_of_python_2(self):
    self.assert_decodes(
      batch(array((RECORDS, 3072), b'u1', rows().T.tobytes(), fortran=True))
    )

  @parameterized.parameters(2, 5)
  def test_array_with_gaps(self, protocol):
    pixels = np.repeat(rows(), 2, axis=0)[::2]
    self.assert_decodes(
      pickle.dumps({'data': pixels, 'labels': LABELS}, protocol)
    )

  @parameterized.parameters('<i8', '>i8', '>i2', '<u4', 'u1', 'i1')
  def test_labels_may_be_an_array(self, code):
    self.assert_decodes(
      pickle.dumps({'data': rows(), 'labels': np.array(LABELS, code)}, 2)
    )

  def test_labels_may_be_a_tuple(self):
    self.assert_decodes(
      pickle.dumps({'data': rows(), 'labels': tuple(LABELS)}, 2)
    )

  @parameterized.parameters(
    (['data'], 'list'), (None, 'NoneType'), (np.zeros(3), '')
  )
  def test_something_else_than_a_dict_is_refused(self, content, kind):
    self.assertIn(kind, self.assert_refused(pickle.dumps(content, 2)))

  @parameterized.parameters('data', 'labels')
  def test_missing_key_is_refused(self, key):
    content = {'data': rows(), 'labels': LABELS}
    del content[key]
    self.assert_refused(pickle.dumps(content, 2))

  @parameterized.named_parameters(
    ('rows', np.zeros([RECORDS + 1, 3072], np.uint8)),
    ('columns', np.zeros([RECORDS, 3071], np.uint8)),
    ('axes', np.zeros([RECORDS, 3, 1024], np.uint8)),
    ('int8', np.zeros([RECORDS, 3072], np.int8)),
    ('float', np.zeros([RECORDS, 3072])),
    ('no_array', [[0] * 3072] * RECORDS),
    ('none', None),
  )
  def test_data_of_another_form_is_refused(self, pixels):
    self.assert_refused(pickle.dumps({'data': pixels, 'labels': LABELS}, 2))

  @parameterized.parameters(
    ([1, 2],),
    ([1, 2, 3, 4],),
    ([],),
    ([1.0, 2.0, 3.0],),
    (['1', '2', '3'],),
    ([[1], [2], [3]],),
    (None,),
    (5,),
    ({0: 1, 1: 2, 2: 3},),
  )
  def test_labels_of_another_form_are_refused(self, labels):
    self.assert_refused(pickle.dumps({'data': rows(), 'labels': labels}, 2))

  @parameterized.parameters('f8', 'i4')
  def test_label_arrays_of_another_form_are_refused(self, code):
    labels = np.ones([3, 1] if code == 'i4' else [3], code)
    self.assert_refused(pickle.dumps({'data': rows(), 'labels': labels}, 2))

  def test_label_array_without_an_axis_is_refused(self):
    self.assert_refused(batch(labels=array((), b'i4', bytes(4))))

  @parameterized.parameters(10, -1, 2**40, -(2**70))
  def test_label_out_of_range_is_refused(self, label):
    labels = [1, label, 2]
    self.assertIn(
      'record 1 has label %d' % label,
      self.assert_refused(pickle.dumps({'data': rows(), 'labels': labels}, 2)),
    )

  def test_label_of_thousands_of_digits_is_refused(self):
    self.assert_refused(
      pickle.dumps({'data': rows(), 'labels': [1, 2, 1 << 40000]}, 2)
    )

  def test_key_that_is_not_latin1_is_no_obstacle_or_refused(self):
    data = batch(extra=text('\u0100'.encode()) + b'N')
    try:
      self.assert_decodes(data)
    except UserError:
      self.assert_refused(data)


def shell(command):
  """A str, as an argument of a hostile call."""
  return text(command.encode())


def hostile_pickles(marker):
  """Name -> pickle that makes the file `marker` where it is not refused."""
  touch = 'touch %s' % marker
  make = shell('open(%r, "w").close()' % marker)
  system = called(b'os', b'system', shell(touch))
  stack = lambda module, name: (
    b'\x8c'
    + bytes([len(module)])
    + module
    + b'\x8c'
    + bytes([len(name)])
    + name
    + b'\x93'
  )
  return {
    'os.system': b'\x80\x02' + system + b'.',
    'posix.system': batch(called(b'posix', b'system', shell(touch))),
    'text protocol': b"cos\nsystem\n(S'%s'\ntR." % touch.encode(),
    'eval': b'\x80\x02' + called(b'builtins', b'eval', make) + b'.',
    'exec': batch(called(b'builtins', b'exec', make)),
    'eval of Python 2': b'\x80\x02'
    + called(b'__builtin__', b'eval', make)
    + b'.',
    'subprocess': b'\x80\x02'
    + called(
      b'subprocess', b'call', b'](' + shell('touch') + shell(marker) + b'e'
    )
    + b'.',
    'open': batch(called(b'io', b'open', shell(marker), shell('w'))),
    'STACK_GLOBAL': (
      b'\x80\x04' + stack(b'os', b'system') + shell(touch) + b'\x85R.'
    ),
    'STACK_GLOBAL with a dotted name': (
      b'\x80\x04' + stack(b'tarfile', b'os.system') + shell(touch) + b'\x85R.'
    ),
    'dotted through the reader itself': (
      b'\x80\x04'
      + stack(b'graph_resnet9.inputs.formats', b'os.system')
      + shell(touch)
      + b'\x85R.'
    ),
    'STACK_GLOBAL from the memo': (
      b'\x80\x04\x8c\x06system\x94\x8c\x02os\x94h\x01h\x00\x93'
      + shell(touch)
      + b'\x85R.'
    ),
    'INST': b'(' + shell(touch) + b'ios\nsystem\n.',
    'OBJ': b'(cos\nsystem\n' + shell(touch) + b'o.',
    'a class': b'\x80\x02'
    + called(b'_io', b'FileIO', shell(marker), shell('w'))
    + b'.',
    'BUILD': (b'\x80\x02' + array((1,), b'u1', None, opcodes=system) + b'.'),
    'argument of an array': batch(
      b'cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n'
      + system
      + b'tR'
    ),
    'in the labels': batch(labels=b'](' + system + b'e'),
    'in a key': batch(extra=system + b'N'),
    'thrown away': batch(
      system + b'0' + array((RECORDS, 3072), b'u1', rows().tobytes())
    ),
    'getattr': batch(
      called(
        b'builtins',
        b'getattr',
        called(b'importlib', b'import_module', shell('os')),
        shell('system'),
      )
      + b'('
      + shell(touch)
      + b'tR'
    ),
  }


class HostilePickleTest(PickleTestCase):
  def setUp(self):
    super().setUp()
    self.marker = os.path.join(self.temp_dir(), 'marker')

  @parameterized.parameters(*hostile_pickles(''))
  def test_nothing_is_run(self, name):
    data = hostile_pickles(self.marker)[name]
    try:  # The input is what it says: unprotected, it makes the file.
      pickle.loads(data, encoding='bytes')
    except Exception:  # pylint: disable=broad-except
      pass
    self.assertTrue(os.path.exists(self.marker))
    os.remove(self.marker)
    self.assert_refused(data)
    self.assertFalse(os.path.exists(self.marker))

  def test_numpy_load_is_not_called(self):
    path = os.path.join(self.temp_dir(), 'pickled.npy')
    with open(path, 'wb') as f:
      f.write(hostile_pickles(self.marker)['os.system'])
    data = batch(called(b'numpy', b'load', shell(path), b'N', b'\x88'))
    self.assert_refused(data)
    self.assertFalse(os.path.exists(self.marker))
    pickle.loads(data, encoding='bytes')
    self.assertTrue(os.path.exists(self.marker))

  def test_registered_extension_is_not_called(self):
    copyreg.add_extension('os', 'system', 0x77)
    self.addCleanup(copyreg.remove_extension, 'os', 'system', 0x77)
    data = b'\x80\x02\x82\x77' + shell('touch %s' % self.marker) + b'\x85R.'
    self.assert_refused(data)
    self.assertFalse(os.path.exists(self.marker))

  @parameterized.parameters(
    (b'_codecs', b'encode'),
    (b'numpy', b'dtype'),
    (b'numpy.core.multiarray', b'_reconstruct'),
    (b'numpy.core.numeric', b'_frombuffer'),
  )
  def test_functions_of_the_reader_are_not_changed(self, module, name):
    # BUILD with (None, {'__doc__': 'changed'}) sets an attribute.
    change = b'N}' + text(b'__doc__') + text(b'changed') + b's\x86b'
    self.assert_refused(b'\x80\x02c%s\n%s\n%s.' % (module, name, change))
    self.assertNotIn(
      'changed',
      [getattr(value, '__doc__', None) for value in vars(formats).values()],
    )

  # Below: batches that would be whole, were it not for one thing in them.

  def test_the_whole_batch_that_the_next_tests_spoil(self):
    self.assert_decodes(batch())

  @parameterized.parameters(b'utf-8', b'ascii', b'rot13', b'raw_unicode_escape')
  def test_encode_knows_latin1_only(self, encoding):
    key = lambda name: called(b'_codecs', b'encode', text(b'data'), text(name))
    self.assert_decodes(batch(key=key(b'latin1')))
    self.assert_refused(batch(key=key(encoding)))

  @parameterized.parameters(b'numpy.core.multiarray', b'numpy._core.multiarray')
  def test_numpy_scalar_is_refused(self, module):
    scalar = called(module, b'scalar', dtype(b'u1'), short_string(b'\x05'))
    self.assertIn(
      'scalar',
      self.assert_refused(batch(labels=b'](K\x01K\x02' + scalar + b'e')),
    )

  def test_object_array_is_refused(self):
    labels = array((3,), b'O8', None, opcodes=int_list(LABELS))
    self.assertIn('O8', self.assert_refused(batch(labels=labels)))

  @parameterized.parameters(b'V1', b'S1', b'U1', b'M8', b'c8', b'O', b'u1,u1')
  def test_array_of_another_kind_is_refused(self, code):
    extra = short_string(b'more') + array((1,), code, bytes(16))
    self.assert_refused(batch(extra=extra))

  def test_calling_ndarray_is_refused(self):
    call = called(b'numpy', b'ndarray', b'K\x03M\x00\x0c\x86')
    self.assert_refused(batch(call))
    self.assert_refused(batch(extra=short_string(b'more') + call))

  @parameterized.parameters(
    ((2**31 - 1, 2**31 - 1),),
    ((2**31 - 1,) * 9,),
    ((-1, -1),),
    ((-3, -3072),),
    ((3,) + (1,) * 99 + (3072,),),
    ((0, 0),),
    ((),),
  )
  def test_shape_that_does_not_fit_the_bytes_is_refused(self, shape):
    self.assert_refused(batch(array(shape, b'u1', rows().tobytes())))

  @parameterized.parameters(
    short_string(b''), number(RECORDS * 3072), b'N', text(b'abc')
  )
  def test_array_bytes_must_be_bytes(self, data):
    shape = (RECORDS, 3072)
    self.assert_refused(batch(array(shape, b'u1', None, opcodes=data)))
    self.assert_refused(batch(from_buffer(shape, b'u1', data)))

  # BINBYTES and LONG4, then BINBYTES8 and FRAME.
  @parameterized.parameters((b'B', 4), (b'\x8b', 4), (b'\x8e', 8), (b'\x95', 8))
  def test_sizes_beyond_the_end_are_refused(self, opcode, size):
    self.assert_refused(
      b'\x80\x05' + opcode + b'\xff' * (size - 1) + b'\x7f' + b'abc.'
    )

  def test_error_text_of_several_lines_becomes_one(self):
    self.assert_refused(b'\x80\x04\x8c\x05a\nb\rc\x8c\x03d\ne\x93.')

  def test_memo_index_does_not_fill_the_memory(self):
    data = batch(extra=short_string(b'x') + b'Nr' + struct.pack('<I', 1 << 24))
    tracemalloc.start()
    self.addCleanup(tracemalloc.stop)
    try:
      self.assert_decodes(data)
    except UserError:
      pass
    self.assertLess(tracemalloc.get_traced_memory()[1], 1 << 26)

  def test_deep_nesting_does_not_end_the_process(self):
    program = (
      'import sys\n'
      'from graph_resnet9.errors import UserError\n'
      'from graph_resnet9.inputs import formats\n'
      'try:\n'
      "  formats.decode_pickle(sys.stdin.buffer.read(), 'batch')\n"
      'except UserError:\n'
      "  print('refused')\n"
    )
    nested = b'\x80\x02})' + b'\x85' * 1000000 + b'Ns.'  # A tuple as a key.
    done = subprocess.run(
      [sys.executable, '-c', program],
      input=nested,
      cwd=REPO,
      stdout=subprocess.PIPE,
      check=False,
    )
    self.assertEqual((done.returncode, done.stdout.strip()), (0, b'refused'))

  @parameterized.named_parameters(
    ('from_the_memo', b'q\x01h\x01\x86'), ('doubled', b'2\x86')
  )
  def test_key_that_takes_weeks_to_hash_is_refused(self, twice):
    key = b'N' + twice * 60  # A pair of a pair of ... of the same, 60 deep.
    self.assert_refused(batch(extra=key + b'N'))

  def test_name_that_takes_weeks_to_print_is_refused(self):
    # A list of the same list twice, 60 deep, where a dtype's name belongs.
    nested = b']q\x00'
    for i in range(60):
      nested = b'](%sh%ceq%c' % (nested, i, i + 1)
    for use in (
      b'cnumpy\ndtype\n(%sK\x00K\x01tR' % nested,
      b'c_codecs\nencode\n(%s%stR' % (text(b'data'), nested),
      called(b'numpy', b'dtype', short_string(b'u1'), b'K\x00')
      + b'(K\x03'
      + nested
      + b'NNNNNNtb',
    ):
      reason = self.assert_refused(batch(extra=short_string(b'x') + use))
      self.assertIn('a list as a name', reason)

  def test_message_does_not_fill_the_screen(self):
    name = b'x' * 100000
    self.assertLess(
      len(self.assert_refused(b'\x80\x02c%s\n%s\n.' % (name, name))), 1000
    )

  @parameterized.parameters(b']', b'N', b'(', b'}')
  def test_small_file_of_many_objects_does_not_fill_the_memory(self, opcode):
    data = b'\x80\x02' + opcode * (8 << 20) + b'.'
    tracemalloc.start()
    self.addCleanup(tracemalloc.stop)
    self.assertIn('opcodes', self.assert_refused(data))
    self.assertLess(tracemalloc.get_traced_memory()[1], 120 << 20)

  # BINBYTES8, BYTEARRAY8, LONG4 and FRAME.
  @parameterized.parameters(
    (b'\x8e', '<Q'), (b'\x96', '<Q'), (b'\x8b', '<i'), (b'\x95', '<Q')
  )
  def test_declared_size_does_not_fill_the_memory(self, opcode, code):
    tracemalloc.start()
    self.addCleanup(tracemalloc.stop)
    self.assert_refused(
      b'\x80\x05' + opcode + struct.pack(code, 2**31 - 1) + b'abc.'
    )
    self.assertLess(tracemalloc.get_traced_memory()[1], 1 << 26)

  # PERSID, BINPERSID, EXT1, NEWOBJ, OBJ, POP, DUP, EMPTY_SET, NEXT_BUFFER.
  @parameterized.parameters(
    b'Px\n', b'Q', b'\x82\x01', b'\x81', b'o', b'0', b'2', b'\x8f', b'\x97'
  )
  def test_opcode_that_no_batch_needs_is_refused(self, opcode):
    self.assertIn(
      'opcode',
      self.assert_refused(batch(extra=short_string(b'x') + b'N' + opcode)),
    )


class DamagedPickleTest(PickleTestCase):
  """Whatever the bytes, a Split of the right form or UserError comes out."""

  def setUp(self):
    super().setUp()
    self.random = random.Random(0)
    self.pixels = rows().tobytes()
    self.good = [
      python2_file(),
      batch(),
      batch(
        from_buffer(
          (RECORDS, 3072),
          b'u1',
          b'B' + struct.pack('<I', len(self.pixels)) + self.pixels,
        )
      ),
    ]

  def outcome(self, data):
    try:
      split = formats.decode_pickle(data, 'batch', RECORDS)
    except UserError:
      return 'refused'
    self.assertEqual(split.images.shape, (RECORDS, 32, 32, 3))
    self.assertEqual(split.labels.shape, (RECORDS,))
    return 'decoded'

  def test_the_pickles_are_good_before_they_are_damaged(self):
    self.assertEqual(
      [self.outcome(data) for data in self.good], ['decoded'] * 3
    )

  def test_flipped_bytes(self):
    outcomes = set()
    for _ in range(600):
      data = bytearray(self.random.choice(self.good))
      pixels = data.index(self.pixels)
      places = [
        i
        for i in range(len(data))
        if not pixels <= i < pixels + len(self.pixels)
      ]
      for place in self.random.sample(places, self.random.randint(1, 3)):
        data[place] = self.random.randrange(256)
      outcomes.add(self.outcome(bytes(data)))
    self.assertEqual(outcomes, {'refused', 'decoded'})

  def test_cut_off(self):
    for data in self.good:
      ends = self.random.sample(range(len(data)), 100) + [0, 1, len(data) - 1]
      for end in ends:
        self.assertEqual(self.outcome(data[:end]), 'refused')

  def test_bytes_and_opcodes_at_random(self):
    parts = [bytes([i]) for i in range(256)] * 2 + [
      short_string(b'data'),
      short_string(b'labels'),
      int_list(LABELS),
      dtype(b'u1'),
      array((3,), b'u1', b'abc'),
      b'cnumpy\nndarray\n',
      b'c_codecs\nencode\n',
      b'cnumpy.core.multiarray\n_reconstruct\n',
      b'}(',
      b'(',
      b't',
      b'R',
      b'b',
      b's',
      b'u',
      b'.',
    ]
    for _ in range(600):
      data = b'\x80\x02' + b''.join(
        self.random.choice(parts) for _ in range(self.random.randint(1, 40))
      )
      self.assertEqual(self.outcome(data + b'.'), 'refused')


# Archives.


def member(name, data=b'', kind=tarfile.REGTYPE, size=None, pax=None, link=''):
  """Header and content of one member, as they lie in a tar file."""
  info = tarfile.TarInfo(name)
  info.type, info.linkname = kind, link
  info.size = len(data) if size is None else size
  if pax:
    info.pax_headers = pax
  return (
    info.tobuf(tarfile.PAX_FORMAT if pax else tarfile.GNU_FORMAT)
    + data
    + bytes(-len(data) % 512)
  )


def tar(*members):
  return b''.join(members) + bytes(1024)


def binary_file(label):
  """A full file of the binary layout: all its labels are `label`."""
  return (bytes([label]) + bytes(range(256)) * 12) * 10000


def pickled_file(label):
  """The same in the pickled layout."""
  pixels = np.frombuffer(bytes(range(256)) * 12, np.uint8)
  return pickle.dumps(
    {b'data': np.tile(pixels, [10000, 1]), b'labels': [label] * 10000}, 4
  )


BINARY = 'cifar-10-batches-bin'


class ArchiveTestCase(FormatsTestCase):
  def setUp(self):
    super().setUp()
    self.root = self.temp_dir()
    inner = os.path.join(self.root, 'deep', 'inside')
    os.makedirs(inner)
    self.addCleanup(os.chdir, os.getcwd())
    os.chdir(inner)  # Where '../x' of an archive would go to.
    self.path = os.path.join(inner, 'cifar-10-binary.tar.gz')

  def write(self, data):
    with open(self.path, 'wb') as f:
      f.write(data)

  def read(self, stems=('test_batch',)):
    return list(formats.read_layout(self.path, stems))

  def refused(self, stems=('test_batch',)):
    return self.refusal(self.path, self.read, stems)

  def files(self):
    return sorted(
      os.path.join(folder, name)
      for folder, _, names in os.walk(self.root)
      for name in names
    )


class ArchiveTest(ArchiveTestCase):
  def assert_two_files(self, parts):
    """(stem, Split) of test_batch with labels 3, data_batch_1 with labels 8."""
    self.assertEqual(
      [(stem, set(part.labels)) for stem, part in parts],
      [('test_batch', {3}), ('data_batch_1', {8})],
    )
    plane = np.tile(np.arange(256, dtype=np.uint8), 4).reshape(32, 32)
    for _, part in parts:
      self.assertEqual(part.images.shape, (10000, 32, 32, 3))
      np.testing.assert_array_equal(
        part.images[9999], np.stack([plane] * 3, -1)
      )

  def test_binary_archive_in_its_own_order(self):
    self.write(
      gzip.compress(
        tar(
          member(BINARY, kind=tarfile.DIRTYPE),
          member(BINARY + '/batches.meta.txt', b'airplane\n'),
          member(BINARY + '/test_batch.bin', binary_file(3)),
          member(BINARY + '/data_batch_2.bin', b'of no interest'),
          member(BINARY + '/data_batch_1.bin', binary_file(8)),
        ),
        1,
      )
    )
    self.assert_two_files(self.read(('data_batch_1', 'test_batch')))

  def test_pickled_archive_written_by_tarfile(self):
    path = os.path.join(self.root, 'cifar-10-python.tar.gz')
    with tarfile.open(path, 'w:gz', compresslevel=1) as archive:
      for name, label in (('test_batch', 3), ('data_batch_1', 8)):
        data = pickled_file(label)
        info = tarfile.TarInfo('cifar-10-batches-py/' + name)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    self.assert_two_files(
      list(formats.read_layout(path, ('data_batch_1', 'test_batch')))
    )

  def test_names_may_begin_with_a_dot(self):
    self.write(
      gzip.compress(
        tar(
          member('.', kind=tarfile.DIRTYPE),
          member('./' + BINARY + '/test_batch.bin', binary_file(3)),
          member('./' + BINARY + '/data_batch_1.bin', binary_file(8)),
        ),
        1,
      )
    )
    self.assert_two_files(self.read(('data_batch_1', 'test_batch')))

  def test_nothing_is_written(self):
    self.write(
      gzip.compress(tar(member(BINARY + '/test_batch.bin', binary_file(3))), 1)
    )
    self.read()
    self.assertEqual(self.files(), [self.path])


class HostileArchiveTest(ArchiveTestCase):
  @parameterized.named_parameters(
    ('parent', member('../evil', b'x')),
    ('parent_in_the_middle', member(BINARY + '/../../evil', b'x')),
    ('parent_directory', member('..', kind=tarfile.DIRTYPE)),
    ('absolute', member('/tmp/evil', b'x')),
    ('absolute_folder', member('/' + BINARY + '/evil', b'x')),
    ('outside', member('evil', b'x')),
    ('other_folder', member('other/test_batch.bin', b'x')),
    ('folder_with_a_longer_name', member(BINARY + '2/test_batch.bin', b'x')),
    ('pickled_folder', member('cifar-10-batches-py/test_batch', b'x')),
    (
      'symlink',
      member(
        BINARY + '/test_batch.bin', kind=tarfile.SYMTYPE, link='/etc/passwd'
      ),
    ),
    (
      'hard_link',
      member(
        BINARY + '/test_batch.bin', kind=tarfile.LNKTYPE, link='/etc/passwd'
      ),
    ),
    ('character_device', member(BINARY + '/x', kind=tarfile.CHRTYPE)),
    ('block_device', member(BINARY + '/x', kind=tarfile.BLKTYPE)),
    ('pipe', member(BINARY + '/x', kind=tarfile.FIFOTYPE)),
    ('large', member(BINARY + '/x', size=(64 << 20) + 1)),
    ('huge', member(BINARY + '/x', size=1 << 40)),
  )
  def test_member_is_refused_though_nobody_asks_for_it(self, hostile):
    self.write(gzip.compress(tar(hostile), 1))
    self.assertIn('refused', self.refused(stems=()))
    self.assertEqual(self.files(), [self.path])

  def test_hostile_member_after_the_good_ones_is_refused(self):
    self.write(
      gzip.compress(
        tar(
          member(BINARY + '/test_batch.bin', binary_file(3)),
          member('../evil', b'x'),
        ),
        1,
      )
    )
    self.assertIn('evil', self.refused())

  def test_long_names_do_not_hide_the_parent(self):
    self.write(gzip.compress(tar(member('../' * 60 + 'evil', b'x')), 1))
    self.assertIn('evil', self.refused(stems=()))

  @parameterized.parameters(
    {'GNU.sparse.major': '0', 'GNU.sparse.map': 'a,b'},
    {'GNU.sparse.size': 'x'},
    {'GNU.sparse.realsize': 'x'},
    {'GNU.sparse.major': '1', 'GNU.sparse.minor': '0'},
  )
  def test_headers_that_tarfile_stumbles_over(self, **pax):
    self.write(
      gzip.compress(
        tar(member(BINARY + '/test_batch.bin', b'x' * 512, pax=pax)), 1
      )
    )
    self.refused()

  def test_chain_of_long_names(self):
    link = member('././@LongLink', b'a\0', kind=tarfile.GNUTYPE_LONGNAME)
    self.write(gzip.compress(tar(*[link] * 3000), 1))
    self.refused()

  @parameterized.parameters(tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE)
  def test_header_does_not_fill_the_memory(self, kind):
    self.write(
      gzip.compress(tar(member('././@LongLink', bytes(80 << 20), kind=kind)), 1)
    )
    tracemalloc.start()
    self.addCleanup(tracemalloc.stop)
    self.refused()
    self.assertLess(tracemalloc.get_traced_memory()[1], 70 << 20)

  def test_archive_that_unpacks_to_much_more_is_refused(self):
    zeros = gzip.compress(bytes(1 << 20))
    full = gzip.compress(tar(member(BINARY + '/x', b'x')))
    with mock.patch.object(formats, 'MAX_ARCHIVE_BYTES', 8 << 20):
      for data in (
        full + zeros * 9,  # Behind the end of the tar file.
        gzip.compress(tar(*[member(BINARY + '/x', bytes(1 << 20))] * 9)),
        gzip.compress(member(BINARY + '/x', size=60 << 20)) + zeros * 60,
      ):
        self.write(data)
        self.assertIn('unpacks to over', self.refused(stems=()))

  def test_the_limit_leaves_room_for_the_canonical_archives(self):
    self.assertGreater(formats.MAX_ARCHIVE_BYTES, 5 * 60000 * 3073)

  def test_archive_of_many_members_is_refused(self):
    self.write(gzip.compress(tar(*[member(BINARY + '/x', b'')] * 1001), 1))
    self.assertIn('over 1000 members', self.refused(stems=()))


class DamagedArchiveTest(ArchiveTestCase):
  def good(self, level=1):
    random_state = np.random.RandomState(0)
    data = np.zeros([10000, 3073], np.uint8)
    data[:, 1:40] = random_state.randint(0, 256, [10000, 39])
    return gzip.compress(
      tar(member(BINARY + '/test_batch.bin', data.tobytes())), level
    )

  def test_good_before_it_is_damaged(self):
    self.write(self.good())
    self.assertLen(self.read(), 1)

  def test_cut_off(self):
    good = self.good()
    for end in (1, 9, 10, 11, 300, len(good) // 2, len(good) - 4000):
      with self.subTest(end=end):
        self.write(good[:end])
        self.refused()

  @parameterized.parameters(1, 8)
  def test_cut_off_in_the_checksum(self, missing):
    self.write(self.good()[:-missing])
    self.refused()

  def test_changed_byte_that_only_the_checksum_shows(self):
    data = bytearray(self.good(level=0))  # Stored, so that it still unpacks.
    data[len(data) // 2] ^= 1
    self.write(data)
    self.refused()

  def test_changed_bytes(self):
    good = self.good()
    changes = random.Random(0)
    for place in changes.sample(range(len(good) // 2), 10):
      data = bytearray(good)
      data[place : place + 8] = bytes(255 - b for b in data[place : place + 8])
      with self.subTest(place=place):
        self.write(data)
        self.refused()

  def test_headers_at_random(self):
    changes = random.Random(0)
    for _ in range(300):
      header = bytearray(member(BINARY + '/x', b'x', pax={'comment': 'y'}))
      for _ in range(3):
        header[changes.randrange(len(header))] = changes.randrange(256)
      self.write(gzip.compress(tar(bytes(header)), 1))
      self.refused()

  @parameterized.named_parameters(
    ('empty', b''),
    ('text', b'<html>Not Found</html>'),
    ('tar_without_gzip', tar(member(BINARY + '/test_batch.bin', b'x'))),
    ('gzip_without_tar', gzip.compress(b'not a tar file' * 100)),
    ('gzip_of_nothing', gzip.compress(b'')),
  )
  def test_other_files_are_refused(self, data):
    self.write(data)
    self.refused()

  def test_missing_member_is_named(self):
    self.write(gzip.compress(tar(member(BINARY + '/x', b'x')), 1))
    self.assertIn(BINARY + '/test_batch.bin', self.refused())

  def test_truncated_member_is_named(self):
    self.write(
      gzip.compress(
        tar(member(BINARY + '/test_batch.bin', bytes(3073 * 9999))), 1
      )
    )
    self.assertIn('test_batch.bin', self.refused())

  def test_missing_archive_is_named(self):
    self.assertIn('missing', self.refused())

  def test_directory_instead_of_the_archive_is_named(self):
    os.mkdir(self.path)
    self.assertIn('directory', self.refused())


if __name__ == '__main__':
  absltest.main()
