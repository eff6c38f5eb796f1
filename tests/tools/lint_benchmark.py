"""How long a static check takes, and how much memory, by the size of the graph.

  python -m tests.tools.lint_benchmark

Trains nothing: builds residual networks of convolutions and batch
normalisation, with gradients and Adam, repeats the training tower until the
graph has as many ops as asked for, and checks its MetaGraphDef in a process of
its own. Prints a row a size.
"""

import os
import subprocess
import sys
import tempfile
import time

import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.graph import decoding
from graph_resnet9.doctor.lint import rules

SIZES = (12500, 25000, 50000, 100000)


def write_graph(path, least):
  """Writes the .meta file of a graph of `least` ops or somewhat more."""
  with (
    tf.Graph().as_default() as graph,
    tf.variable_scope('', use_resource=True),
  ):
    tf.train.get_or_create_global_step()
    x = tf.random.normal([16, 16, 16, 8])
    tower = 0
    while len(graph.get_operations()) < least:
      with tf.variable_scope('tower%d' % tower):
        y = x
        for k in range(50):
          with tf.variable_scope('block%d' % k):
            z = tf.layers.conv2d(y, 8, 3, padding='same', use_bias=False)
            y = y + tf.nn.relu(tf.layers.batch_normalization(z, training=True))
        scope = tf.get_variable_scope().name
        updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS, scope)
        with tf.control_dependencies(updates):
          tf.train.AdamOptimizer().minimize(
            tf.reduce_mean(tf.square(y)),
            tf.train.get_global_step(),
            tf.trainable_variables(scope),
          )
      tower += 1
    tf.train.export_meta_graph(path, saver_def=tf.train.Saver().saver_def)


def peak_memory():
  """KiB that this process has held at most, on Linux."""
  with open('/proc/self/status') as f:
    (line,) = [line for line in f if line.startswith('VmHWM')]
  return int(line.split()[1])


def check(path):
  """Prints ops, layers, findings, seconds, and memory beyond the start."""
  before = peak_memory()
  start = time.perf_counter()
  _, meta_graph = decoding.read(path)
  read = time.perf_counter()
  report = rules.lint_meta_graph(meta_graph)
  done = time.perf_counter()
  after = peak_memory()
  print(
    '%7d %7d %9d %8.2f %8.2f %8.0f'
    % (
      len(meta_graph.graph_def.node),
      report.layers,
      len(report.findings),
      read - start,
      done - read,
      (after - before) / 1024,
    ),
    flush=True,
  )


def main():
  print(
    '%7s %7s %9s %8s %8s %8s'
    % ('ops', 'layers', 'findings', 'read s', 'check s', 'MiB'),
    flush=True,
  )
  with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, 'graph.meta')
    for size in SIZES:
      write_graph(path, size)
      subprocess.check_call(
        [sys.executable, '-m', 'tests.tools.lint_benchmark', path]
      )


if __name__ == '__main__':
  if len(sys.argv) > 1:
    check(sys.argv[1])
  else:
    main()
