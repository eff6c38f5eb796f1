"""The confusion matrix as a picture."""

from collections.abc import Sequence

from matplotlib import figure
import numpy as np

from graph_resnet9 import files

# Numbers in more squares than these could not be read.
_MOST_WITH_NUMBERS = 25


def draw(
  path: str, counts: np.ndarray, class_names: Sequence[str], title: str
) -> None:
  """Draws counts[label, prediction] as shares of each row.

  Args:
    path: PNG file, replaced in one step.
    counts: int [classes, classes].
    class_names: one a class.
    title: text above.
  """
  shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
  # Ten classes in 7.5 inches; of many, a fifth of an inch each.
  side = max(7.5, 0.2 * len(class_names))
  canvas = figure.Figure(figsize=(side, side - 0.7), layout='constrained')
  axes = canvas.add_subplot()
  # The square root of the scale brings out the mistakes, a few percent each.
  axes.imshow(np.sqrt(shares), cmap='Blues', vmin=0, vmax=1)
  for row, column in np.ndindex(*shares.shape):
    if counts[row, column] and len(class_names) <= _MOST_WITH_NUMBERS:
      axes.text(
        column,
        row,
        '%.1f' % (100 * shares[row, column]),
        ha='center',
        va='center',
        fontsize=8,
        color='white' if shares[row, column] > 0.3 else 'black',
      )
  turn = 45 if len(class_names) <= _MOST_WITH_NUMBERS else 90
  axes.set_xticks(
    range(len(class_names)), class_names, rotation=turn, ha='right'
  )
  axes.set_yticks(range(len(class_names)), class_names)
  axes.set_xlabel('predicted')
  axes.set_ylabel('label')
  accuracy = 100 * np.trace(counts) / max(counts.sum(), 1)
  axes.set_title(
    '%s\n%.2f%% of %d right; percent of each row'
    % (title, accuracy, counts.sum()),
    fontsize=10,
  )
  with files.replacing(path) as f:
    canvas.savefig(f, format='png', dpi=120)
