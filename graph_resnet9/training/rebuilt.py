"""The training graph of a finished run again, from its flags.txt."""

import os
from typing import Any

import tensorflow.compat.v1 as tf

from graph_resnet9.cli import flagfile
from graph_resnet9.cli import train_flags
from graph_resnet9.inputs import dataset
from graph_resnet9.training import loop


def settings_of(prefix: str, data_dir: str) -> train_flags.Train | None:
  """The settings of the run that a checkpoint is of, or None if of none.

  Args:
    prefix: of the checkpoint.
    data_dir: folder with the data now, or '' for that of the run.
  Raises:
    UserError: flags.txt beside the checkpoint cannot be read.
  """
  settings = flagfile.read(os.path.dirname(prefix) or '.')
  if settings and data_dir:
    data = settings.data.replace(data_dir=os.path.abspath(data_dir))
    settings = settings.replace(data=data)
  return settings


def graph(
  settings: train_flags.Train, data: dataset.Data, workers: int = 1
) -> tuple[tf.Graph, dict[tf.Tensor, Any]]:
  """Builds the training step of a run in a new graph.

  Args:
    settings: of the run.
    data: its training images.
    workers: how many took a step together, each with its part of the batch.
  Returns:
    (tf.Graph, feed dict for the initialisation of its local variables).
  """
  batch_size = settings.batches.batch_size // workers
  settings = settings.replace(
    batches=settings.batches.replace(batch_size=batch_size)
  )
  with tf.Graph().as_default() as built:
    # As many towers, wherever they run now.
    step = loop.build(
      settings, data, restored=True, towers=('',) * settings.num_gpus
    )
  return built, step.feed
