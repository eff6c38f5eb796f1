"""The training run: its directory, its graph, then the loop.

Alone, or as one process of a cluster: a parameter server, the chief, which does
all that is done once, or another worker.
"""

import contextlib
import json
import os

from absl import logging
import tensorflow.compat.v1 as tf

from graph_resnet9 import files
from graph_resnet9 import interrupts as signals
from graph_resnet9.checkpoints import choose as checkpoints
from graph_resnet9.cli import flagfile
from graph_resnet9.cluster import servers as cluster
from graph_resnet9.cluster import task as tasks
from graph_resnet9.cluster import watchdog as watch
from graph_resnet9.errors import UserError
from graph_resnet9.evaluation import evaluate as evaluation
from graph_resnet9.inputs import dataset
from graph_resnet9.training import graph as training_graph
from graph_resnet9.training import hooks
from graph_resnet9.training import summary_hooks
from graph_resnet9.training import train_dir


@signals.end_the_process()
def train(settings, more_hooks=()):
  """Trains, or resumes, until the last step or a signal.

  Prints a table row an epoch and one line of JSON, and leaves in train_dir:
  checkpoints, flags.txt, metrics.jsonl, TensorBoard event files. Of a cluster
  the chief does that; another worker prints a line of JSON of its own.

  Args:
    settings: train_flags.Train.
    more_hooks: list of SessionRunHook, to run after those of the training, in
      the chief.
  Returns:
    Exit code: 0, or 128 + the number of the signal that stopped it.
  Raises:
    UserError: bad data, a train_dir of another run, a loss that is not finite,
      a host of the cluster that does not answer.
  """
  task = tasks.task_of(settings.cluster, os.environ)
  if task.job == 'ps':
    return cluster.serve(task)
  replica = training_graph.Replica(
    task.index,
    max(1, len(task.workers)),
    settings.cluster.sync,
    task.device,
    training_graph.towers(settings.num_gpus),
  )
  source = dataset.find(settings.data.dataset, settings.data.data_dir)
  settings = settings.replace(
    train_dir=os.path.abspath(settings.train_dir),
    data=settings.data.replace(
      dataset=source.name,
      data_dir=os.path.abspath(settings.data.data_dir)
      if settings.data.data_dir
      else '',
    ),
  )
  with (
    train_dir.opened(settings)
    if task.chief
    else (contextlib.nullcontext()) as whole
  ):
    settings = settings.replace(
      model=settings.model.replace(
        conv=train_dir.conv_of(settings, whole is not None)
      )
    )
    server = cluster.start_server(task)
    cluster.wait_for(task, replica.sync)
    with (
      cluster.joined(task, server),
      tf.Graph().as_default(),
      tf.device(tasks.device_setter(task)),
      files.scratch_dir() as scratch,
    ):
      graph = training_graph.build(
        settings, source, scratch, replica, restored=whole is not None
      )
      if whole:
        checkpoints.check(
          whole.prefix,
          whole.shapes,
          {v.op.name: v for v in tf.global_variables()},
        )
      if task.chief:
        checkpoints.adopt(settings.train_dir, whole)
        files.write(
          os.path.join(settings.train_dir, flagfile.NAME),
          flagfile.text(settings),
        )
      with watch.watch(task, replica.sync):
        if task.chief:
          return _lead(settings, graph, source, task, server, more_hooks)
        return _follow(graph, task, server)


def _lead(settings, graph, source, task, server, more_hooks):
  """The session: MonitoredTrainingSession until the last step or a signal."""
  folder, step = settings.train_dir, graph.step
  stop = hooks.StopOnSignal()
  epochs = hooks.EpochReport(
    step,
    graph.learning_rate,
    graph.loss,
    graph.accuracy,
    lambda session: _test(session, graph, stop.interrupted),
    folder,
    source.name,
    settings.batches.batch_size,
    graph.steps_per_epoch,
    graph.last_step,
    stop.interrupted,
  )
  saver = tf.train.Saver(save_relative_paths=True)
  scaffold = tf.train.Scaffold(saver=saver, local_init_feed_dict=graph.feed)
  print(
    'dataset: %s, %d steps of %d images an epoch, %d test images'
    % (
      source.name,
      graph.steps_per_epoch,
      settings.batches.batch_size,
      graph.test.examples,
    ),
    flush=True,
  )
  with tf.train.MonitoredTrainingSession(
    master=server.target if server else '',
    checkpoint_dir=folder,
    scaffold=scaffold,
    hooks=[
      *graph.sync_hooks,
      hooks.LossGuard(step, graph.loss, folder),
      *summary_hooks.hooks(
        step, settings.batches.batch_size, graph.steps_per_epoch, folder
      ),
      epochs,
      hooks.Progress(step, graph.loss, graph.last_step),
      hooks.Checkpoints(
        step, saver, folder, settings.save_secs, graph.steps_per_epoch
      ),
      hooks.StopAtStep(step, graph.last_step),
      stop,
      *more_hooks,
    ],
    save_checkpoint_secs=None,
    save_checkpoint_steps=None,
    save_summaries_steps=summary_hooks.STEPS,
    log_step_count_steps=None,
    config=tasks.session_config(task),
    stop_grace_period_secs=tasks.stop_grace_secs(task),
  ) as session:
    while not session.should_stop():
      session.run(graph.train_op)
  newest = checkpoints.newest(folder)
  if stop.interrupted():
    logging.warning(
      'stopped by signal %d, saved %s; the same command resumes',
      stop.signal,
      newest,
    )
    return 128 + stop.signal
  last = epochs.rows[-1]
  if last.step < graph.last_step:
    raise UserError(
      'the session ended at step %d of %d; the same command '
      'resumes' % (last.step, graph.last_step)
    )
  print(
    json.dumps(
      dict(
        checkpoint=newest,
        step=last.step,
        dataset=source.name,
        train_loss=last.train_loss,
        test_loss=last.test_loss,
        test_accuracy=last.test_accuracy,
        total_secs=last.total_secs,
      )
    )
  )
  return 0


def _follow(graph, task, server):
  """The session of another worker of a cluster than the chief."""
  stop, chief_ended = hooks.StopOnSignal(), cluster.StopAfterChief()
  count = hooks.StepCount(graph.step)
  with cluster.session(
    task,
    server,
    tf.train.Scaffold(local_init_feed_dict=graph.feed),
    [
      *graph.sync_hooks,
      count,
      hooks.StopAtStep(graph.step, graph.last_step),
      chief_ended,
      stop,
    ],
  ) as session:
    print(
      'worker %d of %d has joined' % (task.index, len(task.workers)), flush=True
    )
    while not session.should_stop():
      session.run(graph.train_op)
  step = max(count.step, chief_ended.step)
  print(json.dumps(dict(worker=task.index, steps=count.steps, step=step)))
  if stop.interrupted():
    logging.warning(
      'stopped by signal %d; the same command joins again', stop.signal
    )
    return 128 + stop.signal
  if step < graph.last_step:
    raise UserError(
      'the chief has ended at step %d of %d; start the cluster '
      'again to go on' % (step, graph.last_step)
    )
  return 0


def _test(session, graph, interrupted):
  """(loss, accuracy) on all test images, or None if interrupted."""
  values = []
  test = graph.test
  for first in range(0, test.examples, test.batch_size):
    if interrupted():
      return None
    values.append(session.run(test.tower, {test.first: first}))
  result = evaluation.result_of(values)
  return result.loss, result.accuracy
