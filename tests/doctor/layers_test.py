"""doctor/layers on small graphs: statistics, normalisations, updates."""

from absl.testing import absltest
from absl.testing import parameterized
import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.graph import programs
from graph_resnet9.doctor.graph import tensors
from graph_resnet9.doctor.graph.nodes import GraphView
from graph_resnet9.doctor.layers import anatomy
from graph_resnet9.doctor.layers import batch_statistics
from graph_resnet9.doctor.layers import decays
from graph_resnet9.doctor.layers import normalisations
from graph_resnet9.doctor.layers import updates
from tests.doctor.hand_made import HandMade

AXES = [0, 1, 2]


# The forms of tf.nn.moments(x, AXES).


def moments_now(x, moving_mean):
  del moving_mean
  mean = tf.reduce_mean(x, AXES, keepdims=True)
  variance = tf.reduce_mean(
    tf.squared_difference(x, tf.stop_gradient(mean)), AXES, keepdims=True
  )
  return tf.squeeze(mean, AXES), tf.squeeze(variance, AXES)


def moments_of_1_2(x, moving_mean):
  """Of differences to a mean that no gradient passes."""
  del moving_mean
  shift = tf.stop_gradient(tf.reduce_mean(x, AXES, keepdims=True))
  shifted = tf.reduce_mean(x - shift, AXES, keepdims=True)
  squares = tf.reduce_mean(tf.squared_difference(x, shift), AXES, keepdims=True)
  variance = squares - tf.square(shifted)
  return tf.squeeze(shifted + shift, AXES), tf.squeeze(variance, AXES)


def moments_of_1_0(x, moving_mean):
  """Sums times the reciprocal of a count made of the shape."""
  del moving_mean
  shift = tf.stop_gradient(tf.reduce_mean(x, AXES, keepdims=True))
  sizes = tf.cast(tf.gather(tf.shape(x), AXES), tf.float32)
  divisor = tf.reciprocal(tf.reduce_prod(sizes))
  shifted = tf.reduce_sum(x - shift, AXES) * divisor
  squares = tf.reduce_sum(tf.squared_difference(x, shift), AXES) * divisor
  return shifted + tf.reshape(shift, [-1]), squares - tf.square(shifted)


def moments_about_the_average(x, moving_mean):
  """As layers of TensorFlow 0.12 called them: shifted by the moving mean."""
  shift = moving_mean + 0.0
  divisor = tf.reciprocal(tf.constant(4.0 * 8 * 8))
  shifted = tf.reduce_sum(x - shift, AXES) * divisor
  squares = tf.reduce_sum(tf.squared_difference(x, shift), AXES) * divisor
  return shifted + shift, squares - tf.square(shifted)


def sums_over_a_number(x, moving_mean):
  del moving_mean
  mean = tf.reduce_sum(x, AXES) / 256.0
  return mean, tf.reduce_sum(tf.square(x - mean), AXES) / 256.0


def means_of_squares(x, moving_mean):
  del moving_mean
  mean = tf.reduce_mean(x, AXES)
  return mean, tf.reduce_mean(x * x, AXES) - tf.square(mean)


FORMS = {
  form.__name__: (form,)
  for form in (
    moments_now, moments_of_1_2, moments_of_1_0, moments_about_the_average,
    sums_over_a_number, means_of_squares,
  )
}  # fmt: skip


class Made:
  """A layer by hand on [4, 8, 8, 3], its averages and a step."""

  def __init__(self, form=moments_now, decay=0.9, step=True, resource=False):
    variable = lambda name, value: tf.get_variable(
      name,
      [3],
      initializer=tf.constant_initializer(value),
      trainable=not name.startswith('moving'),
      use_resource=resource,
    )
    self.x = tf.placeholder(tf.float32, [4, 8, 8, 3], 'x')
    with tf.variable_scope('layer'):
      self.beta, self.gamma = variable('beta', 0.0), variable('gamma', 1.0)
      self.stored = [variable('moving_mean', 0.0), variable('moving_var', 1.0)]
    self.batch = form(self.x, self.stored[0])
    self.updates = [
      tf.assign_sub(v, (v - b) * (1 - decay))
      for v, b in zip(self.stored, self.batch)
    ]
    self.y = tf.nn.batch_normalization(
      self.x, *self.batch, self.beta, self.gamma, 1e-3
    )
    if step:
      loss = tf.reduce_sum(tf.square(self.y))
      tf.train.GradientDescentOptimizer(0.1).minimize(loss)


def taken_apart(graph):
  return anatomy.Anatomy(programs.of_graph(graph))


class MomentsTest(parameterized.TestCase):
  """What a layer is, whichever way its moments are written."""

  @parameterized.named_parameters(
    (name, form) for name, (form,) in FORMS.items()
  )
  def test_input_and_kinds(self, form):
    with tf.Graph().as_default() as graph:
      made = Made(form)
    (layer,) = taken_apart(graph).layers
    (site,) = layer.sites
    self.assertEqual(site.x.node.name, made.x.op.name)
    self.assertEqual((site.channel_axis, site.values), (3, 256))
    self.assertEqual([v.name for v in layer.means], [made.stored[0].op.name])
    self.assertEqual(
      [v.name for v in layer.variances], [made.stored[1].op.name]
    )
    self.assertEqual(site.gamma.name, 'layer/gamma')
    self.assertEqual(site.beta.name, 'layer/beta')
    for update in layer.updates:
      self.assertAlmostEqual(update.decay, 0.9)

  def test_a_sum_that_no_count_divides_is_no_average(self):
    with tf.Graph().as_default() as graph:
      made = Made(lambda x, _: (tf.reduce_sum(x, AXES), tf.reduce_sum(x, AXES)))
    del made
    self.assertEmpty(taken_apart(graph).layers)

  def test_a_sum_over_what_was_measured_is_no_average(self):
    def form(x, _):
      total = tf.reduce_sum(tf.square(x), AXES)
      return total / tf.reduce_max(x), total / tf.reduce_max(x)

    with tf.Graph().as_default() as graph:
      Made(form)
    self.assertEmpty(taken_apart(graph).layers)


class FrozenTest(parameterized.TestCase):
  @parameterized.parameters(False, True)
  def test_the_input_is_not_a_gradient(self, through_moments):
    """gamma's gradient is a product with the inverse root, too."""
    with tf.Graph().as_default() as graph:
      x = tf.placeholder(tf.float32, [4, 8, 8, 3])
      h = tf.layers.conv2d(x, 5, 3, name='before')
      y = tf.layers.batch_normalization(h, fused=False)
      if through_moments:
        y = tf.layers.batch_normalization(y, training=True, fused=False)
      loss = tf.reduce_sum(tf.square(tf.layers.conv2d(y, 5, 3)))
      tf.train.GradientDescentOptimizer(0.1).minimize(loss)
    site = taken_apart(graph).layers[0].sites[0]
    self.assertEqual(site.x.node.name, 'before/BiasAdd')
    self.assertFalse(site.by_batch)
    self.assertLen(site.moving_mean, 1)
    self.assertEndsWith(site.gamma.name, '/gamma')

  @parameterized.parameters('centred', 'divided', 'plain', 'pow')
  def test_every_form_of_normalising(self, form):
    with tf.Graph().as_default() as graph:
      x = tf.placeholder(tf.float32, [4, 8, 8, 3], 'x')
      gamma, mean, variance = (
        tf.get_variable(n, [3], use_resource=False) for n in ('g', 'm', 'v')
      )
      inverse = gamma * tf.rsqrt(variance + 1e-3)
      y = {
        'centred': lambda: (x - mean) * tf.rsqrt(variance + 1e-3) * gamma,
        'divided': lambda: gamma * ((x - mean) / tf.sqrt(variance + 1e-3)),
        'plain': lambda: x * inverse - mean * inverse,
        'pow': lambda: (x - mean) * tf.pow(variance + 1e-3, -0.5) * gamma,
      }[form]()
      tf.train.GradientDescentOptimizer(0.1).minimize(
        tf.reduce_sum(tf.square(y)), var_list=[gamma]
      )
    sites = [s for layer in taken_apart(graph).layers for s in layer.sites]
    for site in sites:
      self.assertEqual(site.x.node.name, 'x')
      self.assertEqual([v.name for v in site.moving_variance], ['v'])
    self.assertIn(['m'], [[v.name for v in s.moving_mean] for s in sites])


class KerasTest(parameterized.TestCase):
  """Of Keras 2.0 to 2.3: all variables trainable, the phase behind."""

  def build(self, select=False, step=True, functional=False):
    phase = tf.placeholder_with_default(False, [], 'keras_learning_phase')
    x = tf.placeholder(tf.float32, [4, 8, 8, 3], 'x')
    gamma, beta, mean, variance = (
      tf.Variable(tf.ones([3]), name=name)
      for name in ('gamma', 'beta', 'moving_mean', 'moving_variance')
    )
    by_batch, m, v = tf.nn.fused_batch_norm(x, gamma, beta, epsilon=1e-3)
    moved = [
      tf.assign_sub(stored, (stored - batch) * 0.01)
      for stored, batch in ((mean, m), (variance, v))
    ]
    by_stored = lambda: tf.nn.fused_batch_norm(
      x, gamma, beta, mean, variance, 1e-3, is_training=False
    )[0]
    if select:
      y = tf.where(tf.fill([4, 8, 8, 3], phase), by_batch, by_stored())
    else:
      y = tf.cond(phase, lambda: by_batch, by_stored)
    if step:
      gradients = tf.gradients(tf.reduce_sum(tf.square(y)), [gamma, beta])
      moved += [
        tf.assign_sub(w, 0.1 * g) for w, g in zip((gamma, beta), gradients)
      ]
    tf.group(*moved)

  def test_stored_statistics_may_be_said_to_be_trained(self):
    with tf.Graph().as_default() as graph:
      self.build()
    taken = taken_apart(graph)
    (layer,) = taken.layers
    self.assertEqual([v.name for v in layer.means], ['moving_mean'])
    self.assertEqual([v.name for v in layer.variances], ['moving_variance'])
    self.assertLen(layer.updates, 2)
    self.assertLen(taken.steps, 2)  # Of gamma and of beta.

  @parameterized.parameters(False, True)
  def test_the_phase_behind_the_kernel_is_the_choice(self, functional):
    (tf.enable_control_flow_v2 if functional else tf.disable_control_flow_v2)()
    try:
      with tf.Graph().as_default() as graph:
        self.build()
    finally:
      tf.disable_control_flow_v2()
    sites = taken_apart(graph).layers[0].sites
    (site,) = [site for site in sites if site.by_batch]
    self.assertTrue(site.choice.value)
    self.assertIs(site.decided, False)

  def test_what_is_used_besides_is_not_chosen(self):
    with tf.Graph().as_default() as graph:
      x = tf.placeholder(tf.float32, [4, 8, 8, 3], 'x')
      y = tf.layers.batch_normalization(x, training=True)
      phase = tf.placeholder_with_default(False, [])
      tf.cond(phase, lambda: y, lambda: x)
      tf.nn.relu(y)
    (site,) = taken_apart(graph).layers[0].sites
    self.assertIs(site.decided, True)

  def test_a_trained_variable_is_no_statistic(self):
    """An optimizer written out has batch statistics among its factors."""
    with tf.Graph().as_default() as graph:
      made = Made(step=False)
      loss = tf.reduce_sum(tf.square(made.y))
      (gradient,) = tf.gradients(loss, [made.gamma])
      tf.assign(made.gamma, 0.9 * made.gamma - 0.1 * gradient)
    (layer,) = taken_apart(graph).layers
    self.assertEqual(
      {u.variable.name for u in layer.updates}, {v.op.name for v in made.stored}
    )


class ChoiceTest(parameterized.TestCase):
  @parameterized.parameters(False, True)
  def test_what_is_measured_within_a_branch(self, outside):
    with tf.Graph().as_default() as graph:
      x = tf.placeholder(tf.float32, [4, 8, 8, 3], 'x')
      phase = tf.placeholder(tf.bool, [], 'phase')
      h = tf.cond(phase, lambda: x + 1.0, lambda: x)  # Of another choice.
      stored = [
        tf.get_variable(name, [3], trainable=False) for name in ('m', 'v')
      ]
      before = tf.nn.moments(h, AXES) if outside else None
      mean, variance = tf.cond(
        tf.logical_not(phase, 'no'),
        lambda: [tf.identity(v) for v in stored],
        lambda: [tf.identity(b) for b in before or tf.nn.moments(h, AXES)],
      )
      tf.nn.batch_normalization(h, mean, variance, None, None, 1e-3)
    (site,) = taken_apart(graph).layers[0].sites
    self.assertTrue(site.by_batch)
    self.assertFalse(site.choice.value)
    predicate = tensors.sources(site.choice.predicate)[0]
    self.assertEqual(predicate.node.name, 'no')


class CopiesTest(parameterized.TestCase):
  """Variables that are copied while the averages move."""

  @parameterized.parameters(False, True)
  def test_a_copy_under_the_updates_is_no_average(self, resource):
    with tf.Graph().as_default() as graph:
      made = Made(resource=resource)
      other = tf.get_variable('shadow', [3], use_resource=resource)
      scale = tf.get_variable('scale', [3], use_resource=resource)
      best = tf.get_variable('best', [3], use_resource=resource)
      with tf.control_dependencies(made.updates):
        tf.assign(other, made.gamma)
        tf.assign(scale, scale / 2)
        tf.assign(best, made.stored[0])
    (layer,) = taken_apart(graph).layers
    self.assertEqual(
      [v.name for v in layer.stored], [v.op.name for v in made.stored]
    )

  @parameterized.parameters(False, True)
  def test_an_average_without_its_bias_is_one(self, difference):
    """Both forms of assign_moving_average(zero_debias=True)."""
    with tf.Graph().as_default() as graph:
      made = Made(step=False)
      biased = tf.get_variable(
        'biased', [3], use_resource=False, trainable=False
      )
      count = tf.get_variable(
        'local_step', [], use_resource=False, trainable=False
      )
      moved = tf.assign_sub(biased, (biased - made.batch[0]) * 0.1)
      counted = tf.assign_add(count, 1.0)
      target = tf.get_variable(
        'target', [3], use_resource=False, trainable=False
      )
      if difference:
        with tf.control_dependencies([moved, counted]):
          unbiased = biased.read_value() / (1 - tf.pow(0.9, count.read_value()))
        tf.assign_sub(target, target - unbiased)
      else:
        tf.assign(target, moved / (1 - tf.pow(0.9, counted)))
    names = {
      u.variable.name: u.decay
      for layer in taken_apart(graph).layers
      for u in layer.updates
    }
    self.assertNotIn('biased', names)
    self.assertIsNone(names['target'])


class GradientsTest(absltest.TestCase):
  def gradients(self, build):
    with tf.Graph().as_default() as graph:
      x = tf.placeholder(tf.float32, [4, 8, 8, 3], 'x')
      h = tf.layers.batch_normalization(
        tf.layers.conv2d(x, 4, 3), training=True
      )
      build(x, tf.layers.dense(tf.layers.flatten(h), 2))
    return taken_apart(graph).gradients

  def test_of_weights_that_somebody_takes(self):
    optimizer = tf.train.GradientDescentOptimizer(0.1)
    self.assertNotEmpty(
      self.gradients(lambda x, y: optimizer.compute_gradients(y))
    )
    self.assertNotEmpty(
      self.gradients(
        lambda x, y: tf.clip_by_global_norm(
          tf.gradients(y, tf.trainable_variables()), 1.0
        )
      )
    )

  def test_not_of_an_input(self):
    self.assertEmpty(self.gradients(lambda x, y: tf.gradients(y, x)))
    self.assertEmpty(
      self.gradients(lambda x, y: x + 0.1 * tf.sign(tf.gradients(y, x)[0]))
    )

  def test_not_a_decoder(self):
    def build(x, y):
      del x
      tf.layers.conv2d_transpose(tf.reshape(y, [4, 1, 1, 2]), 3, 3)

    self.assertEmpty(self.gradients(build))


class DecayTest(parameterized.TestCase):
  """The algebra, a line a form: v old, b the batch's."""

  @parameterized.parameters(
    ('assign', lambda v, b: v * 0.9 + b * 0.1, 0.9),
    ('assign', lambda v, b: 0.9 * v + (1 - 0.9) * b, 0.9),
    ('assign', lambda v, b: v - (v - b) * 0.1, 0.9),
    ('assign', lambda v, b: v + 0.1 * (b - v), 0.9),
    ('assign', lambda v, b: b * 0.1 - (-0.9 * v), 0.9),
    ('assign', lambda v, b: tf.add_n([0.5 * v, 0.4 * v, b]), 0.9),
    ('assign_sub', lambda v, b: (v - b) * 0.1, 0.9),
    ('assign_add', lambda v, b: (b - v) * 0.1, 0.9),
    ('assign', lambda v, b: b, 0.0),
    ('assign', lambda v, b: v + b, None),
    ('assign', lambda v, b: v * b, None),
    ('assign', lambda v, b: 3.0 + 0 * b, 0.0),
    ('assign', lambda v, b: v * 1.5 + b, None),
    ('assign', lambda v, b: (0.5 - (0.3 - 0.7)) * v + b * 0.1, 0.9),
  )
  def test_weight_of_the_old_value(self, assign, value, expected):
    with tf.Graph().as_default() as graph:
      v = tf.get_variable('v', [3], use_resource=False)
      b = tf.placeholder(tf.float32, [3])
      op = getattr(tf, assign)(v, value(v, b)).op
    view = GraphView(graph.as_graph_def())
    found = decays.decay(view.find(op.name), view.find('v'))
    if expected is None:
      self.assertIsNone(found)
    else:
      self.assertAlmostEqual(found, expected, places=6)

  def test_sums_of_sums_are_reckoned_once(self):
    made = HandMade()
    made.variable('v', 3)
    made.const('half', 0.5)
    made.op('n0', 'Mul', 'v/read', 'half')
    for k in range(1, 12):
      made.op('n%d' % k, 'AddN', *['n%d' % (k - 1)] * 40)
    made.op('assign', 'Assign', 'v', 'n11')
    view = made.view()
    self.assertIsNone(decays.decay(view.find('assign'), view.find('v')))


class DamagedTest(absltest.TestCase):
  def test_neither_loops_nor_negatives_of_themselves_hang(self):
    made = HandMade()
    made.op('a', 'Neg', 'b')
    made.op('b', 'Neg', 'a')
    made.const('eps', 0.5)
    made.op('sum', 'Add', 'a', 'eps')
    made.op('root', 'Rsqrt', 'sum')
    made.op('product', 'Mul', 'root', 'b')
    view = made.view()
    self.assertEmpty(normalisations.find(view))
    self.assertEqual(
      batch_statistics.composition(made.tensor('a')), ([], [], [])
    )
    self.assertEmpty(updates.find(view, [], ()))


if __name__ == '__main__':
  absltest.main()
