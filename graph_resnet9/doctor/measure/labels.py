"""The labels of a loss, measured like the inputs of a layer.

Behind a layer of batch normalisation every batch has the same mean, so deeper
layers tell little of how batches are mixed; labels tell it all.
"""

import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.graph import view as graph_view
from graph_resnet9.doctor.layers import anatomy as anatomy_lib
from graph_resnet9.doctor.measure import session as subject_lib
from graph_resnet9.doctor.measure import taps as tap

_SPARSE = 'SparseSoftmaxCrossEntropyWithLogits'
_DENSE = 'SoftmaxCrossEntropyWithLogits'
_MOST_CLASSES = 1000  # One-hot rows of more take more than they tell.


def taps(subject):
  """Taps of the labels of the losses that a training step computes.

  Args:
    subject: subject.Subject.
  Returns:
    list of tap.Tap without sites, one for each tensor of labels.
  """
  found = {}
  anatomy = subject.anatomy
  for node in anatomy.view.nodes.values():
    if node.op in (_SPARSE, _DENSE) and node in anatomy.reached:
      labels = graph_view.outside(node.inputs[1])
      logits = graph_view.outside(node.inputs[0])
      found.setdefault(labels, (node, logits))
  results = []
  with subject.graph.as_default(), tf.name_scope('tap'):
    for labels, (node, logits) in found.items():
      values, outputs = (
        subject_lib.tensor_of(subject.graph, t) for t in (labels, logits)
      )
      size = graph_view.shape(logits)
      if (
        values is None
        or outputs is None
        or (size and (size[-1] or 0) > _MOST_CLASSES)
      ):
        continue
      if node.op == _SPARSE:
        values = tf.one_hot(values, tf.shape(outputs)[-1], dtype=tf.float64)
      values = tf.cast(values, tf.float64)
      results.append(
        tap.Tap(
          anatomy_lib.Layer('labels', [], [], [], []),
          [],
          [],
          [
            dict(
              means=values, m2=tf.zeros_like(values), positions=tf.constant(1)
            )
          ],
          [labels.node],
        )
      )
  return results
