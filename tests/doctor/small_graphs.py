"""Other people's training graphs, small, saved as tf.train.Saver saves them."""

import contextlib
import os
import pathlib
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.python.training import moving_averages

from graph_resnet9.doctor.measure import sessions

EXAMPLES = 70


def examples(*shape, seed=0):
  """[EXAMPLES] + shape float32, each channel with its mean and deviation."""
  channels = np.arange(shape[-1])
  return (
    np.random.RandomState(seed)
    .normal(3 * channels - 2, channels + 0.5, [EXAMPLES, *shape])
    .astype(np.float32)
  )


def queue(values, batch_size, epochs=1):
  """A batch of `values` in order; the last one of all may be smaller."""
  (example,) = tf.train.slice_input_producer(
    [tf.constant(values)], num_epochs=epochs, shuffle=False
  )
  return tf.train.batch(
    [example], batch_size, allow_smaller_final_batch=epochs is not None
  )


def train(y):
  """The train op of a loss on y that runs UPDATE_OPS."""
  loss = tf.reduce_mean(tf.square(tf.cast(y, tf.float32) - 1))
  with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
    return tf.train.GradientDescentOptimizer(0.1).minimize(
      loss, tf.train.get_or_create_global_step()
    )


def _normalised(x, batch, beta, updates, in_place):
  """x by the batch's mean and variance, the updates before it or collected."""
  with tf.control_dependencies(updates if in_place else []):
    y = tf.nn.batch_normalization(x, *batch, beta, None, 1e-3)
  if not in_place:
    for op in updates:
      tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, op)
  return y


def by_hand(x, decay=0.9, in_place=False, name='hand'):
  """tf.nn.moments and tf.assign; updates in UPDATE_OPS or before the output."""
  with tf.variable_scope(name):
    zeros, ones = tf.zeros_initializer(), tf.ones_initializer()
    beta = tf.get_variable('beta', x.shape[-1], initializer=zeros)
    stored = [
      tf.get_variable(
        name, x.shape[-1], initializer=initializer, trainable=False
      )
      for name, initializer in (('pop_mean', zeros), ('pop_var', ones))
    ]
    batch = tf.nn.moments(x, list(range(x.shape.ndims - 1)))
    updates = [
      tf.assign_sub(v, (v - b) * (1 - decay))
      if in_place
      else tf.assign(v, v * decay + b * (1 - decay))
      for v, b in zip(stored, batch)
    ]
    return _normalised(x, batch, beta, updates, in_place)


def debiased(x, in_place=False, name='net/bn'):
  """By assign_moving_average, which moves three variables for a statistic."""
  with tf.variable_scope(name):
    stored = [
      tf.get_variable(
        name, x.shape[-1], initializer=initializer(), trainable=False
      )
      for name, initializer in (
        ('moving_mean', tf.zeros_initializer),
        ('moving_variance', tf.ones_initializer),
      )
    ]
    beta = tf.get_variable('beta', x.shape[-1])
    batch = tf.nn.moments(x, list(range(x.shape.ndims - 1)))
    updates = [
      moving_averages.assign_moving_average(v, b, 0.9)
      for v, b in zip(stored, batch)
    ]
    return _normalised(x, batch, beta, updates, in_place)


class Saved(NamedTuple):
  """A meta graph and a checkpoint on disk."""

  prefix: str

  @property
  def meta(self):
    return self.prefix + '.meta'

  @property
  def folder(self):
    return pathlib.Path(self.prefix).parent

  def runnable(self, feed=None):
    """sessions.Runnable of the meta graph; feed: a function, or None."""
    return sessions.of_meta_graph(self.meta, '')._replace(feed=feed)

  def files(self):
    """{name: content} of the folder."""
    return {
      path.name: path.read_bytes()
      for path in self.folder.iterdir()
      if path.is_file()
    }


@contextlib.contextmanager
def kind(resource=True, functional=False):
  """The kind of variables, and of tf.cond, that a graph is built with."""
  before = tf.resource_variables_enabled(), tf.control_flow_v2_enabled()

  def switch(resource, functional):
    (
      tf.enable_resource_variables
      if resource
      else tf.disable_resource_variables
    )()
    (tf.enable_control_flow_v2 if functional else tf.disable_control_flow_v2)()

  switch(resource, functional)
  try:
    yield
  finally:
    switch(*before)


def save(folder, build, values=None, step=0, saved=tf.global_variables, **how):
  """Saves the graph that build() makes, with all variables it initialises.

  Args:
    folder: that exists.
    build: function without arguments.
    values: {end of a variable's name: its value}, instead of the initial one.
    step: int, value of global_step.
    saved: function whose variables are saved.
    **how: as of `kind`.
  Returns:
    Saved.
  """
  with kind(**how), tf.Graph().as_default(), tf.Session() as session:
    tf.set_random_seed(1)
    build()
    tf.train.get_or_create_global_step()
    session.run(tf.global_variables_initializer())
    for end, value in {'global_step': step, **(values or {})}.items():
      for variable in tf.global_variables():
        if variable.op.name.endswith(end):
          variable.load(np.broadcast_to(value, variable.shape), session)
    return Saved(
      tf.train.Saver(saved()).save(
        session, os.path.join(str(folder), 'model.ckpt'), write_state=False
      )
    )
