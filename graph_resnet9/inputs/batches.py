"""The next batch of a split, from the queue that the flags describe."""

from typing import Any
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from graph_resnet9.inputs import dataset
from graph_resnet9.inputs import queues


class Fed(NamedTuple):
  """A batch, and what its session needs.

  batch: queues.Batch.
  examples: int, of the split, or of the share of it.
  feed: {placeholder: array} for tf.train.Scaffold(local_init_feed_dict=).
  """

  batch: queues.Batch
  examples: int
  feed: dict[tf.Tensor, Any]


def batch(
  data: dataset.Data,
  split: str,
  seed: int,
  batch_size: int,
  input: str,  # pylint: disable=redefined-builtin
  order: str,
  shuffle: str,
  min_after_dequeue: int | None = None,
  capacity: int | None = None,
  first_step: Any = 0,
  once: bool = False,
  share: tuple[int, int] = (0, 1),
) -> Fed:
  """The next batch of a split.

  Args:
    data: where the examples come from.
    split: 'train' or 'test'.
    seed, batch_size, shuffle, min_after_dequeue, capacity, first_step, once: as
      of queues.index_queue.
    input: 'indices' of images in memory, or 'records' read from files.
    order: 'file' or 'class_sorted'; how the examples reach the queue.
    share: (index, count); the part of the split that this process reads, as of
      formats.Split.share.
  Collections:
    QUEUE_RUNNERS and LOCAL_VARIABLES: as of queues.index_queue, or of
      queues.record_queue; with 'indices' + 2 local variables, the split.
  Raises:
    UserError: when the graph is built; as of the queues.
    OutOfRangeError: when run, after the last example if `once`.
  """
  queue = dict(
    seed=seed,
    batch_size=batch_size,
    shuffle=shuffle,
    capacity=capacity,
    min_after_dequeue=min_after_dequeue,
    once=once,
  )
  if input == 'records':
    paths, examples = data.record_files(split, order, share)
    return Fed(queues.record_queue(paths, examples, **queue), examples, {})
  examples = dataset.ordered(getattr(data, split), order).share(*share)
  table = queues.table(examples, split)
  indices = queues.index_queue(table.examples, first_step=first_step, **queue)
  return Fed(queues.table_batch(table, indices), table.examples, table.feed)
