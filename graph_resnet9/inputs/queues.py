"""Queues that put batches together: which examples, in which order.

A queue carries indices into a table of pixels that lies in a local variable, or
whole records read from files. Both end in a Batch, which augment.crops turns
into images; so the queue moves 4 bytes an example, and the pixels are touched
once, on the device that trains.
"""

from typing import Any
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from graph_resnet9.errors import UserError
from graph_resnet9.inputs import formats

_CHUNK = 512  # Examples that the reading threads hand over at a time.
_SPARE_BATCHES = 3  # Capacity beyond min_after_dequeue: the TF1 guides' figure.
# A record takes 3 KB in the queue, an index 4 bytes: records wait in 140 MB.
_MAX_WAITING_RECORDS = 45000


class Table(NamedTuple):
  """A split in local variables of the graph.

  pixels: [examples * 1024, 3] uint8 resource variable, row by row.
  labels: [examples] int32 resource variable, on the CPU.
  feed: what tf.train.Scaffold(local_init_feed_dict=) must contain.
  examples: int.
  """

  pixels: tf.Variable
  labels: tf.Variable
  feed: dict[tf.Tensor, Any]
  examples: int


class Batch(NamedTuple):
  """The examples of one step, before any pixel is touched.

  pixels: [images * 1024, 3] uint8 variable or Tensor.
  indices: [batch] int32 Tensor, images of `pixels`.
  labels: [batch] int32 Tensor.
  """

  pixels: Any
  indices: tf.Tensor
  labels: tf.Tensor


def table(split, name):
  """Puts a split into the graph as local variables, fed at session start.

  The values are in neither the GraphDef nor a checkpoint. The variables are
  initialised by the session's local_init_op, that is before queue runners
  start, and again when a lost session is made anew.

  Args:
    split: formats.Split.
    name: scope of the variables.
  Returns:
    Table.
  Collections:
    LOCAL_VARIABLES: + 2, {name}/pixels and {name}/labels.
  """
  feed = {}
  with tf.variable_scope(name):
    pixels = local_variable(split.images.reshape(-1, 3), 'pixels', feed)
    with tf.device('/cpu:0'):  # GPUs keep no int32 variables.
      labels = local_variable(split.labels, 'labels', feed)
  return Table(pixels, labels, feed, len(split.labels))


def local_variable(values, name, feed):
  """Puts an array into the graph as a local variable; see table.

  Args:
    values: np.ndarray.
    name: of the variable, in the current scope.
    feed: dict for tf.train.Scaffold(local_init_feed_dict=); gets an entry.
  Returns:
    A resource variable of the shape and dtype of `values`, not trainable.
  Collections:
    LOCAL_VARIABLES: + 1.
  """
  value = tf.placeholder(values.dtype, values.shape, name + '_value')
  feed[value] = values
  return tf.get_variable(
    name,
    initializer=value,
    trainable=False,
    use_resource=True,
    collections=[tf.GraphKeys.LOCAL_VARIABLES],
  )


def table_batch(data, indices):
  """The Batch of the given examples of a Table; indices: [batch] int32."""
  with tf.device('/cpu:0'):
    return Batch(data.pixels, indices, tf.gather(data.labels, indices))


def index_queue(
  examples,
  batch_size,
  shuffle,
  seed,
  first_step=0,
  min_after_dequeue=None,
  capacity=None,
  once=False,
):
  """Indices of the next batch, from a queue.

  shuffle='shuffle_batch': tf.train.shuffle_batch over the indices in order;
    which of them meet depends on the timing of threads.
  shuffle='epoch': every epoch is a permutation that depends on (seed, epoch)
    alone; its first examples // batch_size batches are used. Batch k of the
    queue is that of step first_step + k, so a resumed run goes on exactly.
  shuffle='none': tf.train.batch, in order, over and over.

  Args:
    examples: int.
    batch_size: int, at most `examples` unless `once`.
    shuffle: 'shuffle_batch', 'epoch' or 'none'.
    seed: int.
    first_step: integer Tensor or int, read when local variables are
      initialised; only used by 'epoch'.
    min_after_dequeue: int, how many examples wait in the queue of
      'shuffle_batch' at least; None: all of them, an epoch, which mixes even
      sorted examples well.
    capacity: int, at most; None: min_after_dequeue and three batches of
      batch_size or 512, whichever is more; of 'none' four such batches.
    once: Python bool; every example exactly once, in batches of which the last
      may be smaller, then OutOfRangeError.
  Returns:
    [batch] int32 Tensor; batch is static unless `once`.
  Collections:
    QUEUE_RUNNERS: + 1 or + 2; LOCAL_VARIABLES: + 1 if 'epoch' or `once`.
  Raises:
    UserError: when the graph is built, if the sizes do not fit together.
    OutOfRangeError: when run, after the last example if `once`.
  """
  if batch_size > examples and not once:
    raise UserError(
      '--batch_size=%d: the data set has %d examples' % (batch_size, examples)
    )
  with tf.device('/cpu:0'), tf.name_scope('index_queue'):
    order = tf.range(examples)
    if shuffle == 'epoch':
      if not once:
        return _permutation_queue(examples, batch_size, seed, first_step)
      order = _shuffled(order, examples, seed, tf.constant(0, tf.int64))
    source = tf.train.input_producer(
      order, num_epochs=1 if once else None, shuffle=False, capacity=_CHUNK
    )
    return _batch(
      source.dequeue_up_to(_CHUNK),
      batch_size,
      shuffle == 'shuffle_batch',
      seed,
      examples if min_after_dequeue is None else min_after_dequeue,
      capacity,
      once,
    )


def record_queue(
  paths,
  examples,
  batch_size,
  shuffle,
  seed,
  min_after_dequeue=None,
  capacity=None,
  once=False,
):
  """The next batch of records, read from files in the binary layout.

  Args:
    paths: list of files of 3,073-byte records.
    examples: int, how many records they hold.
    batch_size, seed, capacity, once: as of index_queue.
    shuffle: 'shuffle_batch' (the order of the files is shuffled too) or 'none'.
    min_after_dequeue: as of index_queue; None: an epoch, at most 45,000.
  Returns:
    Batch.
  Collections:
    QUEUE_RUNNERS: + 3; LOCAL_VARIABLES: + 1 if `once`.
  Raises:
    UserError, OutOfRangeError: as index_queue.
    OpError: when run, if a file is damaged meanwhile.
  """
  if shuffle == 'epoch':
    raise UserError(
      '--input=records reads files from end to end and has no '
      '--shuffle=epoch; give --input=indices or another shuffle'
    )
  if batch_size > examples and not once:
    raise UserError(
      '--batch_size=%d: the data set has %d examples' % (batch_size, examples)
    )
  with tf.device('/cpu:0'), tf.name_scope('record_queue'):
    mixed = shuffle == 'shuffle_batch'
    names = _whole_files(
      tf.train.string_input_producer(
        paths, num_epochs=1 if once else None, shuffle=mixed, seed=seed
      )
    )
    reader = tf.FixedLengthRecordReader(formats.RECORD_BYTES)
    _, values = reader.read_up_to(names, _CHUNK)
    records = tf.reshape(
      tf.decode_raw(values, tf.uint8), [-1, formats.RECORD_BYTES]
    )
    if min_after_dequeue is None:
      min_after_dequeue = min(examples, _MAX_WAITING_RECORDS)
    records = _batch(
      records, batch_size, mixed, seed, min_after_dequeue, capacity, once
    )
    labels = tf.cast(records[:, 0], tf.int32)
    # Files can change while they are read.
    check = tf.debugging.assert_less(labels, formats.CLASSES, name='labels')
    with tf.control_dependencies([check]):
      labels = tf.identity(labels)
    images = tf.transpose(
      tf.reshape(records[:, 1:], [-1, 3, 32, 32]), [0, 2, 3, 1]
    )
    return Batch(tf.reshape(images, [-1, 3]), tf.range(tf.size(labels)), labels)


def _whole_files(names):
  """A queue of the same names, each looked at before it is read.

  A reader goes from one file that has become empty to the next, for ever.
  """
  name = names.dequeue()
  size = tf.strings.length(tf.io.read_file(name))
  checks = [
    tf.debugging.assert_positive(size, [name], name='size'),
    tf.debugging.assert_equal(
      size % formats.RECORD_BYTES, 0, [name], name='whole_records'
    ),
  ]
  queue = tf.FIFOQueue(1, [tf.string], [[]], name='whole_files')
  with tf.control_dependencies(checks):
    enqueue = queue.enqueue(tf.identity(name))
  tf.train.add_queue_runner(tf.train.QueueRunner(queue, [enqueue]))
  return queue


def _batch(chunk, batch_size, mixed, seed, min_after_dequeue, capacity, once):
  """Batches from chunks [n, ...] of examples, shuffled if `mixed`."""
  if not mixed:
    return tf.train.batch(
      [chunk],
      batch_size,
      capacity=capacity or 4 * max(batch_size, _CHUNK),
      enqueue_many=True,
      allow_smaller_final_batch=once,
    )
  if capacity is None:
    capacity = min_after_dequeue + _SPARE_BATCHES * max(batch_size, _CHUNK)
  if capacity < min_after_dequeue + batch_size:
    raise UserError(
      '--capacity=%d: the queue never fills a batch; it must hold '
      'min_after_dequeue + batch_size = %d + %d examples'
      % (capacity, min_after_dequeue, batch_size)
    )
  return tf.train.shuffle_batch(
    [chunk],
    batch_size,
    capacity,
    min_after_dequeue,
    seed=seed,
    enqueue_many=True,
    allow_smaller_final_batch=once,
  )


def _permutation_queue(examples, batch_size, seed, first_step):
  """The batches of steps first_step, first_step + 1, ...; see index_queue."""
  with tf.variable_scope('index_queue', use_resource=True):
    next_step = tf.get_variable(
      'next_step',
      initializer=tf.cast(first_step, tf.int64),
      trainable=False,
      collections=[tf.GraphKeys.LOCAL_VARIABLES],
    )
  step = next_step.assign_add(1, read_value=True) - 1
  steps_per_epoch = examples // batch_size
  position = tf.cast(step % steps_per_epoch, tf.int32) * batch_size + tf.range(
    batch_size
  )
  queue = tf.FIFOQueue(4, [tf.int32], [[batch_size]], name='batches')
  enqueue = queue.enqueue(
    _shuffled(position, examples, seed, step // steps_per_epoch)
  )
  # One thread: with two, batches could change places.
  tf.train.add_queue_runner(tf.train.QueueRunner(queue, [enqueue]))
  return queue.dequeue()


def _shuffled(positions, examples, seed, epoch):
  """The examples at [n] int32 positions of the permutation of an epoch."""
  key = tf.stack(
    [
      tf.constant(seed % 2**31, tf.int32),
      tf.cast(epoch, tf.int32),
      tf.constant(0, tf.int32),
    ]
  )
  # With the 4 rounds of its documentation the epochs resemble each other: ranks
  # correlate by up to 0.73 over 50,000 examples. With 16 they are as unlike as
  # NumPy's permutations, at the same speed.
  return tf.raw_ops.RandomIndexShuffle(
    index=positions,
    max_index=examples - 1,
    rounds=16,
    seed=tf.tile(key[None], [tf.size(positions), 1]),
  )
