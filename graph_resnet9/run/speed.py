"""How fast the pieces of a training step are, beside the machine's speed."""

import statistics
import tempfile
import time
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from graph_resnet9.inputs import dataset
from graph_resnet9.run import training

_WARM_UP_STEPS = 2
_PRODUCT_SIDE = 4096  # Of the matrices whose product is the yardstick.
_PRODUCTS = 5


class Speed(NamedTuple):
  """Medians over the timed steps.

  dataset: name of the images used.
  product_gflops: float32 matrix product 4096 x 4096, 10^9 operations a second;
    the mean of one measurement before and one after the steps.
  input_images_per_sec: queue, gather, crop, flip, normalise and cutout alone.
  train_images_per_sec: whole training steps, input included.
  train_gflops: 10^9 operations a second of the convolutions and the dense layer
    in these steps.
  """
  dataset: str
  product_gflops: float
  input_images_per_sec: float
  train_images_per_sec: float
  train_gflops: float

  @property
  def train_share_of_product(self):
    return self.train_gflops / self.product_gflops

  @property
  def input_share_of_train(self):
    """Times that the input alone is faster than training."""
    return self.input_images_per_sec / self.train_images_per_sec


def flop_per_image(width):
  """Operations of one training step for one image: 2 a multiply-add, forward
  pass once, backward pass twice as much. 2.27e9 at width 64."""
  w = width
  multiply_adds = (
      32 * 32 * 9 * 3 * w + 32 * 32 * 9 * w * 2 * w
      + 2 * 16 * 16 * 9 * (2 * w) ** 2 + 16 * 16 * 9 * 2 * w * 4 * w
      + 8 * 8 * 9 * 4 * w * 8 * w + 2 * 4 * 4 * 9 * (8 * w) ** 2 + 8 * w * 10)
  return 3 * 2 * multiply_adds


def measure(settings):
  """Times a recipe on this machine.

  Args:
    settings: options.Benchmark.
  Returns:
    Speed.
  """
  source = dataset.find(settings.data.dataset, settings.data.data_dir)
  with tempfile.TemporaryDirectory() as scratch, tf.Graph().as_default():
    graph = training.build(settings, source, scratch)
    matrix = tf.get_variable(
        'matrix', [_PRODUCT_SIDE] * 2, use_resource=True, trainable=False)
    product = tf.matmul(matrix, matrix).op
    scaffold = tf.train.Scaffold(local_init_feed_dict=graph.feed)
    config = tf.ConfigProto(allow_soft_placement=True)
    with tf.train.MonitoredSession(
        tf.train.ChiefSessionCreator(scaffold, config=config)) as session:
      products = [_median_secs(session, product, _PRODUCTS)]
      input_secs = _median_secs(session, graph.images.op, settings.steps)
      train_secs = _median_secs(session, graph.train_op, settings.steps)
      products.append(_median_secs(session, product, _PRODUCTS))
  product_secs = sum(products) / len(products)
  images_per_sec = settings.batches.batch_size / train_secs
  return Speed(
      source.name, 2e-9 * _PRODUCT_SIDE ** 3 / product_secs,
      settings.batches.batch_size / input_secs, images_per_sec,
      1e-9 * images_per_sec * flop_per_image(settings.model.width))


def _median_secs(session, op, steps):
  """Median time of session.run(op)."""
  times = []
  for _ in range(_WARM_UP_STEPS + steps):
    begin = time.perf_counter()
    session.run(op)
    times.append(time.perf_counter() - begin)
  return statistics.median(times[_WARM_UP_STEPS:])
