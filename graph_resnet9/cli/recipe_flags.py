"""The flags of a recipe: images, batches, augmentation, network, optimiser.

Each is declared once, as a field: name, default, help, bounds. The defaults are
the 24-epoch recipe of davidcpage/cifar10-fast.
"""

import dataclasses

from absl import flags

from graph_resnet9.cli import settings
from graph_resnet9.cli.settings import MAX_INT


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data(settings.Settings):
  """Which images there are."""

  dataset: str = settings.choice(
    'auto',
    'auto: CIFAR-10 from --data_dir, the cache or the network, and the '
    'embedded synthetic images if the network cannot be reached; '
    'cifar100_coarse: by its 20 superclasses; folder: any others in the binary '
    'layout of CIFAR-10, in --data_dir.',
    ['auto', 'cifar10', 'cifar100', 'cifar100_coarse', 'folder', 'synthetic'],
  )
  data_dir: str = settings.text(
    '',
    'Folder with cifar-10-batches-bin/, cifar-10-batches-py/, '
    'cifar-10-binary.tar.gz or cifar-10-python.tar.gz, or one of these itself; '
    'for other data sets likewise.',
  )
  classes: str = settings.text(
    '',
    'With --dataset=folder: how many classes, or their names with commas '
    'between them; by default the lines of batches.meta.txt in --data_dir.',
  )
  train_examples: int = settings.integer(
    0, 'Use only the first so many train images; 0: all.', 0, MAX_INT
  )
  test_examples: int = settings.integer(
    0, 'Use only the first so many test images; 0: all.', 0, MAX_INT
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batches(settings.Settings):
  """How they come in batches."""

  batch_size: int = settings.integer(512, 'Images a step.', 1, MAX_INT)
  input: str = settings.choice(
    'indices',
    'What the queue carries: indices into images that lie in memory, or '
    'records read from files.',
    ['indices', 'records'],
  )
  order: str = settings.choice(
    'file',
    'The order in which the images reach the queue.',
    ['file', 'class_sorted'],
  )
  shuffle: str = settings.choice(
    'shuffle_batch',
    'shuffle_batch: tf.train.shuffle_batch; epoch: a permutation an epoch, '
    'the same for a seed, exactly resumable; none: tf.train.batch.',
    ['shuffle_batch', 'epoch', 'none'],
  )
  min_after_dequeue: int | None = settings.integer(
    None,
    'Images that wait in the queue of shuffle_batch at least; by default an '
    'epoch of them (of records at most 45,000).',
    0,
    MAX_INT,
  )
  capacity: int | None = settings.integer(
    None,
    'Images that the queue holds at most; by default min_after_dequeue and '
    'three batches, or 1,536 where those are fewer.',
    1,
    MAX_INT,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augment(settings.Settings):
  """What happens to an image before it is trained on; sizes in pixels."""

  pad: int = settings.integer(
    4,
    'Reflect-pad the images by so many pixels and crop at random; 0: no crop.',
    0,
    31,
  )
  flip: bool = settings.boolean(True, 'Mirror half of the training images.')
  alternate_flip: bool = settings.boolean(
    False,
    'Mirror each training image in every other epoch, whatever --flip says.',
  )
  cutout: int = settings.integer(
    8, 'Side of the square that is cut out of a training image; 0: none.', 0, 32
  )
  cutout_inside: bool = settings.boolean(
    True,
    'Cut squares out that lie inside the image; nocutout_inside: their middle '
    'may be any pixel.',
  )
  crop_per: str = settings.choice(
    'image',
    'Draw the shift of the crop for each image, or one for a whole batch.',
    ['image', 'batch'],
  )
  pad_mode: str = settings.choice(
    'reflect',
    'What a crop sees beyond the border: the mirrored image, or the mean '
    'colour (0 after normalising).',
    ['reflect', 'zero'],
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model(settings.Settings):
  """The network; keyword arguments of model.resnet9.logits."""

  width: int = settings.integer(
    64,
    'Channels of the first layer; the others have 2, 4 and 8 times as many.',
    1,
    1024,
  )
  precision: str = settings.choice(
    'float32',
    'Arithmetic of the layers; weights and statistics are float32 in any case.',
    ['float32', 'float16', 'bfloat16'],
  )
  conv: str = settings.choice(
    'auto',
    'Algorithm of the convolutions, the same but for the rounding. winograd: '
    "Winograd's in float32 with 3x3 kernels and 32 channels in or more; "
    'winograd64: with 64 or more. auto: that of the run, where there is one; '
    'in a new one winograd64 on a CPU with AVX-512, winograd on others, direct '
    'with a GPU.',
    ['auto', 'direct', 'winograd', 'winograd64'],
  )
  logit_scale: float = settings.number(
    0.125, 'Factor of the logits.', 1e-6, 1e6
  )
  activation: str = settings.choice(
    'relu', 'celu has alpha 0.3.', ['relu', 'celu']
  )
  pool_before_bn: bool = settings.boolean(
    False, 'Max pool before batch normalisation instead of after it.'
  )
  train_gamma: bool = settings.boolean(
    True, 'Train the scale of batch normalisation; otherwise it is 1.'
  )
  whitening: bool = settings.boolean(
    False,
    'Begin with a fixed 3x3 convolution that whitens the patches of the '
    'training images, then a 1x1 convolution.',
  )
  init: str = settings.choice(
    'pytorch',
    "Initial kernels: uniform in +-1/sqrt(fan_in), PyTorch's default; "
    'he_uniform, sqrt(6) times as wide; or dirac: as pytorch, but the first '
    'channels out of a convolution are the channels in.',
    ['pytorch', 'he_uniform', 'dirac'],
  )
  bn_decay: float = settings.number(
    0.9,
    'Weight of the past in the moving statistics of batch normalisation.',
    0,
    1,
  )
  bn_epsilon: float = settings.number(
    1e-5, 'What batch normalisation adds to the variance.', 1e-12, 1
  )
  bn_fused: bool = settings.boolean(
    True,
    "TensorFlow's fused kernel, which stores the unbiased variance as PyTorch "
    'does; nobn_fused: the plain ops, which store the biased one.',
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Views(settings.Settings):
  """What evaluation sees of an image; it takes the mean of the logits."""

  mirrored: bool = settings.boolean(
    False,
    'Evaluate by the mean of the logits of an image and its mirror image.',
  )
  shifted: bool = settings.boolean(
    False,
    'Evaluate on the image shifted by a pixel too, up and left and down and '
    'right, which count half as much.',
  )

  def images(self, inputs: int) -> int:
    """Of how many images the views are so many inputs; at least 1."""
    views = (3 if self.shifted else 1) * (2 if self.mirrored else 1)
    return max(1, inputs // views)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer(settings.Settings):
  """The loss and how it is brought down. Rates are for the mean loss."""

  label_smoothing: float = settings.number(
    0,
    'Share of the label that goes to all classes alike, in the training loss.',
    0,
    1,
  )
  epochs: float = settings.number(
    24,
    'Length of the run in epochs of train examples // batch_size steps. '
    '--lr_epochs is scaled to it.',
    1e-3,
    1e6,
  )
  lr_epochs: tuple[float, ...] = settings.numbers(
    (0.0, 5.0, 24.0),
    'Knots of the learning rate, in epochs of a run that ends at the last one.',
  )
  lr_values: tuple[float, ...] = settings.numbers(
    (0.0, 0.4, 0.0),
    'The learning rate at the knots, for the mean loss of a batch.',
  )
  lr_shift_steps: int = settings.integer(
    1,
    'Read the schedule so many steps ahead; the source has 1, so that the last '
    'step has the rate of the last knot.',
    0,
    1,
  )
  nesterov: bool = settings.boolean(
    True, "Nesterov's momentum; nonesterov: the plain one."
  )
  rate_in_velocity: bool = settings.boolean(
    True,
    "Keep the learning rate inside the velocity, as the source's PyTorch does; "
    "norate_in_velocity: outside, as TensorFlow's MomentumOptimizer does.",
  )
  momentum: float = settings.number(0.9, 'Momentum of the optimiser.', 0, 1)
  weight_decay: float = settings.number(
    5e-4, 'Weight decay, on every trainable variable.', 0
  )
  bias_lr_scale: float = settings.number(
    1,
    'Times the learning rate for biases (beta of batch normalisation), whose '
    'weight decay is as much smaller.',
    1e-6,
    1e6,
  )
  ema_decay: float = settings.number(
    0,
    'Evaluate averages of weights and moving statistics, which keep this '
    'share of themselves a step; 0: no averages.',
    0,
    1,
  )
  ema_steps: int = settings.integer(
    5,
    'Update those averages after every so many steps, by ema_decay ** '
    'ema_steps.',
    1,
    MAX_INT,
  )
  update_ops: str = settings.choice(
    'control_dependencies',
    'Whether the train op runs the update ops of batch normalisation. none '
    'is the classic bug: the moving statistics stay 0 and 1.',
    ['control_dependencies', 'none'],
  )

  @classmethod
  def check(cls, flag_values: flags.FlagValues) -> None:
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
