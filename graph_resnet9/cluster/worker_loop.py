"""Trains as one process of a cluster; training.loop is the same of one machine.

Between-graph replication: every worker builds the step for itself, with the
variables on the parameter servers, from its share of the examples. Worker 0,
the chief, does besides what is done once.
"""

from collections.abc import Sequence
import json
import sys

import tensorflow.compat.v1 as tf

from graph_resnet9 import interrupts
from graph_resnet9.cli import train_flags
from graph_resnet9.cluster import agreement
from graph_resnet9.cluster import servers
from graph_resnet9.cluster import synchronous
from graph_resnet9.cluster import tasks
from graph_resnet9.cluster import watchdog
from graph_resnet9.errors import UserError
from graph_resnet9.evaluation import evaluate
from graph_resnet9.inputs import augment
from graph_resnet9.inputs import batches
from graph_resnet9.inputs import dataset
from graph_resnet9.model import average
from graph_resnet9.model import losses
from graph_resnet9.model import optimizer
from graph_resnet9.model import resnet9
from graph_resnet9.training import graph
from graph_resnet9.training import hooks
from graph_resnet9.training import loop
from graph_resnet9.training import rows
from graph_resnet9.training import tensorboard
from graph_resnet9.training import train_dir


@interrupts.end_the_process()
def train(
  settings: train_flags.Train,
  task: tasks.Task,
  more_hooks: Sequence[tf.train.SessionRunHook] = (),
) -> int:
  """Does what this process of a cluster has to do, until the end or a signal.

  The chief prints and leaves what training.loop.train does; another worker
  prints a line of JSON of its own.

  Args:
    settings: what to train, and where.
    task: which process this is.
    more_hooks: to run after those of the training, in the chief.
  Returns:
    Exit code: 0, or 128 + the number of the signal that stopped it.
  Raises:
    UserError: as training.loop.train; or a host that does not answer.
  """
  if task.job == 'ps':
    return servers.serve(task)
  with dataset.opened(**settings.data) as data:
    if task.chief:
      return _lead(settings, task, data, more_hooks)
    return _follow(settings, task, data)


def _lead(settings, task, data, more_hooks):
  """The chief: its MonitoredTrainingSession initialises, evaluates, saves."""
  stop = interrupts.StopOnSignal()
  with train_dir.opened(settings, data.source) as run:
    server = servers.start_server(task)
    servers.wait_for(task)
    if not run.checkpoint:
      agreement.refuse_new_run(task, server, run.settings.train_dir)
    with (
      servers.joined(task, server),
      tf.Graph().as_default(),
      tf.device(tasks.device_setter(task)),
    ):
      step, sync_hooks = build(
        run.settings, task, data, restored=run.checkpoint is not None
      )
      with tf.device(task.device):
        test = evaluate.BesideTraining(
          data.test, run.settings, step.averages, len(data.source.class_names)
        )
      tensorboard.add(step, run.settings.model.bn_epsilon)
      run.adopt()
      saver = tf.train.Saver(save_relative_paths=True)
      print(
        rows.title(run.settings, step.steps_per_epoch, test.examples),
        flush=True,
      )
      with (
        watchdog.watch(task, stop, run.not_saved),
        tf.train.MonitoredTrainingSession(
          master=server.target,
          checkpoint_dir=run.settings.train_dir,
          scaffold=tf.train.Scaffold(
            saver=saver, local_init_feed_dict={**step.feed, **test.feed}
          ),
          hooks=[
            agreement.Announce(run.settings, task, server),
            *sync_hooks,
            *hooks.of_a_training(run.settings, step, test, saver, stop),
            *more_hooks,
          ],
          # As in training.loop: hooks of ours save and count steps.
          save_checkpoint_secs=None,
          save_checkpoint_steps=None,
          log_step_count_steps=None,
          save_summaries_steps=tensorboard.STEPS,
          config=tasks.session_config(task),
          stop_grace_period_secs=servers.STOP_GRACE_SECS,
        ) as session,
      ):
        while not session.should_stop():
          session.run(step.train_op)
      return loop.outcome(run.settings, step.last_step, stop.signal)


def _follow(settings, task, data):
  """Another worker: waits for the chief's recipe, and for its variables."""
  stop, chief_ended = interrupts.StopOnSignal(), servers.StopAfterChief()
  settings = train_dir.resolved(settings, data.source)
  server = servers.start_server(task)
  servers.wait_for(task)
  with watchdog.watch(task, stop):
    same_recipe = agreement.SameRecipe(settings, task, server)
  with (
    servers.joined(task, server),
    tf.Graph().as_default(),
    tf.device(tasks.device_setter(task)),
  ):
    step, sync_hooks = build(settings, task, data, restored=True)
    count = hooks.StepCount(step.step)
    with (
      watchdog.watch(task, stop),
      servers.session(
        task,
        server,
        tf.train.Scaffold(local_init_feed_dict=step.feed),
        [
          same_recipe,
          *sync_hooks,
          count,
          hooks.StopAtStep(step),
          chief_ended,
          stop,
        ],
      ) as session,
    ):
      print(
        'worker %d of %d has joined' % (task.index, len(task.workers)),
        flush=True,
      )
      while not session.should_stop():
        session.run(step.train_op)
  last = max(count.step, chief_ended.step)
  print(json.dumps(dict(worker=task.index, steps=count.steps, step=last)))
  if stop.signal:
    print(
      'train: stopped by %s; the same command joins again'
      % interrupts.name(stop.signal),
      file=sys.stderr,
    )
    return 128 + stop.signal
  if last < step.last_step:
    raise UserError(
      'the chief has ended at step %d of %d; start the cluster '
      'again to go on' % (last, step.last_step)
    )
  return 0


def build(
  settings: train_flags.Train,
  task: tasks.Task,
  data: dataset.Data,
  restored: bool = False,
) -> tuple[graph.Step, list[tf.train.SessionRunHook]]:
  """Builds the step of a worker in the default graph.

  Args:
    settings: what to train.
    task: which worker this is.
    data: the training images, of which it reads its share.
    restored: as of training.loop.build; of another worker than the chief the
      initial values do not count.
  Returns:
    (graph.Step, what a synchronous step needs in its session).
  Collections:
    As of training.loop.build; but the train op of the chief alone runs the
    update ops, else they would race.
  Raises:
    UserError: bad data, or a batch that cannot be split as is asked for.
  """
  workers = len(task.workers)
  towers = graph.devices(settings.num_gpus)
  graph.check_batch_size(settings, len(towers), workers if task.sync else 1)
  tf.set_random_seed(settings.seed)
  global_step = graph.global_step()
  sgd = settings.optimizer

  # An order and crops of its own. A worker that takes steps of its own takes
  # one in `workers` of all.
  seed = (settings.seed + task.index) % 2**31
  queue = settings.batches
  if task.sync:
    queue = queue.replace(batch_size=queue.batch_size // workers)
  with tf.device(task.device), tf.variable_scope('input'):
    now = global_step.read_value()
    batch, examples, feed = batches.batch(
      data,
      'train',
      seed,
      first_step=now if task.sync else now // workers,
      share=(task.index, workers),
      **queue,
    )
    steps_per_epoch = examples * workers // settings.batches.batch_size
    images = augment.augmented(
      batch.pixels,
      batch.indices,
      queue.batch_size,
      seed,
      now,
      steps_per_epoch,
      **settings.augment,
    )

  filters = None
  if settings.model.whitening and not restored:
    filters = graph.whitening_filters(data)

  def tower(images, labels):
    with tf.name_scope('model'):
      logits = resnet9.logits(
        images,
        training=True,
        ghost_batch=settings.ghost_batch,
        filters=filters,
        classes=len(data.source.class_names),
        **settings.model,
      )
    with tf.name_scope('loss'):
      loss = tf.reduce_mean(
        losses.cross_entropy(logits, labels, sgd.label_smoothing)
      )
    return logits, loss

  with graph.compiled(settings.xla):
    logits, loss = graph.on_each(towers, tower, images, batch.labels)
    weights = [v for v in tf.global_variables() if v.dtype.is_floating]
    with tf.name_scope('optimizer'):
      learning_rate = optimizer.learning_rate(
        global_step, steps_per_epoch, *graph.knots(sgd), sgd.lr_shift_steps
      )
      applying = optimizer.momentum_optimizer(
        learning_rate, sgd.momentum, sgd.nesterov, sgd.rate_in_velocity
      )
      if task.sync:
        applying = synchronous.Optimizer(applying, workers)
      train_op = optimizer.train_op(
        loss,
        learning_rate,
        sgd.momentum,
        sgd.weight_decay,
        sgd.bias_lr_scale,
        run_update_ops=task.chief and sgd.update_ops != 'none',
        loss_scale=graph.loss_scale(settings.model.precision),
        rate_in_velocity=sgd.rate_in_velocity,
        optimizer=applying,
      )

  with tf.name_scope('optimizer/'), tf.control_dependencies([train_op]):
    step = global_step.read_value()
    averages = None
    if sgd.ema_decay and (task.chief or not task.sync):
      train_op, averages = average.averaging_op(
        weights, step, sgd.ema_decay, sgd.ema_steps
      )
  with tf.name_scope('loss/'):
    accuracy = tf.reduce_mean(
      tf.cast(losses.correct(logits, batch.labels), tf.float32)
    )
  return (
    graph.Step(
      images=images,
      logits=logits,
      loss=loss,
      accuracy=accuracy,
      learning_rate=learning_rate,
      train_op=train_op,
      step=step,
      steps_per_epoch=steps_per_epoch,
      last_step=graph.last_step(sgd, steps_per_epoch),
      feed=feed,
      averages=averages,
    ),
    [applying.make_session_run_hook(task.chief)] if task.sync else [],
  )
