"""How fast the pieces of a training step are, beside the machine's speed."""

from concurrent import futures
import contextlib
import multiprocessing
import resource
import sys
import time
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from graph_resnet9.inputs import augment
from graph_resnet9.inputs import batches
from graph_resnet9.inputs import dataset
from graph_resnet9.model import winograd
from graph_resnet9.speed import jax_peer
from graph_resnet9.speed import torch_peer
from graph_resnet9.speed import trace
from graph_resnet9.speed import turns
from graph_resnet9.training import graph
from graph_resnet9.training import loop

_PRODUCT_SIDE = 4096  # Of the matrices whose product is the yardstick.
_PRODUCT_GFLOP = 2e-9 * _PRODUCT_SIDE**3
_PRODUCTS = 5
_INPUT_STEPS = 100
_INPUT_MODES = (
  ('indices', 'shuffle_batch'),
  ('indices', 'epoch'),
  ('indices', 'none'),
  ('records', 'shuffle_batch'),
  ('records', 'none'),
)


class Training(NamedTuple):
  """Whole training steps, input included, with one kind of convolutions.

  images_per_sec: rate.
  cpu_secs: CPU seconds of a step.
  gflops: 10^9 operations a second of the convolutions and the dense layer, as
    many as direct convolutions take.
  share_of_product: gflops / those of the matrix product.
  cpu_share_of_product: the same by CPU seconds.
  first_step_secs: from the start of a process to the end of its first step, the
    loading of TensorFlow, the images and the graph among it.
  peak_mib: most memory that this process held by the end of its second step, in
    MiB, on the host.
  trace: trace.Seconds of a step, or None.
  """

  images_per_sec: float
  cpu_secs: float
  gflops: float
  share_of_product: float
  cpu_share_of_product: float
  first_step_secs: float
  peak_mib: float
  trace: trace.Seconds | None


class Speed(NamedTuple):
  """What was measured; rates are medians over the timed steps.

  dataset: name of the images used.
  product_gflops: float32 matrix product 4096 x 4096, 10^9 operations a second;
    measured before, between and after the runs of steps.
  product_cpu_secs: CPU seconds of such a product.
  training: {--conv: Training}, first that of the settings; of --conv=auto what
    it chooses here, and direct beside it.
  forward_images_per_sec: logits in training, input included, of the first.
  input_images_per_sec: {'indices, epoch': ...}: queue, gather, crop, flip,
    normalise and cutout alone, by --input and --shuffle.
  peers: {'PyTorch 2.13.0, channels_last': Secs}: a training step on a batch
    that lies ready.
  """

  dataset: str
  product_gflops: float
  product_cpu_secs: float
  training: dict[str, Training]
  forward_images_per_sec: float
  input_images_per_sec: dict[str, float]
  peers: dict[str, turns.Secs]


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


def measure(settings, steps, runs, peers=(), traced=False, initializer=None):
  """Times a recipe on this machine.

  Args:
    settings: train_flags.Recipe.
    steps: int, a run.
    runs: int, in which all that is timed takes its turn.
    peers: which of 'torch' and 'jax' to time, too.
    traced: Python bool; trace a step.
    initializer: function without arguments, or None; processes that are started
      to measure first steps call it before they load TensorFlow.
  Returns:
    Speed.
  Raises:
    UserError: bad data, or no PyTorch or JAX to compare with.
  """
  others = {}
  if 'torch' in peers:
    others.update(torch_peer.training_steps(torch_peer.load(), settings))
  if 'jax' in peers:
    jax = jax_peer.load()
    others['JAX ' + jax.__version__] = jax_peer.training_step(jax, settings)
  convs = _convs(settings.model.conv)
  starts = {
    conv: _in_new_process(
      initializer, _start, _with_conv(settings, conv), time.time()
    )
    for conv in convs
  }
  with (
    dataset.opened(**settings.data) as data,
    contextlib.ExitStack() as sessions,
  ):
    works, traces = {}, {}
    for conv in convs:
      step, product, session = sessions.enter_context(
        _built(_with_conv(settings, conv), data)
      )
      session.run(step.train_op)
      traces[conv] = trace.seconds(session, step.train_op) if traced else None
      if not works:
        works['product'] = _runs(session, product), _PRODUCTS
        works['forward'] = _runs(session, step.logits.op), steps
      works['train', conv] = _runs(session, step.train_op), steps
    works.update({name: (work, steps) for name, work in others.items()})
    secs = turns.in_turn(works, runs)
    inputs = {
      ', '.join(mode): _input_secs(settings, data, *mode)
      for mode in _INPUT_MODES
    }
  batch = settings.batches.batch_size
  gflop = (
    1e-9
    * batch
    * flop_per_image(settings.model.width, settings.model.whitening)
  )
  product = secs['product']

  def training(conv):
    step = secs['train', conv]
    return Training(
      batch / step.wall,
      step.cpu,
      gflop / step.wall,
      gflop / step.wall / (_PRODUCT_GFLOP / product.wall),
      gflop / step.cpu / (_PRODUCT_GFLOP / product.cpu),
      *starts[conv],
      traces[conv],
    )

  return Speed(
    data.source.name,
    _PRODUCT_GFLOP / product.wall,
    product.cpu,
    {conv: training(conv) for conv in convs},
    batch / secs['forward'].wall,
    {mode: batch / seconds for mode, seconds in inputs.items()},
    {name: secs[name] for name in others},
  )


def _convs(conv):
  """What to train with, that of the settings first."""
  convs = [winograd.chosen(conv)]
  if conv == 'auto' and convs != ['direct']:
    convs.append('direct')
  return convs


def _with_conv(settings, conv):
  return settings.replace(model=settings.model.replace(conv=conv))


def _in_new_process(initializer, function, *args):
  """What function(*args) returns there."""
  with futures.ProcessPoolExecutor(
    1, multiprocessing.get_context('spawn'), initializer
  ) as pool:
    return pool.submit(function, *args).result()


def _start(settings, started):
  """(Seconds since time.time() was `started` to the first step, peak MiB)."""
  with (
    dataset.opened(**settings.data) as data,
    _built(settings, data) as (step, _, session),
  ):
    session.run(step.train_op)
    first_step_secs = time.time() - started
    session.run(step.train_op)
    return first_step_secs, _peak_mib()


@contextlib.contextmanager
def _built(settings, data):
  """Yields graph.Step, the op of the matrix product, a session for both."""
  with tf.Graph().as_default():
    step = loop.build(settings, data)
    matrix = tf.get_variable(
      'matrix', [_PRODUCT_SIDE] * 2, use_resource=True, trainable=False
    )
    product = tf.matmul(matrix, matrix).op
    with _session(step.feed) as session:
      yield step, product, session


def _session(feed):
  scaffold = tf.train.Scaffold(local_init_feed_dict=feed)
  config = tf.ConfigProto(allow_soft_placement=True)
  config.gpu_options.allow_growth = True  # PyTorch needs some of it, too.
  return tf.train.MonitoredSession(
    tf.train.ChiefSessionCreator(scaffold, config=config)
  )


def _runs(session, op):
  return lambda: session.run(op)


def _input_secs(settings, data, kind, shuffle):
  """Median seconds of a batch of the input alone."""
  queue = settings.batches.replace(
    input=kind, shuffle=shuffle, min_after_dequeue=None, capacity=None
  )
  with tf.Graph().as_default():
    now = graph.global_step().read_value()
    batch, examples, feed = batches.batch(
      data, 'train', settings.seed, first_step=now, **queue
    )
    images = augment.augmented(
      batch.pixels,
      batch.indices,
      queue.batch_size,
      settings.seed,
      now,
      examples // queue.batch_size,
      **settings.augment,
    )
    with _session(feed) as session:
      return turns.in_turn(
        {'input': (lambda: session.run(images.op), _INPUT_STEPS)}, 1
      )['input'].wall


def _peak_mib():
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak / 2**20 if sys.platform == 'darwin' else peak / 2**10
