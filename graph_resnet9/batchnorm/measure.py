"""Stored beside actual statistics, layer by layer."""

from typing import Any, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf


class Layer(NamedTuple):
  """A layer that normalises by batch statistics.

  name: the scope of its moving statistics.
  moving_mean, moving_variance: [channels] float32 variables.
  batch_mean, batch_variance: [channels] Tensors, what the update ops move the
    two towards.
  """
  name: str
  moving_mean: Any
  moving_variance: Any
  batch_mean: tf.Tensor
  batch_variance: tf.Tensor


class Statistics(NamedTuple):
  """What a layer has stored, and what its inputs are; float64 [channels]."""
  name: str
  stored_mean: np.ndarray
  stored_variance: np.ndarray
  mean: np.ndarray
  variance: np.ndarray

  @property
  def mean_gap(self):
    """|stored mean - mean| / standard deviation, root mean square of channels.

    A channel that hardly varies would count without bounds, so the standard
    deviation of a channel is taken to be a hundredth of the layer's at least.
    """
    floor = 1e-4 * self.variance.mean() + np.finfo(np.float32).tiny
    gaps = (self.stored_mean - self.mean) ** 2 / np.maximum(
        self.variance, floor)
    return float(np.sqrt(gaps.mean()))

  @property
  def variance_ratio(self):
    """stored variance / variance, median of the channels."""
    tiny = np.finfo(np.float32).tiny
    return float(np.median((self.stored_variance + tiny)
                           / (self.variance + tiny)))


def layers(update_ops):
  """The layers that own the update ops of tf.layers.batch_normalization.

  Args:
    update_ops: list of Operations as UPDATE_OPS holds them: for each call of a
      layer the update of the mean, then that of the variance.
  Returns:
    list of Layer, one a call, in order.
  Raises:
    ValueError: an op is not of the form v -= rate * (v - batch statistic).
  """
  variables = {v.op: v for v in tf.global_variables()}
  found = []
  for mean_op, variance_op in zip(update_ops[::2], update_ops[1::2]):
    mean, batch_mean = _update(mean_op, variables)
    variance, batch_variance = _update(variance_op, variables)
    found.append(Layer(mean.op.name.rpartition('/')[0], mean, variance,
                       batch_mean, batch_variance))
  return found


def _update(op, variables):
  """(variable, batch statistic) of v -= rate * (v - batch statistic)."""
  op = getattr(op, 'op', op)
  if op.type in ('AssignSub', 'AssignSubVariableOp'):
    owner = op.inputs[0].op
    waiting = [op.inputs[1].op]
    while waiting and owner in variables:
      at = waiting.pop()
      if at.type == 'Sub' and _source(at.inputs[0]) == owner:
        return variables[owner], at.inputs[1]
      waiting += [tensor.op for tensor in at.inputs]
  raise ValueError('not an update of a moving average: %s' % op.name)


def _source(tensor):
  """The op of the variable that `tensor` is a reading of, or its own op."""
  op = tensor.op
  while op.type in ('Identity', 'ReadVariableOp'):
    op = op.inputs[0].op
  return op


def statistics(session, measured, feeds):
  """Runs batches and compares; changes no variable.

  The variance is that within the batches and that between them, so it is the
  variance of all inputs together. A layer that is called several times a step
  has the inputs of all calls in one.

  Args:
    session: tf.Session with the graph of `measured`.
    measured: list of Layer.
    feeds: feed dicts, one a batch; batches of one size.
  Returns:
    list of Statistics, one a layer.
  """
  batches = [session.run([(x.batch_mean, x.batch_variance) for x in measured],
                         feed) for feed in feeds]
  calls = {}
  for i, layer in enumerate(measured):
    calls.setdefault(layer.name, []).append(i)
  stored = session.run({
      measured[at[0]].name: (measured[at[0]].moving_mean,
                             measured[at[0]].moving_variance)
      for at in calls.values()})
  results = []
  for name, at in calls.items():
    means, variances = (
        np.array([batch[i][k] for batch in batches for i in at], np.float64)
        for k in (0, 1))
    results.append(Statistics(
        name, *(np.asarray(x, np.float64) for x in stored[name]),
        means.mean(0), variances.mean(0) + means.var(0)))
  return results
