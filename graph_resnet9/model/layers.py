"""The layers of ResNet9: variables in float32, arithmetic in the input's dtype.

Convolution and dense layer are written out, because a cast between the stored
kernel and the arithmetic is all that mixed precision needs, and tf.layers hides
the place for it. Batch normalisation is tf.layers.batch_normalization, whose
update ops are what this project is about; ghost batch normalisation, which it
has in a form that fails at evaluation, is written out.
"""

import tensorflow.compat.v1 as tf

from graph_resnet9.model import winograd

# davidcpage/cifar10-fast uses PyTorch's BatchNorm2d: epsilon 1e-5 and momentum
# 0.1, the weight of the new batch. TensorFlow's argument is the weight of the
# past.
BATCH_NORM_DECAY = 0.9
BATCH_NORM_EPSILON = 1e-5
CELU_ALPHA = 0.3  # davidcpage/cifar10-fast, new_dawn.py.


def initializer(kind):
  """Of the kernels of convolutions and dense layer.

  'pytorch' is PyTorch's default for both, uniform in +-1/sqrt(fan_in):
  torch.nn.init.kaiming_uniform_ is called there with a = sqrt(5), so the bound
  is sqrt(6 / ((1 + 5) * fan_in)). 'he_uniform', which ports take it for, is
  sqrt(6) times as wide: +-sqrt(6/fan_in). (He et al. 2015, arXiv 1502.01852.)
  'dirac' is 'pytorch' but for convolutions with as many channels out as in or
  more: their first channels out are the channels in. (torch.nn.init.dirac_;
  Jordan 2024, arXiv 2404.00498, section 3.3.)

  Args:
    kind: 'pytorch', 'he_uniform' or 'dirac'.
  Returns:
    An initializer for tf.get_variable.
  """
  if kind == 'he_uniform':
    return tf.variance_scaling_initializer(
      scale=2, mode='fan_in', distribution='uniform'
    )
  pytorch = tf.variance_scaling_initializer(
    scale=1 / 3, mode='fan_in', distribution='uniform'
  )
  if kind != 'dirac':
    return pytorch

  def dirac(shape, dtype, partition_info=None):
    kernel = pytorch(shape, dtype, partition_info)
    if len(shape) != 4 or shape[2] > shape[3]:
      return kernel
    height, width, channels, _ = shape
    middle = [(height // 2, height // 2), (width // 2, width // 2)]
    identity = tf.pad(
      tf.eye(channels, dtype=dtype)[None, None], [*middle, (0, 0), (0, 0)]
    )
    return tf.concat([identity, kernel[..., channels:]], -1)

  return dirac


def conv(images, filters, size=3, algorithm='direct', init='pytorch'):
  """A size x size convolution, stride 1, SAME padding, no bias.

  Both algorithms give the same but for the rounding, with the same variables.

  Args:
    images: [batch, height, width, channels] Tensor, float32, float16 or
      bfloat16; channels must be static.
    filters: int, the number of output channels.
    size: int, height and width of the kernel.
    algorithm: 'direct', or one of winograd.CHANNELS, which is direct where
      winograd.pays says no.
    init: as of initializer().
  Returns:
    [batch, height, width, filters] Tensor of the dtype of `images`.
  Variables:
    conv/kernel: [size, size, channels, filters] float32, trainable.
  Collections:
    Those of its variable.
  Source: davidcpage/cifar10-fast, dawn.py, conv_bn.
  """
  with tf.variable_scope('conv', use_resource=True):
    kernel = tf.get_variable(
      'kernel',
      [size, size, int(images.shape[-1]), filters],
      tf.float32,
      initializer=initializer(init),
    )
    kernel = tf.cast(kernel, images.dtype)
    if winograd.pays(images, size, algorithm):
      return winograd.conv(images, kernel)
    return tf.nn.conv2d(images, kernel, 1, 'SAME')


def whitened(images, filters=None):
  """A fixed 3x3 convolution that makes the channels of its output uncorrelated.

  Args:
    images: [batch, height, width, 3] Tensor, float32, float16 or bfloat16.
    filters: [3, 3, 3, 27] float32 array, as of whitening.filters; None where a
      checkpoint will be restored: zeros at first.
  Returns:
    [batch, height, width, 27] Tensor of the dtype of `images`.
  Variables:
    whitening/kernel: [3, 3, 3, 27] float32, not trainable.
  Collections:
    Those of its variable.
  Source: davidcpage/cifar10-fast, new_dawn.py, whitening_block.
  """
  with tf.variable_scope('whitening', use_resource=True):
    kernel = tf.get_variable(
      'kernel',
      [3, 3, 3, 27],
      tf.float32,
      trainable=False,
      initializer=tf.zeros_initializer()
      if filters is None
      else tf.constant_initializer(filters),
    )
    return tf.nn.conv2d(images, tf.cast(kernel, images.dtype), 1, 'SAME')


def batch_norm(
  images,
  training,
  train_gamma=True,
  ghost_batch=0,
  decay=BATCH_NORM_DECAY,
  epsilon=BATCH_NORM_EPSILON,
  fused=True,
):
  """Batch normalisation over batch, height and width.

  gamma * (x - mean) / sqrt(variance + epsilon) + beta, with the mean and the
  (biased) variance of the batch if `training`, else with the moving statistics.

  Args:
    images: [batch, height, width, channels] Tensor; channels must be static.
    training: Python bool, fixed when the graph is built.
    train_gamma: Python bool; False: gamma is 1, and there is no variable.
    ghost_batch: int; 0: statistics of the whole batch. Otherwise in training
      those of each `ghost_batch` examples that follow each other, of which the
      batch must be a multiple. Without `training` it changes nothing.
    decay: float, the weight of the past in the moving statistics.
    epsilon: float.
    fused: Python bool; False stores the biased variance, which is smaller by a
      factor of 1 - 1 / (batch * height * width), and is slower.
  Returns:
    A Tensor of the shape and dtype of `images`.
  Variables:
    bn/gamma, bn/beta: [channels] float32, trainable, 1 and 0 at first.
    bn/moving_mean, bn/moving_variance: [channels] float32, not trainable, 0 and
      1 at first; the variance is the unbiased one, as in PyTorch, if `fused`;
      with `ghost_batch` the mean of those of the groups.
  Collections:
    UPDATE_OPS: + 2 if training, else + 0; the output does not run them.
    BIASES: + beta, when it is made as a trainable variable.
  Raises:
    ValueError: when the graph is built, if the batch is not a static multiple
      of `ghost_batch`, or groups are not to be `fused`.
  Source: Ioffe and Szegedy 2015, arXiv 1502.03167, algorithms 1 and 2; Hoffer
    et al. 2017, arXiv 1705.08741, algorithm 1 (ghost batches).
  """
  scope = tf.get_variable_scope()
  with tf.variable_scope(scope, use_resource=True):
    if ghost_batch and training:
      outputs = _ghost_batch_norm(
        images, train_gamma, ghost_batch, decay, epsilon, fused
      )
    else:
      outputs = tf.layers.batch_normalization(
        images,
        axis=-1,
        momentum=decay,
        epsilon=epsilon,
        scale=train_gamma,
        training=training,
        fused=fused,
        name='bn',
      )
    with tf.variable_scope('bn', reuse=True):
      beta = tf.get_variable('beta')
  # Neither that of a shared layer again nor an average in its place.
  is_in = lambda key: any(beta is known for known in tf.get_collection(key))
  if is_in(tf.GraphKeys.TRAINABLE_VARIABLES) and not is_in(tf.GraphKeys.BIASES):
    tf.add_to_collection(tf.GraphKeys.BIASES, beta)
  return outputs


def _ghost_batch_norm(images, train_gamma, ghost_batch, decay, epsilon, fused):
  """batch_norm in training by groups; the same variables and collections.

  tf.layers.batch_normalization(virtual_batch_size=) cannot evaluate a batch
  that is no multiple of it. Examples of a group follow each other here, while
  the groups of new_dawn.py take every 16th: in shuffled batches no difference.
  """
  if not fused:
    raise ValueError('ghost batches are always fused')
  batch, channels = images.shape[0], int(images.shape[-1])
  if batch is None or int(batch) % ghost_batch:
    raise ValueError(
      'a batch of %s images is no multiple of ghost_batch=%d'
      % (batch, ghost_batch)
    )
  with tf.variable_scope('bn'):

    def variable(name, initial, trainable=False):
      return tf.get_variable(
        name,
        [channels],
        tf.float32,
        trainable=trainable,
        initializer=tf.constant_initializer(initial),
      )

    gamma = variable('gamma', 1, True) if train_gamma else tf.ones([channels])
    beta = variable('beta', 0, True)
    moving = variable('moving_mean', 0), variable('moving_variance', 1)
    # A kernel call a group: on a CPU twice as fast as one call that sees the
    # groups as channels, which has to transpose, and as arithmetic by hand.
    outputs, *statistics = zip(
      *(
        tf.nn.fused_batch_norm(
          group, gamma, beta, epsilon=epsilon, is_training=True
        )
        for group in tf.split(images, int(batch) // ghost_batch)
      )
    )
    for stored, groups in zip(moving, statistics):
      mean = tf.add_n(groups) / len(groups)
      change = (1 - decay) * (stored - mean)
      tf.add_to_collection(
        tf.GraphKeys.UPDATE_OPS, stored.assign_sub(change, read_value=False)
      )
    return tf.concat(outputs, 0)


def activation(features, kind):
  """ReLU, or CELU with alpha 0.3: max(0, x) + min(0, 0.3 (exp(x / 0.3) - 1)).

  Args:
    features: Tensor, float32, float16 or bfloat16.
    kind: 'relu' or 'celu'.
  Returns:
    A Tensor of the shape and dtype of `features`.
  Source: Barron 2017, arXiv 1704.07483 (CELU).
  """
  if kind == 'relu':
    return tf.nn.relu(features)
  return CELU_ALPHA * tf.nn.elu(features / CELU_ALPHA)


def max_pool(images, size):
  """The maximum over windows of size x size, stride `size`, no padding."""
  return tf.nn.max_pool2d(images, size, size, 'VALID')


def linear(features, units, init='pytorch'):
  """A dense layer without a bias.

  Args:
    features: [batch, inputs] Tensor; inputs must be static.
    units: int, the number of outputs.
    init: as of initializer().
  Returns:
    [batch, units] Tensor of the dtype of `features`.
  Variables:
    linear/kernel: [inputs, units] float32, trainable.
  Collections:
    Those of its variable.
  """
  with tf.variable_scope('linear', use_resource=True):
    kernel = tf.get_variable(
      'kernel',
      [int(features.shape[-1]), units],
      tf.float32,
      initializer=initializer(init),
    )
    return tf.matmul(features, tf.cast(kernel, features.dtype))
