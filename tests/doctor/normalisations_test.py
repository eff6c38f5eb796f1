"""doctor/layers/normalisations: sites node by node, and what is none.

layers_test.py has the forms that people write.
"""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from graph_resnet9.doctor.layers import normalisations
from tests.doctor.hand_made import HandMade

ONES = np.ones(3, np.float32)


class SiteTest(parameterized.TestCase):
  """On x [4, 8, 8, 3], with variables and a batch's moments of 3 channels."""

  def setUp(self):
    super().setUp()
    self.made = made = HandMade()
    self.op, self.const = made.add, made.add_const
    made.placeholder('x', 4, 8, 8, 3)
    for name in ('mean', 'var', 'gamma', 'beta'):
      made.variable(name, 3)
    made.const('axes', [0, 1, 2])
    made.const('eps', 0.25)
    made.op('batch_mean', 'Mean', 'x', 'axes')
    made.op('squares', 'SquaredDifference', 'x', 'batch_mean')
    made.op('batch_var', 'Mean', 'squares', 'axes')

  def root(self, variance='var/read', op='Rsqrt', eps='eps'):
    total = self.op('Add', variance, eps)
    if op == 'Sqrt':
      return self.op('Reciprocal', self.op('Sqrt', total))
    if op == 'Pow':
      return self.op('Pow', total, self.const(-0.5))
    return self.op(op, total)

  def centred(self, mean='mean/read', x='x', **kwargs):
    """(x - mean) times the inverse root."""
    return self.op('Mul', self.op('Sub', x, mean), self.root(**kwargs))

  def find(self):
    return normalisations.find(self.made.view())

  def only(self):
    (site,) = self.find()
    return site

  def parts(self, site):
    """(x, gamma, beta, mean, variance) by name."""
    named = lambda part: part and getattr(part, 'node', part).name
    return tuple(
      map(named, (site.x, site.gamma, site.beta, site.mean, site.variance))
    )

  def assert_stored(self, site, *parts):
    """It normalises by the variables mean and var alone."""
    self.assertEqual(self.parts(site), parts)
    self.assertEqual([v.name for v in site.moving_mean], ['mean'])
    self.assertEqual([v.name for v in site.moving_variance], ['var'])
    self.assertEqual((site.batch_mean, site.batch_variance), ([], []))
    self.assertIs(site.by_batch, False)
    self.assertIs(site.decided, False)
    self.assertIsNone(site.values)

  # Kernels.

  def fused(self, **attrs):
    inputs = ('x', 'gamma/read', 'beta/read', 'mean/read', 'var/read')
    return self.op('FusedBatchNormV3', *inputs, epsilon=0.125, **attrs)

  def test_a_kernel_that_trains(self):
    name = self.fused(data_format=b'NHWC')
    site = self.only()
    self.assertEqual(self.parts(site)[:3], ('x', 'gamma', 'beta'))
    self.assertEqual((site.node.name, site.epsilon), (name, 0.125))
    self.assertEqual((site.channel_axis, site.values), (3, 256))
    self.assertEqual([t.index for t in site.batch_mean], [1])
    self.assertEqual([t.index for t in site.batch_variance], [2])
    self.assertEqual((site.moving_mean, site.moving_variance), ([], []))
    self.assertIsNone(site.choice)
    self.assertIs(site.by_batch, True)
    self.assertIs(site.decided, True)

  def test_a_kernel_that_does_not(self):
    self.fused(is_training=False)
    site = self.only()
    self.assertEqual((site.channel_axis, site.epsilon), (3, 0.125))
    self.assertEqual(
      self.parts(site), ('x', 'gamma', 'beta', 'mean/read', 'var/read')
    )
    self.assertEqual([v.name for v in site.moving_mean], ['mean'])
    self.assertEqual([v.name for v in site.moving_variance], ['var'])
    self.assertIs(site.decided, False)

  def test_a_kernel_in_a_branch_or_before_one(self):
    self.made.placeholder('p')
    inner = self.op('Switch', 'x', 'p') + ':1'
    constants = [self.const(ONES)] * 4
    self.op('FusedBatchNorm', inner, *constants)
    site = self.only()
    self.assertEqual(self.parts(site)[:3], ('x', None, None))
    self.assertEqual(site.choice.predicate.node.name, 'p')
    self.assertIs(site.choice.value, True)
    self.assertIsNone(site.decided)
    self.setUp()
    self.made.placeholder('p')
    y = self.op('Cast', self.fused())
    self.op('Select', 'p', 'x', y)
    site = self.only()
    self.assertIs(site.choice.value, False)
    relu = self.op('Relu', y)
    self.assertIs(self.only().choice.value, False)
    self.op('ReluGrad', 'x', relu)  # Now it is trained whatever the phase.
    self.assertIsNone(self.only().choice)

  def test_sites_are_in_the_order_of_the_graph(self):
    self.centred()
    self.fused()
    self.centred()
    self.assertEqual(
      [site.node.op for site in self.find()],
      ['Rsqrt', 'FusedBatchNormV3', 'Rsqrt'],
    )

  # By hand.

  @parameterized.parameters('Rsqrt', 'Sqrt', 'Pow')
  def test_every_root(self, op):
    y = self.centred(op=op)
    self.op('Add', self.op('Mul', y, 'gamma/read'), 'beta/read')
    site = self.only()
    self.assertEqual((site.node.op, site.epsilon), (op, 0.25))
    self.assertEqual(site.channel_axis, 3)
    self.assert_stored(site, 'x', 'gamma', None, 'mean/read', 'var/read')

  @parameterized.parameters(False, True)
  def test_gamma_is_in_the_inverse(self, first):
    """y = x * (inverse * gamma) + (beta - mean * (inverse * gamma))."""
    root = self.root()
    both = (root, 'gamma/read')
    inverse = self.op('Mul', *(both if first else both[::-1]))
    others = ('x', inverse), ('mean/read', inverse)
    product, shift = (
      self.op('Mul', *(pair[::-1] if first else pair)) for pair in others
    )
    self.op('AddV2', product, self.op('Sub', 'beta/read', shift))
    self.assert_stored(
      self.only(), 'x', 'gamma', 'beta', 'mean/read', 'var/read'
    )

  @parameterized.parameters('Sqrt', 'Pow')
  def test_divided_by_the_root(self, kind):
    total = self.op('AddV2', 'eps', 'var/read')
    exponent = [self.const(0.5)] if kind == 'Pow' else []
    root = self.op(kind, total, *exponent)
    self.op('RealDiv', self.op('Sub', 'x', 'mean/read'), root)
    site = self.only()
    self.assertEqual(site.node.name, root)
    self.assert_stored(site, 'x', None, None, 'mean/read', 'var/read')

  @parameterized.parameters(
    ('Rsqrt', 'RealDiv', False), ('Rsqrt', 'RealDiv', True),
    ('Sqrt', 'RealDiv', True), ('Sqrt', 'Mul', False), ('Sqrt', 'Mul', True),
  )  # fmt: skip
  def test_what_is_not_divided_by_a_root_is_not_normalised(
    self, root, op, turned
  ):
    centred = self.op('Sub', 'x', 'mean/read')
    pair = (centred, self.op(root, self.op('Add', 'var/read', 'eps')))
    self.op(op, *(pair[::-1] if turned else pair))
    self.assertEqual(self.find(), [])

  def test_differences_by_a_negative_mean(self):
    """y = x * inverse + -mean * inverse."""
    root = self.root()
    self.op('Mul', 'x', root)
    self.op('Mul', self.op('Neg', 'mean/read'), root)
    site = self.only()
    self.assertEqual(site.x.node.name, 'x')
    self.assertEqual([v.name for v in site.moving_mean], ['mean'])
    self.assertIsNone(site.gamma)

  def test_gamma_and_mean_told_apart_by_their_order(self):
    root = self.root()
    for name in ('x', 'gamma/read', 'mean/read'):
      self.op('Mul', name, root)
    site = self.only()
    self.assertEqual(self.parts(site)[:4], ('x', 'gamma', None, 'mean/read'))
    self.assertEqual([v.name for v in site.moving_mean], ['mean'])

  @parameterized.parameters(
    ('var/read', 'var/read'), ('eps', 'eps'), ('var/read', 'x'), ('x', 'eps')
  )
  def test_roots_of_something_else(self, variance, eps):
    self.centred(variance=variance, eps=eps)
    self.assertEqual(self.find(), [])

  def test_roots_of_another_form(self):
    centred = self.op('Sub', 'x', 'mean/read')
    total = self.op('Add', 'var/read', 'eps')
    for root in (
      self.op('Rsqrt', 'var/read'),
      self.op('Rsqrt', self.op('Mul', 'var/read', 'eps')),
      self.op('Rsqrt', self.op('Merge', total, total + ':0', 'var')),
      self.op('Pow', total, self.const(-1.5)), self.op('Pow', total, 'x'),
      self.op('Exp', total),
    ):  # fmt: skip
      self.op('Mul', centred, root)
    self.op('Rsqrt', total)  # Nothing is made of this one.
    self.assertEqual(self.find(), [])

  def test_a_scalar_is_no_variance_of_channels(self):
    for sizes, sites in (((), 0), ((1,), 0), ((2,), 1), ((1, 1), 1)):
      self.setUp()
      name = self.made.variable('v', *sizes)
      self.centred(variance=name)
      self.assertLen(self.find(), sites)

  def test_a_kernel_that_is_standardised_is_no_input(self):
    self.made.variable('kernel', 8, 3)
    self.centred(x='kernel/read')
    self.assertEqual(self.find(), [])

  def test_a_frozen_graph_has_constants(self):
    mean, variance = self.const(ONES), self.const(ONES)
    self.centred(mean, variance=variance)
    site = self.only()
    self.assertEqual(site.variance.node.name, variance)
    self.assertEqual((site.epsilon, site.channel_axis), (0.25, 3))
    self.assertEqual((site.moving_variance, site.batch_variance), ([], []))
    self.setUp()
    self.op('Mul', 'x', self.root(variance=self.const(1.0)))
    self.assertEqual(self.find(), [])

  @parameterized.parameters(
    ((3,), 3), ((1, 3, 1, 1), 1), ((1, 1, 1, 3), 3), ((3, 1, 1), 3),
    ((1, 1, 1, 1), 3),
  )  # fmt: skip
  def test_the_axis_is_that_of_the_vector(self, sizes, axis):
    self.made.variable('v', *sizes)
    self.centred(variance='v/read')
    self.assertEqual(self.only().channel_axis, axis)

  def test_the_axis_of_any_input_is_not_known(self):
    self.made.op('any', 'NoSuchOp')
    self.centred(x='any')
    self.assertEqual(self.only().channel_axis, -1)

  # Of the batch.

  def test_moments_of_the_batch(self):
    self.centred('batch_mean', variance='batch_var')
    site = self.only()
    self.assertEqual(
      self.parts(site), ('x', None, None, 'batch_mean', 'batch_var')
    )
    self.assertEqual((site.channel_axis, site.values), (3, 256))
    self.assertEqual([t.node.name for t in site.batch_mean], ['batch_mean'])
    self.assertEqual([t.node.name for t in site.batch_variance], ['batch_var'])
    self.assertEqual((site.moving_mean, site.moving_variance), ([], []))
    self.assertIs(site.decided, True)

  def test_a_mean_that_is_only_in_the_variance(self):
    self.op('Mul', 'x', self.root('batch_var'))
    site = self.only()
    self.assertEqual([t.node.name for t in site.batch_mean], ['batch_mean'])
    self.setUp()
    square = self.op('Mean', self.op('Square', 'x'), 'axes')
    other = self.op('Sub', square, self.op('Square', 'batch_mean'))
    self.op('Mul', 'x', self.root(other))
    site = self.only()
    self.assertEqual([t.node.name for t in site.batch_variance], [square])
    self.assertEqual([t.node.name for t in site.batch_mean], ['batch_mean'])

  def test_where_stored_and_batch_statistics_meet(self):
    self.made.placeholder('p')
    for value in (False, True):
      self.setUp()
      self.made.placeholder('p')
      mean, variance = (
        self.op('Select', 'p', *(pair if value else pair[::-1]))
        for pair in (('batch_mean', 'mean/read'), ('batch_var', 'var/read'))
      )
      self.centred(mean, variance=variance)
      site = self.only()
      self.assertEqual(site.choice.predicate.node.name, 'p')
      self.assertIs(site.choice.value, value)
      self.assertEqual([v.name for v in site.moving_variance], ['var'])
      self.assertEqual([v.name for v in site.moving_mean], ['mean'])
      self.assertEqual([t.node.name for t in site.batch_mean], ['batch_mean'])
      self.assertIsNone(site.decided)

  def test_the_choice_comes_behind_or_around(self):
    self.made.placeholder('p')
    y = self.centred('batch_mean', variance='batch_var')
    self.op('Select', 'p', self.op('AddV2', y, 'beta/read'), 'x')
    self.assertIs(self.only().choice.value, True)
    self.setUp()
    self.made.placeholder('p')
    inner = self.op('Switch', 'x', 'p')
    mean = self.op('Mean', inner, 'axes')
    squares = self.op('SquaredDifference', inner, mean)
    self.centred(mean, x=inner, variance=self.op('Mean', squares, 'axes'))
    site = self.only()
    self.assertEqual(site.x.node.name, 'x')
    self.assertIs(site.choice.value, False)

  # On from there.

  def test_what_hands_a_normalised_value_on(self):
    self.made.placeholder('p')
    y = self.fused()
    cast = self.op('Cast', y)
    scaled = self.op('Add', self.op('Mul', cast, 'gamma/read'), 'beta/read')
    switch = self.op('Switch', scaled, 'p')
    self.op('Identity', switch)
    self.op('Relu', scaled)
    gradient = self.op('ReluGrad', cast, cast)
    self.op('Mul', cast, gradient)
    view = self.made.view()
    (site,) = normalisations.find(view)
    (product,) = (
      n.name for n in view.nodes.values()
      if n.op == 'Mul' and n.inputs[1].node.name == 'gamma/read'
    )  # fmt: skip
    self.assertEqual(
      {node.name for node in normalisations.handed_on(view, site)},
      {y, cast, product, scaled},
    )

  def test_products_of_gradients_are_no_inputs(self):
    root = self.root()
    self.op('Mul', self.op('ReluGrad', 'x', 'x'), root)
    self.assertEqual(self.find(), [])
    self.op('Mul', self.op('Sub', 'x', 'mean/read'), root)
    self.assertEqual(self.only().x.node.name, 'x')


if __name__ == '__main__':
  absltest.main()
