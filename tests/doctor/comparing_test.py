"""doctor/measure/comparison.py: new statistics are tried before they count."""

import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.measure import comparing
from graph_resnet9.doctor.measure import recalibration
from graph_resnet9.doctor.measure import sessions
from graph_resnet9.errors import UserError
from tests import helpers
from tests.doctor import small_graphs

BATCHES = 20


def classifier(x, labels, norm):
  """A training whose loss is a cross-entropy behind one normalisation."""
  logits = tf.layers.dense(norm(x), 3, name='logits')
  loss = tf.reduce_mean(
    tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
  )
  tf.reduce_mean(
    tf.cast(
      tf.equal(tf.argmax(logits, 1), tf.cast(labels, tf.int64)), tf.float32
    )
  )  # An accuracy, which is no loss.
  with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
    tf.train.GradientDescentOptimizer(0.1).minimize(
      loss, tf.train.get_or_create_global_step()
    )


def batch_norm(training=True, **how):
  return lambda x: tf.layers.batch_normalization(
    x, training=training, name='bn', **how
  )


def flag(x):
  """By a placeholder that is False unless it is fed."""
  return batch_norm(tf.placeholder_with_default(False, [], 'training'))(x)


def variable(x):
  """By a variable, as tflearn does."""
  training = tf.get_variable('is_training', initializer=False, trainable=False)
  return batch_norm(training)(x)


def stay_in_place(x):
  return small_graphs.by_hand(x, in_place=True, name='bn')


NORMS = {
  'fused': batch_norm(fused=True),
  'unfused': batch_norm(fused=False),
  'placeholder': flag,
  'variable': variable,
  'by_hand': lambda x: small_graphs.by_hand(x, name='bn'),
  'in_place': stay_in_place,
  'debiased': lambda x: small_graphs.debiased(x, name='bn'),
}


class ComparisonTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.create_tempdir().full_path)
    random = np.random.RandomState(0)
    self.labels = random.randint(0, 3, [BATCHES * 10])
    # Class k is seen in channel k, five times as wide as it should be.
    self.values = (
      5
      * (
        2 * np.eye(3)[self.labels] + random.normal(0, 0.5, [BATCHES * 10, 3])
      ).astype(np.float32)[:, None, None]
    )
    # What a training comes to: logits of whitened channels.
    self.weights = {
      'logits/kernel': 3 * np.eye(3),
      'logits/bias': 0,
      'bn/beta': 0,
    }
    rows = self.values.reshape(-1, 3)
    self.right = rows.mean(0), rows.var(0)

  def feed(self):
    for x, labels in zip(
      np.split(self.values, BATCHES), np.split(self.labels, BATCHES)
    ):
      yield {'x': x, 'labels': labels}

  def save(self, norm, mean, variance, build=classifier, step=500, **how):
    def training():
      x = tf.placeholder(tf.float32, [None, 1, 1, 3], 'x')
      labels = tf.placeholder(tf.int32, [None], 'labels')
      build(tf.identity(x), labels, lambda x: tf.layers.flatten(norm(x)))

    return small_graphs.save(
      self.dir,
      training,
      {
        **self.weights,
        'moving_mean': mean,
        'moving_variance': variance,
        'pop_mean': mean,
        'pop_var': variance,
      },
      step=step,
      **how,
    )

  def recalibrate(self, saved, **how):
    return recalibration.recalibrate(
      saved.runnable(self.feed),
      saved.prefix,
      str(self.dir / 'new'),
      100,
      held_out=3,
      **how,
    )

  def loss(self, mean, variance, epsilon=1e-3):
    """The loss of the first three batches, in NumPy."""
    x = self.values[:30].reshape(30, 3).astype(np.float64)
    logits = 3 * (x - mean) / np.sqrt(np.asarray(variance) + epsilon)
    logits = logits - logits.max(1, keepdims=True)
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return -logs[np.arange(30), self.labels[:30]].mean()

  @parameterized.product(norm=list(NORMS), resource=[True, False])
  def test_the_three_losses_are_those_of_numpy(self, norm, resource):
    saved = self.save(NORMS[norm], 1.0, 100.0, resource=resource)
    done = self.recalibrate(saved)
    compared = done.comparison
    rows = self.values[30:].reshape(-1, 3).astype(np.float64)
    self.assertEqual((compared.kind, compared.batches), ('loss', 3))
    self.assertEqual(done.batches, BATCHES - 3)
    self.assertAlmostEqual(compared.stored, self.loss(1.0, 100.0), places=4)
    self.assertAlmostEqual(
      compared.new, self.loss(rows.mean(0), rows.var(0, ddof=1)), places=4
    )
    batches = self.values[:30].reshape(3, 10, 3).astype(np.float64)
    self.assertAlmostEqual(
      compared.batch,
      np.mean(
        [self.loss_of(k, b.mean(0), b.var(0)) for k, b in enumerate(batches)]
      ),
      places=4,
    )
    self.assertFalse(compared.worse)

  def loss_of(self, k, mean, variance):
    kept = self.values, self.labels
    part = slice(10 * k, 10 * k + 10)
    self.values = np.tile(kept[0][part], [3, 1, 1, 1])
    self.labels = np.tile(kept[1][part], 3)
    try:
      return self.loss(mean, variance)
    finally:
      self.values, self.labels = kept

  @parameterized.parameters('fused', 'unfused', 'placeholder', 'by_hand')
  def test_worse_ones_are_not_written(self, norm):
    # The weights have learned with what is stored.
    mean, variance = self.right
    shift = np.array([20.0, -20.0, 0.0])
    self.weights['logits/bias'] = 3 * shift / np.sqrt(variance + 1e-3)
    saved = self.save(NORMS[norm], mean + shift, variance)
    with self.assertRaisesRegex(
      UserError, 'would be worse: loss .* by the new ones, over 3 batches held'
    ):
      self.recalibrate(saved)
    self.assertEmpty(list(self.dir.glob('new*')))
    self.assertTrue(self.recalibrate(saved, force=True).comparison.worse)
    self.assertNotEmpty(list(self.dir.glob('new*')))

  def test_healthy_ones_may_be_written_again(self):
    saved = self.save(NORMS['fused'], *self.right)
    self.assertFalse(self.recalibrate(saved).comparison.worse)

  # What is measured.

  def measure(self, build):
    saved = self.save(NORMS['fused'], 0, 1, build=build)
    runnable = saved.runnable(self.feed)
    return comparing.measure_of(runnable, recalibration.of_layers(runnable))

  def test_cross_entropy(self):
    measure = self.measure(classifier)
    self.assertEqual(measure.kind, 'loss')
    self.assertIn('SparseSoftmaxCrossEntropy', measure.names[0])

  def test_collection_of_losses(self):
    def build(x, labels, norm):
      logits = tf.layers.dense(norm(x), 3, name='logits')
      loss = tf.losses.mean_squared_error(tf.one_hot(labels, 3), logits)
      tf.train.GradientDescentOptimizer(0.1).minimize(loss)

    measure = self.measure(build)
    self.assertEqual((measure.kind, len(measure.names)), ('loss', 1))
    self.assertIn('mean_squared_error', measure.names[0])

  def test_the_one_scalar_at_the_end(self):
    def build(x, labels, norm):
      y = tf.nn.relu(tf.layers.dense(norm(x), 3, name='logits'))
      loss = tf.reduce_mean(
        tf.square(y - tf.one_hot(labels, 3)), name='squares'
      )
      total = loss + 1e-4 * tf.nn.l2_loss(tf.trainable_variables()[0])
      average = tf.train.ExponentialMovingAverage(0.9).apply([loss])
      with tf.control_dependencies([average]):
        tf.train.AdamOptimizer(0.1).minimize(total)

    self.assertEqual(
      (self.measure(build).kind, self.measure(build).names),
      ('loss', ['squares:0']),
    )

  def test_outputs_where_there_is_no_loss(self):
    def build(x, labels, norm):
      y = tf.layers.dense(norm(x), 3, name='logits')
      tf.nn.softmax(y, name='probabilities')
      tf.sigmoid(y, name='scores')

    measure = self.measure(build)
    self.assertEqual(measure.kind, 'outputs')
    self.assertEqual(measure.names, ['probabilities:0', 'scores:0'])
    saved = self.save(NORMS['fused'], 0, 1, build=build)
    compared = self.recalibrate(saved).comparison
    self.assertEqual(compared.batch, 0)
    self.assertLess(compared.new, compared.stored)

  # Where batches come from.

  def test_a_queue_gives_the_same_batch_three_times(self):
    def build(x, labels, norm):
      del x
      x, labels = tf.train.shuffle_batch(
        [tf.constant(self.values), tf.constant(self.labels, tf.int32)],
        10,
        200,
        100,
        enqueue_many=True,
        seed=1,
      )
      noisy = x + 10 * tf.random_normal(tf.shape(x))
      classifier(noisy, labels, norm)

    saved = self.save(batch_norm(), 0.0, 1.0, build=build)
    runnable = saved.runnable()
    # By the batch's own mean and variance as stored ones nothing may differ.
    probes = recalibration.of_layers(runnable)
    measure = comparing.measure_of(runnable, probes)
    with sessions.restored(runnable, saved.prefix) as session:
      new = recalibration.statistics(
        session, runnable, probes, 4, measure, held_out=1
      )
    x = [
      v for v in new.held_out[0].feed.values() if np.shape(v) == (10, 1, 1, 3)
    ]
    rows = (
      sum(v * (10 if np.abs(v).max() < 5 else 1) for v in x)
      .reshape(-1, 3)
      .astype(np.float64)
    )
    compared = comparing.compare(
      runnable,
      saved.prefix,
      probes,
      measure,
      new.held_out,
      {
        'bn/moving_mean': rows.mean(0).astype(np.float32),
        'bn/moving_variance': rows.var(0).astype(np.float32),
      },
    )
    self.assertAlmostEqual(compared.new, compared.batch, places=4)
    self.assertNotAlmostEqual(compared.new, compared.stored, places=1)

  def test_the_only_batch_is_measured_and_said_to_be(self):
    saved = self.save(NORMS['fused'], 1.0, 100.0)
    done = recalibration.recalibrate(
      saved.runnable(lambda: [{'x': self.values, 'labels': self.labels}]),
      saved.prefix,
      str(self.dir / 'new'),
      100,
    )
    self.assertEqual((done.batches, done.comparison.batches), (1, 1))
    self.assertIn('that is all there was', str(done.comparison))

  # Training that went by the stored statistics.

  @parameterized.parameters('placeholder', 'variable')
  def test_phase_that_nobody_sets(self, norm):
    saved = self.save(NORMS[norm], 0.0, 1.0)
    with self.assertRaisesRegex(
      UserError, 'after step 500 .* still the initial ones: training normalised'
    ):
      self.recalibrate(saved)
    self.assertEmpty(list(self.dir.glob('new*')))
    self.recalibrate(saved, force=True)
    self.assertNotEmpty(helpers.differing(saved.prefix, self.dir / 'new'))

  def test_feed_that_says_not_to_train(self):
    saved = self.save(NORMS['placeholder'], 1.0, 100.0)
    told = lambda: ({**feed, 'training': False} for feed in self.feed())
    with self.assertRaisesRegex(UserError, '--feed: feeds training so that'):
      recalibration.recalibrate(
        saved.runnable(told), saved.prefix, str(self.dir / 'new'), 100
      )
    self.assertEmpty(list(self.dir.glob('new*')))


class WorseTest(parameterized.TestCase):
  @parameterized.parameters(
    ([1.0] * 4, [1.0] * 4, [1.02] * 4, False),  # Alike.
    ([1.0] * 4, [1.0] * 4, [1.2] * 4, True),
    ([2.0] * 4, [1.0] * 4, [1.1] * 4, False),  # Better.
    ([1.0, 1, 1, 1], [1.0] * 4, [0.2, 2.2, 0.3, 2.0], False),  # By chance.
    ([1.0], [1.0], [2.0], True),
    ([1.0], [1.0], [np.nan], True),
    ([np.nan], [1.0], [1.0], False),
    ([np.inf], [1.0], [np.inf], True),
  )
  def test_is_worse(self, stored, batch, new, expected):
    self.assertEqual(comparing.is_worse(stored, batch, new), expected)


if __name__ == '__main__':
  absltest.main()
