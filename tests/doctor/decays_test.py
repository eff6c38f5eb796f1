"""doctor/layers/decays: the algebra of an average, node by node.

layers_test.py has its forms as TensorFlow writes them.
"""

from absl.testing import absltest
from absl.testing import parameterized

from graph_resnet9.doctor.layers import decays
from tests.doctor.hand_made import HandMade


class DecaysTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.made = made = HandMade()
    self.v = made.variable('v', 3)
    self.w = made.variable('w', 3)
    made.placeholder('b', 3)  # Has nothing to do with v.

  def op(self, op, *inputs):
    """Adds an op of tensors and of numbers, which become constants."""
    names = []
    for value in inputs:
      if not isinstance(value, str):
        value = self.made.add_const(value)
      names.append(value)
    return self.made.add(op, *names)

  def decay(self, value, assign='Assign'):
    node = self.op(assign, 'v', value)
    view = self.made.view()
    return decays.decay(view.find(node), view.find('v'))

  @parameterized.parameters(
    ('Assign', 0.9), ('AssignVariableOp', 0.9),
    ('AssignSub', 0.1), ('AssignSubVariableOp', 0.1),
    ('AssignAdd', -0.1), ('AssignAddVariableOp', -0.1),
  )  # fmt: skip
  def test_each_assignment(self, assign, factor):
    value = self.op('AddV2', self.op('Mul', factor, self.v), 'b')
    self.assertAlmostEqual(self.decay(value, assign), 0.9, places=6)

  @parameterized.parameters(
    ('Assign', 0.0, 0.0), ('Assign', 1.0, None), ('Assign', -0.1, None),
    ('AssignSub', 1.0, 0.0), ('AssignSub', 0.0, None), ('AssignSub', 2, None),
    ('AssignAdd', -1.0, 0.0), ('AssignAdd', 0.5, None),
  )  # fmt: skip
  def test_weights_of_an_average_are_from_0_to_below_1(
    self, assign, factor, expected
  ):
    value = self.op('Add', self.op('Mul', self.v, float(factor)), 'b')
    self.assertEqual(self.decay(value, assign), expected)

  def test_a_constant_is_no_average(self):
    self.assertIsNone(self.decay(self.op('Mul', 2.0, 3.0)))
    self.assertIsNone(self.decay(self.op('Neg', 2.0), 'AssignSub'))
    self.assertEqual(self.decay(self.op('Mul', 'b', 'b')), 0.0)
    self.assertEqual(self.decay(self.op('Exp', self.v)), 0.0)
    self.assertEqual(self.decay(self.w), 0.0)

  @parameterized.parameters(
    ('Mul', 0.6, 1.5, 0.9), ('Add', 0.6, 0.3, 0.9), ('Sub', 0.6, 0.2, 0.4),
    ('AddN', 0.3, 0.4, 0.7),
  )  # fmt: skip
  def test_arithmetic_of_constants(self, op, one, two, expected):
    factor = self.op(op, one, two)
    self.assertAlmostEqual(
      self.decay(self.op('Mul', factor, self.v)), expected, places=6
    )

  def test_products(self):
    half = self.op('Mul', 0.5, self.v)
    self.assertEqual(self.decay(self.op('Mul', half, 0.5)), 0.25)
    self.assertEqual(self.decay(self.op('Mul', 0.5, half)), 0.25)
    # Of the old value with what is not known, and with itself.
    for other in ('b', self.v):
      self.assertIsNone(self.decay(self.op('Mul', half, other)))
      self.assertIsNone(self.decay(self.op('Mul', other, half)))
    unknown = self.op('Mul', half, 'b')
    self.assertIsNone(self.decay(self.op('Add', unknown, half)))
    self.assertIsNone(self.decay(self.op('Neg', unknown)))

  def test_differences(self):
    half = self.op('Mul', 0.5, self.v)
    self.assertEqual(self.decay(self.op('Sub', half, 'b')), 0.5)
    self.assertEqual(self.decay(self.op('Sub', 'b', self.op('Neg', half))), 0.5)
    self.assertEqual(
      self.decay(self.op('Sub', self.v, self.op('Mul', 0.25, half))), 0.875
    )

  @parameterized.parameters(
    ((0.75, 1.0), 0.75), ((1.0, 0.75), 0.75), ((0.0, 0.75), 0.75),
    ((0.0, 0.0), 0.0), ((1.0, 1.0), None), ((0.5, 0.75), 0.5),
  )  # fmt: skip
  def test_a_decay_that_a_phase_switches(self, values, expected):
    factor = self.op('Merge', *values)
    value = self.op('Add', self.op('Mul', factor, self.v), 'b')
    self.assertEqual(self.decay(value), expected)

  def test_branches(self):
    """Of the old value, a new one or an average of both: that of training."""
    average = self.op('Add', self.op('Mul', self.v, 0.75), 'b')
    for branches, expected in (
      ((self.v, 'b'), 0.0), (('b', self.v), 0.0), ((average, self.v), 0.0),
      ((average, 'b'), 0.75), (('b', average), 0.75), (('b', 'b'), 0.0),
      ((self.op('Mul', self.v, 'b'), average), 0.75),
      ((average, self.op('Mul', self.v, 'b')), 0.75),
    ):  # fmt: skip
      self.assertEqual(self.decay(self.op('Merge', *branches)), expected)
    lost = self.op('Mul', self.v, 'b')
    self.assertIsNone(self.decay(self.op('Merge', lost, lost)))

  def test_statistics_of_differences_to_the_average(self):
    """What the shift takes from the mean is added back: v - 0.25 (v - x)."""
    self.made.placeholder('x', 4, 3)
    self.made.const('axes', [0])
    for name, shift in (('own', self.v), ('other', self.w)):
      mean = self.op('Mean', self.op('Sub', 'x', shift), 'axes')
      value = self.op('Add', mean, shift)
      moved = self.op('Mul', 0.25, self.op('Sub', self.v, value))
      self.assertEqual(self.decay(moved, 'AssignSub'), 0.75, name)
    # The variance has no part of it.
    squares = self.op('SquaredDifference', 'x', self.v)
    self.assertEqual(self.decay(self.op('Mean', squares, 'axes')), 0.0)
    # Of a shift that is no multiple of the old value, nothing is known.
    shift = self.op('Mul', self.v, self.v)
    mean = self.op('Mean', self.op('Sub', 'x', shift), 'axes')
    self.assertIsNone(self.decay(mean))

  def test_arithmetic_has_a_depth(self):
    """Twelve ops one after the other are reckoned, and no more."""
    value = self.op('Mul', 0.5, self.v)
    for _ in range(11):
      value = self.op('Add', value, 0.0)
    self.assertEqual(self.decay(value), 0.5)
    self.assertNotEqual(self.decay(self.op('Add', value, 0.0)), 0.5)


if __name__ == '__main__':
  absltest.main()
