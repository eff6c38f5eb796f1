"""doctor/graph/shapes: as TensorFlow infers them, without TensorFlow."""

from absl.testing import absltest
import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.graph import shapes
from tests.doctor.hand_made import HandMade
from tests.doctor.hand_made import inferred_and_declared


def network(x):
  """Every op that has a rule of its own, on [batch, 8, 8, 3]."""
  x = tf.pad(x, [[0, 0], [1, 1], [2, 1], [0, 0]])
  x = tf.layers.conv2d(x, 4, 3, 2, 'same')
  x = tf.layers.conv2d(x, 6, [3, 2], padding='valid', dilation_rate=1)
  x = tf.layers.batch_normalization(x, training=True)
  x = tf.layers.batch_normalization(x, training=True, fused=False)
  x = tf.nn.depthwise_conv2d(x, tf.ones([1, 1, 6, 2]), [1, 1, 1, 1], 'SAME')
  x = tf.layers.max_pooling2d(x, 2, 1, 'same') + tf.nn.relu(x)
  x = tf.concat([x, x * 2.0], 3)
  x = tf.transpose(x, [0, 3, 1, 2])
  x = tf.transpose(x, [0, 2, 3, 1])
  y = tf.layers.conv2d_transpose(x, 3, 3, 2, 'same')
  y = tf.image.resize_bilinear(y, [5, 4])
  x = tf.where(x > 0, x, tf.zeros_like(x))
  flat = tf.layers.flatten(x)
  flat = tf.layers.dense(flat, 7)
  flat = tf.layers.batch_normalization(flat, training=True)
  stacked = tf.stack([flat, flat], 1)
  outer = tf.matmul(stacked, stacked, transpose_b=True)
  mean = tf.reduce_mean(x, [1, 2], keepdims=True)
  mean = tf.squeeze(mean, [1, 2])
  mean = tf.expand_dims(mean, 1)
  mean = tf.reshape(mean, [-1, 4, 6])
  filled = tf.fill([3, 2], 1.0) + tf.random.uniform([2])
  picked = tf.cond(tf.constant(True), lambda: flat, lambda: flat * 2.0)
  return y, outer, mean, filled, picked


class ShapesTest(absltest.TestCase):
  def assert_as_tensorflow(self, graph, least):
    """Nothing said otherwise, and most of it said."""
    told = total = 0
    for op, inferred, declared in inferred_and_declared(graph):
      # Of a handle the shape is that of what it refers to.
      if declared is None or op == 'VarHandleOp':
        continue
      total += 1
      if inferred is None:
        continue
      told += 1
      self.assertLen(inferred, len(declared), op)
      for ours, theirs in zip(inferred, declared):
        self.assertTrue(ours is None or theirs in (ours, None), op)
    self.assertGreater(told / total, least)

  def test_as_tensorflow_with_a_batch_size(self):
    with tf.Graph().as_default() as graph:
      network(tf.placeholder(tf.float32, [4, 8, 8, 3]))
    self.assert_as_tensorflow(graph, 0.8)

  def test_as_tensorflow_without_one(self):
    with tf.Graph().as_default() as graph:
      network(tf.placeholder(tf.float32, [None, 8, 8, 3]))
    self.assert_as_tensorflow(graph, 0.7)

  def test_queues_tell_theirs(self):
    with tf.Graph().as_default() as graph:
      queue = tf.FIFOQueue(9, [tf.float32], [[8, 3]])
      queue.dequeue_many(5)
      queue.dequeue()
    found = [
      inferred
      for op, inferred, _ in inferred_and_declared(graph)
      if op.startswith('QueueDequeue')
    ]
    self.assertEqual(found, [[5, 8, 3], [8, 3]])

  def test_a_deep_graph_needs_no_deep_stack(self):
    made = HandMade()
    made.placeholder('n0', 2, 3)
    for k in range(1, 5000):
      made.op('n%d' % k, 'Neg', 'n%d' % (k - 1))
    self.assertEqual(shapes.shape(made.tensor('n4999')), [2, 3])

  def test_a_shape_that_depends_on_itself_is_not_known(self):
    made = HandMade()
    made.op('a', 'Neg', 'b')
    made.op('b', 'Neg', 'a')
    self.assertIsNone(shapes.shape(made.tensor('a')))

  def test_damaged_attributes_tell_nothing(self):
    made = HandMade()
    made.placeholder('x', 4, 8, 8, 3)
    made.placeholder('w', 3, 3, 3, 6)
    made.op('short', 'Conv2D', 'x', 'w', strides=[1], padding=b'SAME')
    made.op('zero', 'Conv2D', 'x', 'w', strides=[1, 0, 0, 1], padding=b'SAME')
    made.const('axes', [9, -9])
    made.op('mean', 'Mean', 'x', 'axes')
    made.op('turned', 'Transpose', 'x', 'axes')
    self.assertIsNone(shapes.shape(made.tensor('short')))
    self.assertIsNone(shapes.shape(made.tensor('zero')))
    self.assertIsNotNone(shapes.shape(made.tensor('mean')))
    self.assertEqual(shapes.shape(made.tensor('turned')), [None] * 4)


if __name__ == '__main__':
  absltest.main()
