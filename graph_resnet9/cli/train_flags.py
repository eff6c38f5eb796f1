"""The flags of a recipe: what train and benchmark share, and in part eval."""

import math

from absl import flags

# What TensorFlow's integers hold; a bound for numbers that need no other one.
MAX_INT = 2**31 - 1

flags.disclaim_key_flags()  # They are the command's: its --help lists them.


class _FloatsParser(flags.ArgumentParser):
  """Numbers with commas between them, as a tuple of floats."""

  def parse(self, argument):
    if isinstance(argument, (list, tuple)):
      return tuple(argument)
    try:
      numbers = tuple(float(part) for part in argument.split(','))
    except ValueError:
      numbers = (math.nan,)
    if not all(map(math.isfinite, numbers)):
      raise ValueError('give finite numbers with commas between them')
    return numbers

  def flag_type(self):
    return 'comma separated list of numbers'


class FloatsSerializer(flags.ArgumentSerializer):
  def serialize(self, value):
    return ','.join('%g' % number for number in value)


def define_float(name, default, help_text, low, high, flag_values):
  """A float flag in low .. high; absl's own bounds let NaN pass."""
  flags.DEFINE_float(
    name, default, help_text, low, high, flag_values=flag_values
  )
  flags.register_validator(
    name, math.isfinite, 'must be a finite number', flag_values=flag_values
  )


def define_recipe(flag_values):
  """The flags that make a training step; the shared ones among them."""
  define_shared(flag_values)
  flags.DEFINE_integer(
    'pad',
    4,
    'Reflect-pad the images by so many pixels and crop at random; 0: no crop.',
    0,
    31,
    flag_values=flag_values,
  )
  flags.DEFINE_bool(
    'flip', True, 'Mirror half of the training images.', flag_values=flag_values
  )
  flags.DEFINE_integer(
    'cutout',
    8,
    'Side of the square that is cut out of a training image; 0: none.',
    0,
    32,
    flag_values=flag_values,
  )
  flags.DEFINE_bool(
    'cutout_inside',
    True,
    'Cut squares out that lie inside the image; nocutout_inside: their middle '
    'may be any pixel.',
    flag_values=flag_values,
  )
  flags.DEFINE_enum(
    'crop_per',
    'image',
    ['image', 'batch'],
    'Draw the shift of the crop for each image, or one for a whole batch.',
    flag_values=flag_values,
  )
  flags.DEFINE_enum(
    'pad_mode',
    'reflect',
    ['reflect', 'zero'],
    'What a crop sees beyond the border: the mirrored image, or the mean '
    'colour (0 after normalising).',
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    'ghost_batch',
    0,
    'Normalise each so many images of a training batch by '
    'their own statistics; 0: the whole batch.',
    0,
    MAX_INT,
    flag_values=flag_values,
  )
  define_float(
    'label_smoothing',
    0,
    'Share of the label that goes to all classes alike, in the training loss.',
    0,
    1,
    flag_values,
  )
  define_float(
    'epochs',
    24,
    'Length of the run in epochs of train examples // '
    'batch_size steps. --lr_epochs is scaled to it.',
    1e-3,
    1e6,
    flag_values,
  )
  flags.DEFINE(
    _FloatsParser(),
    'lr_epochs',
    (0.0, 5.0, 24.0),
    'Knots of the learning rate, in epochs of a run that ends at the last one.',
    serializer=FloatsSerializer(),
    flag_values=flag_values,
  )
  flags.DEFINE(
    _FloatsParser(),
    'lr_values',
    (0.0, 0.4, 0.0),
    'The learning rate at the knots, for the mean loss of a batch.',
    serializer=FloatsSerializer(),
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    'lr_shift_steps',
    1,
    'Read the schedule so many steps ahead; the source has 1, so that the last '
    'step has the rate of the last knot.',
    0,
    1,
    flag_values=flag_values,
  )
  flags.DEFINE_bool(
    'nesterov',
    True,
    "Nesterov's momentum; nonesterov: the plain one.",
    flag_values=flag_values,
  )
  flags.DEFINE_bool(
    'rate_in_velocity',
    True,
    "Keep the learning rate inside the velocity, as the source's PyTorch does; "
    "norate_in_velocity: outside, as TensorFlow's MomentumOptimizer does.",
    flag_values=flag_values,
  )
  define_float('momentum', 0.9, 'Momentum of the optimiser.', 0, 1, flag_values)
  define_float(
    'weight_decay',
    5e-4,
    'Weight decay, on every trainable variable.',
    0,
    None,
    flag_values,
  )
  define_float(
    'bias_lr_scale',
    1,
    'Times the learning rate for biases (beta of batch '
    'normalisation), whose weight decay is as much smaller.',
    1e-6,
    1e6,
    flag_values,
  )
  define_float(
    'ema_decay',
    0,
    'Evaluate averages of weights and moving statistics, '
    'which keep this share of themselves a step; 0: no averages.',
    0,
    1,
    flag_values,
  )
  flags.DEFINE_integer(
    'ema_steps',
    5,
    'Update those averages after every so many steps, by '
    'ema_decay ** ema_steps.',
    1,
    MAX_INT,
    flag_values=flag_values,
  )
  flags.DEFINE_enum(
    'update_ops',
    'control_dependencies',
    ['control_dependencies', 'none'],
    'Whether the train op runs the update ops of batch normalisation. none '
    'is the classic bug: the moving statistics stay 0 and 1.',
    flag_values=flag_values,
  )
  flags.DEFINE_enum(
    'xla',
    'auto',
    ['auto', 'on', 'off'],
    'Compile the training step with XLA; auto: on a GPU.',
    flag_values=flag_values,
  )
  flags.register_multi_flags_validator(
    ['lr_epochs', 'lr_values'],
    lambda f: (
      len(f['lr_epochs']) == len(f['lr_values']) >= 2
      and f['lr_epochs'][0] == 0
      and all(a < b for a, b in zip(f['lr_epochs'], f['lr_epochs'][1:]))
    ),
    'must be two or more knots, as many epochs as values, epochs growing '
    'from 0',
    flag_values=flag_values,
  )
  flags.register_multi_flags_validator(
    ['batch_size', 'ghost_batch'],
    lambda f: not f['ghost_batch'] or f['batch_size'] % f['ghost_batch'] == 0,
    '--batch_size must be a multiple of --ghost_batch',
    flag_values=flag_values,
  )
  flags.register_multi_flags_validator(
    ['bn_fused', 'ghost_batch'],
    lambda f: f['bn_fused'] or not f['ghost_batch'],
    '--nobn_fused: ghost batches (--ghost_batch) are always fused',
    flag_values=flag_values,
  )


def define_shared(flag_values):
  """The flags of data, batches and model, which train and eval share."""
  flags.DEFINE_integer(
    'seed',
    0,
    'Seed of weights, order and augmentation.',
    0,
    MAX_INT,
    flag_values=flag_values,
  )
  flags.DEFINE_enum(
    'dataset',
    'auto',
    ['auto', 'cifar10', 'synthetic'],
    'auto: CIFAR-10 '
    'from --data_dir, the cache or the network, and the embedded synthetic '
    'images if the network cannot be reached.',
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    'data_dir',
    '',
    'Folder with cifar-10-batches-bin/, '
    'cifar-10-batches-py/, cifar-10-binary.tar.gz or cifar-10-python.tar.gz.',
    flag_values=flag_values,
  )
  for split in ('train', 'test'):
    flags.DEFINE_integer(
      split + '_examples',
      0,
      'Use only the first so many %s images; 0: all.' % split,
      0,
      MAX_INT,
      flag_values=flag_values,
    )
  flags.DEFINE_integer(
    'batch_size', 512, 'Images a step.', 1, MAX_INT, flag_values=flag_values
  )
  flags.DEFINE_enum(
    'input',
    'indices',
    ['indices', 'records'],
    'What the queue carries: '
    'indices into images that lie in memory, or records read from files.',
    flag_values=flag_values,
  )
  flags.DEFINE_enum(
    'order',
    'file',
    ['file', 'class_sorted'],
    'The order in which the images reach the queue.',
    flag_values=flag_values,
  )
  flags.DEFINE_enum(
    'shuffle',
    'shuffle_batch',
    ['shuffle_batch', 'epoch', 'none'],
    'shuffle_batch: tf.train.shuffle_batch; epoch: a permutation an epoch, '
    'the same for a seed, exactly resumable; none: tf.train.batch.',
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    'min_after_dequeue',
    None,
    'Images that wait in the queue of '
    'shuffle_batch at least; by default an epoch of them (of records at most '
    '45,000).',
    0,
    MAX_INT,
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    'capacity',
    None,
    'Images that the queue holds at most; by default '
    'min_after_dequeue and three batches.',
    1,
    MAX_INT,
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    'width',
    64,
    'Channels of the first layer; the others have 2, 4 and 8 times as many.',
    1,
    1024,
    flag_values=flag_values,
  )
  flags.DEFINE_enum(
    'precision',
    'float32',
    ['float32', 'float16', 'bfloat16'],
    'Arithmetic of the layers; weights and statistics are float32 in any case.',
    flag_values=flag_values,
  )
  flags.DEFINE_enum(
    'conv',
    'auto',
    ['auto', 'direct', 'winograd'],
    'Algorithm of the 3x3 '
    'convolutions in float32 with 32 channels and more; the same but for the '
    'rounding. auto: that of the run, where there is one; in a new one '
    'winograd, or direct where TensorFlow finds a GPU.',
    flag_values=flag_values,
  )
  define_float(
    'logit_scale', 0.125, 'Factor of the logits.', 1e-6, 1e6, flag_values
  )
  flags.DEFINE_enum(
    'activation',
    'relu',
    ['relu', 'celu'],
    'celu has alpha 0.3.',
    flag_values=flag_values,
  )
  flags.DEFINE_bool(
    'pool_before_bn',
    False,
    'Max pool before batch normalisation instead of after it.',
    flag_values=flag_values,
  )
  flags.DEFINE_bool(
    'train_gamma',
    True,
    'Train the scale of batch normalisation; otherwise it is 1.',
    flag_values=flag_values,
  )
  flags.DEFINE_bool(
    'whitening',
    False,
    'Begin with a fixed 3x3 convolution that whitens the '
    'patches of the training images, then a 1x1 convolution.',
    flag_values=flag_values,
  )
  flags.DEFINE_enum(
    'init',
    'pytorch',
    ['pytorch', 'he_uniform'],
    "Initial kernels: uniform in +-1/sqrt(fan_in), PyTorch's default, or "
    'he_uniform, sqrt(6) times as wide.',
    flag_values=flag_values,
  )
  define_float(
    'bn_decay',
    0.9,
    'Weight of the past in the moving statistics of batch normalisation.',
    0,
    1,
    flag_values,
  )
  define_float(
    'bn_epsilon',
    1e-5,
    'What batch normalisation adds to the variance.',
    1e-12,
    1,
    flag_values,
  )
  flags.DEFINE_bool(
    'bn_fused',
    True,
    "TensorFlow's fused kernel, which stores the unbiased variance as PyTorch "
    'does; nobn_fused: the plain ops, which store the biased one.',
    flag_values=flag_values,
  )
  flags.DEFINE_bool(
    'mirrored',
    False,
    'Evaluate by the mean of the logits of an image and its mirror image.',
    flag_values=flag_values,
  )
