"""ResNet9, the CIFAR-10 network of davidcpage/cifar10-fast."""

import tensorflow.compat.v1 as tf

from graph_resnet9.model import layers

CLASSES = 10
LOGIT_SCALE = 0.125  # davidcpage/cifar10-fast, dawn.py: Mul(weight=0.125).


def residual(images, training):
  """images + res2(res1(images)), both conv_bn_relu of the same width."""
  filters = int(images.shape[-1])
  with tf.variable_scope('residual'):
    with tf.variable_scope('res1'):
      branch = layers.conv_bn_relu(images, filters, training)
    with tf.variable_scope('res2'):
      branch = layers.conv_bn_relu(branch, filters, training)
    return images + branch


def logits(images, training, width=64):
  """The logits of ResNet9.

  prep   conv_bn_relu width                                      32x32
  layer1 conv_bn_relu 2 width, max pool 2, residual              16x16
  layer2 conv_bn_relu 4 width, max pool 2                        8x8
  layer3 conv_bn_relu 8 width, max pool 2, residual              4x4
  head   max pool 4, flatten, linear 10 without bias, x 0.125

  Args:
    images: [batch, 32, 32, 3] Tensor, normalised; float32, or float16 or
      bfloat16 for mixed precision; height, width and channels must be static.
    training: Python bool, fixed when the graph is built: normalise by the
      statistics of the batch, or by the moving ones.
    width: int, channels of the first layer; 64 is the published network with
      6,573,120 trainable parameters, and every kernel grows with its square.
  Returns:
    [batch, 10] float32 logits, no softmax.
  Variables:
    prep/conv/kernel, prep/bn/{gamma,beta,moving_mean,moving_variance}, the same
    in layer1, layer1/residual/res1, ... layer3/residual/res2, and
    linear/kernel, all float32. A second tower shares them inside
    tf.variable_scope(tf.get_variable_scope(), reuse=True).
  Collections:
    UPDATE_OPS: + 16 if training, else + 0; the output does not run them.
  Raises:
    ValueError: when the graph is built, if `images` is not [batch, 32, 32, 3].
  Source: davidcpage/cifar10-fast, dawn.py, net(); NHWC instead of NCHW.
  """
  if images.shape.rank != 4 or images.shape[1:].as_list() != [32, 32, 3]:
    raise ValueError('images must be [batch, 32, 32, 3], not %s' % images.shape)
  with tf.variable_scope('prep'):
    x = layers.conv_bn_relu(images, width, training)
  with tf.variable_scope('layer1'):
    x = layers.max_pool(layers.conv_bn_relu(x, 2 * width, training), 2)
    x = residual(x, training)
  with tf.variable_scope('layer2'):
    x = layers.max_pool(layers.conv_bn_relu(x, 4 * width, training), 2)
  with tf.variable_scope('layer3'):
    x = layers.max_pool(layers.conv_bn_relu(x, 8 * width, training), 2)
    x = residual(x, training)
  features = tf.reshape(layers.max_pool(x, 4), [-1, 8 * width])
  return tf.cast(layers.linear(features, CLASSES), tf.float32) * LOGIT_SCALE
