"""Files of every format, damaged by the thousand, and what comes of them.

  python -m tests.tools.format_fuzz --inputs=10000 --seed=0

Each damaged file is read as a command reads it. It gives a valid result, or a
UserError of one line that names the file: no other exception, no crash, no
hang, no memory that fills up. Inputs are read in a process of their own, which
may die of one; a table tells what each format came to, and whatever escaped is
printed with the format and the seed that make the same input again:

  python -m tests.tools.format_fuzz --formats=pickle --inputs=1 --seed=4711
"""

import faulthandler
import functools
import gzip
import io
import multiprocessing
import os
import pickle
import random
import resource
import shutil
import struct
import sys
import tarfile
import tempfile
import time
from typing import NamedTuple
import zlib

from absl import app
from absl import flags
from absl import logging
import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.checkpoints import choose
from graph_resnet9.checkpoints import reader
from graph_resnet9.cli import flagfile
from graph_resnet9.errors import UserError
from graph_resnet9.evaluation import saved_model
from graph_resnet9.inputs import cifar
from graph_resnet9.inputs import dataset
from graph_resnet9.inputs import formats
from graph_resnet9.inputs import picture_files
from graph_resnet9.training import rows
from tests import helpers
from tests.inputs import formats_test as layouts
from tests.tools import graph_formats

# A hundred times what the slowest takes on an idle machine.
DEADLINE_SECS = 60
# Above what the process had; no file here is larger than 40 MB unpacked.
MEMORY_BYTES = 512 << 20
MESSAGE_CHARS = 4000
_EXTREMES = (
  b'\xff' * 2,
  b'\xff' * 4,
  b'\xff\xff\xff\x7f',
  b'\x7f\xff\xff\xff',
  b'\0\0\0\x80',
  b'\xff' * 7 + b'\x7f',
  bytes(8),
  b'77777777777',
  b'-1',
  b'nan',
  b'1e999',
  b'9' * 30,
  b'\n',
  b'\r',
  b'\xc2\x85',
  b'"',
  b'[' * 2000,
  b'{' * 9,
  b'(' * 50,
)


def damaged(data, chance, structure=()):
  """A file with one to three things wrong with it.

  Args:
    data: bytes.
    chance: random.Random.
    structure: (begin, end) of headers, sizes and the like: three quarters of
      the damage begins there.
  Returns:
    bytes.
  """
  if not chance.randrange(50):
    return b''
  data = bytearray(data)
  for _ in range(chance.choice((1, 1, 1, 2, 3))):
    _damage(data, chance, structure)
  return bytes(data)


def _damage(data, chance, structure):
  """Does one thing to a bytearray."""
  if structure and chance.randrange(4):
    begin, end = chance.choice(structure)
    place = min(chance.randrange(begin, max(end, begin + 1)), len(data))
  else:
    place = chance.randrange(len(data) + 1)
  run = slice(place, place + chance.choice((1, 2, 4, 8, 64, 600)))
  kind = chance.choice(
    (
      'flip',
      'flip',
      'run',
      'truncate',
      'double',
      'delete',
      'insert',
      'extreme',
      'extreme',
    )
  )
  if kind == 'flip':
    near = range(place, min(len(data), place + 64))
    for i in chance.sample(near, min(len(near), chance.randint(1, 8))):
      data[i] ^= chance.randrange(1, 256)
  elif kind == 'run':
    data[run] = len(data[run]) * chance.choice((b'\0', b'\xff'))
  elif kind == 'truncate':
    del data[place:]
  elif kind == 'double':
    data[place:place] = data[run]
  elif kind == 'delete':
    del data[run]
  elif kind == 'insert':
    data[place:place] = chance.randbytes(chance.choice((1, 4, 100)))
  else:
    extreme = chance.choice(_EXTREMES)
    data[place : place + chance.choice((0, len(extreme)))] = extreme


class Format:
  """Good files of a kind in a folder of their own, and what reads them."""

  # Of all inputs; what is slow gets less of them.
  share = 1.0

  def __init__(self, folder):
    self.folder = folder
    self.prepare()

  def path(self, *names):
    return os.path.join(self.folder, *names)

  def write(self, data, *names):
    with open(self.path(*names), 'wb') as f:
      f.write(data)

  def prepare(self):
    """Writes good files, or keeps their bytes."""

  def damage(self, chance):
    """Writes a damaged file; with chance None one that is good.

    Returns:
      What the message of a refusal must contain.
    """
    raise NotImplementedError

  def read(self):
    """Reads what there is; raises AssertionError if that is not valid."""
    raise NotImplementedError


# With files of three records: what goes wrong does so sooner.
_SMALL = cifar.CIFAR10._replace(
  records=dict.fromkeys(cifar.CIFAR10.records, layouts.RECORDS)
)


def _check(split, records=layouts.RECORDS):
  assert split.images.shape == (records, 32, 32, 3), split.images.shape
  assert split.images.dtype == np.uint8 and split.labels.dtype == np.int32
  assert split.labels.shape == (records,)
  assert 0 <= split.labels.min() and split.labels.max() < formats.CLASSES


# The layouts of the data set.


class _Layout(Format):
  """A layout with small files."""

  layout, folder_name, suffix = '', '', ''

  def content(self):
    """(bytes, structure) of a good file."""
    raise NotImplementedError

  def names(self):
    return [
      '%s/%s%s' % (self.folder_name, stem, self.suffix)
      for stem in formats.TRAIN_STEMS + formats.TEST_STEMS
    ]

  def read(self):
    source = dataset.find('cifar10', self.folder)
    for _, split in formats.read_layout(source.path, kind=_SMALL):
      _check(split)


class BinaryFolder(_Layout):
  layout = folder_name = formats.BINARY_FOLDER
  suffix = '.bin'

  def content(self):
    structure = [
      (i * formats.RECORD_BYTES,) * 2 for i in range(layouts.RECORDS + 1)
    ]
    return layouts.records(), structure

  def prepare(self):
    os.mkdir(self.path(self.folder_name))
    for name in self.names():
      self.write(self.content()[0], name)

  def damage(self, chance):
    for name in self.names():
      self.write(self.content()[0], name)
    if chance:
      name = chance.choice(self.names())
      good, structure = self.content()
      data = damaged(good, chance, structure)
      if chance.randrange(2):  # Else the size gives nearly all of them away.
        data = data[: len(good)].ljust(len(good), b'\x07')
      self.write(data, name)
    return self.path(name) if chance else ''


class PickleFolder(BinaryFolder):
  layout = folder_name = formats.PICKLE_FOLDER
  suffix = ''

  def content(self):
    return _pickles()[0]

  def damage(self, chance):
    for name in self.names():
      self.write(self.content()[0], name)
    if not chance:
      return ''
    name = chance.choice(self.names())
    self.write(damaged(*_with_chance(chance.choice(_pickles()), chance)), name)
    return self.path(name)


def _with_chance(content, chance):
  return content[0], chance, content[1]


@functools.cache
def _pickles():
  """(bytes, structure) of good pickles: all around the pixels is structure."""
  pixels = layouts.rows()
  found = []
  for data in [layouts.python2_file(), layouts.batch()] + [
    pickle.dumps(
      {
        b'data': pixels,
        b'labels': layouts.LABELS,
        b'filenames': [b'a.png'] * 3,
      },
      protocol,
    )
    for protocol in (0, 2, 4, 5)
  ]:
    at = data.find(pixels.tobytes())
    found.append(
      (
        data,
        [(0, len(data))]
        if at < 0
        else [(0, at), (at + pixels.size, len(data))],
      )
    )
  return found


class BinaryArchive(_Layout):
  """Damage to the compressed bytes, to the tar file, or to a file in it."""

  layout, folder_name = formats.BINARY_ARCHIVE, formats.BINARY_FOLDER
  suffix = '.bin'
  contents = staticmethod(lambda: [(layouts.records(), [(0, 1)])])

  def damage(self, chance):
    good = self.contents()[0]
    files = {name: good[0] for name in self.names()}
    kind = chance.choice(('gzip', 'tar', 'header', 'file')) if chance else ''
    if kind == 'file':
      files[chance.choice(self.names())] = damaged(
        *_with_chance(chance.choice(self.contents()), chance)
      )
    data, headers = _tar(files)
    if kind == 'tar':
      data = damaged(data, chance, headers)
    elif kind == 'header':  # With a checksum that is right.
      begin, end = chance.choice(headers[:-1])
      header = damaged(data[begin:end], chance)[:512].ljust(512, b'\0')
      header = header[:148] + b' ' * 8 + header[156:]
      header = header[:148] + b'%06o\0 ' % sum(header) + header[156:]
      data = data[:begin] + header + data[end:]
    data = gzip.compress(data, 1, mtime=0)  # A seed makes the same bytes.
    if kind == 'gzip':
      data = damaged(data, chance, [(0, 80), (len(data) - 8, len(data))])
    self.write(data, self.layout)
    return self.path(self.layout)


class PickleArchive(BinaryArchive):
  layout, folder_name = formats.PICKLE_ARCHIVE, formats.PICKLE_FOLDER
  suffix = ''
  contents = staticmethod(_pickles)


def _tar(files):
  """(bytes, structure) of a tar file of {name: bytes}; some pax headers."""
  out, headers = io.BytesIO(), []
  with tarfile.open(fileobj=out, mode='w|', format=tarfile.PAX_FORMAT) as tar:
    for i, (name, data) in enumerate(files.items()):
      info = tarfile.TarInfo(name)
      info.size = len(data)
      if i % 2:
        info.pax_headers = {'comment': 'x' * 20}
      begin = tar.offset
      tar.addfile(info, io.BytesIO(data))
      end = tar.offset - len(data) - -len(data) % 512
      headers += [(at, at + 512) for at in range(begin, end, 512)]
    end = tar.offset
  return out.getvalue(), headers + [(end, end + 1024)]


class FullSize(Format):
  """Files of ten thousand records, the binary and the pickled kind."""

  share = 0.02

  def prepare(self):
    pixels = np.zeros([formats.FILE_RECORDS, 3072], np.uint8)
    labels = [i % 10 for i in range(formats.FILE_RECORDS)]
    self.goods = {
      formats.BINARY_FOLDER + '/test_batch.bin': formats.encode_records(
        formats.Split(pixels.reshape(-1, 32, 32, 3), np.array(labels))
      ).tobytes(),
      formats.PICKLE_FOLDER + '/test_batch': pickle.dumps(
        {b'data': pixels, b'labels': labels}, 2
      ),
    }
    for name in self.goods:
      os.mkdir(self.path(os.path.dirname(name)))

  def damage(self, chance):
    names = sorted(self.goods)
    self.name = chance.choice(names) if chance else names[0]
    good = self.goods[self.name]
    at = max(good.find(bytes(formats.FILE_RECORDS * 3072)), 0)
    after = at + formats.FILE_RECORDS * 3072
    self.write(
      damaged(good, chance, [(0, at + 1), (after, len(good))])
      if chance
      else good,
      self.name,
    )
    return self.path(self.name)

  def read(self):
    for _, split in formats.read_layout(
      self.path(os.path.dirname(self.name)), formats.TEST_STEMS
    ):
      _check(split, formats.FILE_RECORDS)


# What a run writes.


class FlagFile(Format):
  def prepare(self):
    self.goods = [
      flagfile.text(helpers.settings(train_dir='x', **values)).encode()
      for values in ({}, dict(helpers.TINY, capacity=512))
    ]

  def damage(self, chance):
    self.write(
      damaged(chance.choice(self.goods), chance) if chance else self.goods[0],
      flagfile.NAME,
    )
    return self.path(flagfile.NAME)

  def read(self):
    assert flagfile.text(flagfile.read(self.folder))


class Metrics(Format):
  def prepare(self):
    rows.write_rows(
      self.folder,
      [
        rows.Row(
          epoch=i + 1.0,
          step=8 * i + 8,
          dataset='synthetic',
          learning_rate=0.1,
          train_secs=1.5,
          train_loss=None if i == 1 else 2.5,
          train_accuracy=None if i == 1 else 0.5,
          test_loss=2.25,
          test_accuracy=0.25,
          total_secs=3.0,
        )
        for i in range(5)
      ],
    )
    with open(self.path(rows.METRICS), 'rb') as f:
      self.good = f.read()

  def damage(self, chance):
    self.write(
      damaged(self.good, chance) if chance else self.good, rows.METRICS
    )
    return self.path(rows.METRICS)

  def read(self):
    read = rows.read_rows(self.folder)
    for row in read:
      assert row.step >= 0 and rows.table_row(row)
    rows.write_rows(self.folder, read)
    assert len(rows.read_rows(self.folder)) == len(read)


class Checkpoint(Format):
  """The index or the data of a checkpoint, or the state file."""

  def prepare(self):
    with tf.Graph().as_default(), tf.Session() as session:
      tf.set_random_seed(0)
      for name, shape in (('a', [3]), ('b', []), ('c', [3, 3, 8, 8])):
        tf.get_variable(name, shape)
      session.run(tf.global_variables_initializer())
      saver = tf.train.Saver(save_relative_paths=True)
      for step in (1, 2):
        saver.save(session, self.path('model.ckpt'), step)
    self.goods = {}
    for name in (
      'model.ckpt-2.index',
      'model.ckpt-2.data-00000-of-00001',
      'checkpoint',
    ):
      with open(self.path(name), 'rb') as f:
        self.goods[name] = f.read()
    self.values = helpers.weights(self.path('model.ckpt-2'))

  def damage(self, chance):
    for name, good in self.goods.items():
      self.write(good, name)
    if chance:
      name = chance.choice(sorted(self.goods))
      good = self.goods[name]
      # The index ends in a footer of 48 bytes that says where its blocks are.
      self.write(
        damaged(good, chance, [(0, 64), (len(good) - 48, len(good))]), name
      )
    return self.folder

  def read(self):
    prefix = choose.newest(self.folder)
    found = reader.shapes(prefix)
    # What passes for whole is right to the last bit.
    values = helpers.weights(prefix)
    assert set(found) == set(values) == set(self.values)
    assert all(
      values[name].tobytes() == self.values[name].tobytes() for name in values
    )


# What predict reads.


class Png(Format):
  """Half of them have chunks with checksums that are right."""

  def prepare(self):
    noise = np.random.RandomState(0).randint(0, 256, [9, 11, 4], np.uint8)
    self.goods = [
      tf.io.encode_png(noise[..., :channels]).numpy()
      for channels in (1, 2, 3, 4)
    ]
    self.reader = picture_files.Reader()

  def damage(self, chance):
    data = chance.choice(self.goods) if chance else self.goods[0]
    if chance:
      data = damaged(data, chance, [(8, 60), (len(data) - 20, len(data))])
      data = _right_checksums(data) if chance.randrange(2) else data
    self.write(data, 'picture')
    return self.path('picture')

  def read(self):
    image = self.reader.read(self.path('picture'))
    assert (image.shape, image.dtype) == ((32, 32, 3), np.uint8)


def _right_checksums(data):
  data, at = bytearray(data), 8
  while at + 12 <= len(data):
    (size,) = struct.unpack_from('>I', data, at)
    if at + 12 + size > len(data):
      break
    struct.pack_into(
      '>I', data, at + 8 + size, zlib.crc32(data[at + 4 : at + 8 + size])
    )
    at += 12 + size
  return bytes(data)


class Jpeg(Png):
  def prepare(self):
    noise = np.random.RandomState(0).randint(0, 256, [19, 21, 3], np.uint8)
    self.goods = [
      tf.io.encode_jpeg(
        noise[..., :channels], fmt, progressive=progressive
      ).numpy()
      for channels, fmt in ((1, 'grayscale'), (3, 'rgb'))
      for progressive in (False, True)
    ]
    self.reader = picture_files.Reader()

  def damage(self, chance):
    data = chance.choice(self.goods) if chance else self.goods[0]
    if chance:
      data = damaged(data, chance, [(2, data.rindex(b'\xff\xda') + 14)])
    self.write(data, 'picture')
    return self.path('picture')


class SavedModel(Format):
  """The graph of a model that answers as an exported one does."""

  def prepare(self):
    with tf.Graph().as_default(), tf.Session() as session:
      tf.set_random_seed(0)
      images = tf.placeholder(tf.uint8, [None, 32, 32, 3], 'images')
      weights = tf.get_variable('w', [3, 10])
      logits = tf.reduce_mean(tf.cast(images, tf.float32), [1, 2]) @ weights
      classes = tf.argmax(logits, 1)
      session.run(tf.global_variables_initializer())
      builder = tf.saved_model.Builder(self.path('model'))
      builder.add_meta_graph_and_variables(
        session,
        [saved_model.TAG],
        {
          saved_model.SIGNATURE: tf.saved_model.predict_signature_def(
            {'images': images},
            dict(
              classes=classes,
              probabilities=tf.nn.softmax(logits),
              class_names=tf.gather(tf.constant(formats.CLASS_NAMES), classes),
            ),
          )
        },
        strip_default_attrs=True,
      )
      builder.save()
    with open(self.path('model', 'saved_model.pb'), 'rb') as f:
      self.good = f.read()

  def damage(self, chance):
    self.write(
      damaged(self.good, chance) if chance else self.good,
      'model',
      'saved_model.pb',
    )
    return self.path('model')

  def read(self):
    with saved_model.Predictor(self.path('model')) as predictor:
      found = predictor.predict(np.zeros([2, 32, 32, 3], np.uint8))
    assert len(found.classes) == len(found.class_names) == 2
    assert len(found.probabilities) == 2


FORMATS = {
  'records': BinaryFolder,
  'pickle': PickleFolder,
  'binary.tar.gz': BinaryArchive,
  'python.tar.gz': PickleArchive,
  'full size': FullSize,
  'flags.txt': FlagFile,
  'metrics.jsonl': Metrics,
  'checkpoint': Checkpoint,
  'png': Png,
  'jpeg': Jpeg,
  'saved_model.pb': SavedModel,
  **graph_formats.formats(Format, damaged),
}


# One input after the other, in a process that they may end.


class Outcome(NamedTuple):
  """kind: 'valid', 'refused' or 'escaped'; detail: the message or the fault."""

  kind: str
  detail: str
  secs: float
  peak_bytes: int


def _peak_bytes():
  with open('/proc/self/status') as f:
    return next(
      int(line.split()[1]) << 10 for line in f if line.startswith('VmHWM')
    )


def outcome(form, seed):
  """The Outcome of one damaged file; of a good one if seed is None."""
  named = form.damage(None if seed is None else random.Random(seed))
  with open('/proc/self/clear_refs', 'w') as f:
    f.write('5')  # The peak is what there is now: proc(5).
  before, begin = _peak_bytes(), time.perf_counter()
  try:
    form.read()
    kind, detail = 'valid', ''
  except UserError as e:
    kind, detail = 'refused', str(e)
    if len(detail.splitlines()) != 1 or len(detail) > MESSAGE_CHARS:
      kind, detail = 'escaped', 'not one line: %.300r' % detail
    elif named not in detail:
      kind, detail = 'escaped', 'does not name the file: %.300r' % detail
  except Exception as e:  # pylint: disable=broad-except
    kind, detail = 'escaped', '%s: %.300r' % (type(e).__name__, str(e))
  secs, peak = time.perf_counter() - begin, _peak_bytes() - before
  if peak > MEMORY_BYTES:
    kind, detail = 'escaped', 'took %d MB' % (peak >> 20)
  return Outcome(kind, detail, secs, peak)


def _serve(pipe, folder):
  """What the process of a Reader does: (format, seed) in, Outcome out."""
  tf.get_logger().setLevel('FATAL')
  logging.set_verbosity(logging.FATAL)
  forms, limited = {}, False
  while True:
    name, seed = pipe.recv()
    if name not in forms:
      os.makedirs(os.path.join(folder, name))
      forms[name] = FORMATS[name](os.path.join(folder, name))
      limited = False
    if not limited:  # A file that asks for more ends the process, at worst.
      with open('/proc/self/statm') as f:
        size = int(f.read().split()[0]) * resource.getpagesize()
      hard = resource.getrlimit(resource.RLIMIT_AS)[1]
      resource.setrlimit(resource.RLIMIT_AS, (size + (4 << 30), hard))
      limited = True
    faulthandler.dump_traceback_later(DEADLINE_SECS, exit=True)
    result = outcome(forms[name], seed)
    faulthandler.cancel_dump_traceback_later()
    pipe.send(result)


class Reader:
  """Reads damaged files in another process; starts it anew when it has died."""

  def __init__(self):
    self._process = None

  def _start(self):
    self._folder = tempfile.mkdtemp(prefix='format_fuzz')
    context = multiprocessing.get_context('spawn')
    self._pipe, other = context.Pipe()
    self._process = context.Process(
      target=_serve, args=(other, self._folder), daemon=True
    )
    self._process.start()
    other.close()

  def outcome(self, name, seed):
    """The Outcome of an input of a format."""
    if not self._process:
      self._start()
    try:
      self._pipe.send((name, seed))
      return self._pipe.recv()
    except (EOFError, OSError):
      self._process.join()
      code = self._process.exitcode
      self.close()
      return Outcome(
        'escaped',
        'ended the process with exit code %s%s'
        % (code, ', or took over %d s' % DEADLINE_SECS if code == 1 else ''),
        0,
        0,
      )

  def close(self):
    if self._process:
      self._process.kill()
      self._process.join()
      self._pipe.close()
      shutil.rmtree(self._folder)
      self._process = None


class Result(NamedTuple):
  """Of all inputs of a format; escaped: (seed, Outcome) of each."""

  counts: dict
  escaped: list
  secs: float
  peak_bytes: int

  def row(self, name):
    return '%-16s %6d %6d %7d %7d %8.2f %7d' % (
      name,
      sum(self.counts.values()),
      self.counts['valid'],
      self.counts['refused'],
      self.counts['escaped'],
      self.secs,
      self.peak_bytes >> 20,
    )


HEADER = 'format           inputs  valid refused escaped  worst s worst MB'


def fuzz(reader, name, seeds):
  """The Result of a format, on inputs of these seeds."""
  counts, escaped = dict.fromkeys(('valid', 'refused', 'escaped'), 0), []
  secs, peak = 0, 0
  good = reader.outcome(name, None)
  assert good.kind == 'valid', 'undamaged %s: %s' % (name, good)
  for seed in seeds:
    found = reader.outcome(name, seed)
    counts[found.kind] += 1
    secs, peak = max(secs, found.secs), max(peak, found.peak_bytes)
    if found.kind == 'escaped':
      escaped.append((seed, found))
      print('%s, seed %d: %s' % (name, seed, found.detail), flush=True)
  return Result(counts, escaped, secs, peak)


def main(argv):
  del argv
  names = flags.FLAGS.formats or list(FORMATS)
  shares = sum(FORMATS[name].share for name in names)
  reader, rows, bad = Reader(), [], 0
  begin = time.perf_counter()
  try:
    for name in names:
      count = max(1, round(flags.FLAGS.inputs * FORMATS[name].share / shares))
      result = fuzz(
        reader, name, range(flags.FLAGS.seed, flags.FLAGS.seed + count)
      )
      rows.append(result.row(name))
      bad += len(result.escaped)
      print(rows[-1], file=sys.stderr, flush=True)
  finally:
    reader.close()
  print('\n'.join([HEADER] + rows))
  print('%d escaped, %.0f s' % (bad, time.perf_counter() - begin))
  return 1 if bad else 0


if __name__ == '__main__':
  flags.DEFINE_integer('inputs', 10000, 'How many, over all formats.', 1)
  flags.DEFINE_integer('seed', 0, 'Of the first input of each format.', 0)
  flags.DEFINE_list('formats', [], 'Of %s; all.' % ', '.join(FORMATS))
  app.run(main)
