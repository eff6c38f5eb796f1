"""The training graph of a finished run again, from its flags.txt."""

import os

import tensorflow.compat.v1 as tf

from graph_resnet9.cli import flagfile
from graph_resnet9.inputs import dataset
from graph_resnet9.training import graph as training_graph


def settings_of(prefix, data_dir):
  """train_flags.Train of the run that a checkpoint is of, or None if of none.

  Args:
    prefix: of the checkpoint.
    data_dir: folder with the data now, or '' for that of the run.
  Raises:
    UserError: flags.txt beside the checkpoint cannot be read.
  """
  settings = flagfile.read(os.path.dirname(prefix) or '.')
  if settings and data_dir:
    settings = settings.replace(
      data=settings.data.replace(data_dir=os.path.abspath(data_dir))
    )
  return settings


def graph(settings, scratch):
  """Builds the training graph of a run in a new graph.

  Args:
    settings: train_flags.Train.
    scratch: existing directory for record files, if they have to be written.
  Returns:
    (tf.Graph, feed dict for the initialisation of its local variables).
  Raises:
    UserError: the data are not there.
  """
  source = dataset.find(settings.data.dataset, settings.data.data_dir)
  with tf.Graph().as_default() as built:
    # As many towers, wherever they run now.
    train_graph = training_graph.build(
      settings,
      source,
      scratch,
      training_graph.Replica(towers=('',) * settings.num_gpus),
      restored=True,
    )
  return built, train_graph.feed
