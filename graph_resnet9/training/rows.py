"""What a training run reports: table rows, metrics.jsonl, TensorBoard."""

import json
import os
from typing import NamedTuple

from absl import logging
import tensorflow.compat.v1 as tf

from graph_resnet9 import files
from graph_resnet9.cli import train_flags
from graph_resnet9.errors import UserError

METRICS = 'metrics.jsonl'
HEADER = (
  'epoch',
  'lr',
  'train s',
  'train loss',
  'train acc',
  'test loss',
  'test acc',
  'total s',
)
_WIDTHS = [max(8, len(title)) for title in HEADER]
_MAX_LINE_BYTES = 1 << 20
_MAX_BYTES = 256 << 20  # A million epochs.


class Row(NamedTuple):
  """One epoch. Times in seconds; accuracies as fractions.

  learning_rate is that of the epoch's last step. train_* are means over the
  steps that the session took in the epoch, None if it took none of them;
  train_secs is their time, evaluation and saving not counted. total_secs is the
  sum of train_secs so far: without steps that an interruption in the middle of
  an epoch took out of the rows.
  """

  epoch: float
  step: int
  dataset: str
  learning_rate: float
  train_secs: float
  train_loss: float | None
  train_accuracy: float | None
  test_loss: float
  test_accuracy: float
  total_secs: float


def title(
  settings: train_flags.Train, steps_per_epoch: int, test_examples: int
) -> str:
  """The line above the table."""
  return 'dataset: %s, %d steps of %d images an epoch, %d test images' % (
    settings.data.dataset,
    steps_per_epoch,
    settings.batches.batch_size,
    test_examples,
  )


def table_header() -> str:
  return _line(HEADER)


def table_row(row: Row) -> str:
  cells = (
    '%g' % round(row.epoch, 2),
    '%.4f' % row.learning_rate,
    '%.1f' % row.train_secs,
    _number(row.train_loss),
    _percent(row.train_accuracy),
    _number(row.test_loss),
    _percent(row.test_accuracy),
    '%.1f' % row.total_secs,
  )
  return _line(cells)


def _line(cells):
  """Of at most 80 columns."""
  return ' '.join(cell.rjust(width) for cell, width in zip(cells, _WIDTHS))


def _number(value):
  return '-' if value is None else '%.4f' % value


def _percent(value):
  return '-' if value is None else '%.2f%%' % (100 * value)


def read_rows(train_dir: str) -> list[Row]:
  """The rows of metrics.jsonl; damaged lines are left out, with a warning.

  Raises:
    UserError: the file is there and cannot be read.
  """
  path = os.path.join(train_dir, METRICS)
  try:
    with files.open_regular(path) as f:
      if os.fstat(f.fileno()).st_size > _MAX_BYTES:
        raise UserError('%s: over %d bytes, too large' % (path, _MAX_BYTES))
      rows = [
        _row(line.decode(errors='replace'))
        for line in iter(lambda: f.readline(_MAX_LINE_BYTES), b'')
      ]
  except FileNotFoundError:
    return []
  except OSError as e:
    raise UserError('%s: cannot be read: %s' % (path, e.strerror)) from None
  if None in rows:
    logging.warning('%s: %d damaged lines are left out', path, rows.count(None))
  return [row for row in rows if row]


def _row(line):
  """The Row of a line, or None if it is none."""
  try:
    row = Row(**json.loads(line))
    values = []
    for value, kind in zip(row, Row.__annotations__.values()):
      if kind in (int, str):
        fits = isinstance(value, kind)
      elif value is None:
        fits = kind == float | None
      else:
        fits = isinstance(value, (int, float))
        value = float(value)
      if not fits:
        return None
      values.append(value)
  except (ValueError, TypeError, OverflowError, RecursionError):
    return None
  return Row(*values) if row.step >= 0 else None


def write_rows(train_dir: str, rows: list[Row]) -> None:
  """Replaces metrics.jsonl: complete at any moment, whatever kills us."""
  files.write(
    os.path.join(train_dir, METRICS),
    ''.join(json.dumps(row._asdict()) + '\n' for row in rows),
  )


def write_summary(writer: tf.summary.FileWriter, row: Row, images: int) -> None:
  """Adds a row to TensorBoard's event file, and the images/s of its steps."""
  scalars = {
    'epoch/' + name: value
    for name, value in row._asdict().items()
    if isinstance(value, float) and name != 'epoch'
  }
  if row.train_secs > 0:
    scalars['epoch/images_per_sec'] = images / row.train_secs
  writer.add_summary(
    tf.Summary(
      value=[
        tf.Summary.Value(tag=tag, simple_value=value)
        for tag, value in scalars.items()
      ]
    ),
    row.step,
  )
  writer.flush()
