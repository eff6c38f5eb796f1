"""Repairs the moving statistics of a checkpoint without training.

  python -m graph_resnet9.recalibrate --meta_graph=FILE.meta \\
      --checkpoint=PREFIX --out=NEW_PREFIX [--feed=module:function]
  python -m graph_resnet9.recalibrate /tmp/r9 --out=/tmp/r9/cured

Runs batches through the training graph with the weights as they are, and writes
a checkpoint in which only the moving means and variances differ. First it runs
batches that the new ones are not of by stored, by batch and by new statistics,
and writes nothing if the new ones are worse, or if training never normalised by
the batch; --force does. Prints one line of JSON. It runs what a graph says:
only those of people you trust. Exit code 2: nothing is written.
"""

import json
import sys

from absl import flags

from graph_resnet9.cli import command
from graph_resnet9.cli import shared_flags

FLAGS = flags.FLAGS


def define_flags(flag_values=FLAGS):
  shared_flags.define_training_graph(flag_values, batches=200)
  flags.DEFINE_string(
    'out',
    None,
    'Prefix of the checkpoint to write; it must not exist yet.',
    flag_values=flag_values,
    required=True,
  )
  flags.DEFINE_bool(
    'force',
    False,
    'Write the checkpoint even if the new statistics are worse than the stored '
    'ones, or cannot be compared with them, or training never normalised by '
    'the batch, or variables before a layer are missing.',
    flag_values=flag_values,
  )


def main(named=()):
  # pylint: disable=g-import-not-at-top
  from graph_resnet9.doctor.graph import paths
  from graph_resnet9.doctor.measure import recalibration
  from graph_resnet9.doctor.measure import rewriting
  from graph_resnet9.training import runnables

  chosen = paths.of_session(named, FLAGS.meta_graph, FLAGS.checkpoint)
  rewriting.check_out(FLAGS.out)
  with runnables.opened(chosen, FLAGS.feed, FLAGS.data_dir) as opened:
    done = recalibration.recalibrate(
      opened.runnable(),
      opened.prefix,
      FLAGS.out,
      FLAGS.batches,
      force=FLAGS.force,
    )
  if opened.settings and opened.settings.flat()['ema_decay']:
    print(
      'recalibrate: eval and export take the averages of the weights, which '
      'stay as they are: give them --weights=trained to see the new statistics',
      file=sys.stderr,
    )
  compared = done.comparison
  print(
    json.dumps(
      dict(
        checkpoint=FLAGS.out,
        source=opened.source,
        batches=done.batches,
        held_out=compared and compared.as_dict(),
        variables=sorted(done.values),
      )
    )
  )


if __name__ == '__main__':
  command.run(
    main,
    define_flags,
    error_code=2,
    takes_files=True,
    least_files=0,
    anywhere=True,
  )
