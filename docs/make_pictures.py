"""Draws docs/update_ops.png from two finished runs.

  python -m graph_resnet9.train --flagfile=flags/dawn24.flags --width=16 \
      --epochs=8 --data_dir=DIR --train_dir=FIXED
  python -m graph_resnet9.train --flagfile=flags/dawn24.flags --width=16 \
      --epochs=8 --data_dir=DIR --train_dir=BROKEN --update_ops=none
  python docs/make_pictures.py FIXED BROKEN
"""

import json
import pathlib
import sys

from matplotlib import figure

OUT = pathlib.Path(__file__).with_name('update_ops.png')


def main(fixed, broken):
  canvas = figure.Figure(figsize=(9, 3.6), layout='constrained')
  panels = canvas.subplots(1, 2, sharey=True)
  for axes, folder, title in (
      (panels[0], fixed, '--update_ops=control_dependencies'),
      (panels[1], broken, '--update_ops=none, the classic bug')):
    rows = [json.loads(line) for line in open(folder + '/metrics.jsonl')]
    epochs = [row['epoch'] for row in rows]
    for name, label, style in (
        ('train_accuracy', 'training, batch statistics', 'C0o-'),
        ('test_accuracy', 'test, moving statistics', 'C1s-')):
      axes.plot(epochs, [100 * row[name] for row in rows], style, label=label)
      axes.annotate('%.1f%%' % (100 * rows[-1][name]),
                    (epochs[-1], 100 * rows[-1][name]), (4, 7 if 'test' in name
                    else -15), textcoords='offset points', ha='right')
    axes.axhline(10, color='gray', linestyle=':', linewidth=1)
    axes.text(epochs[0], 11.5, 'chance', color='gray', fontsize=8)
    axes.set(title=title, xlabel='epoch', ylim=(0, 100))
    axes.grid(alpha=.3)
  panels[0].set_ylabel('accuracy, %')
  panels[0].legend(loc='center right')
  canvas.savefig(OUT, dpi=110)


if __name__ == '__main__':
  main(*sys.argv[1:])
