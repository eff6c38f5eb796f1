"""The schedule and the train op, against NumPy."""

from absl.testing import absltest
import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.model import losses
from graph_resnet9.model import optimizer


def rates(knots, values, steps, steps_per_epoch, **more):
  with tf.Graph().as_default(), tf.Session() as session:
    step = tf.placeholder(tf.int64, [])
    rate = optimizer.learning_rate(step, steps_per_epoch, knots, values, **more)
    return [session.run(rate, {step: s}) for s in steps]


class LearningRateTest(absltest.TestCase):
  def test_is_piecewise_linear_and_reads_one_step_ahead(self):
    for knots, values in (
      ([0, 5, 24], [0, 0.4, 0]),
      ([0, 2, 8, 10], [0, 1, 0.1, 0.1]),
    ):
      steps = list(range(0, 97 * 24, 13))
      expected = np.interp((np.array(steps) + 1) / 97, knots, values)
      np.testing.assert_allclose(
        rates(knots, values, steps, 97), expected, atol=1e-6
      )

  def test_is_exact_at_knots_and_flat_outside(self):
    got = rates([1, 5, 24], [0.1, 0.4, 0], [0, 96, 484, 2327, 9999], 97)
    self.assertEqual(
      got, [np.float32(0.1), np.float32(0.1), np.float32(0.4), 0, 0]
    )

  def test_without_the_shift_it_reads_the_step_itself(self):
    got = rates([0, 5, 24], [0, 0.4, 0], [0, 97, 485], 97, shift_steps=0)
    np.testing.assert_allclose(got, [0, 0.08, 0.4], atol=1e-6)

  def test_takes_the_global_step_variable(self):
    with tf.Graph().as_default(), tf.Session() as session:
      step = tf.train.get_or_create_global_step()
      rate = optimizer.learning_rate(step, 10, [0, 1], [0, 1])
      session.run(tf.global_variables_initializer())
      self.assertAlmostEqual(session.run(rate), 0.1, places=6)

  def test_bad_knots_are_named(self):
    for knots, values in (([0, 1], [0]), ([0], [1]), ([0, 2, 2], [0, 1, 0])):
      with self.subTest(knots=knots), tf.Graph().as_default():
        with self.assertRaisesRegex(ValueError, 'knots|must grow'):
          optimizer.learning_rate(0, 10, knots, values)


def quadratic(**more):
  """Graph of loss = sum a (w - target)^2 with a hand-made update op."""
  target = np.array([1.0, -2.0, 3.0], np.float32)
  w = tf.get_variable('w', initializer=tf.zeros(3), use_resource=True)
  updates = tf.get_variable(
    'updates', initializer=0, trainable=False, use_resource=True
  )
  tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, updates.assign_add(1).op)
  loss = tf.reduce_sum([1.0, 2.0, 3.0] * (w - target) ** 2)
  rate = optimizer.learning_rate(
    tf.train.get_or_create_global_step(), 4, [0, 2, 5], [0, 0.1, 0]
  )
  op = optimizer.train_op(loss, rate, 0.9, 0.01, **more)
  return op, w, updates


class TrainOpTest(absltest.TestCase):
  def test_is_nesterov_with_the_rate_inside_the_velocity(self):
    with tf.Graph().as_default(), tf.Session() as session:
      op, w, _ = quadratic()
      session.run(tf.global_variables_initializer())
      expected, velocity = np.zeros(3), np.zeros(3)
      for step in range(20):
        rate = np.interp((step + 1) / 4, [0, 2, 5], [0, 0.1, 0])
        gradient = 2 * np.array([1, 2, 3]) * (expected - [1, -2, 3])
        gradient += 0.01 * expected
        velocity = 0.9 * velocity - rate * gradient
        expected = expected + 0.9 * velocity - rate * gradient
        session.run(op)
        np.testing.assert_allclose(session.run(w), expected, atol=1e-5)
      self.assertEqual(session.run(tf.train.get_global_step()), 20)

  def test_forms_with_and_without_nesterov_and_the_rate_inside(self):
    for nesterov in (True, False):
      for inside in (True, False):
        with (
          self.subTest(nesterov=nesterov, inside=inside),
          tf.Graph().as_default(),
          tf.Session() as session,
        ):
          op, w, _ = quadratic(nesterov=nesterov, rate_in_velocity=inside)
          session.run(tf.global_variables_initializer())
          expected, velocity = np.zeros(3), np.zeros(3)
          for step in range(20):
            rate = np.interp((step + 1) / 4, [0, 2, 5], [0, 0.1, 0])
            gradient = 2 * np.array([1, 2, 3]) * (expected - [1, -2, 3])
            gradient += 0.01 * expected
            inner, outer = (rate, 1) if inside else (1, rate)
            velocity = 0.9 * velocity + inner * gradient
            move = velocity
            if nesterov:
              move = 0.9 * velocity + inner * gradient
            expected = expected - outer * move
            session.run(op)
            np.testing.assert_allclose(session.run(w), expected, atol=1e-5)

  def test_runs_the_update_ops_unless_told_not_to(self):
    for run_update_ops, expected in ((True, 3), (False, 0)):
      with (
        self.subTest(run_update_ops=run_update_ops),
        tf.Graph().as_default(),
        tf.Session() as session,
      ):
        op, _, updates = quadratic(run_update_ops=run_update_ops)
        session.run(tf.global_variables_initializer())
        for _ in range(3):
          session.run(op)
        self.assertEqual(session.run(updates), expected)

  def test_loss_scale_of_a_power_of_two_changes_no_bit(self):
    values = []
    for scale in (1.0, 512.0):
      with tf.Graph().as_default(), tf.Session() as session:
        op, w, _ = quadratic(loss_scale=scale)
        session.run(tf.global_variables_initializer())
        for _ in range(10):
          session.run(op)
        values.append(session.run(w))
    np.testing.assert_array_equal(*values)

  def test_loss_scale_saves_small_float16_gradients(self):
    moved = []
    for scale in (1.0, 512.0):
      with tf.Graph().as_default(), tf.Session() as session:
        w = tf.get_variable('w', initializer=0.0, use_resource=True)
        half = tf.cast(tf.cast(w, tf.float16), tf.float32)
        op = optimizer.train_op(1e-8 * half, 1.0, 0.0, 0.0, loss_scale=scale)
        session.run(tf.global_variables_initializer())
        session.run(op)
        moved.append(session.run(w))
    self.assertEqual(moved[0], 0)
    self.assertAlmostEqual(moved[1] / -1e-8, 1, delta=0.02)

  def test_biases_get_a_scaled_rate_and_as_much_less_decay(self):
    scales = {'kernel': 1, 'beta': 8}
    with tf.Graph().as_default(), tf.Session() as session:
      both = {
        name: tf.get_variable(name, initializer=[2.0, -1.0], use_resource=True)
        for name in scales
      }
      tf.add_to_collection(tf.GraphKeys.BIASES, both['beta'])
      loss = sum(tf.reduce_sum((w - 1) ** 2) for w in both.values())
      op = optimizer.train_op(loss, 0.01, 0.9, 0.5, bias_lr_scale=8)
      session.run(tf.global_variables_initializer())
      expected = {name: np.array([2.0, -1.0]) for name in scales}
      velocity = {name: np.zeros(2) for name in scales}
      for _ in range(10):
        session.run(op)
        for name, scale in scales.items():
          w = expected[name]
          change = 0.01 * scale * (2 * (w - 1) + 0.5 / scale * w)
          velocity[name] = 0.9 * velocity[name] - change
          expected[name] = w + 0.9 * velocity[name] - change
          np.testing.assert_allclose(
            session.run(both[name]), expected[name], atol=1e-5
          )

  def test_bias_scale_without_biases_changes_no_bit(self):
    values = []
    for scale in (1.0, 64.0):
      with tf.Graph().as_default(), tf.Session() as session:
        w = tf.get_variable('w', initializer=[2.0, -1.0], use_resource=True)
        # Named as a beta: the collection alone decides.
        beta = tf.get_variable('bn/beta', initializer=3.0, use_resource=True)
        op = optimizer.train_op(
          tf.reduce_sum(w**2) * beta, 0.01, 0.9, 0.1, bias_lr_scale=scale
        )
        session.run(tf.global_variables_initializer())
        for _ in range(3):
          session.run(op)
        values.append([*session.run(w), session.run(beta)])
    np.testing.assert_array_equal(*values)

  def test_adds_to_the_train_op_collection(self):
    with tf.Graph().as_default():
      op, _, _ = quadratic()
      self.assertEqual(tf.get_collection(tf.GraphKeys.TRAIN_OP), [op])

  def test_variable_without_gradient_is_named(self):
    with tf.Graph().as_default():
      w = tf.get_variable('w', initializer=1.0, use_resource=True)
      tf.get_variable('unused', initializer=1.0, use_resource=True)
      with self.assertRaisesRegex(ValueError, 'does not depend on unused'):
        optimizer.train_op(w * w, 0.1, 0.9, 0.0)


class LossesTest(absltest.TestCase):
  def test_cross_entropy_and_correct(self):
    logits = np.random.RandomState(0).normal(size=(6, 10)) * 4
    labels = np.array([0, 3, 9, 3, 5, 7])
    labels[0] = logits[0].argmax()
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    with tf.Graph().as_default(), tf.Session() as session:
      args = (tf.constant(logits, tf.float32), tf.constant(labels, tf.int32))
      got = session.run([losses.cross_entropy(*args), losses.correct(*args)])
    np.testing.assert_allclose(
      got[0], -np.log(shares[np.arange(6), labels]), rtol=1e-4
    )
    np.testing.assert_array_equal(got[1], logits.argmax(1) == labels)

  def test_smoothed_cross_entropy_is_that_of_the_smoothed_labels(self):
    logits = np.random.RandomState(0).normal(size=(6, 10)) * 4
    labels = np.array([0, 3, 9, 3, 5, 7])
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    shares = np.exp(logs)
    for smoothing in (0.0, 0.2, 1.0):
      targets = np.full([6, 10], smoothing / 10)
      targets[np.arange(6), labels] += 1 - smoothing
      with (
        self.subTest(smoothing=smoothing),
        tf.Graph().as_default(),
        tf.Session() as session,
      ):
        x = tf.constant(logits, tf.float32)
        loss = losses.cross_entropy(x, tf.constant(labels, tf.int32), smoothing)
        loss, gradient = session.run([loss, tf.gradients(loss, x)[0]])
        np.testing.assert_allclose(loss, -(targets * logs).sum(1), rtol=1e-5)
        np.testing.assert_allclose(gradient, shares - targets, atol=1e-5)

  def test_smoothing_that_vanishes_equals_none(self):
    logits = np.random.RandomState(0).normal(size=(6, 10)) * 4
    with tf.Graph().as_default(), tf.Session() as session:
      args = tf.constant(logits, tf.float32), tf.constant([0, 3, 9, 3, 5, 7])
      none, zero, tiny = session.run(
        [
          losses.cross_entropy(*args),
          losses.cross_entropy(*args, 0.0),
          losses.cross_entropy(*args, 1e-12),
        ]
      )
    np.testing.assert_array_equal(none, zero)
    np.testing.assert_allclose(none, tiny, rtol=1e-5)


if __name__ == '__main__':
  absltest.main()
