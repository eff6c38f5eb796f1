"""What is measured on a batch of logits."""

import tensorflow.compat.v1 as tf


def cross_entropy(logits, labels, smoothing=0.0):
  """Softmax cross-entropy of every example, -sum_c p_c log softmax(logits)_c.

  p is 1 - smoothing at the label, plus smoothing / classes everywhere.

  Args:
    logits: [batch, classes] float32 Tensor.
    labels: [batch] integer Tensor, each in 0 .. classes - 1.
    smoothing: float in 0 .. 1; 0: -log softmax(logits)[label].
  Returns:
    [batch] float32 Tensor; the training loss is its mean.
  Source: Szegedy et al. 2016, arXiv 1512.00567, section 7 (label smoothing).
  """
  if not smoothing:
    return tf.nn.sparse_softmax_cross_entropy_with_logits(
      labels=labels, logits=logits
    )
  classes = int(logits.shape[-1])
  return tf.nn.softmax_cross_entropy_with_logits_v2(
    labels=tf.stop_gradient(
      (1 - smoothing) * tf.one_hot(labels, classes) + smoothing / classes
    ),
    logits=logits,
  )


def correct(logits, labels):
  """Whether the largest logit is that of the label: [batch] bool Tensor."""
  return tf.equal(tf.argmax(logits, 1, output_type=labels.dtype), labels)
