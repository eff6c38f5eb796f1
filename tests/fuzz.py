"""Damaged and hostile files by the thousand, and what comes of each.

  python -m tests.fuzz --inputs=10000

Every input gives a valid result or a UserError of one line: no other exception,
no crash, none takes longer than the deadline or fills the memory. Prints a line
for each format: how many were read and how many refused.
"""

import collections
import faulthandler
import functools
import gzip
import io
import json
import os
import pathlib
import pickle
import random
import resource
import shutil
import sys
import tempfile
from unittest import mock

from absl import app
from absl import flags
from absl import logging
import numpy as np

import graph_resnet9  # pylint: disable=unused-import
import tensorflow.compat.v1 as tf

from graph_resnet9 import config
from graph_resnet9 import options
from graph_resnet9.errors import UserError
from graph_resnet9.inputs import formats
from graph_resnet9.run import checkpoints
from graph_resnet9.run import report
from tests import helpers
from tests import inputs_formats_test as layouts

# Generous: the slowest input takes a hundredth of it on an idle machine.
DEADLINE_SECS = 60
MEMORY_BYTES = 400 << 20
EXTREMES = [b'\xff\xff\xff\xff', b'\xff\xff\xff\x7f', b'\x00\x00\x00\x80',
            b'\xff' * 7 + b'\x7f', b'\x00' * 8, b'7777777777', b'-1', b'nan',
            b'1e999', b'\n', b'\0', b'"', b'{' * 9, b'[' * 2000, b'(' * 50]


def changed(data, moments):
  """Some bytes of a file changed, lost, doubled or come from elsewhere."""
  data = bytearray(data)
  for _ in range(moments.choice([1, 1, 1, 2, 5])):
    place = moments.randrange(len(data) + 1)
    end = min(len(data), place + moments.choice([1, 2, 8, 600]))
    kind = moments.randrange(7)
    if kind == 0 and place < len(data):
      data[place] ^= 1 << moments.randrange(8)
    elif kind == 1:
      data[place:end] = moments.randbytes(end - place)
    elif kind == 2:
      del data[place:]
    elif kind == 3:
      del data[place:end]
    elif kind == 4:
      data[place:place] = data[place:end]
    elif kind == 5:
      extreme = moments.choice(EXTREMES)
      data[place:place + len(extreme)] = extreme
    else:
      data[place:place] = moments.choice(EXTREMES)
  return bytes(data)


class Format:
  """A kind of file: good ones, and what reads them."""

  def __init__(self, folder):
    self.folder = pathlib.Path(folder)
    self.good = self.examples()

  def examples(self):
    """bytes of good files."""
    raise NotImplementedError

  def read(self, data):
    """Reads `data`; raises AssertionError if the result is not valid."""
    raise NotImplementedError

  def damaged(self, moments):
    return changed(moments.choice(self.good), moments)

  def check_split(self, split):
    assert split.images.shape == (layouts.RECORDS, 32, 32, 3)
    assert split.images.dtype == np.uint8
    assert split.labels.shape == (layouts.RECORDS,)
    assert set(split.labels) <= set(range(10))


class Records(Format):

  def examples(self):
    return [layouts.records()]

  def damaged(self, moments):
    data = super().damaged(moments)
    # Nearly every change of length is refused by it: half of them keep it.
    size = len(self.good[0])
    return data if moments.randrange(2) else data[:size].ljust(size, b'\x07')

  def read(self, data):
    self.check_split(formats.decode_records(data, 'file', layouts.RECORDS))


class Pickles(Format):

  def examples(self):
    pixels = layouts.rows()
    return [layouts.python2_file(), layouts.batch()] + [
        pickle.dumps({b'data': pixels, b'labels': layouts.LABELS,
                      b'filenames': [b'a.png'] * 3}, protocol)
        for protocol in (0, 2, 4, 5)]

  def damaged(self, moments):
    data = moments.choice(self.good)
    if moments.randrange(2):  # Most of a file are pixels: change the rest.
      where = data.find(layouts.rows().tobytes())
      if where >= 0:
        pixels = data[where:where + layouts.RECORDS * 3072]
        head = changed(data[:where], moments)
        return head + pixels + changed(data[where + len(pixels):], moments)
    return changed(data, moments)

  def read(self, data):
    self.check_split(formats.decode_pickle(data, 'file', layouts.RECORDS))


class Archives(Format):
  """Both layouts as .tar.gz, of small files."""
  name, folder_name, suffix = (
      formats.BINARY_ARCHIVE, formats.BINARY_FOLDER, '.bin')

  def content(self):
    return layouts.records()

  def examples(self):
    self.tar = layouts.tar(*[
        layouts.member('%s/%s%s' % (self.folder_name, stem, self.suffix),
                       self.content())
        for stem in formats.TRAIN_STEMS + formats.TEST_STEMS])
    return [gzip.compress(self.tar)]

  def damaged(self, moments):
    if moments.randrange(2):
      return super().damaged(moments)
    inner = changed(self.tar, moments)
    # Half of the changes go where names and sizes are.
    if moments.randrange(2):
      inner = changed(self.tar[:512], moments)[:512].ljust(512, b'\0')
      if moments.randrange(2):  # With a checksum that is right.
        inner = inner[:148] + b' ' * 8 + inner[156:]
        inner = inner[:148] + b'%06o\0 ' % sum(inner) + inner[156:]
      inner += self.tar[512:]
    return gzip.compress(inner, 1)

  def read(self, data):
    path = self.folder / self.name
    path.write_bytes(data)
    few = dict(records=layouts.RECORDS)
    with mock.patch.multiple(
        formats, decode_records=functools.partial(
            formats.decode_records, **few), decode_pickle=functools.partial(
                formats.decode_pickle, **few)):
      for _, split in formats.read_layout(str(path)):
        self.check_split(split)


class PickleArchives(Archives):
  name, folder_name, suffix = formats.PICKLE_ARCHIVE, formats.PICKLE_FOLDER, ''

  def content(self):
    return layouts.python2_file()


class FlagFiles(Format):

  def examples(self):
    return [config.flagfile_text(helpers.settings(
        options.Train, train_dir='x', **values)).encode()
            for values in ({}, dict(helpers.TINY, capacity=512))]

  def read(self, data):
    (self.folder / 'flags.txt').write_bytes(data)
    settings = config.read_flagfile(str(self.folder))
    config.flagfile_text(settings)


class Metrics(Format):

  def examples(self):
    rows = [report.Row(
        epoch=i + 1., step=8 * i + 8, dataset='synthetic', learning_rate=.1,
        train_secs=1.5, train_loss=None if i == 1 else 2.5,
        train_accuracy=None if i == 1 else .5, test_loss=2.25,
        test_accuracy=.25, total_secs=3.) for i in range(5)]
    report.write_rows(str(self.folder), rows)
    return [(self.folder / 'metrics.jsonl').read_bytes()]

  def read(self, data):
    (self.folder / 'metrics.jsonl').write_bytes(data)
    rows = report.read_rows(str(self.folder))
    for row in rows:
      assert row.step >= 0
      report.table_row(row)
    report.write_rows(str(self.folder), rows)


class Checkpoints(Format):
  """The index or the data of a checkpoint, or the state file."""

  def examples(self):
    with tf.Graph().as_default(), tf.Session() as session:
      for name, shape in (('a', [3]), ('b', []), ('c', [3, 3, 8, 8])):
        tf.get_variable(name, shape)
      session.run(tf.global_variables_initializer())
      saver = tf.train.Saver(save_relative_paths=True)
      for step in (1, 2):
        saver.save(session, str(self.folder / 'model.ckpt'), step)
    self.names = ['model.ckpt-2.index', 'model.ckpt-2.data-00000-of-00001',
                  'checkpoint']
    self.values = helpers.weights(self.folder / 'model.ckpt-2')
    return [(self.folder / name).read_bytes() for name in self.names]

  def damaged(self, moments):
    which = moments.randrange(len(self.names))
    data = changed(self.good[which], moments)
    return bytes([which]) + data

  def read(self, data):
    for name, good in zip(self.names, self.good):
      (self.folder / name).write_bytes(good)
    (self.folder / self.names[data[0]]).write_bytes(data[1:])
    prefix = checkpoints.newest(str(self.folder))
    whole = checkpoints.newest_whole(str(self.folder), prefix)
    # What passes for whole is right to the last bit.
    for name, value in helpers.weights(whole.prefix).items():
      assert value.tobytes() == self.values[name].tobytes(), name
    assert not whole.damaged or whole.prefix.endswith('-1')
    checkpoints.shapes(str(self.folder / 'model.ckpt-2'))


FORMATS = (Records, Pickles, Archives, PickleArchives, FlagFiles, Metrics,
           Checkpoints)


def outcome(read, data):
  """'read', 'refused' or what was wrong."""
  faulthandler.dump_traceback_later(DEADLINE_SECS, exit=True)
  try:
    read(data)
    return 'read'
  except UserError as e:
    # A command prints it in one line; it must not fill a screen.
    size = len(' '.join(str(e).split()))
    return 'refused' if size < 4000 else 'a message of %d characters' % size
  except Exception as e:  # pylint: disable=broad-except
    return 'raised %s: %s' % (type(e).__name__, str(e)[:300])
  finally:
    faulthandler.cancel_dump_traceback_later()


def memory_bytes():
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def fuzz(kind, count, seed):
  """Counts the outcomes of `count` inputs of one format."""
  counts = collections.Counter()
  folder = tempfile.mkdtemp(prefix='fuzz_')
  logging.set_verbosity(logging.ERROR)  # Of every damaged state file.
  try:
    form = kind(folder)
    for data in form.good:  # They are good.
      form.read(bytes([form.good.index(data)]) + data
                if kind is Checkpoints else data)
    before = memory_bytes()
    for number in range(count):
      moments = random.Random('%d %d' % (seed, number))
      data = form.damaged(moments)
      result = outcome(form.read, data)
      counts[result] += 1
      if memory_bytes() > before + MEMORY_BYTES:
        result = 'took %d MB' % ((memory_bytes() - before) >> 20)
        before = memory_bytes()
        counts[result] += 1
      if result not in ('read', 'refused'):
        print('%s, seed %d, input %d: %s' % (
            kind.__name__, seed, number, result), flush=True)
  finally:
    shutil.rmtree(folder)
  return counts


def define_flags():
  flags.DEFINE_integer('inputs', 10000, 'How many, over all formats.', 1)
  flags.DEFINE_integer('seed', 0, 'Of the inputs.', 0)


def main(argv):
  del argv
  faulthandler.enable()
  bad = 0
  for i, kind in enumerate(FORMATS):
    count = flags.FLAGS.inputs * (i + 1) // len(FORMATS) - (
        flags.FLAGS.inputs * i // len(FORMATS))
    counts = fuzz(kind, count, flags.FLAGS.seed)
    bad += sum(counts.values()) - counts['read'] - counts['refused']
    print('%-15s %5d inputs: %5d read, %5d refused' % (
        kind.__name__, count, counts['read'], counts['refused']), flush=True)
  return bool(bad)


if __name__ == '__main__':
  define_flags()
  app.run(main)
