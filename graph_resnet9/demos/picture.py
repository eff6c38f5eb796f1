"""The picture of a case: a panel an arm, and what explains the case below.

Made for a page: 9 inches wide at most. Broken and fixed are told apart by words
and marks, colour only helps.
"""

import textwrap

from matplotlib import figure
from matplotlib import ticker
import numpy as np

from graph_resnet9 import files

_LINES = (
  ('train', 'training', 'k', '-'),
  ('moving', 'evaluation, moving statistics', 'C1', 's-'),
  ('batch', 'evaluation, batch statistics', 'C0', 'o--'),
)
_FLOOR = 0.003  # Gaps below this are drawn as this: they are nothing.
_INCHES, _ROW_INCHES, _DPI = 9.0, 2.5, 110
_MOST_COLUMNS = 4
# Of the series of arms: filled and different for broken, hollow for fixed.
_BROKEN_MARKS, _FIXED_MARKS = 'XPDsvp*h', 'o^<>dH8'


def draw(path, title, outcome):
  """Draws an outcome.

  Above, the curves of each arm: accuracy, or loss where a case has none. Below,
  Outcome.draw, or for each layer how far the stored statistics are from those
  of the evaluation data.

  Args:
    path: PNG file.
    title: str.
    outcome: report.Outcome.
  """
  arms = outcome.arms
  rows = -(-len(arms) // _MOST_COLUMNS)
  columns = -(-len(arms) // rows)
  canvas = figure.Figure(
    figsize=(_INCHES, _ROW_INCHES * (rows + 1.4)), layout='constrained'
  )
  canvas.suptitle(title, fontsize=11)
  grid = canvas.add_gridspec(
    rows + 1, columns, height_ratios=[1] * rows + [1.3]
  )
  shared = None
  for k, arm in enumerate(arms):
    shared = axes = canvas.add_subplot(
      grid[k // columns, k % columns], sharey=shared
    )
    _curves(axes, arm, columns)
    if k % columns:
      axes.tick_params(which='both', labelleft=False)
    else:
      by_accuracy = arm.train.accuracy is not None
      axes.set_ylabel('accuracy' if by_accuracy else 'loss (log)', fontsize=9)
    if k + columns >= len(arms):
      axes.set_xlabel('step', fontsize=9)
  canvas.legend(
    *shared.get_legend_handles_labels(),
    loc='outside lower center',
    ncols=4,
    fontsize=8.5,
    frameon=False,
  )
  if outcome.draw:
    outcome.draw(canvas.add_subplot(grid[rows, :]))
  else:
    below = grid[rows, :].subgridspec(1, 2)
    _gaps(
      [canvas.add_subplot(below[0]), canvas.add_subplot(below[1])],
      [arm for arm in arms if arm.layers],
    )
  with files.replacing(path) as f:
    canvas.savefig(f, format='png', dpi=_DPI)


def series(axes, arms, values, at=None):
  """A line an arm, its marks filled if it is broken and hollow if it is fixed.

  Args:
    axes: matplotlib axes.
    arms: list of report.Arm.
    values: for each arm a list of numbers.
    at: for each arm where they are; None: 0, 1, ...
  """
  broken, fixed = iter(_BROKEN_MARKS * 2), iter(_FIXED_MARKS * 2)
  for k, (arm, heights) in enumerate(zip(arms, values)):
    axes.plot(
      range(len(heights)) if at is None else at[k],
      heights,
      ('-' if arm.broken else '--') + next(broken if arm.broken else fixed),
      color='C%d' % k,
      markerfacecolor='C%d' % k if arm.broken else 'white',
      markersize=6,
      linewidth=1,
      label=_titled(arm),
    )
  axes.grid(alpha=0.3)
  axes.tick_params(which='both', labelsize=8)


def _titled(arm):
  return ('✗ broken: ' if arm.broken else '✓ fixed: ') + arm.name


def _curves(axes, arm, columns):
  """Training and evaluation over the steps; columns: panels beside another."""
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
      markersize=3.5,
      linewidth=1.3,
    )
  axes.axhline(
    arm.guessing, color='.4', linestyle=':', linewidth=1.3, label='guessing'
  )
  if by_accuracy:
    axes.set_ylim(0, 1.03)
  else:
    axes.set_yscale('log')
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter('{x:g}')
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())
  axes.set_title(
    textwrap.fill(_titled(arm), 96 // columns, break_long_words=False),
    fontsize=8.5,
    color='#a00000' if arm.broken else '#006000',
    fontweight='bold' if arm.broken else 'normal',
  )
  for side in axes.spines.values():
    side.set_linestyle('--' if arm.broken else '-')
    side.set_color('#a00000' if arm.broken else '#006000')
  axes.tick_params(which='both', labelsize=8)
  axes.grid(alpha=0.3)


def _gaps(panels, arms):
  """How far stored statistics are off, over the layers from first to last."""
  for axes, title, gap in zip(
    panels,
    (
      'stored mean: |stored - actual| / deviation',
      'stored variance: |ln(stored / actual)|',
    ),
    (
      lambda layer: layer.mean_gap,
      lambda layer: abs(np.log(layer.variance_ratio)),
    ),
  ):
    series(
      axes,
      arms,
      [[max(gap(layer), _FLOOR) for layer in arm.layers] for arm in arms],
    )
    axes.set_yscale('log')
    axes.set_ylim(_FLOOR / 1.5, None)
    axes.axhline(0.1, color='.4', linestyle=':', linewidth=1.3)
    axes.set_title(title, fontsize=9)
    axes.set_xlabel('layer, from first to last', fontsize=9)
    axes.xaxis.get_major_locator().set_params(integer=True)
  panels[0].legend(fontsize=7.5, loc='best', framealpha=0.8)
