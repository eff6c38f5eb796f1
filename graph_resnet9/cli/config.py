"""The flags of each command, and the way from flags to settings and back.

Only commands read FLAGS; they hand settings down, and what is below takes
settings or plain arguments.
"""

import os

from absl import flags

from graph_resnet9.cli import cluster_flags
from graph_resnet9.cli import recipes
from graph_resnet9.cli import settings as options
from graph_resnet9.cli import train_flags as recipe_flags
from graph_resnet9.errors import UserError

FLAGFILE = 'flags.txt'

flags.disclaim_key_flags()  # They are the command's: its --help lists them.


def define_train_flags(flag_values=flags.FLAGS):
  """The flags of graph_resnet9.train; the defaults are the 24-epoch recipe."""
  flags.DEFINE_string(
    'train_dir',
    None,
    'Directory for checkpoints, summaries and metrics. '
    'The same command again resumes the run in it.',
    flag_values=flag_values,
    required=True,
  )
  recipe_flags.define_float(
    'save_secs',
    600,
    'Save a checkpoint after so many seconds, besides the one of each epoch.',
    0,
    None,
    flag_values,
  )
  recipes.define(flag_values)
  recipe_flags.define_recipe(flag_values)
  cluster_flags.define_num_gpus(flag_values)
  cluster_flags.define_cluster(flag_values)


def define_benchmark_flags(flag_values=flags.FLAGS):
  """The flags of graph_resnet9.benchmark: a recipe, and how long to measure."""
  flags.DEFINE_integer(
    'steps',
    5,
    'Steps a run to time, after two to warm up.',
    1,
    recipe_flags.MAX_INT,
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    'runs',
    3,
    'Runs, in which all that is timed takes its turn; the median '
    'of all steps counts.',
    1,
    recipe_flags.MAX_INT,
    flag_values=flag_values,
  )
  flags.DEFINE_enum(
    'compare',
    'none',
    ['none', 'torch'],
    'Time the same training step in '
    "PyTorch, too, which pip install '.[bench]' brings.",
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    'ops',
    0,
    'List so many types of ops that take most of a training step.',
    0,
    recipe_flags.MAX_INT,
    flag_values=flag_values,
  )
  flags.DEFINE_bool(
    'json',
    False,
    'Print one line of JSON instead of the table.',
    flag_values=flag_values,
  )
  recipes.define(flag_values)
  recipe_flags.define_recipe(flag_values)
  cluster_flags.define_num_gpus(flag_values)


def define_eval_flags(flag_values=flags.FLAGS):
  """The flags of graph_resnet9.eval."""
  flags.DEFINE_string(
    'checkpoint',
    None,
    'A train_dir (its newest checkpoint), a checkpoint '
    'prefix, or its .index file. Flags that are not given are taken from '
    'flags.txt beside it.',
    flag_values=flag_values,
    required=True,
  )
  flags.DEFINE_enum(
    'split',
    'test',
    ['train', 'test'],
    'Which images to evaluate.',
    flag_values=flag_values,
  )
  flags.DEFINE_enum(
    'batch_norm',
    'moving',
    ['moving', 'batch'],
    'Normalise by the moving '
    'statistics, or by those of each batch, as in training.',
    flag_values=flag_values,
  )
  flags.DEFINE_enum(
    'weights',
    'auto',
    ['auto', 'average', 'trained'],
    'The averages of '
    '--ema_decay, or the weights as trained; auto: the averages where the '
    'checkpoint has them.',
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    'confusion_png',
    '',
    'Draw the confusion matrix into this file.',
    flag_values=flag_values,
  )
  recipe_flags.define_shared(flag_values)


def define_demo_flags(flag_values=flags.FLAGS):
  """The flags of graph_resnet9.demo."""
  flags.DEFINE_bool(
    'list', False, 'Name the cases and stop.', flag_values=flag_values
  )
  flags.DEFINE_string(
    'case',
    '',
    'The case to run, or all; --list names them.',
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    'out_dir',
    '',
    'Directory for CASE.json and CASE.png; by default a case '
    'only prints its table.',
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    'seed',
    0,
    'Seed of weights, order and signals.',
    0,
    recipe_flags.MAX_INT,
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    'data_dir',
    '',
    'Folder with CIFAR-10, as of graph_resnet9.train; by '
    'default the embedded synthetic images.',
    flag_values=flag_values,
  )
  flags.DEFINE_bool(
    'fast',
    False,
    'Shorter trainings; the claims and their margins stay.',
    flag_values=flag_values,
  )


def define_export_flags(flag_values=flags.FLAGS):
  """The flags of graph_resnet9.export."""
  flags.DEFINE_string(
    'checkpoint',
    None,
    'A train_dir (its newest checkpoint), a checkpoint '
    'prefix, or its .index file; flags.txt beside it says what network it is '
    'of.',
    flag_values=flag_values,
    required=True,
  )
  flags.DEFINE_string(
    'export_dir',
    None,
    'New directory for the SavedModel; for TensorFlow '
    'Serving one whose name is a number, the version.',
    flag_values=flag_values,
    required=True,
  )
  flags.DEFINE_enum(
    'weights',
    'auto',
    ['auto', 'average', 'trained'],
    'The averages of '
    '--ema_decay, or the weights as trained; auto: the averages where the '
    'checkpoint has them.',
    flag_values=flag_values,
  )
  flags.DEFINE_bool(
    'mirrored',
    False,
    'Answer by the mean of the logits of an image and its '
    'mirror image; by default as flags.txt says.',
    flag_values=flag_values,
  )


def define_predict_flags(flag_values=flags.FLAGS):
  """The flags of graph_resnet9.predict."""
  flags.DEFINE_string(
    'export_dir',
    None,
    'What graph_resnet9.export has written.',
    flag_values=flag_values,
    required=True,
  )


# Settings from and to flags.


def read(kind, flag_values=flags.FLAGS):
  """An instance of `kind`, a class of options.py, from parsed flags."""
  return kind(
    **{
      name: read(field, flag_values)
      if hasattr(field, '_fields')
      else flag_values[name].value
      for name, field in kind.__annotations__.items()
    }
  )


def flagfile_text(settings):
  """A flagfile of Train settings, to run them again elsewhere."""
  lines = ['# python -m graph_resnet9.train --flagfile=THIS --train_dir=NEW']
  for name, value in options.flat(settings).items():
    if isinstance(value, tuple):
      value = recipe_flags.FloatsSerializer().serialize(value)
    if value is not None and name not in options.PROCESS_FLAGS:
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
    if any(line.startswith('--flagfile') for line in lines):
      raise flags.Error('it refers to another flagfile')
    flag_values(['train', '--train_dir=' + folder] + lines)
  except RecursionError:  # absl looks for flags of similar names.
    raise UserError(
      '%s: not a flagfile of graph_resnet9.train: a line of it is '
      'no flag' % path
    ) from None
  except (flags.Error, OSError, UnicodeDecodeError) as e:
    # In one line: a damaged name may hold a line end that open() knows not.
    raise UserError(
      '%s: not a flagfile of graph_resnet9.train: %s'
      % (path, ' '.join(str(e).split())[:999])
    ) from None
  return read(options.Train, flag_values)


def override(settings, saved, flag_values=flags.FLAGS):
  """`settings` with every flag that was not given taken from `saved`.

  Args:
    settings: settings read from `flag_values`.
    saved: settings of the same or another class, which share flags with it.
    flag_values: tells which flags were given.
  """
  values = options.flat(saved)
  return settings._replace(
    **{
      name: override(value, saved, flag_values)
      if hasattr(value, '_fields')
      else values[name]
      for name, value in settings._asdict().items()
      if hasattr(value, '_fields')
      or name in values
      and not flag_values[name].present
    }
  )
