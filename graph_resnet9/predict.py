"""Says what is in pictures, by a SavedModel of graph_resnet9.export.

  python -m graph_resnet9.predict --export_dir=/tmp/served IMAGE|FOLDER...
  find . -name '*.png' | python -m graph_resnet9.predict --export_dir=DIR -

PNG and JPEG files of any size: the largest square in the middle, scaled to
32x32, on white where it is transparent. A folder stands for the pictures in and
below it, - for a list on standard input, a name a line. A line a picture on
stdout: file, class and probability, with tabs between. A file that cannot be
used gets a line on stderr, and the exit code is 1. To load a SavedModel runs
what its graph says, reading and writing of files included: only those of people
you trust.
"""

import contextlib
import csv
import json
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
    'What graph_resnet9.export has written, or the folder of its versions: the '
    'newest is taken.',
    flag_values=flag_values,
    required=True,
  )
  flags.DEFINE_enum(
    'format',
    'text',
    ['text', 'json', 'csv'],
    'How to print what is found: with tabs between, a JSON object a line, or '
    'comma separated values, a line a class.',
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    'top_k',
    1,
    'Print so many of the most probable classes of a picture.',
    1,
    1000,
    flag_values=flag_values,
  )


class _Text:
  def __init__(self, stream):
    self._stream = stream

  def write(self, path, classes):
    cells = ['%s\t%.4f' % (name, share) for _, name, share in classes]
    print(path, *cells, sep='\t', file=self._stream)


class _Json:
  def __init__(self, stream):
    self._stream = stream

  def write(self, path, classes):
    classes = [
      dict(index=index, name=name, probability=round(share, 6))
      for index, name, share in classes
    ]
    print(json.dumps(dict(file=path, classes=classes)), file=self._stream)


class _Csv:
  def __init__(self, stream):
    self._writer = csv.writer(stream, lineterminator='\n')
    self._writer.writerow(['file', 'rank', 'index', 'class', 'probability'])

  def write(self, path, classes):
    for rank, (index, name, share) in enumerate(classes, 1):
      self._writer.writerow([path, rank, index, name, '%.6f' % share])


_WRITERS = {'text': _Text, 'json': _Json, 'csv': _Csv}


def main(arguments):
  # pylint: disable=g-import-not-at-top
  from graph_resnet9.evaluation import saved_model
  from graph_resnet9.inputs import picture_files

  # A name need not be text that stdout can show.
  sys.stdout.reconfigure(errors='backslashreplace')
  sys.stdin.reconfigure(errors='surrogateescape')
  failed = False
  with contextlib.ExitStack() as stack:
    predictor = stack.enter_context(saved_model.Predictor(FLAGS.export_dir))
    reader = stack.enter_context(picture_files.Reader())
    writer = _WRITERS[FLAGS.format](sys.stdout)

    def answer(images):
      if images:
        answers = predictor.top(list(images.values()), FLAGS.top_k)
        for (_, path), classes in zip(images, answers):
          writer.write(path, classes)
        sys.stdout.flush()

    images = {}
    paths = picture_files.listed(arguments, sys.stdin)
    for count, path in enumerate(paths):  # The same file may come twice.
      try:
        images[count, path] = reader.read(path)
      except UserError as e:
        failed = True
        print('predict: %s' % e, file=sys.stderr, flush=True)
      if len(images) == _BATCH:
        answer(images)
        images = {}
    answer(images)
  return 1 if failed else 0


if __name__ == '__main__':
  command.run(main, define_flags, takes_files=True)
