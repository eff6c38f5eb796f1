"""What a command is told: a NamedTuple whose fields are flags, or groups.

Field = flag = keyword argument; config.py defines the flags and reads them into
these. A leaf.
"""

from typing import NamedTuple

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


class Data(NamedTuple):
  dataset: str
  data_dir: str
  train_examples: int
  test_examples: int


class Batches(NamedTuple):
  batch_size: int
  input: str
  order: str
  shuffle: str
  min_after_dequeue: int | None
  capacity: int | None


class Augment(NamedTuple):
  pad: int
  flip: bool
  cutout: int
  crop_per: str
  cutout_inside: bool
  pad_mode: str


class Model(NamedTuple):
  width: int
  precision: str
  conv: str
  logit_scale: float
  activation: str
  pool_before_bn: bool
  train_gamma: bool
  whitening: bool
  init: str
  bn_decay: float
  bn_epsilon: float
  bn_fused: bool


class Optimizer(NamedTuple):
  label_smoothing: float
  epochs: float
  lr_epochs: tuple[float, ...]
  lr_values: tuple[float, ...]
  lr_shift_steps: int
  momentum: float
  weight_decay: float
  bias_lr_scale: float
  nesterov: bool
  rate_in_velocity: bool
  ema_decay: float
  ema_steps: int
  update_ops: str


class Cluster(NamedTuple):
  job_name: str
  task_index: int
  ps_hosts: list[str]
  worker_hosts: list[str]
  sync: bool
  bind: str
  wait_secs: float


class Train(NamedTuple):
  """Everything that graph_resnet9.train is told."""

  train_dir: str
  seed: int
  save_secs: float
  data: Data
  batches: Batches
  augment: Augment
  model: Model
  optimizer: Optimizer
  ghost_batch: int
  xla: str
  mirrored: bool
  num_gpus: int
  cluster: Cluster


class Benchmark(NamedTuple):
  """Everything that graph_resnet9.benchmark is told."""

  steps: int
  runs: int
  compare: str
  ops: int
  json: bool
  seed: int
  data: Data
  batches: Batches
  augment: Augment
  model: Model
  optimizer: Optimizer
  ghost_batch: int
  xla: str
  mirrored: bool
  num_gpus: int


class Eval(NamedTuple):
  """Everything that graph_resnet9.eval is told."""

  checkpoint: str
  split: str
  batch_norm: str
  weights: str
  mirrored: bool
  confusion_png: str
  seed: int
  data: Data
  batches: Batches
  model: Model


class Export(NamedTuple):
  """Everything that graph_resnet9.export is told."""

  checkpoint: str
  export_dir: str
  weights: str
  mirrored: bool


class Predict(NamedTuple):
  """Everything that graph_resnet9.predict is told, besides the files."""

  export_dir: str


class Demo(NamedTuple):
  """Everything that graph_resnet9.demo is told."""

  list: bool
  case: str
  out_dir: str
  seed: int
  data_dir: str
  fast: bool


class Lint(NamedTuple):
  """Everything that graph_resnet9.lint is told."""

  meta_graph: str
  train_op: list[str]
  checkpoint: str
  format: str


class Diagnose(NamedTuple):
  """Everything that graph_resnet9.diagnose is told."""

  meta_graph: str
  checkpoint: str
  batches: int
  feed: str
  png: str
  json: bool
  data_dir: str


class Recalibrate(NamedTuple):
  """Everything that graph_resnet9.recalibrate is told."""

  meta_graph: str
  checkpoint: str
  out: str
  batches: int
  feed: str
  data_dir: str


def flat(settings):
  """The settings as {flag name: value}, groups resolved, in order."""
  values = {}
  for name, value in settings._asdict().items():
    values.update(flat(value) if hasattr(value, '_fields') else {name: value})
  return values
