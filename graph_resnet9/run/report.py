"""What a training run reports: table rows, metrics.jsonl, TensorBoard."""

import json
import os
from typing import NamedTuple, Optional

import tensorflow.compat.v1 as tf

from graph_resnet9.run import files

METRICS = 'metrics.jsonl'
HEADER = ('epoch', 'lr', 'train s', 'train loss', 'train acc', 'test loss',
          'test acc', 'total s')
_WIDTH = 10


class Row(NamedTuple):
  """One epoch. Times in seconds; accuracies as fractions.

  learning_rate is that of the epoch's last step. train_* are means over the
  steps that the session took in the epoch, None if it took none of them;
  train_secs is their time. total_secs is the training time since step 0,
  evaluation and saving at the end of an epoch not counted.
  """
  epoch: float
  step: int
  dataset: str
  learning_rate: float
  train_secs: float
  train_loss: Optional[float]
  train_accuracy: Optional[float]
  test_loss: float
  test_accuracy: float
  total_secs: float


def table_header():
  return ' '.join(title.rjust(_WIDTH) for title in HEADER)


def table_row(row):
  cells = ('%g' % round(row.epoch, 2), '%.4f' % row.learning_rate,
           '%.1f' % row.train_secs, _number(row.train_loss),
           _percent(row.train_accuracy), _number(row.test_loss),
           _percent(row.test_accuracy), '%.1f' % row.total_secs)
  return ' '.join(cell.rjust(_WIDTH) for cell in cells)


def _number(value):
  return '-' if value is None else '%.4f' % value


def _percent(value):
  return '-' if value is None else '%.2f%%' % (100 * value)


def read_rows(train_dir):
  """The rows of metrics.jsonl; a line that a kill tore is left out."""
  rows = []
  path = os.path.join(train_dir, METRICS)
  if os.path.exists(path):
    with open(path) as f:
      for line in f:
        try:
          rows.append(Row(**json.loads(line)))
        except (ValueError, TypeError):
          continue
  return rows


def write_rows(train_dir, rows):
  """Replaces metrics.jsonl: complete at any moment, whatever kills us."""
  files.write(os.path.join(train_dir, METRICS),
              ''.join(json.dumps(row._asdict()) + '\n' for row in rows))


def write_summary(writer, row, images):
  """Adds a row to TensorBoard's event file, and the images/s of its steps."""
  scalars = {'epoch/' + name: value for name, value in row._asdict().items()
             if isinstance(value, float) and name != 'epoch'}
  if row.train_secs > 0:
    scalars['epoch/images_per_sec'] = images / row.train_secs
  writer.add_summary(tf.Summary(value=[
      tf.Summary.Value(tag=tag, simple_value=value)
      for tag, value in scalars.items()]), row.step)
  writer.flush()
