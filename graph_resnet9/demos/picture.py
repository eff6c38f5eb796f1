"""The picture of a case: a column an arm, training above, statistics below."""

import textwrap

from matplotlib import figure
import numpy as np

from graph_resnet9 import files

_LINES = (
  ('train', 'training', 'k', '-'),
  ('moving', 'evaluation, moving statistics', 'C1', 's-'),
  ('batch', 'evaluation, batch statistics', 'C0', 'o--'),
)
_FLOOR = 0.003  # Gaps below this are drawn as this: they are nothing.
_COLUMN_INCHES, _ROW_INCHES = 2.5, 3.0


def draw(path, title, outcome):
  """Draws an outcome.

  Above, the curves of each arm: accuracy, or loss where a case has none.
  Below, for each layer how far the stored statistics are from those of the
  evaluation data.

  Args:
    path: PNG file.
    title: str.
    outcome: report.Outcome.
  """
  arms = outcome.arms
  columns = len(arms)
  height = _ROW_INCHES * (3 if outcome.draw else 2)
  canvas = figure.Figure(
    figsize=(max(3, columns) * _COLUMN_INCHES, height), layout='constrained'
  )
  canvas.suptitle(title)
  grid = canvas.add_gridspec(3 if outcome.draw else 2, columns)
  above = below = None
  for k, arm in enumerate(arms):
    above = canvas.add_subplot(grid[0, k], sharey=above)
    _curves(above, arm)
    below = canvas.add_subplot(grid[1, k], sharex=below)
    _gaps(below, arm)
    if k and _names(arm) == _names(arms[0]):
      below.tick_params(labelleft=False)
    if k == 0:
      by_accuracy = arm.train.accuracy is not None
      above.set_ylabel('accuracy' if by_accuracy else 'loss (log)')
    else:
      above.tick_params(which='both', labelleft=False)
  entries = [
    over + under
    for over, under in zip(
      above.get_legend_handles_labels(), below.get_legend_handles_labels()
    )
  ]
  canvas.legend(
    *entries, loc='outside lower center', ncols=3, fontsize=8, frameon=False
  )
  if outcome.draw:
    outcome.draw(canvas.add_subplot(grid[2, :]))
  with files.replacing(path) as f:
    canvas.savefig(f, format='png', dpi=100)


def _names(arm):
  return [layer.name for layer in arm.layers]


def _curves(axes, arm):
  """Training and evaluation over the steps."""
  steps = [point.step for point in arm.curve]
  by_accuracy = arm.train.accuracy is not None
  for field, label, colour, style in _LINES:
    scores = [getattr(point, field) for point in arm.curve]
    axes.plot(
      steps,
      [s.accuracy if by_accuracy else s.loss for s in scores],
      style,
      color=colour,
      label=label,
      markersize=3,
      linewidth=1.2,
    )
  if by_accuracy:
    axes.set_ylim(0, 1.02)
  else:
    axes.set_yscale('log')
    axes.yaxis.set_minor_formatter('{x:g}')
    axes.yaxis.set_major_formatter('{x:g}')
  axes.set_title(
    textwrap.fill(arm.name, 24, break_long_words=False),
    fontsize=9,
    color='C3' if arm.broken else 'C2',
  )
  axes.set_xlabel('step', fontsize=8)
  axes.tick_params(which='both', labelsize=7)
  axes.grid(alpha=0.3)


def _gaps(axes, arm):
  """A pair of bars a layer, the first layer on top."""
  at = np.arange(len(arm.layers))
  means = [layer.mean_gap for layer in arm.layers]
  factors = [abs(np.log(layer.variance_ratio)) for layer in arm.layers]
  for shift, values, label, colour in (
    (-0.2, means, 'mean: |stored - actual| / std', 'C4'),
    (0.2, factors, 'variance: |ln(stored / actual)|', 'C5'),
  ):
    axes.barh(
      at + shift,
      np.maximum(values, _FLOOR) - _FLOOR,
      0.4,
      _FLOOR,
      color=colour,
      label=label,
    )
  axes.set_xscale('log')
  axes.axvline(0.1, color='gray', linestyle=':', linewidth=1)
  axes.set_xlim(_FLOOR, max(axes.get_xlim()[1], 10))
  axes.set_yticks(at, _names(arm), fontsize=6)
  axes.tick_params(axis='x', labelsize=7)
  axes.invert_yaxis()
  axes.set_xlabel('gap of the layers', fontsize=8)
