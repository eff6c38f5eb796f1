"""Every flag, and the way from flags to settings and to a flagfile and back.

Only commands read FLAGS; they hand settings down, and what is below takes
settings or plain arguments.
"""

import math
import os

from absl import flags

from graph_resnet9 import options
from graph_resnet9.errors import UserError

FLAGFILE = 'flags.txt'

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


class _FloatsSerializer(flags.ArgumentSerializer):

  def serialize(self, value):
    return ','.join('%g' % number for number in value)


def _define_float(name, default, help_text, low, high, flag_values):
  """A float flag in low .. high; absl's own bounds let NaN pass."""
  flags.DEFINE_float(name, default, help_text, low, high,
                     flag_values=flag_values)
  flags.register_validator(name, math.isfinite, 'must be a finite number',
                           flag_values=flag_values)


def define_train_flags(flag_values=flags.FLAGS):
  """The flags of graph_resnet9.train; the defaults are the 24-epoch recipe."""
  flags.DEFINE_string(
      'train_dir', None, 'Directory for checkpoints, summaries and metrics. '
      'The same command again resumes the run in it.', flag_values=flag_values,
      required=True)
  _define_float(
      'save_secs', 600, 'Save a checkpoint after so many seconds, besides the '
      'one of each epoch.', 0, None, flag_values)
  _define_recipe_flags(flag_values)


def define_benchmark_flags(flag_values=flags.FLAGS):
  """The flags of graph_resnet9.benchmark: a recipe, and how long to measure."""
  flags.DEFINE_integer(
      'steps', 20, 'Steps to time, after a few to warm up; the median counts.',
      1, flag_values=flag_values)
  _define_recipe_flags(flag_values)


def define_eval_flags(flag_values=flags.FLAGS):
  """The flags of graph_resnet9.eval."""
  flags.DEFINE_string(
      'checkpoint', None, 'A train_dir (its newest checkpoint), a checkpoint '
      'prefix, or its .index file. Flags that are not given are taken from '
      'flags.txt beside it.', flag_values=flag_values, required=True)
  flags.DEFINE_enum(
      'split', 'test', ['train', 'test'], 'Which images to evaluate.',
      flag_values=flag_values)
  flags.DEFINE_enum(
      'batch_norm', 'moving', ['moving', 'batch'], 'Normalise by the moving '
      'statistics, or by those of each batch, as in training.',
      flag_values=flag_values)
  flags.DEFINE_string(
      'confusion_png', '', 'Draw the confusion matrix into this file.',
      flag_values=flag_values)
  _define_shared_flags(flag_values)


def define_demo_flags(flag_values=flags.FLAGS):
  """The flags of graph_resnet9.demo."""
  flags.DEFINE_bool(
      'list', False, 'Name the cases and stop.', flag_values=flag_values)
  flags.DEFINE_string(
      'case', '', 'The case to run, or all; --list names them.',
      flag_values=flag_values)
  flags.DEFINE_string(
      'out_dir', '', 'Directory for CASE.json and CASE.png; by default a case '
      'only prints its table.', flag_values=flag_values)
  flags.DEFINE_integer(
      'seed', 0, 'Seed of weights, order and signals.', 0, 2**31 - 1,
      flag_values=flag_values)
  flags.DEFINE_string(
      'data_dir', '', 'Folder with CIFAR-10, as of graph_resnet9.train; by '
      'default the embedded synthetic images.', flag_values=flag_values)
  flags.DEFINE_bool(
      'fast', False, 'Shorter trainings; the claims and their margins stay.',
      flag_values=flag_values)


def _define_recipe_flags(flag_values):
  """The flags that make a training step; the shared ones among them."""
  _define_shared_flags(flag_values)
  flags.DEFINE_integer(
      'pad', 4, 'Reflect-pad the images by so many pixels and crop at random; '
      '0: no crop.', 0, 31, flag_values=flag_values)
  flags.DEFINE_bool(
      'flip', True, 'Mirror half of the training images.',
      flag_values=flag_values)
  flags.DEFINE_integer(
      'cutout', 8, 'Side of the square that is cut out of a training image; 0: '
      'none.', 0, 32, flag_values=flag_values)
  _define_float(
      'epochs', 24, 'Length of the run in epochs of train examples // '
      'batch_size steps. --lr_epochs is scaled to it.', 1e-3, 1e6, flag_values)
  flags.DEFINE(
      _FloatsParser(), 'lr_epochs', (0., 5., 24.), 'Knots of the learning '
      'rate, in epochs of a run that ends at the last one.', serializer=
      _FloatsSerializer(), flag_values=flag_values)
  flags.DEFINE(
      _FloatsParser(), 'lr_values', (0., .4, 0.), 'The learning rate at the '
      'knots, for the mean loss of a batch.', serializer=_FloatsSerializer(),
      flag_values=flag_values)
  _define_float(
      'momentum', .9, 'Nesterov momentum of the optimiser.', 0, 1, flag_values)
  _define_float(
      'weight_decay', 5e-4, 'Weight decay, on every trainable variable.', 0,
      None, flag_values)
  flags.DEFINE_enum(
      'update_ops', 'control_dependencies', ['control_dependencies', 'none'],
      'Whether the train op runs the update ops of batch normalisation. none '
      'is the classic bug: the moving statistics stay 0 and 1.',
      flag_values=flag_values)
  flags.register_multi_flags_validator(
      ['lr_epochs', 'lr_values'], lambda f: (
          len(f['lr_epochs']) == len(f['lr_values']) >= 2
          and f['lr_epochs'][0] == 0 and all(
              a < b for a, b in zip(f['lr_epochs'], f['lr_epochs'][1:]))),
      'must be two or more knots, as many epochs as values, epochs growing '
      'from 0', flag_values=flag_values)


def _define_shared_flags(flag_values):
  """The flags of data, batches and model, which train and eval share."""
  flags.DEFINE_integer(
      'seed', 0, 'Seed of weights, order and augmentation.', 0, 2**31 - 1,
      flag_values=flag_values)
  flags.DEFINE_enum(
      'dataset', 'auto', ['auto', 'cifar10', 'synthetic'], 'auto: CIFAR-10 '
      'from --data_dir, the cache or the network, and the embedded synthetic '
      'images if the network cannot be reached.', flag_values=flag_values)
  flags.DEFINE_string(
      'data_dir', '', 'Folder with cifar-10-batches-bin/, '
      'cifar-10-batches-py/, cifar-10-binary.tar.gz or cifar-10-python.tar.gz.',
      flag_values=flag_values)
  for split in ('train', 'test'):
    flags.DEFINE_integer(
        split + '_examples', 0, 'Use only the first so many %s images; 0: all.'
        % split, 0, flag_values=flag_values)
  flags.DEFINE_integer(
      'batch_size', 512, 'Images a step.', 1, flag_values=flag_values)
  flags.DEFINE_enum(
      'input', 'indices', ['indices', 'records'], 'What the queue carries: '
      'indices into images that lie in memory, or records read from files.',
      flag_values=flag_values)
  flags.DEFINE_enum(
      'order', 'file', ['file', 'class_sorted'], 'The order in which the '
      'images reach the queue.', flag_values=flag_values)
  flags.DEFINE_enum(
      'shuffle', 'shuffle_batch', ['shuffle_batch', 'epoch', 'none'],
      'shuffle_batch: tf.train.shuffle_batch; epoch: a permutation an epoch, '
      'the same for a seed, exactly resumable; none: tf.train.batch.',
      flag_values=flag_values)
  flags.DEFINE_integer(
      'min_after_dequeue', None, 'Images that wait in the queue of '
      'shuffle_batch at least; by default an epoch of them (of records at most '
      '45,000).', 0,
      flag_values=flag_values)
  flags.DEFINE_integer(
      'capacity', None, 'Images that the queue holds at most; by default '
      'min_after_dequeue and three batches.', 1, flag_values=flag_values)
  flags.DEFINE_integer(
      'width', 64, 'Channels of the first layer; the others have 2, 4 and 8 '
      'times as many.', 1, flag_values=flag_values)
  flags.DEFINE_enum(
      'precision', 'float32', ['float32', 'float16', 'bfloat16'], 'Arithmetic '
      'of the layers; weights and statistics are float32 in any case.',
      flag_values=flag_values)


# Settings from and to flags.


def read(kind, flag_values=flags.FLAGS):
  """An instance of `kind`, a class of options.py, from parsed flags."""
  return kind(**{
      name: read(field, flag_values) if hasattr(field, '_fields')
            else flag_values[name].value
      for name, field in kind.__annotations__.items()})


def flagfile_text(settings):
  """A flagfile of Train settings, all but train_dir, to run them again."""
  lines = ['# python -m graph_resnet9.train --flagfile=THIS --train_dir=NEW']
  for name, value in options.flat(settings).items():
    if isinstance(value, tuple):
      value = _FloatsSerializer().serialize(value)
    if value is not None and name != 'train_dir':
      lines.append('--%s=%s' % (name, value))
  return '\n'.join(lines) + '\n'


def read_flagfile(folder):
  """The Train settings of the run in `folder`.

  Returns:
    Train, or None if the folder has no flags.txt.
  Raises:
    UserError: flags.txt cannot be read or parsed.
  """
  path = os.path.join(folder, FLAGFILE)
  if not os.path.exists(path):
    return None
  flag_values = flags.FlagValues()
  define_train_flags(flag_values)
  try:
    with open(path) as f:
      lines = [line.strip() for line in f if line.startswith('--')]
    flag_values(['train', '--train_dir=' + folder] + lines)
  except (flags.Error, OSError, UnicodeDecodeError) as e:
    raise UserError('%s: not a flagfile of graph_resnet9.train: %s' %
                    (path, e)) from None
  return read(options.Train, flag_values)


def override(settings, saved, flag_values=flags.FLAGS):
  """`settings` with every flag that was not given taken from `saved`.

  Args:
    settings: settings read from `flag_values`.
    saved: settings of the same or another class, which share flags with it.
    flag_values: tells which flags were given.
  """
  values = options.flat(saved)
  return settings._replace(**{
      name: override(value, saved, flag_values) if hasattr(value, '_fields')
            else values[name]
      for name, value in settings._asdict().items()
      if hasattr(value, '_fields')
      or name in values and not flag_values[name].present})
