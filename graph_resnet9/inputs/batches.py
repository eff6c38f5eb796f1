"""The batch that a run's flags ask for, whether it trains or evaluates."""

import contextlib

import tensorflow.compat.v1 as tf

from graph_resnet9.inputs import dataset
from graph_resnet9.inputs import queues


def batch(
  settings, source, split, scratch, first_step=0, once=False, share=(0, 1)
):
  """The next batch of a split, from the queue that the flags describe.

  Args:
    settings: train_flags.Run.
    source: dataset.Source.
    split: 'train' or 'test'.
    scratch: existing directory for record files, if they have to be written.
    first_step, once: as of queues.index_queue.
    share: (index, count); the part of the split that this process reads, as of
      formats.Split.share.
  Returns:
    (queues.Batch, number of examples, feed for the session's local init op).
  """
  flags = settings.batches
  limit = getattr(settings.data, split + '_examples')
  sizes = dict(
    seed=settings.seed,
    batch_size=flags.batch_size,
    shuffle=flags.shuffle,
    capacity=flags.capacity,
    min_after_dequeue=flags.min_after_dequeue,
    once=once,
  )
  if flags.input == 'records':
    paths, examples = dataset.record_files(
      source, split, scratch, limit, flags.order, share
    )
    return queues.record_queue(paths, examples, **sizes), examples, {}
  data = queues.table(
    dataset.load(source, split, limit, flags.order, share), split
  )
  indices = queues.index_queue(data.examples, first_step=first_step, **sizes)
  return queues.table_batch(data, indices), data.examples, data.feed


@contextlib.contextmanager
def reading(settings, source, split):
  """Around a session: its error is that of a data file, if one is damaged now.

  With --input=records the files are read while others may write into them.

  Args:
    settings, source, split: as of batch.
  Raises:
    UserError: names the file and what is wrong with it.
  """
  try:
    yield
  except tf.errors.OpError:
    if settings.batches.input == 'records':
      dataset.check(source, split)
    raise
