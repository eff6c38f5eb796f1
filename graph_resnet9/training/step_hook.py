"""The base of the hooks that look at something after each step."""

from typing import Any

import tensorflow.compat.v1 as tf


class StepHook(tf.train.SessionRunHook):
  """Fetches Tensors beside each step and hands their values to after_step."""

  def __init__(self, **tensors: tf.Tensor) -> None:
    self._tensors = tensors

  def before_run(self, run_context):
    del run_context
    return tf.train.SessionRunArgs(self._tensors)

  def after_run(self, run_context, run_values):
    self.after_step(run_context, **run_values.results)

  def after_step(
    self, run_context: tf.train.SessionRunContext, **values: Any
  ) -> None:
    """Called after a step with the values, by the names of the Tensors."""
    raise NotImplementedError
