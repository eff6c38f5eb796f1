"""Draws docs/tensorboard_gap.png from two finished runs:

  python -m graph_resnet9.train --flagfile=flags/quickstart.flags --width=8 \
      --train_dir=FIXED
  python -m graph_resnet9.train --flagfile=flags/quickstart.flags --width=8 \
      --train_dir=BROKEN --update_ops=none
  python docs/make_tensorboard.py FIXED BROKEN
"""

import pathlib
import sys

import matplotlib
from matplotlib import figure
import tensorflow.compat.v1 as tf

DOCS = pathlib.Path(__file__).parent


def tensorboard_gap(fixed, broken):
  """The gap curves that TensorBoard has of every layer."""
  canvas = figure.Figure(figsize=(9, 5.4), layout='constrained')
  panels = canvas.subplots(2, 2, sharex=True, sharey='row')
  for column, folder, title in (
    (0, fixed, '--update_ops=control_dependencies'),
    (1, broken, '--update_ops=none, the classic bug'),
  ):
    curves = _scalars(folder)
    panels[0, column].set_title(title)
    panels[1, column].set_xlabel('step')
    for axes, tag, limit in (
      (panels[0, column], 'gap_mean/', 0.5),
      (panels[1, column], 'gap_variance/', 1),
    ):
      layers = [name for name in curves if name.startswith(tag)]
      for number, name in enumerate(layers):
        axes.plot(
          *zip(*curves[name]),
          label=name[len(tag) :],
          linewidth=1.2,
          color=matplotlib.colormaps['viridis'](number / len(layers)),
        )
      axes.axhline(limit, color='gray', linestyle=':')
      axes.grid(alpha=0.3)
  for row in panels:  # Axes are shared: the limits are those of both columns.
    row[1].set_ylim(bottom=0)
  panels[0, 0].set_ylabel('gap_mean,\nstandard deviations')
  panels[1, 0].set_ylabel('gap_variance,\nfactors of two')
  panels[0, 0].legend(fontsize=7, ncols=2)
  return canvas


def _scalars(folder):
  """{tag: [(step, value)]} of a run's event files."""
  found = {}
  for path in sorted(pathlib.Path(folder).glob('events*')):
    for event in tf.train.summary_iterator(str(path)):
      for value in event.summary.value:
        found.setdefault(value.tag, []).append((event.step, value.simple_value))
  return found


if __name__ == '__main__':
  picture = tensorboard_gap(*sys.argv[1:])
  picture.savefig(DOCS / 'tensorboard_gap.png', dpi=110)
