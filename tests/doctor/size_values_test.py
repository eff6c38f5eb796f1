"""doctor/graph/size_values: the sizes that a graph itself reckons."""

from absl.testing import absltest
from absl.testing import parameterized

from graph_resnet9.doctor.graph import shapes
from tests.doctor.hand_made import HandMade


class SizesTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.made = made = HandMade()
    made.const('dims', [5, 6, 7])
    made.const('fraction', [0.5])
    made.const('zero', 0)
    made.const('two', 2)
    made.const('three', [3])
    made.placeholder('x', None, 8, 3)
    made.placeholder('fed', 3)  # Three sizes that nobody knows.

  def value(self, name):
    """The value of a tensor: the shape of what is filled by it."""
    self.made.op('filled by ' + name, 'Fill', name, 'fraction')
    return shapes.shape(self.made.tensor('filled by ' + name))

  def test_constants(self):
    self.assertEqual(self.value('dims'), [5, 6, 7])
    self.assertEqual(self.value('two'), [2])
    self.assertIsNone(self.value('fraction'))
    self.assertIsNone(self.value('fed'))

  def test_a_tensor_has_64_axes_at_most(self):
    for length, known in ((32, True), (33, False)):
      self.made.const('c%d' % length, [1] * length)
      self.made.op('both%d' % length, 'ConcatV2', 'c32', 'c%d' % length, 'zero')
      self.made.op('packed%d' % length, 'Pack', *['two'] * (length + 32))
      self.made.const('whole%d' % length, [1] * (length + 32))
      for name, each in (('both', 1), ('packed', 2), ('whole', 1)):
        self.assertEqual(
          self.value(name + str(length)), [each] * 64 if known else None
        )

  def test_of_the_shape_of_something(self):
    self.made.op('shape', 'Shape', 'x')
    self.assertEqual(self.value('shape'), [None, 8, 3])

  @parameterized.parameters('Identity', 'Cast', 'Reshape', 'Squeeze', 'Enter')
  def test_what_is_handed_on(self, op):
    self.made.op('handed', op, 'dims', *['zero'] * (op == 'Reshape'))
    self.assertEqual(self.value('handed'), [5, 6, 7])

  def test_an_argument_of_a_function(self):
    self.made.function(
      'f', ['sizes', 'value'], [('y', 'Fill', 'sizes', 'value')], {'out': 'y:0'}
    )
    self.made.op('call', 'f', 'dims', 'fraction')
    self.made.op('argument', '_Arg')
    self.assertEqual(shapes.shape(self.made.tensor('call')), [5, 6, 7])
    self.assertIsNone(self.value('argument'))

  def test_sizes_that_are_put_together(self):
    self.made.op('packed', 'Pack', 'two', 'one of them', 'three')
    self.made.op('one of them', 'Max', 'fed', 'zero')
    self.made.op('joined', 'ConcatV2', 'dims', 'two', 'packed', 'zero')
    self.made.op('lost', 'ConcatV2', 'dims', 'fed', 'zero')
    self.assertEqual(self.value('packed'), [2, None, 3])
    self.assertEqual(self.value('joined'), [5, 6, 7, 2, 2, None, 3])
    self.assertIsNone(self.value('lost'))

  def test_products(self):
    self.made.op('shape', 'Shape', 'x')
    for name, op, inputs, expected in (
      ('all', 'Prod', ('dims', 'zero'), [210]),
      ('batch', 'Prod', ('shape', 'zero'), [None]),
      ('unknown', 'Prod', ('fed', 'zero'), None),
      ('six', 'Mul', ('two', 'three'), [6]),
      ('twelve', 'Mul', ('six', 'two'), [12]),
      ('some', 'Mul', ('batch', 'two'), [None]),
      ('lost', 'Mul', ('fed', 'two'), None),
      ('lost too', 'Mul', ('two', 'fed'), None),
      ('vectors', 'Mul', ('dims', 'dims'), None),
      ('half a vector', 'Mul', ('two', 'dims'), None),
      ('a sum', 'Add', ('two', 'three'), None),
    ):
      self.made.op(name, op, *inputs)
      self.assertEqual(self.value(name), expected, name)

  def sliced(self, start, stop, step, of='dims', **masks):
    self.setUp()
    for name, value in (('start', start), ('stop', stop), ('step', step)):
      self.made.const(name, [value] if isinstance(value, int) else value)
    self.made.op('sliced', 'StridedSlice', of, 'start', 'stop', 'step', **masks)
    return self.value('sliced')

  def test_slices(self):
    """As of a list of Python: the masks are where nothing is written."""
    self.assertEqual(self.sliced(1, 3, 1), [6, 7])
    self.assertEqual(self.sliced(0, 2, 1), [5, 6])
    self.assertEqual(self.sliced(-2, -1, 1), [6])
    self.assertEqual(self.sliced(1, 1, 1), [])
    self.assertEqual(self.sliced(0, 9, 2), [5, 7])
    self.assertEqual(self.sliced(1, 2, 1, begin_mask=1), [5, 6])
    self.assertEqual(self.sliced(1, 2, 1, end_mask=1), [6, 7])
    self.assertEqual(self.sliced(1, 2, -1, begin_mask=1, end_mask=1), [7, 6, 5])

  def test_one_of_them(self):
    for start, expected in (
      (0, [5]), (2, [7]), (-1, [7]), (-3, [5]), (3, None), (-4, None),
    ):  # fmt: skip
      self.assertEqual(
        self.sliced(start, start + 1, 1, shrink_axis_mask=1), expected
      )

  def test_slices_that_tell_nothing(self):
    self.assertIsNone(self.sliced(0, 2, 0))
    self.assertIsNone(self.sliced(0, 2, 1, of='fed'))
    self.assertIsNone(self.sliced(0, 2, 1, ellipsis_mask=1))
    self.assertIsNone(self.sliced(0, 2, 1, new_axis_mask=1))
    for ends in (([0, 0], 2, 1), (0, [2, 2], 1), (0, 2, [1, 1]), (0, 2.5, 1)):
      self.assertIsNone(self.sliced(*ends), ends)


if __name__ == '__main__':
  absltest.main()
