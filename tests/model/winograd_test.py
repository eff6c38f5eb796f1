"""Winograd's convolutions against sums written out and against tf.nn.conv2d."""

import pathlib
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.model import layers
from graph_resnet9.model import resnet9
from graph_resnet9.model import winograd

# Side, channels, filters of ResNet9's 3x3 convolutions at full width.
LAYERS = (
  (32, 64, 128),
  (16, 128, 128),
  (16, 128, 256),
  (8, 256, 512),
  (4, 512, 512),
)


def numpy_conv(x, kernel, dy):
  """(y, dx, dk), float64, summed up tap by tap."""
  x, kernel, dy = (values.astype(np.float64) for values in (x, kernel, dy))
  height, width = x.shape[1:3]
  padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
  y, dpadded = np.zeros(dy.shape), np.zeros(padded.shape)
  dk = np.zeros(kernel.shape)
  for i in range(3):
    for j in range(3):
      window = np.s_[:, i : i + height, j : j + width]
      y += padded[window] @ kernel[i, j]
      dpadded[window] += dy @ kernel[i, j].T
      dk[i, j] = np.einsum('nhwc,nhwf->cf', padded[window], dy, optimize=True)
  return y, dpadded[:, 1:-1, 1:-1], dk


def values(shape, filters, seed=0):
  random = np.random.RandomState(seed)
  return (
    random.normal(size=shape),
    random.normal(size=(3, 3, shape[-1], filters)) / np.sqrt(9 * shape[-1]),
    random.normal(size=shape[:3] + (filters,)),
  )


def run(conv, x, kernel, dy, dtype, batch=None):
  """[y, dx, dk] by a function like winograd.conv; `batch`: the static one."""
  with tf.Graph().as_default(), tf.Session() as session:
    images = tf.placeholder(dtype, (batch,) + x.shape[1:])
    weights = tf.placeholder(dtype, kernel.shape)
    y = conv(images, weights)
    gradients = tf.gradients(y, [images, weights], tf.constant(dy, dtype))
    return session.run([y] + gradients, {images: x, weights: kernel})


def direct(images, kernel):
  return tf.nn.conv2d(images, kernel, 1, 'SAME')


def errors(actual, expected):
  """Relative errors, by the norm."""
  return [
    np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(actual, expected)
  ]


class WinogradTest(parameterized.TestCase):
  def test_matrices_give_the_correlation_of_a_tile(self):
    at, g, bt = winograd.matrices()
    random = np.random.RandomState(0)
    d, kernel = random.normal(size=6), random.normal(size=3)
    np.testing.assert_allclose(
      at @ ((g @ kernel) * (bt @ d)), np.correlate(d, kernel), atol=1e-14
    )

  @parameterized.parameters(
    ((3, 8, 12, 5), 7),
    ((1, 4, 4, 2), 3),
    ((2, 16, 4, 3), 1),
    ((5, 32, 32, 1), 2),
  )
  def test_float64_is_exact(self, shape, filters):
    """Odd batches, a batch of one, sides that differ, static and not."""
    data = values(shape, filters)
    expected = numpy_conv(*data)
    for batch in (None, shape[0]):
      actual = run(winograd.conv, *data, tf.float64, batch)
      self.assertLess(max(errors(actual, expected)), 1e-14)

  @parameterized.parameters(
    (16, 4, 64, True), (8, 8, 32, True), (2, 32, 16, False)
  )
  def test_an_example_of_zeros_more_where_rows_share_lines(
    self, batch, side, channels, more
  ):
    """Exact, and 4,096 bytes are nowhere a divisor of the rows of V."""
    data = values((batch, side, side, channels), 3)
    actual = run(winograd.conv, *data, tf.float64, batch)
    self.assertLess(max(errors(actual, numpy_conv(*data))), 1e-14)
    with tf.Graph().as_default() as graph:
      winograd.conv(
        tf.zeros([batch, side, side, channels]), tf.zeros([3, 3, channels, 3])
      )
      (m,) = (op for op in graph.get_operations() if 'BatchMatMul' in op.type)
    _, rows, columns = m.inputs[0].shape
    self.assertEqual(rows, (batch + more) * (side // 4) ** 2)
    self.assertEqual(bool(rows * columns % 1024), more)

  @parameterized.parameters(*LAYERS)
  def test_float32_in_every_layer_is_as_good_as_direct(
    self, side, channels, filters
  ):
    """Errors of 1.5e-6 were seen, of direct ones 1.1e-6."""
    data = values((3, side, side, channels), filters)
    expected = numpy_conv(*data)
    winograd_errors = errors(run(winograd.conv, *data, tf.float32), expected)
    direct_errors = errors(run(direct, *data, tf.float32), expected)
    self.assertLess(max(winograd_errors), 3e-6)
    self.assertLess(max(direct_errors), 3e-6)

  def test_a_batch_without_images_gives_none(self):
    data = values((0, 8, 8, 3), 4)
    y, dx, dk = run(winograd.conv, *data, tf.float32)
    self.assertEqual((y.shape, dx.shape), ((0, 8, 8, 4), (0, 8, 8, 3)))
    self.assertFalse(dk.any())

  def test_shapes_are_known_when_the_graph_is_built(self):
    for batch in (None, 6):
      with tf.Graph().as_default():
        y = winograd.conv(
          tf.placeholder(tf.float32, [batch, 8, 4, 3]), tf.zeros([3, 3, 3, 5])
        )
        self.assertEqual(y.shape.as_list(), [batch, 8, 4, 5])

  def test_repeats_bit_for_bit(self):
    data = values((7, 16, 16, 32), 32)
    once, again = (run(winograd.conv, *data, tf.float32) for _ in range(2))
    for one, other in zip(once, again):
      np.testing.assert_array_equal(one, other)

  def test_auto_goes_by_the_machine(self):
    for devices, cpuinfo, expected in (
      (['GPU'], 'flags : avx2 avx512f', 'direct'),
      ([], 'flags : avx2 avx512f', 'winograd64'),
      ([], 'flags : avx2 avx512_vnni', 'winograd'),
      ([], OSError, 'winograd'),
    ):
      with (
        mock.patch.object(
          tf.config, 'list_physical_devices', return_value=devices
        ),
        mock.patch.object(pathlib.Path, 'read_text', side_effect=[cpuinfo]),
      ):
        self.assertEqual(winograd.chosen('auto'), expected)
    for conv in ('direct', 'winograd', 'winograd64'):
      self.assertEqual(winograd.chosen(conv), conv)


class LayerTest(parameterized.TestCase):
  def is_direct(self, images, size=3, algorithm='winograd'):
    """Whether layers.conv makes a Conv2D, and nothing of the other."""
    types = self.types(images, size, algorithm)
    self.assertEqual('Conv2D' in types, 'BatchMatMulV2' not in types)
    return 'Conv2D' in types

  def types(self, *args):
    with tf.Graph().as_default() as graph:
      shape, dtype = args[0]
      layers.conv(tf.placeholder(dtype, shape), 8, *args[1:])
      return {op.type for op in graph.get_operations()}

  def test_winograd_where_it_is_faster(self):
    self.assertFalse(self.is_direct(([None, 8, 8, 32], tf.float32)))
    for images in (
      ([2, 8, 8, 31], tf.float32),
      ([2, 8, 8, 32], tf.float16),
      ([2, 8, 8, 32], tf.bfloat16),
      ([2, 6, 8, 32], tf.float32),
      ([2, None, 8, 32], tf.float32),
    ):
      self.assertTrue(self.is_direct(images), images)
    images = [2, 8, 8, 32], tf.float32
    self.assertTrue(self.is_direct(images, 3, 'winograd64'))
    images = [2, 8, 8, 64], tf.float32
    self.assertFalse(self.is_direct(images, 3, 'winograd64'))
    self.assertTrue(self.is_direct(images, 1))
    self.assertTrue(self.is_direct(images, 3, 'direct'))

  @parameterized.parameters((64, 7), (16, 6), (8, 3), (4, 2), (2, 0))
  def test_convolutions_of_resnet9(self, width, count):
    """All but prep at width 64; the variables are those of direct ones."""
    with tf.Graph().as_default() as graph:
      resnet9.logits(
        tf.zeros([2, 32, 32, 3]), training=True, width=width, conv='winograd'
      )
      types = [op.type for op in graph.get_operations()]
      variables = [(v.op.name, v.shape) for v in tf.global_variables()]
      biases = [v.op.name for v in tf.get_collection(tf.GraphKeys.BIASES)]
    self.assertEqual(types.count('Conv2D'), 8 - count)
    with tf.Graph().as_default():
      resnet9.logits(tf.zeros([2, 32, 32, 3]), training=True, width=width)
      self.assertEqual(
        variables, [(v.op.name, v.shape) for v in tf.global_variables()]
      )
      self.assertEqual(
        biases, [v.op.name for v in tf.get_collection(tf.GraphKeys.BIASES)]
      )


if __name__ == '__main__':
  absltest.main()
