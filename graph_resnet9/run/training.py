"""The training run: its directory, its graph, then the loop."""

import json
import os
import tempfile

from absl import logging
import tensorflow.compat.v1 as tf

from graph_resnet9 import config
from graph_resnet9.inputs import dataset
from graph_resnet9.run import checkpoints
from graph_resnet9.run import evaluation
from graph_resnet9.run import files
from graph_resnet9.run import hooks
from graph_resnet9.run import train_dir
from graph_resnet9.run import training_graph

_SUMMARY_STEPS = 20


def train(settings, more_hooks=()):
  """Trains, or resumes, until the last step or a signal.

  Prints a table row an epoch and one line of JSON, and leaves in train_dir:
  checkpoints, flags.txt, metrics.jsonl, TensorBoard event files.

  Args:
    settings: options.Train.
    more_hooks: list of SessionRunHook, to run after those of the training.
  Returns:
    Exit code: 0, or 128 + the number of the signal that stopped it.
  Raises:
    UserError: bad data, a train_dir of another run, a loss that is not finite.
  """
  source = dataset.find(settings.data.dataset, settings.data.data_dir)
  settings = settings._replace(
      train_dir=os.path.abspath(settings.train_dir),
      data=settings.data._replace(
          dataset=source.name,
          data_dir=os.path.abspath(settings.data.data_dir)
          if settings.data.data_dir else ''))
  resume_from = train_dir.opened(settings)
  with tempfile.TemporaryDirectory() as scratch, tf.Graph().as_default():
    graph = training_graph.build(settings, source, scratch)
    if resume_from:
      checkpoints.check(resume_from, checkpoints.shapes(resume_from),
                        {v.op.name: v for v in tf.global_variables()})
    checkpoints.adopt(settings.train_dir, resume_from)
    files.write(os.path.join(settings.train_dir, config.FLAGFILE),
                config.flagfile_text(settings))
    return _loop(settings, graph, source, more_hooks)


def _loop(settings, graph, source, more_hooks):
  """The session: MonitoredTrainingSession until the last step or a signal."""
  folder, step = settings.train_dir, graph.step
  stop = hooks.StopOnSignal()
  epochs = hooks.EpochReport(
      step, graph.learning_rate, graph.loss, graph.accuracy,
      lambda session: _test(session, graph, stop.interrupted), folder,
      source.name, settings.batches.batch_size, graph.steps_per_epoch,
      graph.last_step, stop.interrupted)
  saver = tf.train.Saver(save_relative_paths=True)
  scaffold = tf.train.Scaffold(saver=saver, local_init_feed_dict=graph.feed)
  print('dataset: %s, %d steps of %d images an epoch, %d test images' %
        (source.name, graph.steps_per_epoch, settings.batches.batch_size,
         graph.test_examples), flush=True)
  with tf.train.MonitoredTrainingSession(
      checkpoint_dir=folder, scaffold=scaffold,
      hooks=[
          hooks.LossGuard(step, graph.loss, folder),
          epochs,
          hooks.Progress(step, graph.loss, graph.last_step),
          hooks.Checkpoints(step, saver, folder, settings.save_secs,
                            graph.steps_per_epoch),
          hooks.StopAtStep(step, graph.last_step),
          stop, *more_hooks],
      save_checkpoint_secs=None, save_checkpoint_steps=None,
      save_summaries_steps=_SUMMARY_STEPS, log_step_count_steps=None,
      config=tf.ConfigProto(allow_soft_placement=True)) as session:
    while not session.should_stop():
      session.run(graph.train_op)
  newest = checkpoints.newest(folder)
  if stop.interrupted():
    logging.warning('stopped by signal %d, saved %s; the same command resumes',
                    stop.signal, newest)
    return 128 + stop.signal
  last = epochs.rows[-1]
  print(json.dumps(dict(
      checkpoint=newest, step=last.step, dataset=source.name,
      train_loss=last.train_loss, test_loss=last.test_loss,
      test_accuracy=last.test_accuracy, total_secs=last.total_secs)))
  return 0


def _test(session, graph, interrupted):
  """(loss, accuracy) on all test images, or None if interrupted."""
  values = []
  for first in range(0, graph.test_examples, graph.test_batch_size):
    if interrupted():
      return None
    values.append(session.run(graph.test, {graph.test_first: first}))
  result = evaluation.result_of(values)
  return result.loss, result.accuracy
