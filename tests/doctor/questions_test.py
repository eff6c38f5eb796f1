"""doctor/graph/questions: sizes as a file says them, and what they share."""

from absl.testing import absltest
from absl.testing import parameterized
import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.graph import questions


class QuestionsTest(parameterized.TestCase):
  def test_kinds(self):
    self.assertEqual(questions.shape_of('t'), ('shape', 't'))
    self.assertEqual(questions.value_of('t'), ('value', 't'))

  @parameterized.parameters(
    (None,), ([],), ([0],), ([1],), ([None],), ([None, 3, 0, None],)
  )
  def test_sizes_are_those_that_tensorflow_wrote(self, sizes):
    self.assertEqual(
      questions.sizes_of(tf.TensorShape(sizes).as_proto()), sizes
    )

  @parameterized.parameters(
    ([], None),
    ([None], None),
    ([[2], None], None),
    ([None, [2]], None),
    ([[2], [2, 3]], None),
    ([[], [1]], None),
    ([[]], []),
    ([[], []], []),
    ([[2, 3]], [2, 3]),
    ([[2, 3], [2, 3], [2, 3]], [2, 3]),
    ([[2, 3], [4, 3]], [None, 3]),
    ([[2, 3], [2, 4], [2, 5]], [2, None]),
    ([[2, None], [2, 3]], [2, None]),
    ([[None, 3], [None, 3]], [None, 3]),
  )
  def test_what_shapes_have_in_common(self, found, expected):
    self.assertEqual(questions.common(found), expected)


if __name__ == '__main__':
  absltest.main()
