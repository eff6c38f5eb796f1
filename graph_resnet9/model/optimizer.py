"""The optimiser of davidcpage/cifar10-fast: its schedule and its train op."""

from collections.abc import Sequence

import tensorflow.compat.v1 as tf


def learning_rate(
  global_step: tf.Tensor,
  steps_per_epoch: int,
  epochs: Sequence[float],
  values: Sequence[float],
  shift_steps: int = 1,
) -> tf.Tensor:
  """The learning rate of the step that is about to be taken.

  Linear between the knots (epochs[i], values[i]), flat before the first and
  after the last, read at (global_step + shift_steps) / steps_per_epoch: with 1
  the last step of the recipe reads the last knot. A function of global_step in
  the graph: unlike a rate that a hook feeds, it is right after a resume.

  Args:
    global_step: scalar integer Tensor or variable, steps taken so far.
    steps_per_epoch: int.
    epochs: list of floats that grow, the knots in epochs.
    values: list of floats, the rates there; as many.
    shift_steps: int, 1 in the source.
  Returns:
    float32 scalar Tensor.
  Raises:
    ValueError: when the graph is built, if the knots do not fit together.
  Source: davidcpage/cifar10-fast, core.py PiecewiseLinear, dawn.py lambda step.
  """
  if len(epochs) != len(values) or len(epochs) < 2:
    raise ValueError(
      'the schedule needs two or more knots, as many epochs as '
      'values: %s, %s' % (epochs, values)
    )
  if any(b <= a for a, b in zip(epochs, epochs[1:])):
    raise ValueError('the epochs of the schedule must grow: %s' % (epochs,))
  with tf.name_scope('learning_rate'):
    knots = tf.constant(epochs, tf.float32)
    rates = tf.constant(values, tf.float32)
    epoch = (
      tf.cast(tf.convert_to_tensor(global_step) + shift_steps, tf.float32)
      / steps_per_epoch
    )
    right = tf.reduce_sum(tf.cast(epoch >= knots, tf.int32))
    left = tf.clip_by_value(right - 1, 0, len(epochs) - 2)
    begin, end = tf.gather(knots, left), tf.gather(knots, left + 1)
    part = tf.clip_by_value((epoch - begin) / (end - begin), 0.0, 1.0)
    # This form, not begin + part * slope: exactly the knot's rate at a knot.
    return (1 - part) * tf.gather(rates, left) + part * tf.gather(
      rates, left + 1
    )


def momentum_optimizer(
  learning_rate: tf.Tensor | float,
  momentum: float,
  nesterov: bool = True,
  rate_in_velocity: bool = True,
) -> tf.train.Optimizer:
  """What applies the gradients of train_op; arguments as there."""
  return tf.train.MomentumOptimizer(
    1.0 if rate_in_velocity else learning_rate, momentum, use_nesterov=nesterov
  )


def train_op(
  loss: tf.Tensor,
  learning_rate: tf.Tensor | float,
  momentum: float,
  weight_decay: float,
  bias_lr_scale: float = 1.0,
  run_update_ops: bool = True,
  loss_scale: float = 1.0,
  nesterov: bool = True,
  rate_in_velocity: bool = True,
  optimizer: tf.train.Optimizer | None = None,
) -> tf.Operation:
  """One step of Nesterov SGD with weight decay, after the update ops.

    g = d loss / d w + weight_decay * w
    v = momentum * v - learning_rate * g
    w = w + momentum * v - learning_rate * g

  on every trainable variable, gamma and beta too. The learning rate is inside
  the velocity; MomentumOptimizer keeps it outside, which differs while the rate
  changes, so it is given rate 1 and gradients already multiplied by the rate.

  Without `nesterov` the last line is w = w + v. Without `rate_in_velocity` it
  is TensorFlow's own form, v = momentum * v + g and w = w - learning_rate *
  (g + momentum * v).

  Args:
    loss: float32 scalar Tensor, the mean over the batch.
    learning_rate: float32 scalar Tensor or float.
    momentum: float, of the optimiser (not of batch normalisation).
    weight_decay: float, per step and in units of the learning rate.
    bias_lr_scale: float; variables in BIASES, here beta, get so many times the
      learning rate, and as much less weight decay.
    run_update_ops: Python bool; False leaves the ops in UPDATE_OPS out, so that
      the moving statistics stay 0 and 1. That is the classic bug, kept for
      demonstrations.
    loss_scale: float; gradients are taken of loss_scale * loss and divided by
      it in float32. Small float16 gradients survive; a power of two changes no
      bit of a float32 result.
    nesterov, rate_in_velocity: Python bools; see above.
    optimizer: instead of momentum_optimizer(...) one around it, such as
      cluster.synchronous.Optimizer.
  Returns:
    An Operation that takes the step, then adds 1 to global_step.
  Variables:
    {variable}/Momentum: one for each trainable variable, as large as it.
    global_step: created if missing.
  Collections:
    UPDATE_OPS and BIASES are read, TRAIN_OP gets the operation.
  Raises:
    ValueError: when the graph is built, if the loss does not depend on a
      trainable variable.
  Source: davidcpage/cifar10-fast, torch_backend.py nesterov_update; new_dawn.py
    for the rate of biases. There the loss is summed, the rate divided and the
    decay multiplied by the batch size, which is the same.
  """
  if optimizer is None:
    optimizer = momentum_optimizer(
      learning_rate, momentum, nesterov, rate_in_velocity
    )
  gradients = _decayed(
    # Each gradient is computed on the device of what it is the gradient of.
    optimizer.compute_gradients(
      loss * loss_scale if loss_scale != 1 else loss,
      tf.trainable_variables(),
      colocate_gradients_with_ops=True,
    ),
    learning_rate if rate_in_velocity else 1.0,
    weight_decay,
    bias_lr_scale,
    loss_scale,
  )
  global_step = tf.train.get_or_create_global_step()
  if not run_update_ops:
    return optimizer.apply_gradients(gradients, global_step)
  # What batch normalisation in TensorFlow 1 needs and does not do by itself:
  # the step waits for the ops that update the moving means and variances.
  with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
    return optimizer.apply_gradients(gradients, global_step)


def _decayed(gradients, rate, weight_decay, bias_lr_scale, loss_scale):
  """(what `optimizer` is to apply, variable) of all (gradient, variable)."""
  biases = {v.op.name for v in tf.get_collection(tf.GraphKeys.BIASES)}
  missing = [v.op.name for gradient, v in gradients if gradient is None]
  if missing:
    raise ValueError('the loss does not depend on %s' % ', '.join(missing))
  decayed = []
  for gradient, variable in gradients:
    gradient = tf.cast(gradient, tf.float32) / loss_scale
    scale = bias_lr_scale if variable.op.name in biases else 1.0
    gradient += weight_decay / scale * variable.read_value()
    decayed.append((rate * scale * gradient, variable))
  return decayed
