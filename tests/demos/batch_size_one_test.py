"""demos/cases/batch_size_one.py: the network, the losses and the signals."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.demos.cases import batch_size_one
from graph_resnet9.demos.cases import riddle
from graph_resnet9.demos.cases import spectrograms

# -log of the smallest and of the largest float32 share.
LARGEST = -np.log(1e-7)
SMALLEST = -np.log(np.float32(1) - np.float32(1e-7))


class NetworkTest(parameterized.TestCase):
  def test_shapes_through_the_network(self):
    with tf.Graph().as_default() as graph:
      outputs = riddle.network(tf.zeros([2, 98, 64]), training=True)
      self.assertEqual(outputs.shape, [2, 10])
      # Of a block: two convolutions, the projection, the sum.
      relus = [
        op.outputs[0].shape.as_list()
        for op in graph.get_operations()
        if op.type == 'Relu'
      ]
      self.assertEqual(relus, [[2, 49, 24]] * 4 + [[2, 25, 32]] * 4)
      pools = [op for op in graph.get_operations() if op.type == 'AvgPool']
      self.assertLen(pools, 1)
      self.assertEqual(np.prod(pools[0].outputs[0].shape.as_list()), 2 * 32)

  def test_variables(self):
    with tf.Graph().as_default():
      riddle.network(tf.zeros([2, 98, 64]), training=True)
      bn = ['gamma', 'beta', 'moving_mean', 'moving_variance']
      self.assertCountEqual(
        [v.op.name for v in tf.global_variables()],
        ['conv/kernel', 'dense/kernel', 'dense/bias']
        + [
          'block%d/%s/%s' % (k, part, name)
          for k in (1, 2)
          for part in ('first', 'second', 'projection')
          for name in ['conv/kernel'] + ['bn/' + x for x in bn]
        ],
      )
      kernels = {
        v.op.name: v.shape.as_list()
        for v in tf.trainable_variables()
        if v.op.name.endswith('kernel')
      }
    self.assertEqual(
      kernels,
      {
        'conv/kernel': [9, 64, 16],
        'block1/first/conv/kernel': [9, 16, 24],
        'block1/second/conv/kernel': [9, 24, 24],
        'block1/projection/conv/kernel': [1, 16, 24],
        'block2/first/conv/kernel': [9, 24, 32],
        'block2/second/conv/kernel': [9, 32, 32],
        'block2/projection/conv/kernel': [1, 24, 32],
        'dense/kernel': [32, 10],
      },
    )

  @parameterized.parameters((True, 12), (False, 0))
  def test_update_ops(self, training, count):
    with tf.Graph().as_default():
      riddle.network(tf.zeros([2, 98, 64]), training)
      self.assertLen(tf.get_collection(tf.GraphKeys.UPDATE_OPS), count)


class NormalisationTest(parameterized.TestCase):
  @parameterized.parameters(1, 8)
  def test_group_norm_against_numpy(self, groups):
    x = np.random.RandomState(0).normal(2, 3, [4, 7, 16]).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
      with tf.variable_scope('', use_resource=True):
        y = riddle.group_norm(tf.constant(x), True, groups)
      session.run(tf.global_variables_initializer())
      got = session.run(y)
    parts = x.reshape(4, 7, groups, 16 // groups)
    mean = parts.mean((1, 3), keepdims=True)
    variance = parts.var((1, 3), keepdims=True)
    expected = ((parts - mean) / np.sqrt(variance + 1e-3)).reshape(x.shape)
    np.testing.assert_allclose(got, expected, atol=1e-4)

  @parameterized.parameters(riddle.group_norm, riddle.layer_norm)
  def test_an_example_is_alike_in_training_and_evaluation(self, norm):
    signals = np.random.RandomState(0).normal(size=[3, 98, 64])
    signals = signals.astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
      with tf.variable_scope('net', use_resource=True, reuse=tf.AUTO_REUSE):
        trained = riddle.network(tf.constant(signals), True, norm)
        tested = riddle.network(tf.constant(signals[:1]), False, norm)
      self.assertEmpty(tf.get_collection(tf.GraphKeys.UPDATE_OPS))
      session.run(tf.global_variables_initializer())
      trained, tested = session.run([trained, tested])
    np.testing.assert_allclose(trained[:1], tested, atol=1e-4)


class LossesTest(absltest.TestCase):
  def test_from_logits_is_the_softmax(self):
    random_state = np.random.RandomState(0)
    with tf.Graph().as_default(), tf.Session() as session:
      outputs = tf.constant(random_state.normal(size=[9, 10]), tf.float32)
      labels = tf.constant(random_state.randint(0, 10, 9), tf.int32)
      softmax, logits = session.run(
        [f(outputs, labels) for f in (riddle.softmax_loss, riddle.logits_loss)]
      )
    np.testing.assert_allclose(softmax, logits, rtol=1e-4)


class ProbabilityLossTest(parameterized.TestCase):
  def run_loss(self, outputs, labels):
    """Losses, their gradients, and the share of gradients that are 0."""
    with tf.Graph().as_default(), tf.Session() as session:
      outputs = tf.constant(outputs, tf.float32)
      loss = riddle.probability_loss(outputs, tf.constant(labels, tf.int32))
      return session.run(
        [
          loss,
          tf.gradients(loss, outputs)[0],
          batch_size_one.without_gradient(loss, outputs),
        ]
      )

  def test_cases_by_hand(self):
    for outputs, label, expected in (
      ([0.2, 0.3, 0.5], 1, -np.log(0.3)),
      ([2, 1, 1], 0, -np.log(0.5)),  # Divided by the sum.
      ([-2, -1, -1], 0, -np.log(0.5)),  # Blind to the sign.
      ([-1, 3, 0], 0, LARGEST),
      ([-1, 3, -1], 1, SMALLEST),
      ([1, -1, 0], 0, SMALLEST),  # A sum of 0.
      ([1, -1, 0], 1, LARGEST),
      ([0, 0, 0], 2, LARGEST),
    ):
      with self.subTest(outputs=outputs, label=label):
        loss, gradient, share = self.run_loss([outputs], [label])
        np.testing.assert_allclose(loss, [expected], rtol=1e-5)
        self.assertTrue(np.isfinite(gradient).all())
        clipped = expected in (LARGEST, SMALLEST)
        self.assertEqual(share, clipped)
        self.assertEqual(not gradient.any(), clipped)

  def test_raw_outputs_against_numpy_and_keras(self):
    random_state = np.random.RandomState(0)
    outputs = random_state.normal(size=[500, 10]).astype(np.float32)
    labels = random_state.randint(0, 10, 500)
    loss, gradient, share = self.run_loss(outputs, labels)
    wide = outputs.astype(np.float64)
    shares = (wide / wide.sum(1, keepdims=True))[np.arange(500), labels]
    np.testing.assert_allclose(
      loss, -np.log(np.clip(shares, 1e-7, np.float32(1 - 1e-7))), rtol=1e-3
    )
    clipped = (shares < 1e-7) | (shares > 1 - 1e-7)
    self.assertBetween(clipped.mean(), 0.3, 0.9)  # Both kinds are tested.
    np.testing.assert_array_equal(~gradient.any(1), clipped)
    self.assertAlmostEqual(share, clipped.mean(), places=5)
    with tf.Graph().as_default(), tf.Session() as session:
      np.testing.assert_allclose(
        loss,
        session.run(
          tf.keras.losses.categorical_crossentropy(
            tf.one_hot(labels, 10), tf.constant(outputs)
          )
        ),
        rtol=1e-5,
      )


class SignalsTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.values, cls.labels = spectrograms.signals(400, 0)

  def test_shapes_and_types(self):
    self.assertEqual(
      (self.values.shape, self.values.dtype), ((400, 98, 64), np.float32)
    )
    self.assertEqual((self.labels.shape, self.labels.dtype), ((400,), np.int32))
    self.assertEqual(set(self.labels), set(range(10)))
    self.assertTrue(np.isfinite(self.values).all())

  def test_a_seed_gives_the_same_signals_and_another_seed_others(self):
    values, labels = spectrograms.signals(400, 0)
    np.testing.assert_array_equal(values, self.values)
    np.testing.assert_array_equal(labels, self.labels)
    values, labels = spectrograms.signals(400, 1)
    self.assertFalse(np.array_equal(labels, self.labels))
    self.assertLess((values == self.values).mean(), 0.01)

  def test_classes_differ(self):
    # Each signal against the mean of each class, the means of other signals.
    flat = self.values.reshape(400, -1)
    flat = flat - flat.mean(1, keepdims=True)
    means = np.stack(
      [flat[:200][self.labels[:200] == k].mean(0) for k in range(10)]
    )
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    found = (flat[200:] @ means.T).argmax(1)
    self.assertGreater((found == self.labels[200:]).mean(), 0.5)

  def test_level_varies_between_signals_and_tells_nothing(self):
    levels = self.values.mean((1, 2))
    self.assertGreater(levels.std(), 1)
    of_class = [levels[self.labels == k].mean() for k in range(10)]
    self.assertLess(np.std(of_class), levels.std() / 2)


if __name__ == '__main__':
  absltest.main()
