"""Says what is in pictures, by a SavedModel of graph_resnet9.export.

  python -m graph_resnet9.predict --export_dir=/tmp/served/1 IMAGE...

PNG and JPEG files of any size: the largest square in the middle, scaled to
32x32, on white where it is transparent. A line a picture on stdout: file, class
and probability, with tabs between. A file that cannot be used gets a line on
stderr, and the exit code is 1.
"""

import sys

from absl import flags

from graph_resnet9.cli import command
from graph_resnet9.errors import UserError

FLAGS = flags.FLAGS
_BATCH = 100


def define_flags(flag_values=FLAGS):
  flags.DEFINE_string(
    'export_dir',
    None,
    'What graph_resnet9.export has written.',
    flag_values=flag_values,
    required=True,
  )


def main(paths):
  # pylint: disable=g-import-not-at-top
  import numpy as np

  from graph_resnet9.evaluation import saved_model
  from graph_resnet9.inputs import picture_files

  # A name need not be text that stdout can show.
  sys.stdout.reconfigure(errors='backslashreplace')
  failed = False
  with (
    saved_model.Predictor(FLAGS.export_dir) as predictor,
    picture_files.Reader() as reader,
  ):
    for first in range(0, len(paths), _BATCH):
      images = {}
      for k, path in enumerate(paths[first : first + _BATCH]):
        try:
          images[k] = reader.read(path)
        except UserError as e:
          failed = True
          print('predict: %s' % e, file=sys.stderr, flush=True)
      if not images:
        continue
      found = predictor.predict(np.stack(list(images.values())))
      for k, name, shares in zip(
        images, found.class_names, found.probabilities
      ):
        print('%s\t%s\t%.4f' % (paths[first + k], name, shares.max()))
  return 1 if failed else 0


if __name__ == '__main__':
  command.run(main, define_flags, takes_files=True)
