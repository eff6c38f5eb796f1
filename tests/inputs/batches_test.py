"""Data files that change while --input=records reads them."""

import os
import pathlib
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.errors import UserError
from graph_resnet9.inputs import batches
from graph_resnet9.inputs import dataset
from graph_resnet9.inputs import formats
from tests import helpers

RECORDS = 40


def empty(path):
  os.truncate(path, 0)


def cut(path):
  os.truncate(path, 1000)


def other_labels(path):
  with open(path, 'r+b') as f:
    f.write(b'\xff' * (RECORDS * formats.RECORD_BYTES))


class ChangingFilesTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    (self.folder / formats.BINARY_FOLDER).mkdir()
    rows = np.zeros([RECORDS, formats.RECORD_BYTES], np.uint8)
    for stem in formats.TRAIN_STEMS + formats.TEST_STEMS:
      self.path(stem).write_bytes(rows.tobytes())
    decode = formats.decode_records
    self.enter_context(
      mock.patch.object(
        formats,
        'decode_records',
        lambda data, name, records, kind: decode(data, name, RECORDS, kind),
      )
    )
    self.settings = helpers.settings(
      dataset='cifar10',
      data_dir=str(self.folder),
      input='records',
      batch_size=20,
      min_after_dequeue=20,
      train_dir='x',
    )

  def path(self, stem):
    return self.folder / formats.BINARY_FOLDER / (stem + '.bin')

  def read_on(self, change):
    """Reads two batches, changes all files, and reads on without end."""
    with tf.Graph().as_default(), self.opened() as data:
      batch, _, feed = batches.batch(
        data, 'train', self.settings.seed, **self.settings.batches
      )
      scaffold = tf.train.Scaffold(local_init_feed_dict=feed)
      with tf.train.MonitoredSession(
        tf.train.ChiefSessionCreator(scaffold)
      ) as session:
        for _ in range(2):
          session.run(batch.labels)
        for stem in formats.TRAIN_STEMS:
          change(self.path(stem))
        while True:
          session.run(batch.labels)

  def opened(self):
    return dataset.opened(**self.settings.data)

  @parameterized.parameters(
    (empty, '0 bytes'),
    (cut, '1000 bytes'),
    (os.remove, 'missing'),
    (other_labels, 'label 255'),
  )
  def test_ends_by_the_name_of_a_file(self, change, text):
    with self.assertRaises(UserError) as caught:
      self.read_on(change)
    self.assertIn(str(self.path('data_batch_1')), str(caught.exception))
    self.assertIn(text, str(caught.exception))

  def test_error_of_something_else_keeps_its_traceback(self):
    with self.assertRaises(tf.errors.InternalError):
      with self.opened() as data:
        data.record_files('train')
        raise tf.errors.InternalError(None, None, 'of something else')


if __name__ == '__main__':
  absltest.main()
