"""Draws pictures of docs/ from two finished runs each.

docs/update_ops.png:

  python -m graph_resnet9.train --flagfile=flags/dawn24.flags --width=16 \
      --epochs=8 --data_dir=DIR --train_dir=FIXED
  python -m graph_resnet9.train --flagfile=flags/dawn24.flags --width=16 \
      --epochs=8 --data_dir=DIR --train_dir=BROKEN --update_ops=none
  python docs/make_pictures.py update_ops FIXED BROKEN

docs/tensorboard_gap.png:

  python -m graph_resnet9.train --flagfile=flags/quickstart.flags --width=8 \
      --train_dir=FIXED
  python -m graph_resnet9.train --flagfile=flags/quickstart.flags --width=8 \
      --train_dir=BROKEN --update_ops=none
  python docs/make_pictures.py tensorboard_gap FIXED BROKEN
"""

import json
import pathlib
import sys

import matplotlib
from matplotlib import figure
import tensorflow.compat.v1 as tf

DOCS = pathlib.Path(__file__).parent


def update_ops(fixed, broken):
  """Accuracy in training and on the test images, epoch by epoch."""
  canvas = figure.Figure(figsize=(9, 3.6), layout='constrained')
  panels = canvas.subplots(1, 2, sharey=True)
  for axes, folder, title in (
    (panels[0], fixed, '--update_ops=control_dependencies'),
    (panels[1], broken, '--update_ops=none, the classic bug'),
  ):
    rows = [json.loads(line) for line in open(folder + '/metrics.jsonl')]
    epochs = [row['epoch'] for row in rows]
    for name, label, style in (
      ('train_accuracy', 'training, batch statistics', 'C0o-'),
      ('test_accuracy', 'test, moving statistics', 'C1s-'),
    ):
      axes.plot(epochs, [100 * row[name] for row in rows], style, label=label)
      axes.annotate(
        '%.1f%%' % (100 * rows[-1][name]),
        (epochs[-1], 100 * rows[-1][name]),
        (4, 7 if 'test' in name else -15),
        textcoords='offset points',
        ha='right',
      )
    axes.axhline(10, color='gray', linestyle=':', linewidth=1)
    axes.text(epochs[0], 11.5, 'chance', color='gray', fontsize=8)
    axes.set(title=title, xlabel='epoch', ylim=(0, 100))
    axes.grid(alpha=0.3)
  panels[0].set_ylabel('accuracy, %')
  panels[0].legend(loc='center right')
  return canvas


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
  picture, *folders = sys.argv[1:]
  draw = {'update_ops': update_ops, 'tensorboard_gap': tensorboard_gap}
  draw[picture](*folders).savefig(DOCS / (picture + '.png'), dpi=110)
