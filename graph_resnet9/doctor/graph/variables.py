"""The variables of a graph that comes without collections, by its edges.

A GraphDef, as graph.pbtxt and event files hold, does not say which variables a
session restores and which ones are trained.
"""

import re

import tensorflow.compat.v1 as tf
from tensorflow.core.framework import variable_pb2

from graph_resnet9.doctor.graph import tensors
from graph_resnet9.doctor.graph.tensors import VARIABLE_OPS

# Ops by which optimizers change variables, or hand gradients to who does.
APPLIES = re.compile(
  r'(Resource)?(Sparse)?Apply[A-Z].*|'
  r'(Resource|Sparse)?AccumulatorApplyGradient'
)


def are_named(meta_graph):
  """Whether a MetaGraphDef has collections of variables."""
  return any(
    key in meta_graph.collection_def
    for key in (tf.GraphKeys.GLOBAL_VARIABLES, tf.GraphKeys.TRAINABLE_VARIABLES)
  )


def trainable(view):
  """Nodes of the variables that optimizers change."""
  changed = [
    tensors.variable(node.inputs[0])
    for node in view.nodes.values()
    if APPLIES.fullmatch(node.op) and node.inputs
  ]
  return [node for node in dict.fromkeys(changed) if node]


def name_them(meta_graph, view):
  """Fills the collections of variables of a MetaGraphDef, where it has none.

  Args:
    meta_graph: MetaGraphDef, which is changed.
    view: GraphView of its graph.
  """
  if are_named(meta_graph):
    return
  trained = set(trainable(view))
  for node in view.nodes.values():
    if node.op not in VARIABLE_OPS:
      continue
    definition = _definition(view, node, node in trained)
    if definition:
      keys = [tf.GraphKeys.GLOBAL_VARIABLES]
      if node in trained:
        keys.append(tf.GraphKeys.TRAINABLE_VARIABLES)
      if node.name == tf.GraphKeys.GLOBAL_STEP:
        keys.append(tf.GraphKeys.GLOBAL_STEP)
      for key in keys:
        meta_graph.collection_def[key].bytes_list.value.append(
          definition.SerializeToString()
        )


def _definition(view, node, is_trained):
  """VariableDef by the names that TensorFlow gives to a variable's ops."""
  resource = node.op == 'VarHandleOp'
  assign = view.nodes.get(node.name + '/Assign')
  read = node.name + ('/Read/ReadVariableOp' if resource else '/read')
  if assign is None or len(assign.inputs) < 2 or read not in view.nodes:
    return None
  value = assign.inputs[1]
  return variable_pb2.VariableDef(
    variable_name=node.name + ':0',
    initial_value_name='%s:%d' % (value.node.name, value.index),
    initializer_name=assign.name if resource else assign.name + ':0',
    snapshot_name=read + ':0',
    is_resource=resource,
    trainable=is_trained,
  )
