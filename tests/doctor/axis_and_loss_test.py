"""doctor/lint/axis_and_loss.py: axes by hand, losses as people write them."""

import types

from absl.testing import absltest
from absl.testing import parameterized
import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.graph.nodes import GraphView
from graph_resnet9.doctor.graph.nodes import Tensor
from graph_resnet9.doctor.lint import axis_and_loss
from tests.doctor import small_graphs
from tests.doctor.hand_made import HandMade


class AxesTest(parameterized.TestCase):
  def found(self, ops, *axes, gamma='gamma'):
    """Findings on layers that normalise the last op's output by these axes."""
    made = HandMade()
    made.variable('gamma', 4)
    made.variable('kernel', 3, 3, 4, 4)
    made.placeholder('x')
    size = None
    for name, op, inputs, attributes in ops:
      attributes = dict(attributes)
      size = attributes.pop('size', size)
      made.op(name, op, *inputs.split(), size=size, **attributes)
    view = made.view()
    x = Tensor(view.find(ops[-1][0]), 0)
    layers = [
      types.SimpleNamespace(
        sites=[
          types.SimpleNamespace(
            x=x,
            channel_axis=axis,
            gamma=gamma and view.find(gamma),
            node=x.node,
          )
        ]
      )
      for axis in axes
    ]
    return list(axis_and_loss.axes(types.SimpleNamespace(layers=layers)))

  def conv(self, layout=b'NHWC', size=(8, 5, 6, 4), op='Conv2D'):
    return 'conv', op, 'x kernel x', dict(data_format=layout, size=size)

  @parameterized.parameters(
    (b'NHWC', (8, 5, 6, 4), 3, 1, '8 x 5 x 6 x 4'),
    (b'NCHW', (None, 4, 5, 6), 1, 3, '? x 4 x 5 x 6'),
    (b'NDHWC', (8, 2, 5, 6, 4), 4, 1, '8 x 2 x 5 x 6 x 4'),
    (b'NCDHW', (8, 4, 2, 5, 6), 1, 4, '8 x 4 x 2 x 5 x 6'),
  )
  def test_the_axis_is_that_of_the_channels(
    self, layout, size, right, wrong, shape
  ):
    ops = [self.conv(layout, size)]
    self.assertEmpty(self.found(ops, right, right - len(size)))
    for axis in (wrong, wrong - len(size)):
      (finding,) = self.found(ops, right, axis)
      self.assertEqual(
        (finding.code, finding.ops, finding.variables),
        ('gamma-not-channels', ('conv',), ('gamma',)),
      )
      self.assertEqual(
        finding.detail,
        'axis %d of %s; the convolution has its channels in axis %d'
        % (wrong, shape, right),
      )

  def test_a_layer_without_gamma(self):
    (finding,) = self.found([self.conv()], 1, gamma=None)
    self.assertEqual(finding.variables, ())

  @parameterized.parameters(
    'Conv2D', 'Conv3D', 'DepthwiseConv2dNative', 'MaxPool', 'AvgPool',
    'MaxPoolV2', 'Conv2DBackpropInput', 'MaxPool3D', 'AvgPool3D',
  )  # fmt: skip
  def test_all_that_has_a_layout(self, op):
    self.assertLen(self.found([self.conv(op=op)], 1), 1)

  @parameterized.parameters(
    'Relu', 'Relu6', 'Elu', 'Selu', 'LeakyRelu', 'Tanh', 'Sigmoid', 'Softplus',
    'Add', 'AddV2', 'AddN', 'BiasAdd', 'Mul', 'Sub', 'Maximum', 'Identity',
  )  # fmt: skip
  def test_what_may_stand_between(self, op):
    self.assertLen(self.found([self.conv(), ('y', op, 'conv conv', {})], 1), 1)
    # Also as the other factor.
    self.assertLen(
      self.found(
        [self.conv(), ('y', 'Mul', 'x conv', {}), ('z', op, 'y y', {})], 1
      ),
      1,
    )

  def test_what_may_not(self):
    for op in ('Transpose', 'MatMul', 'Softmax'):
      self.assertEmpty(self.found([self.conv(), ('y', op, 'conv x', {})], 1))

  def test_the_nearest_layout_counts(self):
    ops = [self.conv(), ('t', 'Transpose', 'conv x', {})]
    pool = 'pool', 'MaxPool', 't', dict(data_format=b'NCHW')
    self.assertEmpty(self.found([*ops, pool], 1))
    self.assertLen(self.found([*ops, pool], 3), 1)

  def test_where_nothing_tells(self):
    self.assertEmpty(self.found([('y', 'Relu', 'x', dict(size=(8, 5, 4)))], 1))
    self.assertEmpty(self.found([self.conv(size=None)], 1))
    self.assertEmpty(self.found([self.conv(size=(8, 4))], 0))
    without = 'conv', 'Conv2D', 'x kernel', dict(size=(8, 5, 6, 4))
    self.assertEmpty(self.found([without], 1))

  def test_a_circle_in_a_damaged_graph_ends(self):
    ops = [('a', 'Relu', 'b', dict(size=(8, 5, 6, 4))), ('b', 'Relu', 'a', {})]
    self.assertEmpty(self.found(ops, 1))


def mean_of(y, p):
  return -tf.reduce_mean(y * tf.log(p))


def own_cross_entropy(z, y):
  """As tf.nn.sigmoid_cross_entropy_with_logits is explained."""
  return tf.reduce_mean(tf.maximum(z, 0) - z * y + tf.log1p(tf.exp(-tf.abs(z))))


def sigmoid_loss(z, y):
  return tf.nn.sigmoid_cross_entropy_with_logits(labels=y, logits=z)


def softmax_loss(z, y):
  return tf.nn.softmax_cross_entropy_with_logits_v2(labels=y, logits=z)


def sparse_loss(z, y):
  return tf.nn.sparse_softmax_cross_entropy_with_logits(
    labels=tf.argmax(y, 1), logits=z
  )


def over_sum(p):
  return p / tf.reduce_sum(p, 1, keepdims=True)


def over_guarded_sum(p):
  return p / tf.maximum(tf.reduce_sum(p, 1, keepdims=True), 1e-6)


def over_chosen_sum(p):
  total = tf.reduce_sum(p, 1, keepdims=True)
  return p / tf.where(total > 0, total, tf.ones_like(total))


def picked(p):
  return tf.gather_nd(p, [[k, 1] for k in range(8)])


weights = lambda: tf.get_variable('weights', [3, 3])
dense = lambda h: tf.matmul(h, weights()) + tf.get_variable('biases', [3])

# What softmax and sigmoid may meet before a logarithm or a loss.
STEADY = {
  'as_it_is': lambda p: p,
  'epsilon': lambda p: p + 1e-8,
  'epsilon_first': lambda p: 1e-8 + p,
  'less_epsilon': lambda p: p - 1e-8,
  'clipped': lambda p: tf.clip_by_value(p, 1e-8, 1.0),
  'maximum': lambda p: tf.maximum(p, 1e-8),
  'over_sum': over_sum,
  'over_guarded_sum': over_guarded_sum,
  'over_chosen_sum': over_chosen_sum,
  'picked': picked,
  'gathered': lambda p: tf.gather(p, [0, 1]),
  'reshaped': lambda p: tf.identity(tf.reshape(p, [-1, 3])),
}
LOGITS = {
  'dense': dense,
  'matmul': lambda h: tf.matmul(h, weights()),
  'transposed': lambda h: tf.matmul(h, tf.transpose(weights())),
  'scaled_weights': lambda h: tf.matmul(h, weights() * 0.5),
  'normed_weights': lambda h: tf.matmul(
    h, weights() * tf.get_variable('gain', [3])
  ),
  'convolution': lambda h: tf.layers.conv2d(h[:, None, None], 3, 1),
  'constant_weights': lambda h: tf.matmul(h, tf.constant([[0.5] * 3] * 3)),
}
OTHERS = {
  'input': lambda h: h,
  'sum_of_inputs': lambda h: h + tf.placeholder(tf.float32, [8, 3]),
  'mixture': lambda h: tf.nn.softmax(h) * 0.5 + tf.nn.softmax(-h) * 0.5,
  'sum_of_two': lambda h: tf.nn.softmax(h) + tf.nn.softmax(-h),
  'attention': lambda h: tf.matmul(
    tf.nn.softmax(tf.matmul(h, h, transpose_b=True)), tf.nn.softmax(h)
  ),
  'exponential': lambda h: tf.exp(dense(h)),
  'over_something': lambda h: dense(h) / tf.reduce_sum(h, 1, keepdims=True),
  'over_another_sum': lambda h: dense(h) / tf.reduce_sum(dense_2(h), 1)[0],
  'activation': lambda h: tf.nn.relu(dense(h)),
  'softmax': lambda h: tf.nn.softmax(tf.matmul(h, weights())),
}


def dense_2(h):
  return tf.matmul(h, tf.get_variable('others', [3, 3]))


class LossesTest(parameterized.TestCase):
  def found(self, build, reached=None, **how):
    """{code: names of ops} of build(inputs, labels).

    reached: function of a GraphView, the Nodes that a step runs; None: no step.
    """
    with small_graphs.kind(**how), tf.Graph().as_default() as graph:
      build(
        tf.placeholder(tf.float32, [8, 3], 'h'),
        tf.placeholder(tf.float32, [8, 3], 'y'),
      )
    view = GraphView(graph.as_graph_def(add_shapes=True))
    found = types.SimpleNamespace(
      view=view,
      steps=[] if reached is None else ['a step'],
      reached=set() if reached is None else set(reached(view)),
    )
    return {f.code: f.ops for f in axis_and_loss.losses(found)}

  def assert_codes(self, build, *codes, **how):
    self.assertEqual(sorted(self.found(build, **how)), list(codes))

  @parameterized.product(form=list(STEADY), layer=['softmax', 'sigmoid'])
  def test_probabilities(self, form, layer):
    p = lambda h: STEADY[form](getattr(tf.nn, layer)(dense(h)))
    self.assert_codes(lambda h, y: tf.log(p(h)))
    if form not in ('picked', 'gathered'):
      for loss in (softmax_loss, sparse_loss, own_cross_entropy):
        self.assert_codes(lambda h, y: loss(p(h), y), 'softmax-twice')
    elif form == 'gathered':
      self.assert_codes(lambda h, y: softmax_loss(p(h), y[:2]), 'softmax-twice')

  @parameterized.product(form=list(LOGITS), resource=[True, False])
  def test_logits(self, form, resource):
    self.assert_codes(
      lambda h, y: tf.log(LOGITS[form](h)),
      'logits-as-probabilities',
      resource=resource,
    )

  @parameterized.parameters(*STEADY)
  def test_logits_kept_away_from_zero(self, form):
    self.assert_codes(
      lambda h, y: tf.log(STEADY[form](dense(h))), 'logits-as-probabilities'
    )

  @parameterized.parameters(*OTHERS)
  def test_others_are_neither(self, form):
    self.assert_codes(lambda h, y: tf.log(OTHERS[form](h)))
    if form not in ('softmax',):
      for loss in (sparse_loss, sigmoid_loss, own_cross_entropy):
        self.assert_codes(lambda h, y: loss(OTHERS[form](h), y))

  @parameterized.parameters(True, False)
  def test_sigmoid_into_sigmoid(self, functional):
    for loss in (sigmoid_loss, own_cross_entropy):
      self.assert_codes(
        lambda h, y: loss(tf.sigmoid(dense(h)), y),
        'softmax-twice',
        functional=functional,
      )
      self.assert_codes(lambda h, y: loss(dense(h), y))

  def test_log1p_of_something_else(self):
    self.assert_codes(lambda h, y: tf.log1p(tf.nn.softmax(h)))
    self.assert_codes(lambda h, y: tf.log1p(tf.exp(tf.nn.softmax(h))))
    self.assert_codes(lambda h, y: tf.log1p(tf.exp(-tf.nn.softmax(h))))

  def test_only_what_is_a_probability_in_every_branch(self):
    def chosen(h, y, other):
      either = tf.cond(
        tf.placeholder(tf.bool, []), lambda: tf.nn.softmax(h), lambda: other(h)
      )
      softmax_loss(either, y)

    self.assert_codes(lambda h, y: chosen(h, y, tf.identity))
    self.assert_codes(lambda h, y: chosen(h, y, tf.sigmoid), 'softmax-twice')

  def test_the_ops_are_named(self):
    def build(h, y):
      tf.log(dense(h), 'raw')
      with tf.name_scope('twice'):
        sparse_loss(tf.nn.softmax(h), y)

    found = self.found(build)
    self.assertEqual(found['logits-as-probabilities'], ('raw',))
    (name,) = found['softmax-twice']
    self.assertStartsWith(name, 'twice/')

  @parameterized.parameters(
    (softmax_loss, tf.nn.softmax, 'losses.softmax_cross_entropy(labels'),
    (sparse_loss, tf.nn.softmax, 'losses.sparse_softmax_cross_entropy(labels'),
    (sigmoid_loss, tf.sigmoid, 'losses.sigmoid_cross_entropy(labels'),
  )
  def test_the_line_that_mends_is_of_the_same_labels(self, loss, squash, line):
    with tf.Graph().as_default() as graph:
      h, y = (tf.placeholder(tf.float32, [8, 4]) for _ in range(2))
      loss(squash(h), y)
    view = GraphView(graph.as_graph_def(add_shapes=True))
    (finding,) = axis_and_loss.losses(
      types.SimpleNamespace(view=view, steps=())
    )
    self.assertEqual(finding.code, 'softmax-twice')
    self.assertIn(line, finding.cure)

  def test_of_a_training_graph_what_a_step_runs_or_takes_the_gradient_of(self):
    build = lambda h, y: mean_of(y, dense(h))
    code = ['logits-as-probabilities']
    ancestors = lambda *ops: (
      lambda view: view.ancestors(
        [n for n in view.nodes.values() if n.op in ops]
      )
    )
    # Of a mean the gradient needs what goes into the logarithm, no more.
    for ops in (['Log'], ['Mul'], ['Add', 'AddV2']):
      self.assertEqual(list(self.found(build, ancestors(*ops))), code)
    # Another loss than that of the step.
    self.assertEmpty(self.found(build, ancestors('MatMul')))
    self.assertEmpty(self.found(build, lambda view: []))


if __name__ == '__main__':
  absltest.main()
