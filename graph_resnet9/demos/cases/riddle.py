"""The network of batch_size_one, its normalisations and its losses."""

import functools

import tensorflow.compat.v1 as tf

from graph_resnet9.demos.cases import spectrograms

EPSILON = 1e-7  # Keras clips probabilities to EPSILON .. 1 - EPSILON.
GROUPS = 8  # Of the channels, for group normalisation.


def conv(inputs, filters, size, strides):
  """[batch, frames / strides, filters]: a convolution over time, no bias."""
  return tf.layers.conv1d(
    inputs, filters, size, strides, 'same', use_bias=False, name='conv'
  )


def batch_norm(inputs, training):
  # [broken: normalised over the batch, which is one example]
  return tf.layers.batch_normalization(inputs, training=training, name='bn')
  # [end]


def group_norm(inputs, training, groups=GROUPS):
  """Normalises each example by itself, in training and in evaluation alike.

  Over its frames and the channels of a group; groups=1: layer normalisation.

  Args:
    inputs: [batch, frames, channels] float32 Tensor, all but the batch static.
    training: Python bool, which changes nothing.
    groups: int, of which the channels are a multiple.
  Returns:
    A Tensor of the shape of `inputs`.
  Variables:
    gn/{gamma,beta}: [channels] float32, trainable.
  """
  del training
  frames, channels = inputs.shape[1:]
  with tf.variable_scope('gn'):
    gamma = tf.get_variable(
      'gamma', [channels], initializer=tf.ones_initializer()
    )
    beta = tf.get_variable(
      'beta', [channels], initializer=tf.zeros_initializer()
    )
  # [fixed: normalised over the channels of a group, in each example]
  x = tf.reshape(inputs, [-1, frames, groups, channels // groups])
  mean, variance = tf.nn.moments(x, [1, 3], keepdims=True)
  x = (x - mean) * tf.rsqrt(variance + 1e-3)
  return gamma * tf.reshape(x, [-1, frames, channels]) + beta
  # [end]


layer_norm = functools.partial(group_norm, groups=1)


def conv_norm_relu(inputs, filters, size, strides, norm, name):
  """conv, then a normalisation, then ReLU."""
  with tf.variable_scope(name):
    return tf.nn.relu(norm(conv(inputs, filters, size, strides)))


def block(inputs, filters, norm, name):
  """A residual block that halves the number of frames.

  Args:
    inputs: [batch, frames, channels] float32 Tensor.
    filters: int.
    norm: function of a Tensor.
    name: of the scope of the variables.
  Returns:
    [batch, frames / 2 rounded up, filters] float32 Tensor.
  """
  with tf.variable_scope(name):
    branch = conv_norm_relu(inputs, filters, 9, 2, norm, 'first')
    branch = conv_norm_relu(branch, filters, 9, 1, norm, 'second')
    return tf.nn.relu(
      branch + conv_norm_relu(inputs, filters, 1, 2, norm, 'projection')
    )


def network(inputs, training, norm=batch_norm):
  """The network of the riddle.

  conv 16 of 98 frames, blocks of 24 and 32 filters with 49 and 25 frames, an
  average pool of 13, dense 10. The pool has stride 13, as Keras has it unless
  told otherwise, and so reads the first 13 of the 25 frames.

  Args:
    inputs: [batch, 98, 64] float32 Tensor.
    training: Python bool.
    norm: batch_norm, group_norm or layer_norm.
  Returns:
    [batch, 10] float32 Tensor.
  Variables:
    conv/kernel, {block1,block2}/{first,second,projection}/{conv/kernel,
    bn/{gamma,beta,moving_mean,moving_variance}}, dense/{kernel,bias}.
  Collections:
    UPDATE_OPS: + 12 if training and batch_norm, else + 0.
  """
  norm = functools.partial(norm, training=training)
  x = conv(inputs, 16, 9, 1)
  x = block(x, 24, norm, 'block1')
  x = block(x, 32, norm, 'block2')
  x = tf.layers.average_pooling1d(x, 13, 13)
  return tf.layers.dense(
    tf.layers.flatten(x), spectrograms.CLASSES, name='dense'
  )


def probability_loss(outputs, labels):
  """Cross-entropy of what should be probabilities, and may be anything.

  -log of the label's share in the sum of the outputs, the share clipped to
  EPSILON .. 1 - EPSILON; as tf.keras.losses.categorical_crossentropy, but for
  a sum of 0, which is NaN there and EPSILON here.

  Args:
    outputs: [batch, classes] float32 Tensor.
    labels: [batch] int32 Tensor.
  Returns:
    [batch] float32 Tensor. Its gradient is 0 wherever the share is clipped.
  """
  total = tf.reduce_sum(outputs, 1, keepdims=True)
  total = tf.where(
    tf.abs(total) < EPSILON, EPSILON * tf.ones_like(total), total
  )
  share = tf.clip_by_value(outputs / total, EPSILON, 1 - EPSILON)
  return -tf.log(tf.gather(share, labels, axis=1, batch_dims=1))


def raw_loss(outputs, labels):
  # [broken: raw outputs, where the loss expects probabilities]
  return probability_loss(outputs, labels)
  # [end]


def softmax_loss(outputs, labels):
  # [fixed: the post's mend]
  return probability_loss(tf.nn.softmax(outputs), labels)
  # [end]


def logits_loss(outputs, labels):
  # [fixed: the way around the softmax]
  return tf.keras.losses.CategoricalCrossentropy(
    from_logits=True, reduction='none'
  )(tf.one_hot(labels, spectrograms.CLASSES), outputs)
  # [end]
