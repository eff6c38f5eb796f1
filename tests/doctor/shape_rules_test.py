"""doctor/graph/shape_rules and shape_moves: each op's sizes, one by one."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.graph import shapes
from graph_resnet9.doctor.graph.nodes import GraphView
from graph_resnet9.doctor.graph.nodes import Tensor
from tests.doctor import small_graphs
from tests.doctor.hand_made import HandMade

NCHW = dict(data_format='NCHW')


def placeholder(*size):
  return tf.placeholder(tf.float32, size)


def conv(x, w, *strides, padding='SAME', **kwargs):
  return tf.nn.conv2d(x, tf.ones(w), [1, *strides, 1], padding, **kwargs)


def pool(x, way, size, strides, padding='SAME', **kwargs):
  return getattr(tf.nn, way)(x, size, strides, padding, **kwargs)


def dequeued(count=None, up_to=None):
  queue = tf.FIFOQueue(9, [tf.float32], [[8, 3]])
  if up_to:
    return queue.dequeue_up_to(up_to)
  return queue.dequeue() if count is None else queue.dequeue_many(count)


def counted(x):
  """How often a loop must double x; a value of each pass beside it."""
  return tf.while_loop(
    lambda n, y: n < 3, lambda n, y: (n + 1, y * 2.0), [tf.constant(0), x]
  )[1]


# {name: function of images [batch, 8, 9, 6]}, of each of which TensorFlow
# knows the shape as exactly as the rules do.
EXACT = {
  'conv_same': lambda x: conv(x, [3, 2, 6, 5], 2, 3),
  'conv_valid': lambda x: conv(x, [3, 2, 6, 5], 2, 3, padding='VALID'),
  'conv_valid_1': lambda x: conv(x, [8, 9, 6, 5], 1, 1, padding='VALID'),
  'conv_dilated': lambda x: conv(
    x, [3, 2, 6, 5], 1, 1, padding='VALID', dilations=[1, 2, 3, 1]
  ),
  'conv_nchw': lambda x: tf.nn.conv2d(
    x, tf.ones([3, 2, 8, 5]), [1, 1, 2, 3], 'VALID', **NCHW
  ),
  'conv_any_filter': lambda x: tf.nn.conv2d(
    x, placeholder(None, 3, 6, 5), [1, 1, 1, 1], 'VALID'
  ),
  'conv_3d': lambda x: tf.nn.conv3d(
    tf.expand_dims(x, 3), tf.ones([3, 2, 1, 6, 5]), [1, 2, 1, 1, 1], 'VALID'
  ),
  'depthwise': lambda x: tf.nn.depthwise_conv2d(
    x, tf.ones([3, 2, 6, 4]), [1, 2, 2, 1], 'VALID'
  ),
  'transposed': lambda x: tf.nn.conv2d_transpose(
    conv(x, [1, 1, 6, 5], 1, 1), tf.ones([3, 3, 2, 5]), [4, 16, 18, 2], 2
  ),
  'max_pool': lambda x: pool(
    x, 'max_pool', [1, 3, 2, 1], [1, 2, 1, 1], 'VALID'
  ),
  'avg_pool': lambda x: pool(x, 'avg_pool', [1, 3, 2, 1], [1, 2, 4, 1]),
  'pool_nchw': lambda x: pool(
    x, 'avg_pool', [1, 1, 3, 2], [1, 1, 2, 1], 'VALID', **NCHW
  ),
  'pool_3d': lambda x: pool(
    tf.expand_dims(x, 4), 'max_pool3d', [1, 2, 3, 4, 1], [1, 1, 2, 1, 1],
    'VALID'
  ),
  'mean': lambda x: tf.reduce_mean(x, [1, -1]),
  'mean_kept': lambda x: tf.reduce_mean(x, [1, -1], keepdims=True),
  'sum_of_all': lambda x: tf.reduce_sum(x),
  'max_of_batch': lambda x: tf.reduce_max(x, 0, keepdims=True),
  'all': lambda x: tf.reduce_all(x > 0, [0, 2]),
  'any_axes_kept': lambda x: tf.reduce_min(
    x, tf.placeholder(tf.int32, [2]), keepdims=True
  ),
  'add_vector': lambda x: x + tf.ones([6]),
  'add_one': lambda x: tf.ones([9, 1]) - x,
  'add_more_axes': lambda x: tf.maximum(tf.ones([7, 1, 1, 1, 1]), x),
  'compare': lambda x: tf.less(x, 0.0),
  'of_two_batches': lambda x: x * placeholder(None, 1, 1, 6),
  'of_scalars': lambda x: tf.constant(1.0) / tf.constant(2.0),
  'activations': lambda x: tf.nn.softmax(tf.nn.relu6(tf.exp(-x))),
  'bias': lambda x: tf.nn.bias_add(x, tf.ones([6])),
  'cast': lambda x: tf.stop_gradient(tf.cast(tf.identity(x), tf.float16)),
  'add_n': lambda x: tf.add_n([x, x * 2.0]),
  'identity_n': lambda x: tf.identity_n([tf.ones([2]), x])[1],
  'batch_norm': lambda x: tf.nn.fused_batch_norm(
    x, tf.ones([6]), tf.zeros([6])
  )[0],
  'batch_mean': lambda x: tf.nn.fused_batch_norm(
    x, tf.ones([6]), tf.zeros([6])
  )[1],
  'batch_variance': lambda x: tf.nn.fused_batch_norm(
    x, tf.ones([6]), tf.zeros([6])
  )[2],
  'fill': lambda x: tf.fill([3, 2], 1.0),
  'random': lambda x: tf.random.normal([3, 2]),
  'broadcast': lambda x: tf.broadcast_to(1.0, [3, 2]),
  'matmul': lambda x: tf.matmul(
    placeholder(None, 3), tf.ones([5, 3]), transpose_b=True
  ),
  'matmul_turned': lambda x: tf.matmul(
    tf.ones([3, 4]), tf.ones([3, 5]), transpose_a=True
  ),
  'matmuls': lambda x: tf.matmul(tf.ones([7, 4, 3]), tf.ones([7, 3, 5])),
  'matmuls_turned': lambda x: tf.matmul(
    tf.ones([7, 3, 4]), tf.ones([7, 5, 3]), adjoint_a=True, adjoint_b=True
  ),
  'variable': lambda x: tf.get_variable('v', [3, 2], use_resource=False) * 1.0,
  'resource': lambda x: tf.get_variable('v', [3, 2], use_resource=True) * 1.0,
  'default': lambda x: tf.placeholder_with_default(1.0, []),
  'default_of_any': lambda x: tf.placeholder_with_default(
    tf.ones([2, 3]), [None, 3]
  ),
  'iterator': lambda x: tf.data.make_one_shot_iterator(
    tf.data.Dataset.from_tensors((1.0, np.ones([2, 3]))).repeat().batch(4)
  ).get_next()[1],
  # Moved, not made.
  'reshape': lambda x: tf.reshape(tf.ones([4, 6]), [3, -1, 2]),
  'reshape_all_known': lambda x: tf.reshape(x, [4, 12, 36]),
  'flatten_each': lambda x: tf.reshape(x, [-1, 8 * 9 * 6]),
  'reshape_by_shape': lambda x: tf.reshape(x, tf.shape(tf.ones([216, 8]))),
  'reshape_to_a_rank': lambda x: tf.reshape(x, tf.placeholder(tf.int32, [3])),
  'squeeze': lambda x: tf.squeeze(tf.stack([[x]]), [-6, 1]),
  'squeeze_all': lambda x: tf.squeeze(tf.ones([1, 4, 1, 3])),
  'squeeze_scalar': lambda x: tf.squeeze(tf.constant(1.0)),
  'expand': lambda x: tf.expand_dims(x, 1),
  'expand_last': lambda x: tf.expand_dims(x, -1),
  'transpose': lambda x: tf.transpose(x, [3, 0, 2, 1]),
  'pad': lambda x: tf.pad(x, [[0, 0], [1, 2], [3, 4], [0, 0]]),
  'pad_mirrored': lambda x: tf.pad(
    x, [[0, 0], [1, 2], [0, 1], [0, 0]], 'REFLECT'
  ),
  'pad_by_ones': lambda x: tf.pad(
    tf.ones([3]), [[1, 2]], constant_values=1.0
  ),
  'concat': lambda x: tf.concat([x, x * 2.0, tf.ones([4, 8, 9, 5])], 3),
  'concat_from_behind': lambda x: tf.concat([x, tf.ones([4, 2, 9, 6])], -3),
  'concat_of_batches': lambda x: tf.concat(
    [placeholder(None, 2), tf.ones([1, 2])], 0
  ),
  'stack': lambda x: tf.stack([x, x, x * 2.0], 1),
  'stack_last': lambda x: tf.stack([x, x], -1),
  'where': lambda x: tf.where(x > 0, x, x * 2.0),
  'rank': lambda x: tf.shape(x),
  'rank_of_scalar': lambda x: tf.shape(tf.constant(1.0)),
  'dequeue': lambda x: dequeued(),
  'dequeue_many': lambda x: dequeued(5),
  'dequeue_up_to': lambda x: dequeued(up_to=5),
  'bilinear': lambda x: tf.image.resize_bilinear(x, [5, 4]),
  'nearest': lambda x: tf.image.resize_nearest_neighbor(x, [5, 4]),
  # Branches and loops.
  'cond': lambda x: tf.cond(
    tf.placeholder(tf.bool, []),
    lambda: x * 1.0,
    lambda: placeholder(4, 8, 9, 6),
  ),
  'loop': counted,
}  # fmt: skip


# Something in them has a batch of 4.
OF_FOUR = ('concat', 'concat_from_behind', 'cond', 'transposed')


class AsTensorFlowTest(parameterized.TestCase):
  """The very sizes that TensorFlow infers."""

  def assert_exact(self, build, batch, **kind):
    with small_graphs.kind(**kind), tf.Graph().as_default() as graph:
      tensor = build(placeholder(batch, 8, 9, 6))
    view = GraphView(graph.as_graph_def())  # Without shapes.
    found = shapes.shape(Tensor(view.find(tensor.op.name), tensor.value_index))
    self.assertEqual(found, tensor.shape.as_list())

  @parameterized.named_parameters((name, name) for name in EXACT)
  def test_with_a_batch_size(self, name):
    self.assert_exact(EXACT[name], 4)

  @parameterized.named_parameters(
    (name, name) for name in EXACT if name not in OF_FOUR
  )
  def test_without_one(self, name):
    self.assert_exact(EXACT[name], None)

  @parameterized.parameters('cond', 'loop')
  def test_of_functions(self, name):
    self.assert_exact(EXACT[name], 4, functional=True)


class HandMadeTest(parameterized.TestCase):
  """What TensorFlow would not make, or says in another way."""

  def setUp(self):
    super().setUp()
    self.made = HandMade()
    self.made.placeholder('x', 4, 8, 8, 3)
    self.made.placeholder('w', 3, 3, 3, 6)
    self.made.op('unknown', 'NoSuchOp')
    self.made.const('axes', [1, 2])
    self.made.const('two', 2)

  def shape(self, name, index=0):
    return shapes.shape(self.made.tensor(name, index))

  def of(self, op, *inputs, index=0, **attrs):
    """The shape of an op of inputs."""
    return self.shape(self.made.add(op, *inputs, **attrs), index)

  def test_an_attribute_goes_before_inference(self):
    self.assertEqual(self.of('Neg', 'x', size=[4, None]), [4, None])
    self.assertEqual(self.of('NoSuchOp', size=[]), [])
    # It says nothing of the second output.
    self.assertEqual(
      self.of('Switch', 'x', 'two', size=[1], index=1), [4, 8, 8, 3]
    )
    self.assertIsNone(self.of('NoSuchOp', size=[1], index=1))

  def test_a_placeholder_without_sizes_may_be_of_any(self):
    self.made.placeholder('any')
    self.assertIsNone(self.shape('any'))
    self.assertIsNone(self.of('Neg', 'any'))
    self.assertEqual(self.of('PlaceholderWithDefault', 'x'), [])

  def test_an_iterator_tells_what_it_says(self):
    self.made.op('iterator', 'IteratorGetNext', 'unknown')
    shape = self.made.graph_def.node[-1].attr['output_shapes'].list.shape.add()
    shape.dim.add(size=-1)
    shape.dim.add(size=3)
    self.assertEqual(self.shape('iterator'), [None, 3])
    self.assertIsNone(self.shape('iterator', 1))

  def test_only_first_outputs_are_inferred(self):
    self.assertIsNone(self.of('Neg', 'x', index=1))
    self.assertEqual(self.of('Switch', 'x', 'two', index=1), [4, 8, 8, 3])
    self.assertIsNone(self.of('IdentityN', 'x', index=1))
    self.made.const('c', np.ones(3, np.float32))
    inputs = ['x', 'c', 'c', 'c', 'c']
    self.assertEqual(self.of('FusedBatchNorm', *inputs, index=2), [3])
    self.assertIsNone(self.of('FusedBatchNorm', *inputs, index=3))

  def test_what_meets_has_in_common_what_all_have(self):
    self.made.placeholder('y', 5, 8, 8, 3)
    for op in ('Merge', 'RefMerge', 'AddN'):
      self.assertEqual(self.of(op, 'x', 'y'), [None, 8, 8, 3])
      self.assertIsNone(self.of(op, 'x', 'unknown'))
    self.assertEqual(self.of('Merge', 'x', 'y', index=1), [])
    # Around a loop comes what went in.
    for op in ('NextIteration', 'RefNextIteration'):
      self.made.op(op, op, 'unknown')
      self.assertEqual(self.of('Merge', 'x', op), [4, 8, 8, 3])

  def test_the_branches_of_a_call_have_in_common_what_both_have(self):
    self.made.placeholder('y', 5, 8, 8, 3)
    for name, source in (('f', 'a'), ('g', 'b')):
      self.made.function(
        name, 'ab', [('n', 'Neg', source)], {'out': 'n:0', 'none': 'n:1'}
      )
    self.made.op('call', 'If', 'two', 'x', 'y')
    attr = self.made.graph_def.node[-1].attr
    attr['then_branch'].func.name, attr['else_branch'].func.name = 'fg'
    self.assertEqual(self.shape('call'), [None, 8, 8, 3])
    self.assertIsNone(self.shape('call', 1))
    self.assertIsNone(self.shape('call', 2))

  def test_operands_of_any_sizes(self):
    self.made.placeholder('v', None, 1)
    self.assertIsNone(self.of('Add', 'x', 'unknown'))
    self.assertEqual(self.of('Add', 'v', 'two'), [None, 1])
    # An unknown size is that of the other one, unless that is 1.
    self.assertEqual(self.of('Add', 'v', 'x'), [4, 8, 8, 3])

  def test_reductions(self):
    self.assertEqual(self.of('Mean', 'x', 'axes'), [4, 3])
    self.assertEqual(self.of('Mean', 'x', 'axes', keep_dims=True), [4, 1, 1, 3])
    self.assertIsNone(self.of('Mean', 'x', 'unknown'))
    self.assertIsNone(self.of('Mean', 'unknown', 'axes'))
    self.assertIsNone(self.of('Mean', 'unknown', 'unknown', keep_dims=True))
    self.assertEqual(self.of('Mean', 'two', 'axes'), [])

  def window(self, op, *inputs, **attrs):
    attrs = dict(dict(strides=[1, 1, 1, 1], padding=b'VALID'), **attrs)
    return self.of(op, *inputs, **attrs)

  def test_windows(self):
    conv = lambda **attrs: self.window('Conv2D', 'x', 'w', **attrs)
    # Old files say neither the dilation nor the layout.
    self.assertEqual(conv(), [4, 6, 6, 6])
    self.assertEqual(conv(dilations=[1, 3, 2, 1]), [4, 2, 4, 6])
    self.assertEqual(conv(padding=b'SAME', strides=[1, 3, 2, 1]), [4, 3, 4, 6])
    self.assertEqual(conv(padding=b'EXPLICIT'), [4, None, None, 6])
    self.assertEqual(conv(data_format=b'NCHW'), [4, 6, 6, 1])
    for attrs in (
      dict(dilations=[2]), dict(strides=[1, 1]), dict(strides=[1, 1, 0, 1]),
    ):  # fmt: skip
      self.assertIsNone(conv(**attrs))
    self.assertIsNone(self.window('Conv2D', 'unknown', 'w'))
    self.assertIsNone(self.window('Conv2D', 'x', 'unknown'))
    self.assertIsNone(self.window('Conv2D', 'x', 'two'))

  def test_a_window_that_does_not_fit_leaves_nothing(self):
    for dilation, left in ((3, 2), (4, 0), (5, 0)):
      self.assertEqual(
        self.window('Conv2D', 'x', 'w', dilations=[1, dilation, 1, 1]),
        [4, left, 6, 6],
      )

  def test_pools(self):
    pool = lambda ksize, **attrs: self.window(
      'MaxPool', 'x', ksize=ksize, **attrs
    )
    self.assertEqual(pool([1, 2, 3, 1]), [4, 7, 6, 3])
    self.assertEqual(pool([1, 2, 3, 1], padding=b'SAME'), [4, 8, 8, 3])
    self.assertIsNone(pool([1, 2, 3]))

  def test_products_of_matrices(self):
    self.made.placeholder('a', 7, 4, 3)
    self.made.placeholder('b', 5, 3, 6)
    self.made.placeholder('c', 7, 3, 6)
    self.made.placeholder('v', 3)
    self.assertEqual(self.of('BatchMatMul', 'a', 'c'), [7, 4, 6])
    self.assertEqual(
      self.of('BatchMatMul', 'c', 'a', adj_x=True, adj_y=True), [7, 6, 4]
    )
    for inputs in ('ab', 'av', 'va', ('a', 'unknown')):
      self.assertIsNone(self.of('BatchMatMulV2', *inputs))

  def test_reshapes(self):
    for sizes, expected in (
      ([-1, 96], [8, 96]), ([2, -1], [2, 384]), ([-1, 0], [None, 0]),
      ([-1, -1], [None, None]), ([768], [768]), ([], []),
    ):  # fmt: skip
      name = self.made.const('to %s' % sizes, np.array(sizes, np.int32))
      self.assertEqual(self.of('Reshape', 'x', name), expected)
      if -1 in sizes and expected[0] not in (None, 2):
        self.assertEqual(self.of('Reshape', 'unknown', name), [None, 96])
    for length, expected in ((64, [None] * 64), (65, None), (None, None)):
      name = self.made.placeholder('of %s' % length, length)
      self.assertEqual(self.of('Reshape', 'x', name), expected)
    self.assertIsNone(self.of('Reshape', 'x', 'unknown'))

  def test_moves_of_what_is_not_known(self):
    self.made.placeholder('some', None, 1)
    self.made.const('margins', [[1, 1], [0, 2]])
    for op in ('Squeeze', 'ExpandDims', 'Transpose', 'Pad', 'Shape', 'Pack'):
      inputs = ['axes'] * (op not in ('Squeeze', 'Shape', 'Pack'))
      self.assertIsNone(self.of(op, 'unknown', *inputs), op)
    self.assertIsNone(self.of('Squeeze', 'some'))
    self.assertEqual(self.of('Squeeze', 'some', squeeze_dims=[1]), [None])
    self.assertIsNone(self.of('ExpandDims', 'x', 'unknown'))
    self.assertIsNone(self.of('ExpandDims', 'x', 'axes'))
    self.assertEqual(self.of('Transpose', 'x', 'unknown'), [None] * 4)
    self.assertEqual(self.of('Transpose', 'x', 'axes'), [None] * 4)
    self.assertEqual(self.of('Pad', 'some', 'margins'), [None, 3])
    self.assertEqual(self.of('Pad', 'some', 'unknown'), [None] * 2)
    self.assertEqual(self.of('Pad', 'x', 'margins'), [None] * 4)

  def test_concatenation(self):
    self.made.placeholder('y', None, 8, 8, 3)
    for axis, expected in (
      ('two', [None, 8, 16, 3]), ('zero', [None, 8, 8, 3]),
      ('axes', [None] * 4), ('unknown', [None] * 4),
    ):  # fmt: skip
      if axis == 'zero':
        self.made.const('zero', 0)
      self.assertEqual(self.of('ConcatV2', 'x', 'y', axis), expected)
      self.assertEqual(self.of('Concat', axis, 'x', 'y'), expected)
    self.assertIsNone(self.of('ConcatV2', 'x', 'unknown', 'two'))
    self.assertEqual(self.of('ConcatV2', 'two', 'two', 'axes'), [])

  def test_queues(self):
    queue = self.made.op('queue', 'FIFOQueue')
    self.assertIsNone(self.of('QueueDequeueV2', queue))
    shape = self.made.graph_def.node[-2].attr['shapes'].list.shape.add()
    shape.dim.add(size=3)
    self.assertEqual(self.of('QueueDequeue', queue), [3])
    self.assertEqual(self.of('QueueDequeueMany', queue, 'two'), [2, 3])
    self.assertEqual(self.of('QueueDequeueManyV2', queue, 'unknown'), [None, 3])
    self.assertEqual(self.of('QueueDequeueUpToV2', queue, 'two'), [None, 3])
    shape.Clear()
    shape.unknown_rank = True
    self.assertIsNone(self.of('QueueDequeueManyV2', queue, 'two'))

  @parameterized.parameters(
    'Fill', 'RandomUniform', 'RandomStandardNormal', 'TruncatedNormal',
    'RandomUniformInt', 'StatelessRandomUniform', 'StatelessRandomNormal',
    'Conv2DBackpropInput', 'Conv3DBackpropInputV2',
    'DepthwiseConv2dNativeBackpropInput',
  )  # fmt: skip
  def test_ops_that_are_given_their_sizes(self, op):
    self.assertEqual(self.of(op, 'axes', 'x', 'x'), [1, 2])

  def test_resized_images(self):
    self.made.placeholder('flat', 4, 3)
    self.assertEqual(self.of('ResizeBilinear', 'x', 'axes'), [4, 1, 2, 3])
    self.assertIsNone(self.of('ResizeBilinear', 'flat', 'axes'))
    self.assertIsNone(self.of('ResizeBilinear', 'unknown', 'axes'))
    self.assertIsNone(self.of('ResizeBilinear', 'x', 'two'))
    self.assertIsNone(self.of('ResizeBilinear', 'x', 'unknown'))


if __name__ == '__main__':
  absltest.main()
