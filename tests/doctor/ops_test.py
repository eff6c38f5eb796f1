"""doctor/graph/ops: which are gradients', and what each needs at least."""

import types
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.graph import ops


class GradientsTest(absltest.TestCase):
  def test_ops_that_tensorflow_makes_for_gradients_alone(self):
    """Of a network's gradients, those that are not among other ops, too."""
    with tf.Graph().as_default() as graph:
      x = tf.placeholder(tf.float32, [4, 8, 8, 3])
      h = tf.nn.conv2d(x, tf.ones([3, 3, 3, 2]), [1, 1, 1, 1], 'SAME')
      h = tf.nn.fused_batch_norm(h, tf.ones([2]), tf.ones([2]))[0]
      h = tf.nn.elu(tf.nn.relu(tf.nn.bias_add(h, tf.ones([2]))))
      h = tf.nn.avg_pool(h, [1, 2, 2, 1], [1, 2, 2, 1], 'SAME')
      h = tf.nn.max_pool(h, [1, 2, 2, 1], [1, 2, 2, 1], 'SAME')
      before = {op.type for op in graph.get_operations()}
      tf.gradients(tf.tanh(tf.sigmoid(h + tf.ones([2]))), x)
      kinds = {op.type for op in graph.get_operations()}
    self.assertEmpty({op for op in before if ops.is_gradient(op)})
    found = {op for op in kinds if ops.is_gradient(op)}
    self.assertContainsSubset(
      {
        'AvgPoolGrad', 'EluGrad', 'MaxPoolGrad', 'ReluGrad', 'SigmoidGrad',
        'TanhGrad',
      },
      found,
    )  # fmt: skip
    self.assertLen([op for op in found if 'FusedBatchNormGrad' in op], 1)

  def test_names(self):
    for op, expected in (
      ('BiasAddGrad', True), ('BiasAddGradV2', True), ('Grad', True),
      ('FusedBatchNormGradV3', True),
      ('MaxPoolGradWithArgmax', True), ('MaxPoolGradGradV2', True),
      ('MaxPoolGradGradWithArgmax', True), ('BroadcastGradientArgs', True),
      ('FakeQuantWithMinMaxArgsGradient', True),
      ('Conv2DBackpropFilter', True), ('Conv3DBackpropFilterV2', True),
      ('MklConvBackpropKernel', True), ('Conv2DBackpropInput', False),
      ('StopGradient', False), ('PreventGradient', False), ('', False),
    ):  # fmt: skip
      self.assertIs(ops.is_gradient(op), expected, op)


class DefinitionTest(parameterized.TestCase):
  def test_definition_of_what_is_registered(self):
    definition = ops.op_definition('Conv2D')
    self.assertEqual(definition.name, 'Conv2D')
    self.assertEqual(
      [a.name for a in definition.input_arg], ['input', 'filter']
    )
    self.assertIsNone(ops.op_definition('NoSuchOp'))

  def test_definition_where_the_registry_is_that_of_tensorflow_1(self):
    registry = types.SimpleNamespace(get_registered_ops=lambda: {'A': 'of a'})
    with mock.patch.object(ops, 'op_def_registry', registry):
      self.assertEqual(ops.op_definition('A'), 'of a')
      self.assertIsNone(ops.op_definition('B'))

  @parameterized.parameters(
    ('Const', 0), ('Neg', 1), ('Mul', 2), ('FusedBatchNormV3', 5),
    ('NoSuchOp', 0),
    # What there may be any number of, of one type or of several, may lack.
    ('AddN', 0), ('IdentityN', 0), ('ConcatV2', 1), ('Concat', 1),
    ('SaveV2', 3), ('If', 1), ('While', 0),
  )  # fmt: skip
  def test_inputs_at_least(self, op, least):
    for _ in range(2):  # The second time it is remembered.
      self.assertEqual(ops.least_inputs(op), least)


if __name__ == '__main__':
  absltest.main()
