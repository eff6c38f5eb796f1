"""Trains on one machine: from the data set to the train op, and the loop."""

from collections.abc import Sequence
import json
import sys

import tensorflow.compat.v1 as tf

from graph_resnet9 import interrupts
from graph_resnet9.checkpoints import choose
from graph_resnet9.cli import train_flags
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
from graph_resnet9.training import rows
from graph_resnet9.training import tensorboard
from graph_resnet9.training import train_dir


@interrupts.end_the_process()
def train(
  settings: train_flags.Train,
  more_hooks: Sequence[tf.train.SessionRunHook] = (),
) -> int:
  """Trains, or resumes, until the last step or a signal.

  Prints a table row an epoch and one line of JSON, and leaves in train_dir:
  checkpoints, flags.txt, metrics.jsonl, TensorBoard event files.

  Args:
    settings: what to train, and where.
    more_hooks: to run after those of the training.
  Returns:
    Exit code: 0, or 128 + the number of the signal that stopped it.
  Raises:
    UserError: bad data, a train_dir of another run, a loss that is not finite.
  """
  stop = interrupts.StopOnSignal()
  with (
    dataset.opened(**settings.data) as data,
    train_dir.opened(settings, data.source) as run,
    tf.Graph().as_default(),
  ):
    step = build(run.settings, data, restored=run.checkpoint is not None)
    test = evaluate.BesideTraining(
      data.test, run.settings, step.averages, len(data.source.class_names)
    )
    tensorboard.add(step, run.settings.model.bn_epsilon)
    run.adopt()
    saver = tf.train.Saver(save_relative_paths=True)
    print(
      rows.title(run.settings, step.steps_per_epoch, test.examples), flush=True
    )
    with tf.train.MonitoredTrainingSession(
      checkpoint_dir=run.settings.train_dir,
      scaffold=tf.train.Scaffold(
        saver=saver, local_init_feed_dict={**step.feed, **test.feed}
      ),
      hooks=[
        *hooks.of_a_training(run.settings, step, test, saver, stop),
        *more_hooks,
      ],
      # Instead of its CheckpointSaverHook hooks.Checkpoints: when the row of an
      # epoch is written, and never weights that are not finite. (LossGuard and
      # StopAtStep are there for its NanTensorHook and StopAtStepHook.)
      save_checkpoint_secs=None,
      save_checkpoint_steps=None,
      # And tensorboard.ImagesPerSec: of steps, without evaluation and saving.
      log_step_count_steps=None,
      save_summaries_steps=tensorboard.STEPS,
      config=tf.ConfigProto(allow_soft_placement=True),
    ) as session:
      while not session.should_stop():
        session.run(step.train_op)
    return outcome(run.settings, step.last_step, stop.signal)


def build(
  settings: train_flags.Recipe,
  data: dataset.Data,
  restored: bool = False,
  towers: Sequence[str] | None = None,
) -> graph.Step:
  """Builds a training step in the default graph, as a batch travels.

  Args:
    settings: the recipe.
    data: its training images.
    restored: the variables will be those of a checkpoint, so that costly
      initial values are left out.
    towers: devices that share a batch; None: as --num_gpus says.
  Returns:
    graph.Step.
  Collections:
    UPDATE_OPS: + 16; the train op runs them.
    TRAIN_OP: + 1. QUEUE_RUNNERS, LOCAL_VARIABLES: as of batches.batch.
    BIASES: + 8. MOVING_AVERAGE_VARIABLES: with averages, all they are of.
  Raises:
    UserError: bad data, or a batch that cannot be split as is asked for.
  """
  towers = towers or graph.devices(settings.num_gpus)
  graph.check_batch_size(settings, len(towers))
  tf.set_random_seed(settings.seed)
  global_step = graph.global_step()
  sgd = settings.optimizer

  with tf.variable_scope('input'):
    now = global_step.read_value()
    batch, examples, feed = batches.batch(  # tf.train.shuffle_batch
      data, 'train', settings.seed, first_step=now, **settings.batches
    )
    steps_per_epoch = examples // settings.batches.batch_size
    images = augment.augmented(  # [512, 32, 32, 3] float32
      batch.pixels,
      batch.indices,
      settings.batches.batch_size,
      settings.seed,
      now,
      steps_per_epoch,
      **settings.augment,
    )

  filters = None
  if settings.model.whitening and not restored:
    filters = graph.whitening_filters(data)

  def tower(images, labels):
    with tf.name_scope('model'):
      logits = resnet9.logits(  # [512, 10] float32
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
      train_op = optimizer.train_op(  # After the update ops.
        loss,
        learning_rate,
        sgd.momentum,
        sgd.weight_decay,
        sgd.bias_lr_scale,
        run_update_ops=sgd.update_ops != 'none',
        loss_scale=graph.loss_scale(settings.model.precision),
        nesterov=sgd.nesterov,
        rate_in_velocity=sgd.rate_in_velocity,
      )

  with tf.name_scope('optimizer/'), tf.control_dependencies([train_op]):
    step = global_step.read_value()
    averages = None
    if sgd.ema_decay:
      train_op, averages = average.averaging_op(
        weights, step, sgd.ema_decay, sgd.ema_steps
      )
  with tf.name_scope('loss/'):
    accuracy = tf.reduce_mean(
      tf.cast(losses.correct(logits, batch.labels), tf.float32)
    )
  return graph.Step(
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
  )


def outcome(
  settings: train_flags.Train, last_step: int, signal: int | None
) -> int:
  """Says how a session has ended; returns the exit code.

  Raises:
    UserError: it ended neither at the last step nor by a signal.
  """
  newest = choose.newest(settings.train_dir)
  if signal:
    print(
      'train: stopped by %s, saved %s; the same command resumes'
      % (interrupts.name(signal), newest),
      file=sys.stderr,
    )
    return 128 + signal
  row = next(reversed(rows.read_rows(settings.train_dir)), None)
  if row is None or row.step < last_step:
    raise UserError(
      'the session ended before step %d, saved %s; the same command resumes'
      % (last_step, newest)
    )
  print(
    json.dumps(
      dict(
        checkpoint=newest,
        step=row.step,
        dataset=row.dataset,
        train_loss=row.train_loss,
        test_loss=row.test_loss,
        test_accuracy=row.test_accuracy,
        total_secs=row.total_secs,
      )
    )
  )
  return 0
