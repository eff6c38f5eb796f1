"""Times a recipe on this machine: input, forward, training, matrix product.

  python -m graph_resnet9.benchmark
  python -m graph_resnet9.benchmark --recipe=fast10 --ops=10
  python -m graph_resnet9.benchmark --compare=all --json

A table on stdout, or one line of JSON. --conv=auto trains with what it chooses
here and with direct convolutions, in turn.

Measured in November 2026 on 2 cores of an AMD EPYC (AVX2), TensorFlow 2.21,
with batches of 512 at width 64 in float32: a training step takes 7.4 CPU
seconds, with direct convolutions 15.9.
"""

import functools
import json

from absl import flags

from graph_resnet9.cli import command
from graph_resnet9.cli import shared_flags
from graph_resnet9.cli import train_flags
from graph_resnet9.cli.settings import MAX_INT

FLAGS = flags.FLAGS


def define_flags(flag_values=FLAGS):
  flags.DEFINE_integer(
    'steps',
    5,
    'Steps a run to time, after two to warm up.',
    1,
    MAX_INT,
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    'runs',
    3,
    'Runs, in which all that is timed takes its turn; the median of all steps '
    'counts.',
    1,
    MAX_INT,
    flag_values=flag_values,
  )
  flags.DEFINE_enum(
    'compare',
    'none',
    ['none', 'torch', 'jax', 'all'],
    'Time the same training step in PyTorch or JAX, too, which pip install '
    "'.[bench]' brings.",
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    'ops',
    0,
    'List so many types of ops that take most of a training step, and what '
    'each convolution takes.',
    0,
    MAX_INT,
    flag_values=flag_values,
  )
  shared_flags.define_json(flag_values)
  train_flags.Recipe.define(flag_values)


def main():
  from graph_resnet9.speed import measure  # pylint: disable=g-import-not-at-top

  settings = train_flags.Recipe.read(FLAGS)
  peers = ('torch', 'jax') if FLAGS.compare == 'all' else (FLAGS.compare,)
  speed = measure.measure(
    settings,
    FLAGS.steps,
    FLAGS.runs,
    peers,
    FLAGS.ops > 0,
    functools.partial(command.load_tensorflow, FLAGS.verbosity),
  )
  if FLAGS.json:
    print(json.dumps(_values(settings, speed)))
  else:
    _print_table(settings, speed)
    if FLAGS.ops:
      _print_ops(speed, FLAGS.ops)


def _values(settings, speed):
  """What --json prints; on top the figures of the settings' convolutions."""
  (conv, train), *_ = speed.training.items()
  return dict(
    _as_dict(speed),
    conv=conv,
    width=settings.model.width,
    precision=settings.model.precision,
    xla=settings.xla,
    batch_size=settings.batches.batch_size,
    first_step_secs=train.first_step_secs,
    peak_mib=train.peak_mib,
    train_images_per_sec=train.images_per_sec,
    train_gflops=train.gflops,
    train_share_of_product=train.share_of_product,
  )


def _as_dict(value):
  """Named tuples in it as dicts."""
  if hasattr(value, '_asdict'):
    value = value._asdict()
  if isinstance(value, dict):
    return {key: _as_dict(item) for key, item in value.items()}
  return value


def _row(name, value, unit, remark=''):
  print(('%-32s %10.1f %-9s %s' % (name, value, unit, remark)).rstrip())


def _print_table(settings, speed):
  batch = settings.batches.batch_size
  print(
    'dataset: %s, width %d, %s, batches of %d'
    % (speed.dataset, settings.model.width, settings.model.precision, batch)
  )
  _row('matrix product', speed.product_gflops, 'GFLOP/s')
  (conv, train), *others = speed.training.items()
  rate = train.images_per_sec
  for name, training in speed.training.items():
    _row('first step, %s' % name, training.first_step_secs, 's')
    _row('peak memory, %s' % name, training.peak_mib, 'MiB')
    _row(
      'training, %s' % name,
      training.gflops,
      'GFLOP/s',
      '%.0f%% of the product, %.0f%% by CPU seconds'
      % (100 * training.share_of_product, 100 * training.cpu_share_of_product),
    )
    _row('', training.images_per_sec, 'images/s')
    _row('', training.cpu_secs, 'CPU s', 'a step')
  _row('forward', speed.forward_images_per_sec, 'images/s')
  for mode, per_sec in speed.input_images_per_sec.items():
    _row(
      'input alone: ' + mode,
      per_sec,
      'images/s',
      '%.0f times training, %.2f%% of a step at most'
      % (per_sec / rate, 100 * rate / per_sec),
    )
  for name, training in others:
    _compare(conv, train, name, training.images_per_sec, training.cpu_secs)
  for name, secs in speed.peers.items():
    _compare(conv, train, name, batch / secs.wall, secs.cpu)


def _compare(conv, train, name, per_sec, cpu_secs):
  _row(
    name,
    per_sec,
    'images/s',
    '%s is %.2f times as fast, %.2f by CPU s'
    % (conv, train.images_per_sec / per_sec, cpu_secs / train.cpu_secs),
  )


def _print_ops(speed, count):
  for conv, training in speed.training.items():
    ops = training.trace.by_type
    total = sum(secs for _, secs in ops.values())
    print(
      '%-36s %5s %10s %6s'
      % ('ops of a training step, %s' % conv, 'count', 'ms', '')
    )
    for kind, (calls, secs) in list(ops.items())[:count]:
      print(
        '%-36s %5d %10.2f %5.1f%%'
        % (kind, calls, 1e3 * secs, 100 * secs / total)
      )
  convs = {conv: t.trace.by_convolution for conv, t in speed.training.items()}
  print(
    '%-28s' % 'forward and backward, ms', *('%10s' % conv for conv in convs)
  )
  for scope in next(iter(convs.values())):
    print(
      '%-28s' % scope, *('%10.1f' % (1e3 * of[scope]) for of in convs.values())
    )


if __name__ == '__main__':
  command.run(main, define_flags)
