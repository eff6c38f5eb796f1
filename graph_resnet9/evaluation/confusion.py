"""The confusion matrix as a picture."""

from matplotlib import figure
import numpy as np

from graph_resnet9 import files


def draw(path, counts, class_names, title):
  """Draws counts[label, prediction] as shares of each row.

  Args:
    path: PNG file, replaced in one step.
    counts: int [classes, classes].
    class_names: one a class.
    title: text above.
  """
  shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
  canvas = figure.Figure(figsize=(7.5, 6.8), layout='constrained')
  axes = canvas.add_subplot()
  # The square root of the scale brings out the mistakes, a few percent each.
  axes.imshow(np.sqrt(shares), cmap='Blues', vmin=0, vmax=1)
  for row, column in np.ndindex(*shares.shape):
    if counts[row, column]:
      axes.text(
        column,
        row,
        '%.1f' % (100 * shares[row, column]),
        ha='center',
        va='center',
        fontsize=8,
        color='white' if shares[row, column] > 0.3 else 'black',
      )
  axes.set_xticks(range(len(class_names)), class_names, rotation=45, ha='right')
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
