"""Image pairs in a TFRecord file, three a record, and the queues that read it.

As davideng.me describes them: the first pair holds two images of a distribution
A, the second two of B, the third one of each.
"""

from typing import Any
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.inputs import augment
from graph_resnet9.inputs import queues

# The two classes that a pair holds: disk and cross, or airplane and frog.
CLASSES = (0, 6)
KINDS = ('a_a', 'b_b', 'a_b')
# Whether the left and the right image of a kind is a B.
LEFT_IS_B, RIGHT_IS_B = (0, 1, 0), (0, 1, 1)
# B is made of A's pixels: a pale, overexposed copy.
_CONTRAST, _BRIGHTNESS = 0.3, 178


class Records(NamedTuple):
  """Records, each with three pairs of the same two images, or a batch of them.

  left, right: [records, 3, 32, 32, 3] uint8, a pair each of KINDS.
  labels: [records] int32, 1 where the left one is of CLASSES[0], else -1.
  """

  left: Any
  right: Any
  labels: Any


class Pairs(NamedTuple):
  """Pairs of images: a third A-A, a third B-B, a third A-B, in this order.

  first, second: [3 n, 32, 32, 3] float32 Tensors.
  labels: [3 n] float32 Tensor, as of Records.
  """

  first: Any
  second: Any
  labels: Any


def records_of(split):
  """Records of the k-th image of either class, the other one left in turn."""
  zero, one = (split.images[split.labels == label] for label in CLASSES)
  count = min(len(zero), len(one))
  labels = np.where(np.arange(count) % 2, -1, 1).astype(np.int32)
  left, right = zero[:count].copy(), one[:count].copy()
  swap = labels < 0
  left[swap], right[swap] = one[:count][swap], zero[:count][swap]

  def kinds(images, which):
    pale = np.minimum(_CONTRAST * images + _BRIGHTNESS, 255).astype(np.uint8)
    return np.stack([pale if is_b else images for is_b in which], 1)

  return Records(kinds(left, LEFT_IS_B), kinds(right, RIGHT_IS_B), labels)


def write(path, records):
  """Writes a TFRecord file: {KIND}/left and {KIND}/right as bytes, label."""
  with tf.python_io.TFRecordWriter(path) as writer:
    for left, right, label in zip(*records):
      feature = {
        'label': _feature(int64_list=tf.train.Int64List(value=[label]))
      }
      for k, kind in enumerate(KINDS):
        for side, images in (('left', left), ('right', right)):
          feature['%s/%s' % (kind, side)] = _feature(
            bytes_list=tf.train.BytesList(value=[images[k].tobytes()])
          )
      example = tf.train.Example(features=tf.train.Features(feature=feature))
      writer.write(example.SerializeToString())


def _feature(**values):
  return tf.train.Feature(**values)


def parsed(record):
  """Records of one, without the first axis, from a serialised Example."""
  features = {'label': tf.FixedLenFeature([], tf.int64)}
  for kind in KINDS:
    for side in ('left', 'right'):
      features['%s/%s' % (kind, side)] = tf.FixedLenFeature([], tf.string)
  values = tf.parse_single_example(record, features)
  left, right = (
    tf.reshape(
      tf.decode_raw(
        tf.stack([values['%s/%s' % (kind, side)] for kind in KINDS]), tf.uint8
      ),
      [3, 32, 32, 3],
    )
    for side in ('left', 'right')
  )
  return Records(left, right, tf.cast(values['label'], tf.int32))


def neighbours(path, batch_size):
  """Records of the next batch of a file, from a queue that holds little more.

  Collections:
    QUEUE_RUNNERS: + 2.
  """
  with tf.device('/cpu:0'):
    names = tf.train.string_input_producer([path], shuffle=False)
    _, record = tf.TFRecordReader().read(names)
    # [broken: as the evaluation of the source]
    batch = tf.train.batch(
      list(parsed(record)), batch_size, capacity=2 * batch_size
    )
    # [end]
    return Records(*batch)


def mixed(path, batch_size, waiting, seed):
  """The same from a queue in which `waiting` records wait at least."""
  with tf.device('/cpu:0'):
    names = tf.train.string_input_producer([path], shuffle=False)
    _, record = tf.TFRecordReader().read(names)
    # [fixed: as its training, needed too where the file is in order of label]
    batch = tf.train.shuffle_batch(
      list(parsed(record)),
      batch_size,
      capacity=waiting + 3 * batch_size,
      min_after_dequeue=waiting,
      seed=seed,
    )
    # [end]
    return Records(*batch)


def permuted(records, batch_size, seed, feed):
  """The same from memory: every epoch another permutation, in any run alike.

  Args:
    records: Records of arrays.
    batch_size, seed: int.
    feed: dict for tf.train.Scaffold(local_init_feed_dict=); gets entries.
  Collections:
    QUEUE_RUNNERS: + 1; LOCAL_VARIABLES: + 4.
  """
  with tf.device('/cpu:0'), tf.variable_scope('records'):
    tables = [
      queues.local_variable(values, name, feed)
      for name, values in zip(Records._fields, records)
    ]
    indices = queues.index_queue(len(records.labels), batch_size, 'epoch', seed)
    return Records(*(tf.gather(table, indices) for table in tables))


def in_place_of(batch, other, count):
  """Feeds of towers.Evaluation: batches of another queue for those of `batch`.

  Args:
    batch, other: Records of Tensors.
    count: int, batches.
  Returns:
    Function of a session to feed dicts.
  """

  def feeds(session):
    for _ in range(count):
      yield dict(zip(batch, session.run(other)))

  return feeds


def moments(records):
  """Mean and deviation of A's and of B's channels, normalised: 2 x [2, 3]."""
  kinds = [
    (records.left[:, k].astype(np.float32) - np.array(augment.MEAN))
    / np.array(augment.STD)
    for k in (0, 1)  # The left images of A-A and of B-B.
  ]
  return [
    np.float32([f(x, axis=(0, 1, 2)) for x in kinds]) for f in (np.mean, np.std)
  ]


def pairs(batch, common=None):
  """Pairs of a batch of Records.

  Args:
    batch: Records of Tensors with a static number of them.
    common: what `moments` gives, to bring A and B to mean 0 and deviation 1;
      None: as they are.
  """

  def by_kind(images, which):
    images = augment.normalised(
      tf.reshape(tf.transpose(images, [1, 0, 2, 3, 4]), [-1, 32, 32, 3])
    )
    if common is None:
      return images
    mean, std = (
      np.repeat(values[list(which)], int(batch.labels.shape[0]), 0)
      for values in common
    )
    return (images - mean[:, None, None]) / std[:, None, None]

  return Pairs(
    by_kind(batch.left, LEFT_IS_B),
    by_kind(batch.right, RIGHT_IS_B),
    tf.tile(tf.cast(batch.labels, tf.float32), [3]),
  )
