"""Times a recipe on this machine: input alone, training, matrix product.

  python -m graph_resnet9.benchmark --batch_size=128
  python -m graph_resnet9.benchmark --flagfile=flags/dawn24.flags --steps=5

A table on stdout, the last line as JSON.

Measured in November 2026 on 2 cores of an AMD EPYC (Zen 3), TensorFlow 2.21,
with batches of 512 at width 64: training 45 images/s, 64% of the float32 matrix
product; input alone 55,000 images/s.
"""

import json

from graph_resnet9 import command_line
from graph_resnet9 import config
from graph_resnet9 import options


def main():
  from graph_resnet9.run import speed  # pylint: disable=g-import-not-at-top
  settings = config.read(options.Benchmark)
  result = speed.measure(settings)
  print('dataset: %s, width %d, %s, batches of %d' % (
      result.dataset, settings.model.width, settings.model.precision,
      settings.batches.batch_size))
  print('matrix product  %10.1f GFLOP/s' % result.product_gflops)
  print('training        %10.1f GFLOP/s, %.0f%% of the matrix product' % (
      result.train_gflops, 100 * result.train_share_of_product))
  print('training        %10.1f images/s' % result.train_images_per_sec)
  print('input alone     %10.1f images/s, %.0f times training' % (
      result.input_images_per_sec, result.input_share_of_train))
  print(json.dumps(dict(
      result._asdict(), width=settings.model.width,
      precision=settings.model.precision,
      batch_size=settings.batches.batch_size,
      train_share_of_product=result.train_share_of_product,
      input_share_of_train=result.input_share_of_train)))


if __name__ == '__main__':
  command_line.run(main, config.define_benchmark_flags)
