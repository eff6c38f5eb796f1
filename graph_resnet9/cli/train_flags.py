"""The flags of a training: a recipe, and where it runs.

What eval knows of a run is a Run, what benchmark times is a Recipe, what train
does is a Train.
"""

from collections.abc import Iterable
import dataclasses
import re

from absl import flags

from graph_resnet9.cli import recipe_flags
from graph_resnet9.cli import recipes
from graph_resnet9.cli import settings
from graph_resnet9.cli.settings import MAX_INT

# What tells the processes of a cluster apart, and one place from another; not
# kept with a run.
PROCESS_FLAGS = (
  'train_dir',
  'job_name',
  'task_index',
  'ps_hosts',
  'worker_hosts',
  'bind',
  'wait_secs',
)
# What may change from one session of a run to the next: none of these is part
# of the recipe.
SESSION_FLAGS = PROCESS_FLAGS + ('data_dir', 'save_secs', 'conv')

_HOST = re.compile(r'[^\s:/,]+:\d{1,5}')


def are_hosts(hosts: Iterable[str]) -> bool:
  """Whether they are HOST:PORT, each once, with ports 1 to 65535."""
  hosts = list(hosts)
  return all(map(_is_host, hosts)) and len(set(hosts)) == len(hosts)


def _is_host(host):
  if not isinstance(host, str) or not _HOST.fullmatch(host):
    return False
  name, port = host.split(':')
  try:
    name.encode('idna')  # Refuses what DNS does, such as a part of 64 letters.
  except UnicodeError:
    return False
  return 0 < int(port) < 2**16


ARE_NO_HOSTS = 'must be HOST:PORT,HOST:PORT,..., each once, ports 1 to 65535'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cluster(settings.Settings):
  """Which process of a cluster this is; by default there is none."""

  job_name: str = settings.choice(
    '',
    'What this process is in a cluster of several: a parameter server, which '
    'holds the variables, or a worker, which computes. Worker 0 is the chief: '
    'it evaluates and saves. TF_CONFIG in the environment says the same. By '
    'default there is no cluster.',
    ['', 'ps', 'worker'],
  )
  task_index: int = settings.integer(
    0, 'Which of the --ps_hosts or --worker_hosts this process is.', 0, MAX_INT
  )
  ps_hosts: tuple[str, ...] = settings.texts(
    'HOST:PORT of all parameter servers, with commas between them; the same '
    'list for every process.',
    are_hosts,
    ARE_NO_HOSTS,
  )
  worker_hosts: tuple[str, ...] = settings.texts(
    'HOST:PORT of all workers, with commas between them; the same list for '
    'every process.',
    are_hosts,
    ARE_NO_HOSTS,
  )
  sync: bool = settings.boolean(
    False,
    'A step joins the gradients of all workers, each from its share of '
    '--batch_size images. Otherwise every worker takes steps of its own, '
    'without waiting for the others.',
  )
  bind: str = settings.choice(
    'loopback',
    "Which connections a process of a cluster accepts: this machine's own, or "
    "all. TensorFlow's servers know no authentication: all is for private "
    'networks only.',
    ['loopback', 'all'],
  )
  wait_secs: float = settings.number(
    300,
    'How long to wait for a host of the cluster that does not answer, at the '
    'start and later.',
    1,
    1e6,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run(settings.Settings):
  """What train and eval must agree on: the images and the network."""

  seed: int = settings.integer(
    0, 'Seed of weights, order and augmentation.', 0, MAX_INT
  )
  data: recipe_flags.Data
  batches: recipe_flags.Batches
  model: recipe_flags.Model
  views: recipe_flags.Views


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe(Run):
  """What makes a training step: the flags of train and benchmark."""

  augment: recipe_flags.Augment
  optimizer: recipe_flags.Optimizer
  ghost_batch: int = settings.integer(
    0,
    'Normalise each so many images of a training batch by their own '
    'statistics; 0: the whole batch.',
    0,
    MAX_INT,
  )
  xla: str = settings.choice(
    'auto',
    'Compile the training step with XLA; auto: on a GPU.',
    ['auto', 'on', 'off'],
  )
  num_gpus: int = settings.integer(
    1,
    'Split each batch over so many GPUs of this machine. With 1, whatever '
    'device there is.',
    1,
    64,
  )

  @classmethod
  def define(cls, flag_values: flags.FlagValues) -> None:
    recipes.define(flag_values)  # It sets these flags and is none of them.
    super().define(flag_values)

  @classmethod
  def check(cls, flag_values: flags.FlagValues) -> None:
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train(Recipe):
  """Everything that graph_resnet9.train is told."""

  train_dir: str = settings.required_text(
    'Directory for checkpoints, summaries and metrics. The same command again '
    'resumes the run in it.'
  )
  save_secs: float = settings.number(
    600,
    'Save a checkpoint after so many seconds, besides the one of each epoch.',
    0,
  )
  cluster: Cluster
