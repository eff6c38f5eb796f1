"""Trains ResNet9 in a TensorFlow 1 graph.

  python -m graph_resnet9.train --batch_size=512 --train_dir=/tmp/r9
  python -m graph_resnet9.train --flagfile=flags/quickstart.flags

One row an epoch on stdout, then one line of JSON. The same command again
resumes. Measured results stand in BUILD.md.
"""

from graph_resnet9 import command_line
from graph_resnet9 import config
from graph_resnet9 import options


def main():
  from graph_resnet9.run import training  # pylint: disable=g-import-not-at-top
  return training.train(config.read(options.Train))


if __name__ == '__main__':
  command_line.run(main, config.define_train_flags)
