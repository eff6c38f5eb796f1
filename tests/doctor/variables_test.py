"""doctor/graph/variables: named as TensorFlow needs them, by edges alone."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.graph import variables
from graph_resnet9.doctor.graph.nodes import GraphView
from tests.doctor.hand_made import HandMade

KEYS = tf.GraphKeys


def trained(step=True):
  """Builds a training of a ref and of a resource variable, and one frozen."""
  ref = tf.get_variable('scope/ref', initializer=[1.0, 2.0], use_resource=False)
  resource = tf.get_variable(
    'resource', initializer=[3.0, 4.0], use_resource=True
  )
  tf.get_variable(
    'frozen', initializer=5.0, use_resource=False, trainable=False
  )
  loss = tf.reduce_sum(ref * resource)
  if step:
    tf.train.GradientDescentOptimizer(0.1).minimize(
      loss, tf.train.get_or_create_global_step()
    )


class VariablesTest(parameterized.TestCase):
  def named(self, graph_def):
    """MetaGraphDef of a GraphDef, its collections filled."""
    meta_graph = tf.MetaGraphDef(graph_def=graph_def)
    variables.name_them(meta_graph, GraphView(graph_def))
    return meta_graph

  def test_tensorflow_imports_what_is_named(self):
    with tf.Graph().as_default() as graph:
      trained()
      expected = {
        key: sorted(v.name for v in tf.get_collection(key))
        for key in (
          KEYS.GLOBAL_VARIABLES, KEYS.TRAINABLE_VARIABLES, KEYS.GLOBAL_STEP,
        )
      }  # fmt: skip
    meta_graph = self.named(graph.as_graph_def())
    self.assertEqual(
      expected[KEYS.TRAINABLE_VARIABLES], ['resource:0', 'scope/ref:0']
    )
    self.assertSameElements(meta_graph.collection_def, expected)
    with tf.Graph().as_default(), tf.Session() as session:
      tf.train.import_meta_graph(meta_graph)
      for key, names in expected.items():
        self.assertEqual(sorted(v.name for v in tf.get_collection(key)), names)
      session.run(tf.global_variables_initializer())
      for variable in tf.global_variables():
        value = {
          'scope/ref:0': [1, 2], 'resource:0': [3, 4], 'frozen:0': 5,
          'global_step:0': 0,
        }[variable.name]  # fmt: skip
        np.testing.assert_array_equal(session.run(variable), value)
        np.testing.assert_array_equal(
          session.run(variable.initial_value), value
        )
        self.assertEqual(
          variable.trainable,
          variable.name in expected[KEYS.TRAINABLE_VARIABLES],
        )

  def test_without_an_optimizer_none_is_trained(self):
    with tf.Graph().as_default() as graph:
      trained(step=False)
    meta_graph = self.named(graph.as_graph_def())
    self.assertEqual(list(meta_graph.collection_def), [KEYS.GLOBAL_VARIABLES])
    self.assertLen(
      meta_graph.collection_def[KEYS.GLOBAL_VARIABLES].bytes_list.value, 3
    )

  @parameterized.parameters(KEYS.GLOBAL_VARIABLES, KEYS.TRAINABLE_VARIABLES)
  def test_what_has_names_keeps_them(self, key):
    with tf.Graph().as_default() as graph:
      trained()
    meta_graph = tf.MetaGraphDef(graph_def=graph.as_graph_def())
    self.assertIs(variables.are_named(meta_graph), False)
    meta_graph.collection_def['train_op'].node_list.value.append('a')
    self.assertIs(variables.are_named(meta_graph), False)
    meta_graph.collection_def[key].bytes_list.value.append(b'one')
    self.assertIs(variables.are_named(meta_graph), True)
    before = meta_graph.SerializeToString(deterministic=True)
    variables.name_them(meta_graph, GraphView(meta_graph.graph_def))
    self.assertEqual(before, meta_graph.SerializeToString(deterministic=True))

  def test_variables_without_the_usual_ops_are_left_out(self):
    made = HandMade()
    made.const('zero', 0.0)
    for name in ('whole', 'unread', 'unset'):
      made.op(name, 'VariableV2')
    for name in ('whole', 'unset'):
      made.op(name + '/read', 'Identity', name)
    for name in ('whole', 'unread'):
      made.op(name + '/Assign', 'Assign', name, 'zero')
    made.op('unset/Assign', 'NoSuchOp', 'unset')
    made.op('neither', 'VarHandleOp')
    (value,) = (
      self.named(made.graph_def)
      .collection_def[KEYS.GLOBAL_VARIABLES]
      .bytes_list.value
    )
    self.assertIn(b'whole:0', value)

  def test_which_ones_optimizers_change(self):
    made = HandMade()
    made.const('zero', 0.0)
    for name in 'badc':
      made.op(name, 'VarHandleOp')
    made.op('n0', 'ResourceApplyAdam', 'a', *['zero'] * 9)
    made.op('n1', 'ResourceSparseApplyFtrl', 'b', *['zero'] * 8)
    made.op('n2', 'ApplyMomentum', 'a', *['zero'] * 4)
    made.op('n3', 'ApplyNone', 'zero')
    made.op('n4', 'SparseApplySome')
    made.op('n5', 'AssignVariableOp', 'c', 'zero')
    made.op('n6', 'MapAndApply', 'd')
    self.assertEqual(
      [node.name for node in variables.trainable(made.view())], ['a', 'b']
    )

  @parameterized.parameters(
    ('ApplyGradientDescent', True), ('SparseApplyAdagrad', True),
    ('ResourceApplyKerasMomentum', True), ('ResourceSparseApplyAdagrad', True),
    ('AccumulatorApplyGradient', True),
    ('SparseAccumulatorApplyGradient', True),
    ('ResourceAccumulatorApplyGradient', True),
    ('Apply', False), ('AssignSub', False), ('XApplyMomentum', False),
    ('AccumulatorTakeGradient', False),
  )  # fmt: skip
  def test_ops_that_apply_gradients(self, op, expected):
    self.assertEqual(bool(variables.APPLIES.fullmatch(op)), expected)


if __name__ == '__main__':
  absltest.main()
