"""Whether the training step is compiled with XLA."""

import contextlib

import tensorflow.compat.v1 as tf


def scope(xla):
  """A context in which ops, and the gradients of these, are compiled or not.

  On two CPU cores XLA was slower than TensorFlow's own kernels (oneDNN); on a
  GPU it joins normalisation, activation and pooling into few kernels.

  Args:
    xla: 'on', 'off', or 'auto': where there is a GPU.
  """
  if xla == 'auto':
    xla = 'on' if tf.config.list_physical_devices('GPU') else 'off'
  if xla == 'off':
    return contextlib.nullcontext()
  return tf.xla.experimental.jit_scope()
