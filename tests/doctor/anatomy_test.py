"""doctor/layers/anatomy: layers, the ops of a step, and what they run."""

from absl.testing import absltest
from absl.testing import parameterized
import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.graph import programs
from graph_resnet9.doctor.layers import anatomy
from graph_resnet9.errors import UserError
from tests.doctor.layers_test import Made


def names(nodes):
  return sorted(node.name for node in nodes)


def apart(graph, *train_ops):
  return anatomy.Anatomy(programs.of_graph(graph), train_ops)


def optimizer():
  return tf.train.GradientDescentOptimizer(0.1)


def moments(name, count=1, beta=True):
  """Builds layers by hand on x [9, 3]; the updates of each."""
  x = tf.placeholder(tf.float32, [9, 3], 'x')
  updates = []
  for k in range(count):
    with tf.variable_scope('%s%d' % (name, k)):
      stored = [
        tf.get_variable(n, [3], use_resource=False, trainable=False)
        for n in ('m', 'v')
      ]
      offset = (
        tf.get_variable('beta', [3], use_resource=False) if beta else None
      )
      batch = tf.nn.moments(x, [0])
      updates.append(
        [tf.assign_sub(s, (s - b) * 0.25) for s, b in zip(stored, batch)]
      )
      x = tf.nn.relu(tf.nn.batch_normalization(x, *batch, offset, None, 1e-3))
  return x, updates


class StepsTest(parameterized.TestCase):
  def test_ops_by_which_optimizers_change_variables(self):
    with tf.Graph().as_default() as graph:
      y, updates = moments('layer')
      optimizer().minimize(tf.reduce_sum(y), name='train')
    taken = apart(graph)
    (step,) = [n for n in taken.steps if n.name != 'train']
    self.assertStartsWith(step.op, 'ApplyGradientDescent')
    self.assertIn('train', names(taken.steps))
    self.assertEqual(names(taken.last_steps), ['train'])
    self.assertContainsSubset(taken.steps, taken.reached)
    for update in updates[0]:
      self.assertNotIn(update.op.name, names(taken.reached))
    self.assertEqual(taken.assumed, [])

  def test_what_depends_on_a_step_is_run_with_it(self):
    with tf.Graph().as_default() as graph:
      y, updates = moments('layer')
      with tf.control_dependencies([optimizer().minimize(tf.reduce_sum(y))]):
        tf.group(*updates[0], name='all')
      tf.no_op('other')
    taken = apart(graph)
    self.assertContainsSubset(
      [u.op.name for u in updates[0]] + ['all'], names(taken.reached)
    )
    self.assertNotIn('other', names(taken.reached))

  def test_a_gradient_method_written_out(self):
    with tf.Graph().as_default() as graph:
      y, updates = moments('layer')
      (beta,) = tf.trainable_variables()
      frozen = tf.get_variable('f', [3], trainable=False, use_resource=False)
      (gradient,) = tf.gradients(tf.reduce_sum(y), [beta])
      step = tf.assign_sub(beta, 0.1 * gradient)
      tf.assign(frozen, gradient)
    taken = apart(graph)
    self.assertEqual(names(taken.steps), [step.op.name])
    self.assertEqual(names(taken.last_steps), [step.op.name])

  def test_ops_that_are_given_are_the_step(self):
    with tf.Graph().as_default() as graph:
      y, updates = moments('layer')
      optimizer().minimize(tf.reduce_sum(y), name='train')
      tf.group(*updates[0], name='group')
    taken = apart(graph, 'group')
    self.assertEqual(names(taken.steps), ['group'])
    self.assertContainsSubset(
      [u.op.name for u in updates[0]], names(taken.reached)
    )
    self.assertNotIn('train', names(taken.reached))
    taken = apart(graph, 'group', 'train:0')
    self.assertEqual(names(taken.steps), ['group', 'train'])
    self.assertEqual(names(taken.last_steps), ['group', 'train'])
    self.assertContainsSubset(taken.steps, taken.reached)
    with self.assertRaisesRegex(UserError, '^--train_op=gone: no op of'):
      apart(graph, 'group', 'gone')

  @parameterized.parameters(False, True)
  def test_the_last_steps_are_those_that_no_other_waits_for(self, by_input):
    with tf.Graph().as_default() as graph:
      first = tf.constant(1.0, name='first')
      with tf.control_dependencies([] if by_input else [first]):
        tf.negative(first if by_input else 2.0, name='last')
      tf.constant(3.0, name='alone')
    taken = apart(graph, 'first', 'last', 'alone')
    self.assertEqual(names(taken.last_steps), ['alone', 'last'])

  def test_a_graph_that_does_not_train_has_no_steps(self):
    with tf.Graph().as_default() as graph:
      moments('layer', 2)
    taken = apart(graph)
    self.assertEqual((taken.steps, taken.last_steps, taken.assumed), ([],) * 3)
    self.assertEqual(taken.reached, set())


class GatheredTest(absltest.TestCase):
  """Gradients of several batches are gathered, and then applied."""

  def test_what_gathers_them_is_a_step(self):
    with tf.Graph().as_default() as graph:
      y, updates = moments('layer')
      (beta,) = tf.trainable_variables()
      (gradient,) = tf.gradients(tf.reduce_sum(y), [beta])
      frozen = lambda name: tf.get_variable(
        name, [3], trainable=False, use_resource=False
      )
      gathered, watched = frozen('gathered'), frozen('watched')
      with tf.control_dependencies(updates[0]):
        gather = tf.assign_add(gathered, gradient)
      watch = tf.assign_add(watched, gradient)  # Nothing applies this.
      optimizer().apply_gradients([(gathered / 4.0, beta)], name='apply')
    taken = apart(graph)
    self.assertIn(gather.op.name, names(taken.steps))
    self.assertIn('apply', names(taken.steps))
    self.assertNotIn(watch.op.name, names(taken.steps))
    self.assertContainsSubset(
      [u.op.name for u in updates[0]], names(taken.reached)
    )


class UnreadTest(parameterized.TestCase):
  """Keras 2 in evaluation: normalised by the batch, and that thrown away."""

  def kinds(self, read=(), same_input=True, fused=True, train=False):
    """Whether each site that is left goes by the batch."""
    with tf.Graph().as_default() as graph:
      x = tf.placeholder(tf.float32, [9, 2, 2, 3], 'x')
      gamma, beta, mean, variance = (
        tf.get_variable(name, [3], use_resource=False)
        for name in ('gamma', 'beta', 'mean', 'variance')
      )
      if fused:
        by_batch, batch, _ = tf.nn.fused_batch_norm(x, gamma, beta)
      else:
        batch, spread = tf.nn.moments(x, [0, 1, 2])
        by_batch = tf.nn.batch_normalization(
          x, batch, spread, beta, gamma, 1e-3
        )
      tf.assign_sub(mean, (mean - batch) * 0.1)
      by_stored = tf.nn.batch_normalization(
        x if same_input else tf.nn.relu(x), mean, variance, beta, gamma, 1e-3
      )
      for y, kind in ((by_batch, 'batch'), (by_stored, 'stored')):
        if kind in read:
          tf.nn.relu(y)
      if train:
        optimizer().minimize(tf.reduce_sum(by_stored))
    (layer,) = apart(graph).layers
    return [site.by_batch for site in layer.sites]

  @parameterized.parameters(False, True)
  def test_what_nothing_takes_is_no_evaluation(self, fused):
    self.assertEqual(self.kinds(['stored'], fused=fused), [False])
    self.assertEqual(self.kinds(['batch'], fused=fused), [True])

  @parameterized.parameters(
    (['batch', 'stored'], {}),
    ([], {}),  # Both may be what the graph is for.
    (['stored'], dict(same_input=False)),
    (['stored'], dict(train=True)),
  )
  def test_else_all_count(self, read, how):
    self.assertEqual(self.kinds(read, **how), [True, False])


class HookTest(parameterized.TestCase):
  """Groups of updates that a hook runs, as tensorpack's does."""

  def apart(self, group, count=2, step=True):
    with tf.Graph().as_default() as graph:
      y, updates = moments('layer', count)
      if step:
        optimizer().minimize(tf.reduce_sum(y))
      group(updates)
      every = [u.op.name for some in updates for u in some]
    taken = apart(graph)
    ran = set(every) & set(names(taken.reached))
    return names(taken.assumed), len(ran)

  def test_a_group_of_all_is_run(self):
    def group(updates):
      tf.group(*updates[0], *updates[1], name='all')

    self.assertEqual(self.apart(group), (['all'], 4))
    self.assertEqual(self.apart(group, step=False), ([], 0))

  def test_a_group_of_groups_is_run(self):
    def group(updates):
      parts = [tf.group(*some, tf.no_op()) for some in updates]
      tf.group(*parts, tf.constant(1.0), name='all')

    self.assertEqual(self.apart(group), (['all'], 4))

  @parameterized.named_parameters(
    ('of_some', lambda u: tf.group(*u[0], u[1][0])),
    ('of_one_layer', lambda u: tf.group(*u[0])),
    ('that_something_waits_for', lambda u: tf.group(
      tf.identity(1.0), tf.tuple(
        [tf.constant(1.0)], control_inputs=[tf.group(*u[0], *u[1])])[0])),
    ('behind_something_else', lambda u: tf.group(
      tf.stack([u[0][0], u[0][1], u[1][0], u[1][1]]))),
    ('none', lambda u: None),
  )  # fmt: skip
  def test_other_groups_are_not(self, group):
    self.assertEqual(self.apart(group), ([], 0))

  def test_of_one_layer_alone_it_may_be_there_for_another_reason(self):
    self.assertEqual(self.apart(lambda u: tf.group(*u[0]), count=1), ([], 0))

  def test_a_loss_that_waits_for_all_is_fetched(self):
    for count in (1, 2):
      with tf.Graph().as_default() as graph:
        y, updates = moments('layer', count)
        loss = tf.reduce_sum(y)
        with tf.control_dependencies(sum(updates, [])):
          loss = tf.identity(loss, 'waits')
        optimizer().minimize(loss)
        tf.summary.scalar('loss', loss)
      taken = apart(graph)
      self.assertEqual(names(taken.assumed), ['waits'])
      self.assertContainsSubset(
        [u.op.name for some in updates for u in some], names(taken.reached)
      )

  @parameterized.parameters(1, 2)
  def test_what_waits_for_some_or_is_no_loss_is_not(self, waited_for):
    with tf.Graph().as_default() as graph:
      y, updates = moments('layer', 2)
      loss = tf.reduce_sum(y)
      with tf.control_dependencies(sum(updates[:waited_for], [])):
        tf.identity(y, 'of_examples')
        tf.identity(loss if waited_for == 1 else 1.0, 'of_some_or_nothing')
      optimizer().minimize(loss)
    self.assertEqual(apart(graph).assumed, [])

  def test_what_a_step_runs_need_not_be_in_the_group(self):
    with tf.Graph().as_default() as graph:
      y, updates = moments('layer', 3)
      with tf.control_dependencies(updates[0]):
        optimizer().minimize(tf.reduce_sum(y))
      tf.group(*updates[1], *updates[2], name='the_others')
    self.assertEqual(names(apart(graph).assumed), ['the_others'])


class GradientsTest(parameterized.TestCase):
  def gradients(self, build):
    with tf.Graph().as_default() as graph:
      x = tf.placeholder(tf.float32, [4, 8, 8, 3], 'x')
      build(x)
    return [node.op for node in apart(graph).gradients]

  def fused(self, wrt):
    def build(x):
      gamma, beta = (tf.get_variable(n, [3]) for n in ('gamma', 'beta'))
      y = tf.nn.fused_batch_norm(x, gamma, beta)[0]
      of = dict(x=x, gamma=gamma, beta=beta)
      gradients = tf.gradients(tf.exp(y), [of[name] for name in wrt])
      [tf.negative(gradient) for gradient in gradients]

    return [op.rstrip('V123') for op in self.gradients(build)]

  @parameterized.parameters((['gamma'],), (['beta'],), (['x', 'beta'],))
  def test_of_gamma_or_beta_alone(self, wrt):
    self.assertEqual(self.fused(wrt), ['FusedBatchNormGrad'])

  def test_not_of_the_input_of_a_kernel(self):
    self.assertEqual(self.fused(['x']), [])

  @parameterized.parameters(False, True)
  def test_of_a_kernel_and_a_bias(self, taken):
    def build(x):
      y = tf.layers.conv2d(x, 2, 3)
      of = tf.trainable_variables()
      gradients = tf.gradients(tf.exp(y), of)
      if taken:
        [tf.negative(gradient) for gradient in gradients]

    self.assertCountEqual(
      self.gradients(build),
      ['Conv2DBackpropFilter', 'BiasAddGrad'] if taken else [],
    )

  @parameterized.parameters(False, True)
  def test_of_a_matrix(self, of_weights):
    def build(x):
      flat = tf.reshape(tf.nn.relu(x), [4, -1])
      weights = tf.get_variable('w', [192, 2], use_resource=False)
      y = tf.nn.relu(tf.matmul(flat, weights))
      tf.negative(tf.gradients(y, weights if of_weights else x)[0])

    self.assertEqual(self.gradients(build), ['MatMul'] if of_weights else [])

  def test_a_turned_matrix_is_none_in_front_of_gradients(self):
    def build(x):
      flat = tf.reshape(x, [4, -1])
      tf.negative(tf.matmul(flat, flat, transpose_a=True))

    self.assertEqual(self.gradients(build), [])


class LayersTest(parameterized.TestCase):
  def test_each_has_its_own_sites_updates_and_averages(self):
    with tf.Graph().as_default() as graph:
      moments('net/layer', 2)
    for k, layer in enumerate(apart(graph).layers):
      scope = 'net/layer%d' % k
      self.assertEqual(layer.name, scope)
      self.assertLen(layer.sites, 1)
      self.assertEqual(names(layer.means), [scope + '/m'])
      self.assertEqual(names(layer.variances), [scope + '/v'])
      self.assertEqual(names(layer.stored), [scope + '/m', scope + '/v'])
      self.assertEqual(
        names(u.variable for u in layer.updates), names(layer.stored)
      )

  def test_calls_that_share_a_variable_are_one(self):
    with tf.Graph().as_default() as graph:
      x = tf.placeholder(tf.float32, [4, 8, 8, 3], 'x')
      tf.layers.batch_normalization(x, name='other', training=True)
      for reuse in (None, True):
        tf.layers.batch_normalization(
          x, name='shared', training=True, reuse=reuse
        )
      tf.layers.batch_normalization(x, name='shared', reuse=True)
    layers = apart(graph).layers
    self.assertEqual([layer.name for layer in layers], ['other', 'shared'])
    self.assertEqual([len(layer.sites) for layer in layers], [1, 3])
    self.assertEqual([len(layer.updates) for layer in layers], [2, 4])
    self.assertEqual(names(layers[1].means), ['shared/moving_mean'])

  def test_calls_that_share_the_statistics_of_a_batch_are_one(self):
    with tf.Graph().as_default() as graph:
      x = tf.placeholder(tf.float32, [9, 3], 'x')
      batch = tf.nn.moments(x, [0])
      for _ in range(2):
        tf.nn.batch_normalization(x, *batch, None, None, 1e-3)
      tf.nn.batch_normalization(
        x, *tf.nn.moments(x, [0]), None, None, 1e-3, name='alone'
      )
    layers = apart(graph).layers
    self.assertEqual([len(layer.sites) for layer in layers], [2, 1])
    # Without variables it has the name of its root.
    self.assertStartsWith(layers[1].name, 'alone/')

  def test_a_layer_of_averages_alone_has_their_scope(self):
    with tf.Graph().as_default() as graph:
      moments('only', beta=False)
    (layer,) = apart(graph).layers
    self.assertEqual(layer.name, 'only0')

  def test_sites_that_are_trained(self):
    with tf.Graph().as_default() as graph:
      made = Made()
      x = made.x
      one, two = (
        tf.layers.batch_normalization(x, training=training, name=name)
        for name, training in (('by_batch', True), ('by_stored', False))
      )
      phase = tf.placeholder(tf.bool, [])
      three = tf.layers.batch_normalization(x, training=phase, name='fed')
      off = tf.placeholder_with_default(False, [])
      four = tf.layers.batch_normalization(x, training=off, name='off')
      tf.layers.batch_normalization(x, training=True, name='unused')
      optimizer().minimize(tf.reduce_sum(one + two + three + four))
    taken = apart(graph)
    trained = {
      layer.name: len(taken.trained_sites(layer)) for layer in taken.layers
    }
    self.assertEqual(
      trained,
      {
        'layer': 1, 'by_batch': 1, 'by_stored': 0, 'fed': 1, 'off': 0,
        'unused': 0,
      },
    )  # fmt: skip

  def test_what_is_left_of_initial_values(self):
    with tf.Graph().as_default() as graph:
      y, updates = moments('layer', 2)
      with tf.control_dependencies(updates[0]):
        optimizer().minimize(tf.reduce_sum(y))
    taken = apart(graph)
    first, second = taken.layers
    share = lambda layer, kind, step: taken.initial_share(
      layer, getattr(layer, kind)[0], step
    )
    self.assertAlmostEqual(share(first, 'means', 2), 0.75**2)
    self.assertAlmostEqual(share(first, 'variances', 1), 0.75)
    self.assertEqual(share(first, 'variances', 0), 1)
    self.assertIsNone(share(first, 'means', None))
    self.assertIsNone(share(second, 'means', 2))  # No step runs its updates.

  def test_decays_of_several_updates_are_multiplied(self):
    with tf.Graph().as_default() as graph:
      x = tf.placeholder(tf.float32, [9, 3], 'x')
      stored = tf.get_variable('m', [3], use_resource=False, trainable=False)
      mean, variance = tf.nn.moments(x, [0])
      ops = [
        tf.assign_sub(stored, (stored - mean) * share)
        for share in (0.25, 0.5, tf.placeholder(tf.float32, []))
      ]
      tf.nn.batch_normalization(x, mean, variance, None, None, 1e-3)
      tf.group(*ops[:2], name='two')
      tf.group(*ops, name='three')
    for step, expected in (('two', (0.75 * 0.5) ** 3), ('three', None)):
      taken = apart(graph, step)
      (layer,) = taken.layers
      found = taken.initial_share(layer, layer.means[0], 3)
      if expected is None:
        self.assertIsNone(found)
      else:
        self.assertAlmostEqual(found, expected, places=6)


if __name__ == '__main__':
  absltest.main()
