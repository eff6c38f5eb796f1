"""ResNet9, the CIFAR-10 network of davidcpage/cifar10-fast."""

import tensorflow.compat.v1 as tf

from graph_resnet9.model import layers
from graph_resnet9.model import winograd

CLASSES = 10


def logits(
  images,
  training,
  width=64,
  precision='float32',
  conv='direct',
  logit_scale=0.125,
  activation='relu',
  pool_before_bn=False,
  train_gamma=True,
  ghost_batch=0,
  whitening=False,
  filters=None,
  init='pytorch',
  bn_decay=layers.BATCH_NORM_DECAY,
  bn_epsilon=layers.BATCH_NORM_EPSILON,
  bn_fused=True,
  classes=CLASSES,
):
  """The logits of ResNet9.

  prep   block width                                      32x32
  layer1 block 2 width with max pool 2, residual          16x16
  layer2 block 4 width with max pool 2                    8x8
  layer3 block 8 width with max pool 2, residual          4x4
  head   max pool 4, flatten, linear without bias, x logit_scale

  A block is conv -> batch norm -> max pool, if any -> activation; a residual is
  x + block(block(x)). The published order has the pool after the activation,
  which gives the same numbers and gradients, since both are monotone, and has
  the activation work on a quarter of the pixels.

  Args:
    images: [batch, 32, 32, 3] float Tensor, normalised; height, width and
      channels must be static.
    training: Python bool, fixed when the graph is built: normalise by the
      statistics of the batch, or by the moving ones.
    width: int, channels of the first layer; 64 is the published network with
      6,573,120 trainable parameters, and every kernel grows with its square.
    precision: 'float32', 'float16' or 'bfloat16', of the arithmetic.
    conv: 'direct', 'winograd', 'winograd64' or 'auto', the algorithm of the
      convolutions: see winograd.chosen and winograd.pays.
    logit_scale: float; new_dawn.py has 1/16.
    activation: 'relu' or 'celu'; see layers.activation.
    pool_before_bn: Python bool; conv -> max pool -> batch norm instead.
    train_gamma, ghost_batch: as of layers.batch_norm.
    whitening: Python bool; prep is then a fixed whitening convolution with 27
      channels, a 1x1 convolution, batch norm and activation.
    filters: those of the whitening; see layers.whitened.
    init: of all kernels; see layers.initializer.
    bn_decay, bn_epsilon, bn_fused: those of layers.batch_norm.
    classes: int.
  Returns:
    [batch, classes] float32 logits, no softmax.
  Variables:
    prep/conv/kernel, prep/bn/{gamma,beta,moving_mean,moving_variance}, the same
    in layer1, layer1/residual/res1, ... layer3/residual/res2, and
    linear/kernel, all float32; with `whitening` prep/whitening/kernel, too,
    and without `train_gamma` no gamma. A second tower shares them inside
    tf.variable_scope(tf.get_variable_scope(), reuse=True).
  Collections:
    UPDATE_OPS: + 16 if training, else + 0; the output does not run them.
    BIASES: + 8, unless the variables are shared.
  Raises:
    ValueError: when the graph is built, if `images` is not [batch, 32, 32, 3],
      or its batch does not fit to `ghost_batch`.
  Source: davidcpage/cifar10-fast, dawn.py (the defaults) and new_dawn.py; NHWC
    instead of NCHW.
  """
  if images.shape.rank != 4 or images.shape[1:].as_list() != [32, 32, 3]:
    raise ValueError('images must be [batch, 32, 32, 3], not %s' % images.shape)

  algorithm = winograd.chosen(conv)

  def block(x, channels, size=3, pool=False):
    x = layers.conv(x, channels, size, algorithm, init)
    if pool and pool_before_bn:
      x = layers.max_pool(x, 2)
    x = layers.batch_norm(
      x, training, train_gamma, ghost_batch, bn_decay, bn_epsilon, bn_fused
    )
    if pool and not pool_before_bn:
      x = layers.max_pool(x, 2)
    return layers.activation(x, activation)

  def residual(x):
    channels = int(x.shape[-1])
    with tf.variable_scope('residual'):
      with tf.variable_scope('res1'):
        branch = block(x, channels)
      with tf.variable_scope('res2'):
        branch = block(branch, channels)
      return x + branch

  x = tf.cast(images, precision)
  with tf.variable_scope('prep'):
    if whitening:
      x = block(layers.whitened(x, filters), width, size=1)
    else:
      x = block(x, width)
  with tf.variable_scope('layer1'):
    x = residual(block(x, 2 * width, pool=True))
  with tf.variable_scope('layer2'):
    x = block(x, 4 * width, pool=True)
  with tf.variable_scope('layer3'):
    x = residual(block(x, 8 * width, pool=True))
  features = tf.reshape(layers.max_pool(x, 4), [-1, 8 * width])
  return (
    tf.cast(layers.linear(features, classes, init), tf.float32) * logit_scale
  )
