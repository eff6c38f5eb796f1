"""demos/cases/cifar_bottleneck.py, slow_decay.py: networks and arithmetic."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.demos import report
from graph_resnet9.demos.cases import bottleneck
from graph_resnet9.demos.cases import cifar_bottleneck

IMAGES = np.random.RandomState(0).randint(0, 256, [5, 32, 32, 3], np.uint8)


def built(variant):
  """Builds a training tower: its ops, and {name: shape} of what it trains."""
  with tf.variable_scope('', use_resource=True):
    bottleneck.network(tf.constant(IMAGES), variant, training=True)
  ops = [op.type for op in tf.get_default_graph().get_operations()]
  return ops, {v.op.name: v.shape.as_list() for v in tf.trainable_variables()}


class NetworkTest(parameterized.TestCase):
  def test_network_as_asked(self):
    with tf.Graph().as_default():
      ops, shapes = built(bottleneck.Variant())
      self.assertLen(tf.get_collection(tf.GraphKeys.UPDATE_OPS), 2 * 10)
    kernels = [s for name, s in shapes.items() if name.endswith('kernel')]
    unit = [[1, 1, 32, 16], [3, 3, 16, 16], [1, 1, 16, 32]]
    self.assertEqual(
      kernels, [[3, 3, 3, 32]] + unit * 3 + [[32 * 32 * 32, 32], [32, 10]]
    )
    self.assertEqual(
      [s for name, s in shapes.items() if name.endswith('gamma')],
      [[32]] + [[16], [16], [32]] * 3,
    )
    # Behind the first convolution, three in a unit, behind Dense(32).
    self.assertEqual(ops.count('Relu'), 1 + 3 * 3 + 1)

  def test_hidden_units_are_rectified_and_the_logits_are_not(self):
    with tf.Graph().as_default(), tf.variable_scope('', use_resource=True):
      activations = bottleneck.network(
        tf.constant(IMAGES), bottleneck.Variant(), training=True
      )
      self.assertEqual(activations.features.op.type, 'Relu')
      self.assertEqual(activations.hidden.op.type, 'Relu')
      self.assertEqual(activations.logits.op.type, 'BiasAdd')

  @parameterized.parameters(
    (bottleneck.Variant(norm_before_sum=False), 7),
    (bottleneck.Variant(norm=False), 0),
    (bottleneck.Variant(bottleneck.normalised_hidden), 11),
    (bottleneck.Variant(bottleneck.normalised_features), 11),
    (bottleneck.Variant(bottleneck.pooled), 10),
  )
  def test_layers_of_batch_norm(self, variant, count):
    with tf.Graph().as_default():
      built(variant)
      self.assertLen(tf.get_collection(tf.GraphKeys.UPDATE_OPS), 2 * count)

  def test_axis_1_normalises_every_row_of_the_image(self):
    with tf.Graph().as_default():
      _, shapes = built(bottleneck.Variant(axis=1))
      self.assertEqual(
        {tuple(s) for name, s in shapes.items() if name.endswith('gamma')},
        {(32,)},
      )
    x = np.random.RandomState(1).normal(3, 2, [4, 6, 5, 3]).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
      y = tf.layers.batch_normalization(tf.constant(x), axis=1, training=True)
      session.run(tf.global_variables_initializer())
      got = session.run(y)
    mean = x.mean((0, 2, 3), keepdims=True)
    variance = x.var((0, 2, 3), keepdims=True)
    np.testing.assert_allclose(
      got, (x - mean) / np.sqrt(variance + 1e-3), atol=1e-4
    )

  def test_living_units_are_those_above_0_for_any_image(self):
    hidden = np.float32([[0, 1, 0], [0, 0, 2], [0, 3, 0]])
    with tf.Graph().as_default(), tf.Session() as session:
      self.assertEqual(session.run(bottleneck.living(tf.constant(hidden))), 2)

  def test_a_step_of_adam_moves_a_unit_by_its_rate_times_the_features(self):
    # 32,768 features of mean 1 and one unit that shall fall.
    features = np.full([4, 32768], 1, np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
      with tf.variable_scope('', use_resource=True):
        unit = tf.layers.dense(tf.constant(features), 1)
      step = tf.train.AdamOptimizer(0.001).minimize(tf.reduce_mean(unit))
      session.run(tf.global_variables_initializer())
      before = session.run(unit)
      session.run(step)
      moved = session.run(unit) - before
    np.testing.assert_allclose(moved, -0.001 * 32768, rtol=0.01)

  def test_arms_differ_from_what_was_asked_in_what_they_say(self):
    arms = {name: variant for name, _, variant in cifar_bottleneck.ARMS}
    asked = arms['as asked']
    self.assertEqual(asked, bottleneck.Variant())
    self.assertEqual(
      arms['all three, the answer'],
      asked._replace(axis=1, signed=True, norm_before_sum=False),
    )
    self.assertEqual(arms['decay 0.9'], asked._replace(decay=0.9))
    self.assertEqual(
      arms['batch norm behind Dense(32)'],
      asked._replace(hidden=bottleneck.normalised_hidden, decay=0.9),
    )


def arm(name, broken, living, loss, accuracy=0.1, features=1.0):
  scores = report.Scores(loss, accuracy)
  return report.Arm(
    name,
    broken,
    [report.Point(1, scores, scores, scores)],
    [],
    {'living': living, 'features': features},
  )


class ClaimsTest(absltest.TestCase):
  def failing(self, *arms):
    return {c.text for c in cifar_bottleneck.claims(arms) if not c.holds}

  def test_they_fail_where_the_effect_is_not_there(self):
    asked, answer = (arm(x, True, 0, 2.303) for x in ('as asked', 'answer'))
    slow = arm('decay 0.9', True, 0, 2.303)
    without = arm('no batch norm', False, 6, 2.2, features=0.1)
    cure = arm('cure', False, 30, 2.1, 0.2)
    self.assertEmpty(self.failing(asked, answer, slow, without, cure))
    living = arm('as asked', True, 25, 1.9, 0.4)
    self.assertContainsSubset(
      {
        'as asked: living units of 32',
        'as asked: training accuracy',
        'decay 0.99 to 0.9: change of the training loss',
      },
      self.failing(living, answer, slow, without, cure),
    )
    self.assertContainsSubset(
      {'cure: living units of 32'},
      self.failing(asked, answer, slow, without, arm('cure', False, 0, 2.303)),
    )


class SlowDecayTest(absltest.TestCase):
  def test_default_decay_keeps_the_initial_variance_for_hundreds_of_steps(self):
    with tf.Graph().as_default(), tf.Session() as session:
      layer = tf.layers.BatchNormalization()  # The default of tf.layers.
      layer.apply(tf.zeros([8, 4]), training=True)
      update_ops = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
      session.run(tf.global_variables_initializer())
      for _ in range(100):
        session.run(update_ops)
      left = session.run(layer.moving_variance)
    np.testing.assert_allclose(left, 0.99**100, rtol=1e-3)


if __name__ == '__main__':
  absltest.main()
