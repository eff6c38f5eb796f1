"""What is measured on a batch of logits."""

import tensorflow.compat.v1 as tf


def cross_entropy(logits, labels):
  """Softmax cross-entropy of every example, -log softmax(logits)[label].

  Args:
    logits: [batch, classes] float32 Tensor.
    labels: [batch] integer Tensor, each in 0 .. classes - 1.
  Returns:
    [batch] float32 Tensor; the training loss is its mean.
  """
  return tf.nn.sparse_softmax_cross_entropy_with_logits(
      labels=labels, logits=logits)


def correct(logits, labels):
  """Whether the largest logit is that of the label: [batch] bool Tensor."""
  return tf.equal(tf.argmax(logits, 1, output_type=labels.dtype), labels)
