"""Averages of the weights, against a loop in NumPy."""

import os

from absl.testing import absltest
import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.model import average
from graph_resnet9.model import layers
from graph_resnet9.model import resnet9

SUFFIX = '/ExponentialMovingAverage'


def tower(images, training):
  return resnet9.logits(
    tf.constant(images, tf.float32), training=training, width=4
  )


def averaged_network():
  """A training tower on noise; returns (the op of its averages, getter)."""
  images = np.random.RandomState(0).normal(size=(2, 32, 32, 3))
  tower(images, training=True)
  return average.averaging_op(tf.global_variables(), tf.constant(1), 0.9, 1)


def by_name(session):
  return session.run({v.op.name: v for v in tf.global_variables()})


def load_noise(session, variables, seed):
  random = np.random.RandomState(seed)
  for variable in variables:
    # Positive: some are variances.
    variable.load(random.uniform(0.5, 1.5, variable.shape), session)


class AverageTest(absltest.TestCase):
  def test_follows_the_recurrence_when_it_is_due(self):
    for every in (1, 5):
      with (
        self.subTest(every=every),
        tf.Graph().as_default(),
        tf.Session() as session,
      ):
        step = tf.train.get_or_create_global_step()
        w = tf.get_variable('w', initializer=[2.0, -1.0], use_resource=True)
        with tf.control_dependencies(
          [w.assign(w * 0.8 + 0.3), step.assign_add(1)]
        ):
          op, _ = average.averaging_op([w], step.read_value(), 0.9, every)
        session.run(tf.global_variables_initializer())
        weights = expected = np.array([2.0, -1.0])
        due = range(1, 13) if every == 1 else (1, 6, 11)
        for taken in range(1, 13):
          session.run(op)
          weights = weights * 0.8 + 0.3
          if taken in due:
            expected = 0.9**every * expected + (1 - 0.9**every) * weights
          np.testing.assert_allclose(
            by_name(session)['w' + SUFFIX], expected, rtol=1e-5
          )

  def test_between_its_steps_no_bit_changes(self):
    with tf.Graph().as_default(), tf.Session() as session:
      step = tf.placeholder(tf.int64, [])
      w = tf.get_variable('w', initializer=1 / 3, use_resource=True)
      op, _ = average.averaging_op([w], step, 0.99, 5)
      session.run(tf.global_variables_initializer())
      w.load(1e6 / 7, session)
      session.run(op, {step: 1})
      before = by_name(session)['w' + SUFFIX]
      for taken in range(2, 6):
        session.run(op, {step: taken})
        self.assertEqual(by_name(session)['w' + SUFFIX], before)
      session.run(op, {step: 6})
      self.assertNotEqual(by_name(session)['w' + SUFFIX], before)

  def test_begins_with_the_initial_values_and_does_not_train(self):
    with tf.Graph().as_default(), tf.Session() as session:
      averaged_network()
      trainable = [v.op.name for v in tf.trainable_variables()]
      self.assertLen(trainable, 25)
      self.assertFalse([name for name in trainable if SUFFIX in name])
      session.run(tf.global_variables_initializer())
      values = by_name(session)
    # Kernels are random: the averages must not draw values of their own.
    names = [name for name in values if not name.endswith(SUFFIX)]
    self.assertLen(values, 2 * len(names))
    for name in names:
      np.testing.assert_array_equal(values[name + SUFFIX], values[name], name)

  def test_moving_statistics_are_averaged_after_their_update(self):
    x = np.random.RandomState(0).normal(size=(4, 3, 3, 2)) + 5
    with tf.Graph().as_default(), tf.Session() as session:
      layers.batch_norm(tf.constant(x, tf.float32), training=True)
      updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
      with tf.control_dependencies(updates):
        op, _ = average.averaging_op(
          tf.global_variables(), tf.constant(1), 0.75, 1
        )
      session.run(tf.global_variables_initializer())
      session.run(op)
      values = by_name(session)
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2)) * 36 / 35
    np.testing.assert_allclose(
      values['bn/moving_mean' + SUFFIX], 0.25 * 0.1 * mean, rtol=1e-4
    )
    np.testing.assert_allclose(
      values['bn/moving_variance' + SUFFIX],
      0.75 + 0.25 * (0.9 + 0.1 * variance),
      rtol=1e-4,
    )

  def test_the_getter_gives_every_layer_the_averages(self):
    images = np.random.RandomState(1).normal(size=(3, 32, 32, 3))
    with tf.Graph().as_default(), tf.Session() as session:
      _, getter = averaged_network()
      variables = tf.global_variables()
      with tf.variable_scope(
        tf.get_variable_scope(), reuse=True, custom_getter=getter
      ):
        averaged = tower(images, training=False)
      self.assertEqual(tf.global_variables(), variables)
      session.run(tf.global_variables_initializer())
      load_noise(session, variables, 2)
      values = by_name(session)
      got = session.run(averaged)
    # The same network with the averages as its only variables.
    with tf.Graph().as_default(), tf.Session() as session:
      expected = tower(images, training=False)
      for variable in tf.global_variables():
        variable.load(values[variable.op.name + SUFFIX], session)
      expected = session.run(expected)
    np.testing.assert_allclose(got, expected, rtol=1e-5)

  def test_the_getter_leaves_variables_without_an_average(self):
    with tf.Graph().as_default():
      with tf.variable_scope('', use_resource=True):
        a, b = tf.get_variable('a', []), tf.get_variable('b', [])
      _, getter = average.averaging_op([a], tf.constant(1), 0.9, 1)
      with tf.variable_scope('', reuse=True, custom_getter=getter):
        self.assertEqual(tf.get_variable('a').op.name, 'a' + SUFFIX)
        self.assertIs(tf.get_variable('b'), b)

  def test_names_are_those_in_a_checkpoint(self):
    prefix = os.path.join(self.create_tempdir().full_path, 'weights')
    with tf.Graph().as_default(), tf.Session() as session:
      averaged_network()
      session.run(tf.global_variables_initializer())
      load_noise(session, tf.global_variables(), 3)
      saved = by_name(session)
      tf.train.Saver().save(session, prefix, write_meta_graph=False)
    with tf.Graph().as_default(), tf.Session() as session:
      step = tf.train.get_or_create_global_step()
      tower(np.zeros([1, 32, 32, 3]), training=False)
      names = average.names(tf.global_variables())
      self.assertNotIn(step, names.values())
      self.assertContainsSubset(names, dict(tf.train.list_variables(prefix)))
      tf.train.Saver(names).restore(session, prefix)
      for variable in names.values():
        np.testing.assert_array_equal(
          session.run(variable), saved[variable.op.name + SUFFIX]
        )
      self.assertLen(names, 41)


if __name__ == '__main__':
  absltest.main()
