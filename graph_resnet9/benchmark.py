"""Times a recipe on this machine: input, forward, training, matrix product.

  python -m graph_resnet9.benchmark
  python -m graph_resnet9.benchmark --recipe=fast10 --ops=10
  python -m graph_resnet9.benchmark --compare=torch --json

A table on stdout, or one line of JSON.

Measured in November 2026 on 2 cores of an AMD EPYC (Zen 5), TensorFlow 2.21,
with batches of 512 at width 64 in float32: training 198 images/s, 92% of the
matrix product, 1.74 times PyTorch 2.13 in its faster layout (channels_last).
"""

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
    ['none', 'torch'],
    "Time the same training step in PyTorch, too, which pip install '.[bench]' "
    'brings.',
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    'ops',
    0,
    'List so many types of ops that take most of a training step.',
    0,
    MAX_INT,
    flag_values=flag_values,
  )
  shared_flags.define_json(flag_values)
  train_flags.Recipe.define(flag_values)


def main():
  from graph_resnet9.speed import measure  # pylint: disable=g-import-not-at-top

  settings = train_flags.Recipe.read(FLAGS)
  result, ops = measure.measure(
    settings,
    command.STARTED,
    FLAGS.steps,
    FLAGS.runs,
    FLAGS.compare == 'torch',
    FLAGS.ops > 0,
  )
  if FLAGS.json:
    print(
      json.dumps(
        dict(
          result._asdict(),
          width=settings.model.width,
          precision=settings.model.precision,
          xla=settings.xla,
          batch_size=settings.batches.batch_size,
          train_share_of_product=result.train_share_of_product,
          train_share_of_torch=result.train_share_of_torch,
        )
      )
    )
    return
  print(
    'dataset: %s, width %d, %s, batches of %d'
    % (
      result.dataset,
      settings.model.width,
      settings.model.precision,
      settings.batches.batch_size,
    )
  )
  train = result.train_images_per_sec
  row = lambda name, rate, unit, remark='': print(
    '%-32s %10.1f %-9s %s' % (name, rate, unit, remark)
  )
  row('first step after', result.first_step_secs, 's')
  row('peak memory', result.peak_mib, 'MiB')
  row('matrix product', result.product_gflops, 'GFLOP/s')
  row(
    'training',
    result.train_gflops,
    'GFLOP/s',
    '%.1f%% of the matrix product' % (100 * result.train_share_of_product),
  )
  row('training', train, 'images/s')
  row('forward', result.forward_images_per_sec, 'images/s')
  for mode, rate in result.input_images_per_sec.items():
    row(
      'input alone: ' + mode,
      rate,
      'images/s',
      '%.0f times training, %.2f%% '
      'of a step at most' % (rate / train, 100 * train / rate),
    )
  for layout, rate in (result.torch_images_per_sec or {}).items():
    row(
      'PyTorch %s, %s' % (result.torch.partition('+')[0], layout),
      rate,
      'images/s',
      'training is %.2f times as fast' % (train / rate),
    )
  if FLAGS.ops:
    total = sum(secs for _, secs in ops.values())
    print('%-36s %5s %10s %6s' % ('ops of a training step', 'count', 'ms', ''))
    for kind, (count, secs) in list(ops.items())[: FLAGS.ops]:
      print(
        '%-36s %5d %10.2f %5.1f%%'
        % (kind, count, 1e3 * secs, 100 * secs / total)
      )


if __name__ == '__main__':
  command.run(main, define_flags)
