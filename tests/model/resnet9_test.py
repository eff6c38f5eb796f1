"""The network: its variables, shapes, collections and order of layers."""

import zlib

from absl.testing import absltest
import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.model import layers
from graph_resnet9.model import resnet9

BLOCKS = (
  'prep',
  'layer1',
  'layer1/residual/res1',
  'layer1/residual/res2',
  'layer2',
  'layer3',
  'layer3/residual/res1',
  'layer3/residual/res2',
)


# flags/fast10.flags, without the numbers.
FAST10 = dict(
  activation='celu', pool_before_bn=True, train_gamma=False, whitening=True
)


def images(batch=2):
  return tf.zeros([batch, 32, 32, 3])


def noise(*shape, seed=0):
  return np.random.RandomState(seed).normal(size=shape).astype(np.float32)


def sizes(variables):
  return sum(int(np.prod(v.shape.as_list())) for v in variables)


def load_noise(session):
  """Gives every trainable variable values that its name decides."""
  for variable in tf.trainable_variables():
    seed = zlib.crc32(variable.op.name.encode())
    fan_in = max(1, int(np.prod(variable.shape.as_list()[:-1])))
    variable.load(
      noise(*variable.shape.as_list(), seed=seed) / fan_in**0.5, session
    )


def published(x, width):
  """The network in dawn.py's order: the pool comes after the ReLU."""

  def block(x, channels):
    x = layers.batch_norm(layers.conv(x, channels), training=True)
    return tf.nn.relu(x)

  def residual(x, channels):
    with tf.variable_scope('residual/res1'):
      branch = block(x, channels)
    with tf.variable_scope('residual/res2'):
      return x + block(branch, channels)

  with tf.variable_scope('prep'):
    x = block(x, width)
  with tf.variable_scope('layer1'):
    x = residual(layers.max_pool(block(x, 2 * width), 2), 2 * width)
  with tf.variable_scope('layer2'):
    x = layers.max_pool(block(x, 4 * width), 2)
  with tf.variable_scope('layer3'):
    x = residual(layers.max_pool(block(x, 8 * width), 2), 8 * width)
  x = tf.reshape(layers.max_pool(x, 4), [-1, 8 * width])
  return layers.linear(x, 10) * 0.125


class Resnet9Test(absltest.TestCase):
  def test_has_the_published_number_of_parameters(self):
    with tf.Graph().as_default():
      resnet9.logits(images(), training=True)
      trainable = tf.trainable_variables()
      self.assertEqual(sizes(trainable), 6573120)
      self.assertEqual(
        sizes(v for v in trainable if v.op.name.endswith('kernel')), 6568640
      )

  def test_variables_have_the_documented_names_and_nothing_else(self):
    with tf.Graph().as_default():
      resnet9.logits(images(), training=False, width=4)
      expected = ['linear/kernel'] + [
        block + '/' + name
        for block in BLOCKS
        for name in (
          'conv/kernel',
          'bn/gamma',
          'bn/beta',
          'bn/moving_mean',
          'bn/moving_variance',
        )
      ]
      self.assertCountEqual(
        [v.op.name for v in tf.global_variables()], expected
      )

  def test_variables_are_resource_variables_in_float32_at_any_precision(self):
    for precision in ('float32', 'float16', 'bfloat16'):
      with self.subTest(precision=precision), tf.Graph().as_default():
        logits = resnet9.logits(
          images(), training=True, width=4, precision=precision
        )
        self.assertEqual(logits.dtype, tf.float32)
        for variable in tf.global_variables():
          self.assertEqual(variable.dtype, tf.float32, variable.name)
          self.assertEqual(variable.op.type, 'VarHandleOp')

  def test_convolutions_and_product_work_in_the_precision(self):
    for precision in ('float32', 'float16', 'bfloat16'):
      with self.subTest(precision=precision), tf.Graph().as_default() as graph:
        resnet9.logits(
          images(),
          training=True,
          width=4,
          precision=precision,
          whitening=True,
          ghost_batch=1,
        )
        found = [
          op.outputs[0].dtype
          for op in graph.get_operations()
          if op.type in ('Conv2D', 'MatMul', 'Relu', 'MaxPool')
        ]
        self.assertLen(found, 9 + 1 + 8 + 4)
        self.assertEqual(set(found), {tf.as_dtype(precision)})

  def test_update_ops_are_two_a_layer_in_training_and_none_otherwise(self):
    for training, expected in ((True, 16), (False, 0)):
      with self.subTest(training=training), tf.Graph().as_default():
        resnet9.logits(images(), training=training, width=4)
        self.assertLen(tf.get_collection(tf.GraphKeys.UPDATE_OPS), expected)

  def test_second_tower_shares_every_variable(self):
    with tf.Graph().as_default():
      resnet9.logits(images(), training=True, width=4)
      before = tf.global_variables()
      with tf.variable_scope(tf.get_variable_scope(), reuse=True):
        resnet9.logits(images(5), training=False, width=4)
      self.assertEqual(tf.global_variables(), before)

  def test_initial_kernels_are_uniform_in_one_over_root_fan_in(self):
    with tf.Graph().as_default(), tf.Session() as session:
      tf.set_random_seed(1)
      resnet9.logits(images(), training=True, width=32)
      session.run(tf.global_variables_initializer())
      for name, fan_in in (
        ('layer3/conv/kernel', 9 * 128),
        ('linear/kernel', 256),
      ):
        kernel = session.run(tf.global_variables(name)[0])
        bound = fan_in**-0.5
        self.assertLessEqual(np.abs(kernel).max(), bound)
        self.assertGreater(np.abs(kernel).max(), 0.99 * bound)
        self.assertAlmostEqual(kernel.std() * 3**0.5 / bound, 1, delta=0.03)

  def test_wrong_image_shape_is_named(self):
    with tf.Graph().as_default():
      with self.assertRaisesRegex(ValueError, r'must be \[batch, 32, 32, 3\]'):
        resnet9.logits(tf.zeros([2, 3, 32, 32]), training=True)

  def test_resource_variables_even_where_they_are_switched_off(self):
    with tf.Graph().as_default():
      scope = tf.get_variable_scope()
      scope.set_use_resource(False)
      resnet9.logits(images(), training=True, width=4)
      for variable in tf.global_variables():
        self.assertEqual(variable.op.type, 'VarHandleOp', variable.name)

  def test_pool_before_relu_is_the_published_network_bit_for_bit(self):
    results = []
    # One thread: no order of summation is left to chance.
    config = tf.ConfigProto(intra_op_parallelism_threads=1)
    for network in (
      lambda x: published(x, 4),
      lambda x: resnet9.logits(x, training=True, width=4),
    ):
      with tf.Graph().as_default(), tf.Session(config=config) as session:
        logits = network(tf.constant(noise(4, 32, 32, 3)))
        variables = tf.trainable_variables()
        gradients = tf.gradients(
          logits, variables, tf.constant(noise(4, 10, seed=1))
        )
        session.run(tf.global_variables_initializer())
        load_noise(session)
        named = {v.op.name: g for v, g in zip(variables, gradients)}
        results.append(session.run({'logits': logits, **named}))
    self.assertCountEqual(*results)
    for name, value in results[0].items():
      np.testing.assert_array_equal(results[1][name], value, name)
      self.assertGreater(np.abs(value).max(), 0, name)


class Fast10Test(absltest.TestCase):
  def test_variables_are_those_without_gamma_and_the_whitening(self):
    with tf.Graph().as_default():
      resnet9.logits(images(), training=True, width=4, ghost_batch=1, **FAST10)
      expected = ['prep/whitening/kernel', 'linear/kernel'] + [
        block + '/' + name
        for block in BLOCKS
        for name in (
          'conv/kernel',
          'bn/beta',
          'bn/moving_mean',
          'bn/moving_variance',
        )
      ]
      shapes = {v.op.name: v.shape for v in tf.global_variables()}
      self.assertCountEqual(shapes, expected)
      self.assertEqual(shapes['prep/whitening/kernel'], [3, 3, 3, 27])
      self.assertEqual(shapes['prep/conv/kernel'], [1, 1, 27, 4])
      self.assertEqual(shapes['layer1/conv/kernel'], [3, 3, 4, 8])

  def test_has_the_number_of_parameters_counted_by_hand(self):
    kernels = (
      27 * 64
      + 9 * 64 * 128
      + 2 * 9 * 128 * 128
      + 9 * 128 * 256
      + 9 * 256 * 512
      + 2 * 9 * 512 * 512
      + 512 * 10
    )
    betas = 64 + 3 * 128 + 256 + 3 * 512
    with tf.Graph().as_default():
      resnet9.logits(images(), training=True, **FAST10)
      self.assertEqual(sizes(tf.trainable_variables()), kernels + betas)
      self.assertEqual(sizes(tf.get_collection(tf.GraphKeys.BIASES)), betas)

  def test_each_trick_alone_changes_the_logits(self):
    def run(**tricks):
      with tf.Graph().as_default(), tf.Session() as session:
        logits = resnet9.logits(
          tf.constant(noise(4, 32, 32, 3)), training=True, width=4, **tricks
        )
        session.run(tf.global_variables_initializer())
        load_noise(session)
        return session.run(logits)

    plain = run()
    for trick in (
      dict(activation='celu'),
      dict(pool_before_bn=True),
      dict(train_gamma=False),
      dict(ghost_batch=2),
      dict(logit_scale=1 / 16),
      dict(whitening=True, filters=noise(3, 3, 3, 27)),
    ):
      with self.subTest(**trick):
        logits = run(**trick)
        self.assertEqual(logits.shape, (4, 10))
        self.assertTrue(np.isfinite(logits).all())
        self.assertGreater(np.abs(logits - plain).max(), 0.01)

  def test_towers_of_evaluation_take_any_batch(self):
    with tf.Graph().as_default(), tf.Session() as session:
      resnet9.logits(images(4), training=True, width=4, ghost_batch=2, **FAST10)
      before = tf.global_variables()
      biases = tf.get_collection(tf.GraphKeys.BIASES)
      self.assertLen(biases, 8)
      x = tf.placeholder(tf.float32, [None, 32, 32, 3])
      with tf.variable_scope(tf.get_variable_scope(), reuse=True):
        logits = resnet9.logits(
          x, training=False, width=4, ghost_batch=2, **FAST10
        )
      self.assertEqual(tf.global_variables(), before)
      self.assertEqual(tf.get_collection(tf.GraphKeys.BIASES), biases)
      session.run(tf.global_variables_initializer())
      for count in (1, 3):
        self.assertEqual(
          session.run(logits, {x: noise(count, 32, 32, 3)}).shape, (count, 10)
        )


if __name__ == '__main__':
  absltest.main()
