"""The network of cifar_bottleneck: as asked, as answered, and with cures."""

from typing import Any
from typing import NamedTuple

import tensorflow.compat.v1 as tf

UNITS = 3


def as_asked(x, batch_norm):
  del batch_norm
  # [broken: as asked]
  x = tf.layers.flatten(x)
  x = tf.nn.relu(tf.layers.dense(x, 32))
  # [end]
  return x


def normalised_hidden(x, batch_norm):
  # [fixed: batch norm behind Dense(32)]
  x = tf.layers.flatten(x)
  x = tf.nn.relu(batch_norm(tf.layers.dense(x, 32)))
  # [end]
  return x


def normalised_features(x, batch_norm):
  # [fixed: batch norm behind Flatten]
  x = batch_norm(tf.layers.flatten(x))
  x = tf.nn.relu(tf.layers.dense(x, 32))
  # [end]
  return x


def pooled(x, batch_norm):
  del batch_norm
  # [fixed: global average pooling]
  x = tf.reduce_mean(x, [1, 2])
  x = tf.nn.relu(tf.layers.dense(x, 32))
  # [end]
  return x


class Variant(NamedTuple):
  """What the arms differ in; the defaults are the network as asked.

  hidden: function from the [batch, 32, 32, 32] features and a batch
    normalisation to [batch, 32] hidden units.
  axis, decay: of batch normalisation.
  signed: bool, inputs in [-1, 1] instead of pixels over 256.
  norm_before_sum: bool, whether a unit's last convolution is normalised.
  norm: bool, whether there is any batch normalisation.
  """

  hidden: Any = as_asked
  axis: int = -1
  decay: float = 0.99
  signed: bool = False
  norm_before_sum: bool = True
  norm: bool = True


class Activations(NamedTuple):
  """features: [batch, 32, 32, 32], hidden: [batch, 32], logits: [batch, 10]."""

  features: tf.Tensor
  hidden: tf.Tensor
  logits: tf.Tensor


def network(images, variant, training):
  """The network: [batch, 32, 32, 3] uint8 to Activations.

  Variables: those that tf.layers makes, in the order of the layers.
  Collections:
    UPDATE_OPS: + 2 for each batch normalisation, if training.
  """

  def conv(x, filters, size):
    return tf.layers.conv2d(x, filters, size, padding='same')

  def batch_norm(x, axis=-1):
    if not variant.norm:
      return x
    return tf.layers.batch_normalization(
      x, axis=axis, momentum=variant.decay, training=training
    )

  def spatial(x):
    return batch_norm(x, variant.axis)

  x = tf.cast(images, tf.float32)
  x = x / 127.5 - 1 if variant.signed else x / 256
  x = tf.nn.relu(spatial(conv(x, 32, 3)))
  for _ in range(UNITS):
    y = tf.nn.relu(spatial(conv(x, 16, 1)))
    y = tf.nn.relu(spatial(conv(y, 16, 3)))
    y = conv(y, 32, 1)
    if variant.norm_before_sum:
      y = spatial(y)
    x = tf.nn.relu(x + y)
  hidden = variant.hidden(x, batch_norm)
  return Activations(x, hidden, tf.layers.dense(hidden, 10))


def living(hidden):
  """How many of [batch, units] are above 0 for any example: float32 scalar."""
  return tf.reduce_sum(tf.cast(tf.reduce_any(hidden > 0, 0), tf.float32))
