"""How fast the pieces of a training step are, beside the machine's speed."""

import resource
import statistics
import sys
import time
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from graph_resnet9.inputs import augment
from graph_resnet9.inputs import batches
from graph_resnet9.inputs import dataset
from graph_resnet9.speed import torch_peer
from graph_resnet9.training import graph
from graph_resnet9.training import loop

_WARM_UP_STEPS = 2
_PRODUCT_SIDE = 4096  # Of the matrices whose product is the yardstick.
_PRODUCTS = 5
_INPUT_STEPS = 100
_INPUT_MODES = (
  ('indices', 'shuffle_batch'),
  ('indices', 'epoch'),
  ('indices', 'none'),
  ('records', 'shuffle_batch'),
  ('records', 'none'),
)


class Speed(NamedTuple):
  """What was measured; rates are medians over the timed steps.

  dataset: name of the images used.
  first_step_secs: from the start of the command to the end of its first step,
    the loading of TensorFlow, the images and the graph among it.
  peak_mib: most memory that the process held by the end of the training steps,
    in MiB, on the host.
  product_gflops: float32 matrix product 4096 x 4096, 10^9 operations a second;
    measured before, between and after the runs of steps.
  forward_images_per_sec: logits in training, input included.
  train_images_per_sec: whole training steps, input included.
  train_gflops: 10^9 operations a second of the convolutions and the dense layer
    in these steps.
  input_images_per_sec: {'indices, epoch': ...}: queue, gather, crop, flip,
    normalise and cutout alone, by --input and --shuffle.
  torch_images_per_sec: {layout: ...}, training steps of PyTorch on a batch that
    lies ready, or None.
  torch: its version, or None.
  """

  dataset: str
  first_step_secs: float
  peak_mib: float
  product_gflops: float
  forward_images_per_sec: float
  train_images_per_sec: float
  train_gflops: float
  input_images_per_sec: dict[str, float]
  torch_images_per_sec: dict[str, float] | None
  torch: str | None

  @property
  def train_share_of_product(self):
    return self.train_gflops / self.product_gflops

  @property
  def train_share_of_torch(self):
    """Times that training is as fast as PyTorch in its faster layout."""
    return (
      self.train_images_per_sec / max(self.torch_images_per_sec.values())
      if self.torch_images_per_sec
      else None
    )


def flop_per_image(width, whitening=False):
  """Operations of one training step for one image: 2 a multiply-add, forward
  pass once, backward pass twice as much. 2.27e9 at width 64."""
  w = width
  multiply_adds = (
    32 * 32 * (27 if whitening else 9 * 3) * w
    + 32 * 32 * 9 * w * 2 * w
    + 2 * 16 * 16 * 9 * (2 * w) ** 2
    + 16 * 16 * 9 * 2 * w * 4 * w
    + 8 * 8 * 9 * 4 * w * 8 * w
    + 2 * 4 * 4 * 9 * (8 * w) ** 2
    + 8 * w * 10
  )
  fixed = 32 * 32 * 9 * 3 * 27 if whitening else 0  # It has no gradients.
  return 2 * (3 * multiply_adds + fixed)


def measure(settings, started, steps, runs, compare_torch, list_ops):
  """Times a recipe on this machine.

  Args:
    settings: train_flags.Recipe.
    started: time.perf_counter() at the start of the command.
    steps: int, a run.
    runs: int, in which all that is timed takes its turn.
    compare_torch: Python bool; time PyTorch, too.
    list_ops: Python bool.
  Returns:
    (Speed, seconds of the ops of one training step by type, as of _op_secs, or
    {} without list_ops).
  Raises:
    UserError: bad data, or no PyTorch to compare with.
  """
  peer = torch_peer.load() if compare_torch else None
  with dataset.opened(**settings.data) as data:
    with tf.Graph().as_default():
      step = loop.build(settings, data)
      matrix = tf.get_variable(
        'matrix', [_PRODUCT_SIDE] * 2, use_resource=True, trainable=False
      )
      product = tf.matmul(matrix, matrix).op
      with _session(step.feed) as session:
        session.run(step.train_op)
        first_step_secs = time.perf_counter() - started
        session.run(step.train_op)
        peak_mib = _peak_mib()
        ops = _op_secs(session, step.train_op) if list_ops else {}
        works = {
          'product': (lambda: session.run(product), _PRODUCTS),
          'forward': (lambda: session.run(step.logits.op), steps),
          'train': (lambda: session.run(step.train_op), steps),
        }
        for layout in torch_peer.LAYOUTS if peer else ():
          works[layout] = (
            torch_peer.training_step(peer, settings, layout),
            steps,
          )
        secs = _in_turn(works, runs)
    inputs = {
      ', '.join(mode): _input_secs(settings, data, *mode)
      for mode in _INPUT_MODES
    }
  rate = lambda seconds: settings.batches.batch_size / seconds
  train_rate = rate(secs['train'])
  return Speed(
    data.source.name,
    first_step_secs,
    peak_mib,
    2e-9 * _PRODUCT_SIDE**3 / secs['product'],
    rate(secs['forward']),
    train_rate,
    1e-9
    * train_rate
    * flop_per_image(settings.model.width, settings.model.whitening),
    {mode: rate(seconds) for mode, seconds in inputs.items()},
    {layout: rate(secs[layout]) for layout in torch_peer.LAYOUTS}
    if peer
    else None,
    peer.__version__ if peer else None,
  ), ops


def _session(feed):
  scaffold = tf.train.Scaffold(local_init_feed_dict=feed)
  config = tf.ConfigProto(allow_soft_placement=True)
  config.gpu_options.allow_growth = True  # PyTorch needs some of it, too.
  return tf.train.MonitoredSession(
    tf.train.ChiefSessionCreator(scaffold, config=config)
  )


def _in_turn(works, runs):
  """Median seconds of each work, over runs in which they take turns.

  Args:
    works: {name: (function that does it once, times a run)}.
    runs: int.
  Returns:
    {name: float}.
  """
  secs = {name: [] for name in works}
  for _ in range(runs):
    for name, (work, times) in works.items():
      for step in range(_WARM_UP_STEPS + times):
        begin = time.perf_counter()
        work()
        if step >= _WARM_UP_STEPS:
          secs[name].append(time.perf_counter() - begin)
  return {name: statistics.median(values) for name, values in secs.items()}


def _input_secs(settings, data, kind, shuffle):
  """Median seconds of a batch of the input alone."""
  queue = settings.batches.replace(
    input=kind, shuffle=shuffle, min_after_dequeue=None, capacity=None
  )
  with tf.Graph().as_default():
    now = graph.global_step().read_value()
    batch, _, feed = batches.batch(
      data, 'train', settings.seed, first_step=now, **queue
    )
    images = augment.augmented(
      batch.pixels,
      batch.indices,
      queue.batch_size,
      settings.seed,
      now,
      **settings.augment,
    )
    with _session(feed) as session:
      return _in_turn(
        {'input': (lambda: session.run(images.op), _INPUT_STEPS)}, 1
      )['input']


def _peak_mib():
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak / 2**20 if sys.platform == 'darwin' else peak / 2**10


def _op_secs(session, op):
  """{op type: (count, seconds)} of one run of `op`, the longest first.

  By TensorFlow's trace. Ops that run at the same time on different cores count
  in full, so that the sum may be more than the step takes.
  """
  metadata = tf.RunMetadata()
  session.run(
    op,
    options=tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE),
    run_metadata=metadata,
  )
  totals = {}
  for device in metadata.step_stats.dev_stats:
    for node in device.node_stats:
      # "name = Type(inputs)", or only the name.
      name, _, call = node.timeline_label.partition(' = ')
      kind = call.partition('(')[0] or name or node.node_name
      count, secs = totals.get(kind, (0, 0.0))
      totals[kind] = (
        count + 1,
        secs + 1e-6 * (node.op_end_rel_micros - node.op_start_rel_micros),
      )
  return dict(sorted(totals.items(), key=lambda item: -item[1][1]))
