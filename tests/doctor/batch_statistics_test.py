"""doctor/layers/batch_statistics: what is an average over the examples."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from graph_resnet9.doctor.graph.nodes import Tensor
from graph_resnet9.doctor.layers import batch_statistics
from tests.doctor.hand_made import HandMade


class StatisticsTest(parameterized.TestCase):
  """On x [4, 8, 8, 3], and y of which nothing is known."""

  def setUp(self):
    super().setUp()
    self.made = made = HandMade()
    self.op = made.add
    made.placeholder('x', 4, 8, 8, 3)
    made.op('y', 'NoSuchOp')
    made.variable('v', 3)
    made.const('axes', [0, 1, 2])
    made.const('two', 2.0)
    made.const('256', 256.0)

  def axes(self, *axes):
    return self.made.add_const(np.array(axes, np.int32))

  def tensor(self, name):
    name, _, index = name.partition(':')
    return self.made.tensor(name, int(index or 0))

  def is_statistic(self, name):
    return batch_statistics.is_statistic(self.tensor(name))

  def fused(self, x='x', op='FusedBatchNormV3', **attrs):
    return self.op(op, x, *['v/read'] * 4, **attrs)

  # What is one.

  @parameterized.parameters(
    'FusedBatchNorm', 'FusedBatchNormV2', 'FusedBatchNormV3'
  )
  def test_kernels(self, op):
    for attrs, trains in (
      ({}, True), (dict(is_training=True), True),
      (dict(is_training=False), False),
    ):  # fmt: skip
      name = self.fused(op=op, **attrs)
      self.assertEqual(batch_statistics.trains(self.tensor(name).node), trains)
      for index, expected in enumerate((False, trains, trains, False, False)):
        self.assertEqual(self.is_statistic('%s:%d' % (name, index)), expected)

  @parameterized.parameters(
    ('x', [0, 1, 2], True), ('x', [0, 2, 3], True), ('x', [0], True),
    ('x', [-4, -3, 2], True), ('x', [1, 2], False), ('x', [3], False),
    ('x', [0, 1, 2, 3], False), ('x', [], False),
    ('y', [0, 1, 2], True), ('y', [0], True), ('y', [1, 2], False),
    ('y', [0, 1, 2, 3], False), ('v/read', [0], False), ('two', [0], False),
  )  # fmt: skip
  def test_means_over_the_examples_that_leave_the_channels(
    self, of, axes, expected
  ):
    self.assertEqual(
      self.is_statistic(self.op('Mean', of, self.axes(*axes))), expected
    )

  def test_axes_that_are_not_known_are_none(self):
    self.assertFalse(self.is_statistic(self.op('Mean', 'x', 'y')))

  def test_sums_by_a_count(self):
    total = self.op('Sum', 'x', 'axes')
    other = self.op('Sum', 'x', self.axes(1, 2))
    passed = self.op('Reshape', total, 'y')
    inverse = self.op('Reciprocal', '256')
    for op, inputs, expected in (
      ('Mul', (total, inverse), True), ('Mul', (inverse, total), True),
      ('Mul', (passed, 'two'), True), ('RealDiv', (total, '256'), True),
      ('Div', (passed, '256'), True), ('RealDiv', ('256', total), False),
      ('Mul', (other, inverse), False), ('RealDiv', (other, '256'), False),
      ('Mul', (total, 'x'), False), ('Mul', ('y', total), False),
      ('Mul', (total, total), False), ('RealDiv', (total, 'v/read'), False),
      ('Sub', (total, '256'), False), ('Mul', ('two', 'two'), False),
    ):  # fmt: skip
      self.assertEqual(self.is_statistic(self.op(op, *inputs)), expected)
    self.assertFalse(self.is_statistic(total))
    mean = self.op('Mean', 'x', 'axes')
    self.assertFalse(self.is_statistic(self.op('Mul', mean, 'two')))

  def test_what_counts_examples(self):
    total = self.op('Sum', 'x', 'axes')
    shape = self.op('Cast', self.op('Shape', 'x'))
    counts = [
      self.op('Prod', self.op('GatherV2', shape, 'axes', 'two'), 'axes'),
      self.op('Prod', self.op('StridedSlice', shape, *['axes'] * 3), 'two'),
      self.op('Size', 'y'),
      self.op('Sub', self.op('Size', 'x'), 'two'),
      self.op('Maximum', 'two', self.op('Mul', 'two', '256')),
    ]
    for count in counts:
      self.assertTrue(self.is_statistic(self.op('RealDiv', total, count)))
      of_data = self.op('Maximum', count, self.op('Sum', 'x', 'axes'))
      self.assertFalse(self.is_statistic(self.op('RealDiv', total, of_data)))

  # What a value is made of.

  def composition(self, name):
    found = batch_statistics.composition(self.tensor(name))
    names = [
      [getattr(part, 'node', part).name for part in parts] for parts in found
    ]
    return names, found.is_per_channel

  def test_composition(self):
    mean = self.op('Mean', 'x', 'axes')
    scaled = self.op('Mul', 'v/read', self.op('Reshape', mean, 'axes'))
    sums = self.op('AddN', scaled, 'v/read', 'two')
    for name, expected, per_channel in (
      ('v', (['v'], [], []), True), ('v/read', (['v'], [], []), True),
      (mean, ([], [mean], []), True), ('two', ([], [], []), False),
      (sums, (['v'], [mean], []), True),
      (self.op('Sub', sums, 'x'), (['v'], [mean], ['x']), False),
      ('x', ([], [], ['x']), False),
      (self.op('Size', 'x'), ([], [], []), False),
      (self.op('Exp', 'v/read'), None, False),
      (self.op('Merge', 'v/read', mean), (['v'], [mean], []), True),
    ):  # fmt: skip
      expected = expected or ([], [], [name])
      self.assertEqual(self.composition(name), (list(expected), per_channel))

  def test_only_values_count_not_how_they_are_chosen_or_turned(self):
    mean = self.op('Mean', 'x', 'axes')
    for op, inputs in (
      ('Select', ('y', mean, 'v/read')), ('SelectV2', ('y', mean, 'v/read')),
    ):  # fmt: skip
      self.assertEqual(
        self.composition(self.op(op, *inputs)), ([['v'], [mean], []], True)
      )
    for op in ('Transpose', 'BroadcastTo', 'Tile'):
      self.assertEqual(
        self.composition(self.op(op, mean, 'y')), ([[], [mean], []], True)
      )
    # All of these are values.
    self.assertEqual(
      self.composition(self.op('ConcatV2', mean, 'y', 'v/read')),
      ([['v'], [mean], ['y']], False),
    )

  def test_a_mean_of_statistics_is_of_them(self):
    mean = self.op('Mean', 'x', 'axes')
    groups = self.op('Mean', self.op('Squeeze', mean), self.axes(1))
    self.assertEqual(self.composition(groups), ([[], [mean], []], True))
    self.assertEqual(
      self.composition(self.op('Mean', 'v/read', self.axes(1)))[1], False
    )

  # Of what it is.

  def mean_of(self, of):
    return self.op('Mean', of, 'axes')

  def test_second_moments(self):
    square = self.op('Square', 'x')
    weighted = [self.op('Mul', square, 'y'), self.op('Mul', 'y', square)]
    difference = self.op('SquaredDifference', 'x', 'v/read')
    self.made.const('three', 3.0)
    for of, expected in (
      ('x', False), (square, True), (difference, True),
      (self.op('Cast', square), True), (self.op('Pow', 'x', 'two'), True),
      (self.op('Pow', 'x', 'three'), False), (self.op('Mul', 'x', 'x'), True),
      (self.op('Mul', 'x', 'y'), False), (weighted[0], True),
      (weighted[1], True), (self.op('Mul', 'y', difference), True),
      (self.op('Sub', 'x', 'v/read'), False), (self.op('Abs', 'x'), False),
    ):  # fmt: skip
      self.assertEqual(
        batch_statistics.is_second_moment(self.tensor(self.mean_of(of))),
        expected,
      )
    total = self.op('RealDiv', self.op('Sum', square, 'axes'), '256')
    self.assertTrue(batch_statistics.is_second_moment(self.tensor(total)))

  def test_outputs_of_a_kernel(self):
    name = self.fused()
    mean, variance = (self.tensor('%s:%d' % (name, k)) for k in (1, 2))
    self.assertFalse(batch_statistics.is_second_moment(mean))
    self.assertTrue(batch_statistics.is_second_moment(variance))
    for statistic in (mean, variance):
      x, shift = batch_statistics.reduced_input(statistic)
      self.assertEqual((x.node.name, shift), ('x', None))
      self.assertIsNone(batch_statistics.shift_of_mean(statistic))
    self.assertEqual(batch_statistics.means_beside([variance]), [])

  def test_inputs_and_shifts(self):
    mean = self.mean_of('x')
    less_v = self.op('Sub', 'x', 'v/read')
    less_y = self.op('Sub', 'x', 'y')
    named = lambda tensor: tensor and tensor.node.name
    for of, x, shift, second in (
      ('x', 'x', None, False), (less_v, 'x', 'v/read', False),
      (less_y, less_y, None, False),
      (self.op('Square', 'x'), 'x', None, True),
      (self.op('Square', less_v), 'x', 'v/read', True),
      (self.op('Square', less_y), less_y, None, True),
      (self.op('Mul', less_v, less_v), 'x', 'v/read', True),
      (self.op('SquaredDifference', 'x', mean), 'x', mean, True),
      (
        self.op('Mul', self.op('SquaredDifference', 'x', mean), 'y'),
        'x', mean, True,
      ),
    ):  # fmt: skip
      statistic = self.tensor(self.mean_of(of))
      found = batch_statistics.reduced_input(statistic)
      self.assertEqual(tuple(map(named, found)), (x, shift), of)
      self.assertEqual(
        named(batch_statistics.shift_of_mean(statistic)),
        None if second else shift,
      )
      beside = batch_statistics.means_beside([statistic])
      self.assertEqual(
        [named(t) for t in beside], [mean] if shift == mean else []
      )

  @parameterized.parameters(
    ('x', (0, 1, 2), (3, 256)), ('x', (-4, -3, -2), (3, 256)),
    ('x', (0, 2, 3), (1, 96)), ('x', (0,), (3, 4)), ('x', (0, 1, 3), (2, 96)),
    ('y', (0, 1, 2), (-1, None)), ('any', (0, 1, 2), (3, None)),
    ('any', (0, 1, 2), (3, None)), ('flat', (0,), (1, 5)),
  )  # fmt: skip
  def test_reduction_of_means(self, of, axes, expected):
    self.made.placeholder('any', None, 8, 8, 3)
    self.made.placeholder('flat', 5, 3)
    axes = self.axes(*axes)
    sums = self.op('RealDiv', self.op('Sum', of, axes), '256')
    for name in (self.op('Mean', of, axes), sums):
      found = batch_statistics.reduction(self.tensor(name))
      self.assertEqual(found, expected)

  @parameterized.parameters(
    ((4, 8, 8, 3), b'NHWC', (3, 256)), ((4, 3, 8, 8), b'NCHW', (1, 256)),
    ((None, 8, 8, 3), b'NHWC', (3, None)), ((4, 8, 8, 3), b'', (3, 256)),
    ((2, 3, 4, 5, 6), b'NDHWC', (4, 120)),
    ((2, 3, 4, 5, 6), b'NCDHW', (1, 240)),
    (None, b'NHWC', (3, None)), (None, b'NCHW', (1, None)),
  )  # fmt: skip
  def test_reduction_of_kernels(self, size, layout, expected):
    x = self.made.placeholder('images', *size) if size else 'y'
    node = self.tensor(self.fused(x, data_format=layout)).node
    for index in (1, 2):
      self.assertEqual(
        batch_statistics.reduction(Tensor(node, index)), expected
      )


if __name__ == '__main__':
  absltest.main()
