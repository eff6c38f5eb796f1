"""Trains ResNet9 in a TensorFlow 1 graph.

  python -m graph_resnet9.train --batch_size=512 --train_dir=/tmp/r9
  python -m graph_resnet9.train --recipe=quickstart

One row an epoch on stdout, then one line of JSON. The same command again
resumes. Before the first step the graph is checked as by graph_resnet9.lint;
what that finds goes to stderr.
"""

import glob
import os

from absl import flags

from graph_resnet9 import files
from graph_resnet9.cli import command
from graph_resnet9.cli import train_flags
from graph_resnet9.errors import UserError

FLAGS = flags.FLAGS
FIRST = (
  'train_dir',
  'recipe',
  'dataset',
  'data_dir',
  'width',
  'epochs',
  'batch_size',
  'seed',
)
# Of NVIDIA's driver, of WSL's and of AMD's.
_GPU_DEVICES = ('/dev/nvidia[0-9]*', '/dev/dxg', '/dev/kfd')


def define_flags(flag_values=FLAGS):
  train_flags.Train.define(flag_values)


def check():
  from graph_resnet9.inputs import dataset  # pylint: disable=g-import-not-at-top

  settings = train_flags.Train.read(FLAGS)
  if settings.cluster.job_name or os.environ.get('TF_CONFIG'):
    return  # Not every process of a cluster needs what the others do.
  files.check_dir('--train_dir', settings.train_dir)
  dataset.refuse_early(settings.batches.batch_size, **settings.data)
  if settings.num_gpus > 1:
    _check_num_gpus(settings.num_gpus)


def _check_num_gpus(count):
  """Refuses several GPUs where there is none; TensorFlow counts them later."""
  if not any(map(glob.glob, _GPU_DEVICES)):
    raise UserError('--num_gpus=%d: there is no GPU here' % count)


def main():
  # pylint: disable=g-import-not-at-top
  from graph_resnet9.cluster import tasks
  from graph_resnet9.cluster import worker_loop
  from graph_resnet9.doctor.lint import hook
  from graph_resnet9.training import loop

  settings = train_flags.Train.read(FLAGS)
  task = tasks.task_of(settings.cluster, os.environ)
  if task:
    return worker_loop.train(settings, task, [hook.LintHook()])
  return loop.train(settings, [hook.LintHook()])


if __name__ == '__main__':
  command.run(
    main, define_flags, check=check, first=FIRST, settings=train_flags.Train
  )
