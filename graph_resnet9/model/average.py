"""Averages of the weights over the steps, for evaluation.

tf.train.ExponentialMovingAverage, given the moving statistics of batch
normalisation too: left to itself it averages trainable variables only, and
averaged weights would meet statistics that are not theirs.
"""

from collections.abc import Callable
from collections.abc import Iterable

import tensorflow.compat.v1 as tf


def averaging_op(
  variables: list[tf.Variable], step: tf.Tensor, decay: float, every_steps: int
) -> tuple[tf.Operation, Callable]:
  """Updates the averages: a = d * a + (1 - d) * variable.

  d = decay^every_steps, after steps 1, 1 + every_steps, 1 + 2 * every_steps,
  ...; after the others the averages stay as they are.

  Args:
    variables: list of float32 variables, read when the op runs: build it under
      a control dependency on the op that changes them.
    step: integer scalar Tensor, steps taken.
    decay: float, per step.
    every_steps: int.
  Returns:
    (Operation, custom getter for tf.variable_scope that gives the average
    where there is one).
  Variables:
    {variable}/ExponentialMovingAverage, initialised with the variable's
    initial value, not trainable.
  Collections:
    MOVING_AVERAGE_VARIABLES: + the variables.
  Source: davidcpage/cifar10-fast, torch_backend.py, update_ema.
  """
  with tf.name_scope('average'):
    due = tf.equal((step - 1) % every_steps, 0)
    averages = tf.train.ExponentialMovingAverage(
      tf.where_v2(due, decay**every_steps, 1.0)
    )
    op = averages.apply(variables)

  def getter(getter, *args, **kwargs):
    variable = getter(*args, **kwargs)
    average = averages.average(variable)
    return variable if average is None else average

  return op, getter


def names(variables: Iterable[tf.Variable]) -> dict[str, tf.Variable]:
  """{name of the average in a checkpoint: variable} of the float variables."""
  averages = tf.train.ExponentialMovingAverage(0.0)
  return {
    averages.average_name(variable): variable
    for variable in variables
    if variable.dtype.is_floating
  }
