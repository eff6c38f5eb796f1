"""The layers of ResNet9: variables in float32, arithmetic in the input's dtype.

Convolution and dense layer are written out, because a cast between the stored
kernel and the arithmetic is all that mixed precision needs, and tf.layers hides
the place for it. Batch normalisation is tf.layers.batch_normalization, whose
update ops are what this project is about.
"""

import tensorflow.compat.v1 as tf

# davidcpage/cifar10-fast uses PyTorch's BatchNorm2d: epsilon 1e-5 and momentum
# 0.1, the weight of the new batch. TensorFlow's argument is the weight of the
# past.
BATCH_NORM_DECAY = 0.9
BATCH_NORM_EPSILON = 1e-5


def _pytorch_default_initializer():
  """Uniform in +-1/sqrt(fan_in): PyTorch's default for conv and linear layers.

  torch.nn.init.kaiming_uniform_ is called there with a = sqrt(5), so the bound
  is sqrt(6 / ((1 + 5) * fan_in)); he_uniform would be sqrt(6) times too wide.
  """
  return tf.variance_scaling_initializer(
      scale=1 / 3, mode='fan_in', distribution='uniform')


def conv(images, filters):
  """A 3x3 convolution, stride 1, SAME padding, no bias.

  Args:
    images: [batch, height, width, channels] Tensor, float32, float16 or
      bfloat16; channels must be static.
    filters: int, the number of output channels.
  Returns:
    [batch, height, width, filters] Tensor of the dtype of `images`.
  Variables:
    conv/kernel: [3, 3, channels, filters] float32, trainable.
  Source: davidcpage/cifar10-fast, dawn.py, conv_bn.
  """
  with tf.variable_scope('conv', use_resource=True):
    kernel = tf.get_variable(
        'kernel', [3, 3, int(images.shape[-1]), filters], tf.float32,
        initializer=_pytorch_default_initializer())
    return tf.nn.conv2d(images, tf.cast(kernel, images.dtype), 1, 'SAME')


def batch_norm(images, training):
  """Batch normalisation over batch, height and width.

  gamma * (x - mean) / sqrt(variance + 1e-5) + beta, with the mean and the
  (biased) variance of the batch if `training`, else with the moving statistics.

  Args:
    images: [batch, height, width, channels] Tensor; channels must be static.
    training: Python bool, fixed when the graph is built.
  Returns:
    A Tensor of the shape and dtype of `images`.
  Variables:
    bn/gamma, bn/beta: [channels] float32, trainable, 1 and 0 at first.
    bn/moving_mean, bn/moving_variance: [channels] float32, not trainable, 0 and
      1 at first; the variance is the unbiased one, as in PyTorch.
  Collections:
    UPDATE_OPS: + 2 if training, else + 0; the output does not run them.
  Source: Ioffe and Szegedy 2015, arXiv 1502.03167, algorithms 1 and 2.
  """
  with tf.variable_scope(tf.get_variable_scope(), use_resource=True):
    return tf.layers.batch_normalization(
        images, axis=-1, momentum=BATCH_NORM_DECAY, epsilon=BATCH_NORM_EPSILON,
        training=training, fused=True, name='bn')


def conv_bn_relu(images, filters, training):
  """conv -> batch_norm -> ReLU; arguments and variables as of the two."""
  return tf.nn.relu(batch_norm(conv(images, filters), training))


def max_pool(images, size):
  """The maximum over windows of size x size, stride `size`, no padding."""
  return tf.nn.max_pool2d(images, size, size, 'VALID')


def linear(features, units):
  """A dense layer without a bias.

  Args:
    features: [batch, inputs] Tensor; inputs must be static.
    units: int, the number of outputs.
  Returns:
    [batch, units] Tensor of the dtype of `features`.
  Variables:
    linear/kernel: [inputs, units] float32, trainable.
  """
  with tf.variable_scope('linear', use_resource=True):
    kernel = tf.get_variable(
        'kernel', [int(features.shape[-1]), units], tf.float32,
        initializer=_pytorch_default_initializer())
    return tf.matmul(features, tf.cast(kernel, features.dtype))
