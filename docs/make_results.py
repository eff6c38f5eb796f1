"""Runs the trainings whose figures stand on the pages, keeps them, shows them.

  python docs/make_results.py run --data_dir=DATA --runs_dir=RUNS [NAME ...]
  python docs/make_results.py keep TRAIN_DIR NAME/seedN
  python docs/make_results.py pages

`run` takes the trainings of RUNS that docs/results/ lacks, one after the other
(all, or those of the names), each in RUNS/NAME/seedN; what was interrupted goes
on. `keep` copies what is evidence, as `run` does at the end of each: flags.txt,
metrics.jsonl, eval.jsonl (answers of graph_resnet9.eval on the last checkpoint,
with the flags that it was asked with) and about.txt, the machine. `pages` makes
from docs/results/ all that stands between markers in README.md, BUILD.md and
docs/ (and from docs/cases/ what README.md says of a case), and
docs/accuracy.png and docs/departures.png; a test compares the pages with it.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
from typing import NamedTuple

DOCS = pathlib.Path(__file__).resolve().parent
ROOT = DOCS.parent
RESULTS = DOCS / 'results'
# Of davidcpage/cifar10-fast: the least of the medians that it publishes.
REFERENCE = 0.94
# In the place of a table.
NOT_YET = 'Not measured yet: `python docs/make_results.py run` does.'


class Run(NamedTuple):
  """A training that stands on the pages.

  seeds: how many, from 0.
  flags: after the seed.
  text: what a table calls it.
  evals: flags of more evaluations of the last checkpoint.
  shown: the one of these whose accuracy stands in the tables, as it is the
    recipe's; by default that of the training's last row.
  """

  seeds: int
  flags: tuple[str, ...]
  text: str
  evals: tuple[str, ...] = ()
  shown: str = ''


FAST10, DAWN24 = (
  '--flagfile=flags/fast10.flags',
  '--flagfile=flags/dawn24.flags',
)
# On the way to fast8: still with averages and a rate that ends at 0.1.
EIGHT = (FAST10, '--epochs=8', '--init=dirac', '--alternate_flip')
# Not auto: whatever the machine, the same arithmetic.
SHORT = (DAWN24, '--width=16', '--epochs=8', '--conv=winograd')
# name: (what the table calls it, flags). Each is SHORT with one thing changed.
DEPARTURES = {
  'he_uniform': ('initial kernels he_uniform', '--init=he_uniform'),
  'weight_decay_5e-5': ('weight decay 5e-5', '--weight_decay=5e-5'),
  'bn_decay_0.8': ('batch norm decay 0.8', '--bn_decay=0.8'),
  'bn_decay_0.95': ('batch norm decay 0.95', '--bn_decay=0.95'),
  'bn_decay_0.99': (
    "batch norm decay 0.99, TensorFlow's default",
    '--bn_decay=0.99',
  ),
  'bn_epsilon_1e-3': (
    "batch norm epsilon 1e-3, TensorFlow's default",
    '--bn_epsilon=1e-3',
  ),
  'biased_variance': ('biased variance stored', '--nobn_fused'),
  'rate_outside': (
    'Nesterov, the rate outside the velocity',
    '--norate_in_velocity',
  ),
  'no_nesterov': ('momentum without Nesterov', '--nonesterov'),
  'no_shift': ('rate not read a step ahead', '--lr_shift_steps=0'),
  'logits_x1': ('logits x 1', '--logit_scale=1'),
  'zero_padding': ('zero padding', '--pad_mode=zero'),
  'pad_3': ('padding 3', '--pad=3'),
  'pad_5': ('padding 5', '--pad=5'),
  'cutout_0': ('no cutout', '--cutout=0'),
  'cutout_6': ('cutout 6', '--cutout=6'),
  'cutout_10': ('cutout 10', '--cutout=10'),
  'cutout_over_border': ('cutout over the border', '--nocutout_inside'),
  'crop_per_batch': ('one crop for a batch', '--crop_per=batch'),
  'badly_mixed': (
    'file in order of class, 1,000 waiting in the queue',
    '--order=class_sorted --min_after_dequeue=1000',
  ),
  'no_update_ops': ('no update ops', '--update_ops=none'),
  'later_peak': (
    'five more epochs, peak at 8 of 13',
    '--epochs=13 --lr_epochs=0,8,13',
  ),
}
# In the order in which they are wanted.
RUNS = {
  'fast10': Run(
    3,
    (FAST10,),
    '`fast10.flags`, full width, 10 epochs',
    (
      '--nomirrored',
      '--shifted',
      '--weights=trained',
      '--weights=trained --nomirrored',
    ),
  ),
  # On a CPU the recipe's six views take half as long as an epoch of training.
  'fast8': Run(
    3,
    ('--flagfile=flags/fast8.flags', '--noshifted'),
    '`fast8.flags`, full width, 8 epochs',
    ('--shifted', '--nomirrored'),
    '--shifted',
  ),
  'fast8_averaged': Run(
    1,
    EIGHT,
    '`fast10.flags --epochs=8 --init=dirac --alternate_flip`',
    ('--nomirrored', '--shifted'),
  ),
  'fast8_averaged_pad2': Run(
    1,
    (*EIGHT, '--pad=2'),
    'the same with `--pad=2`',
    ('--nomirrored', '--shifted'),
  ),
  'short': Run(
    3, SHORT, '`dawn24.flags --width=16 --epochs=8 --conv=winograd`'
  ),
  'short_direct': Run(
    3, (*SHORT, '--conv=direct'), 'the same with `--conv=direct`'
  ),
  'one_epoch': Run(
    1, (DAWN24, '--epochs=1'), '`dawn24.flags --epochs=1`, full width'
  ),
  'one_epoch_direct': Run(
    1, (DAWN24, '--epochs=1', '--conv=direct'), 'the same with `--conv=direct`'
  ),
  'departures/no_update_ops': Run(
    3,
    (*SHORT, '--update_ops=none'),
    '`dawn24.flags --width=16 --epochs=8 --conv=winograd --update_ops=none`',
    ('--batch_norm=batch', '--batch_norm=batch --split=train'),
  ),
  'dawn24': Run(
    3,
    (DAWN24,),
    '`dawn24.flags`, full width, 24 epochs',
    ('--mirrored', '--mirrored --shifted'),
  ),
  'fast10_width16': Run(
    5, (FAST10, '--width=16'), '`fast10.flags --width=16`, 10 epochs'
  ),
  'dawn24_width16': Run(
    5, (DAWN24, '--width=16'), '`dawn24.flags --width=16`, 24 epochs'
  ),
}
for _name, (_text, _flags) in DEPARTURES.items():
  RUNS.setdefault(
    'departures/' + _name, Run(3, (*SHORT, *_flags.split()), _text)
  )


class Kept(NamedTuple):
  """A run of docs/results: rows of metrics.jsonl and eval.jsonl, machine.

  shown: as of Run.
  """

  rows: list[dict]
  evals: list[dict]
  about: str
  shown: str = ''

  @property
  def accuracy(self):
    if not self.shown:
      return self.rows[-1]['test_accuracy']
    (accuracy,) = [
      line['accuracy'] for line in self.evals if line['flags'] == self.shown
    ]
    return accuracy


def kept(name):
  """{seed: Kept} of the runs of a name that docs/results has."""
  found = {}
  for folder in sorted((RESULTS / name).glob('seed*')):
    read = lambda file, folder=folder: [
      json.loads(line) for line in (folder / file).read_text().splitlines()
    ]
    found[int(folder.name[4:])] = Kept(
      read('metrics.jsonl'),
      read('eval.jsonl') if (folder / 'eval.jsonl').exists() else [],
      (folder / 'about.txt').read_text().strip(),
      RUNS[name].shown,
    )
  return found


def machine():
  """One line on where and when a run was made."""
  import tensorflow as tf

  info = pathlib.Path('/proc/cpuinfo').read_text()
  model = re.search(r'model name\s*: (.*)', info)
  width = (
    'AVX-512' if 'avx512f' in info else 'AVX2' if 'avx2' in info else 'no AVX'
  )
  gpus = len(tf.config.list_physical_devices('GPU'))
  return '%d cores of %s (%s), %d GPUs; TensorFlow %s, Python %s; %s' % (
    os.cpu_count(),
    model.group(1) if model else platform.processor(),
    width,
    gpus,
    tf.__version__,
    platform.python_version(),
    datetime.date.today().isoformat(),
  )


def keep(train_dir, name, evals=()):
  """Copies the evidence of a finished run to docs/results/NAME."""
  train_dir, folder = pathlib.Path(train_dir), RESULTS / name
  flags = (train_dir / 'flags.txt').read_text().splitlines()
  rows = (train_dir / 'metrics.jsonl').read_text()
  folder.mkdir(parents=True, exist_ok=True)
  # Where the images lay is nobody's business and changes nothing.
  (folder / 'flags.txt').write_text(
    ''.join(line + '\n' for line in flags if '--data_dir' not in line)
  )
  (folder / 'metrics.jsonl').write_text(rows)
  if evals:
    (folder / 'eval.jsonl').write_text(
      ''.join(json.dumps(line) + '\n' for line in evals)
    )
  (folder / 'about.txt').write_text(machine() + '\n')


def run(names, data_dir, runs_dir):
  """Takes the trainings that are missing; the exit code of one that failed."""
  command = lambda name, *args: [
    sys.executable,
    '-m',
    'graph_resnet9.' + name,
    *args,
  ]
  data = ['--dataset=cifar10', '--data_dir=' + str(data_dir)]
  for name in names or RUNS:
    plan = RUNS[name]
    for seed in range(plan.seeds):
      at = '%s/seed%d' % (name, seed)
      if (RESULTS / at / 'metrics.jsonl').exists():
        continue
      train_dir = pathlib.Path(runs_dir) / at
      print('==', at, flush=True)
      code = subprocess.call(
        command(
          'train',
          *plan.flags,
          *data,
          '--seed=%d' % seed,
          '--train_dir=%s' % train_dir,
        ),
        cwd=ROOT,
      )
      if code:
        return code
      evals = []
      for flags in plan.evals:
        done = subprocess.run(
          command('eval', '--checkpoint=%s' % train_dir, *data, *flags.split()),
          cwd=ROOT,
          check=True,
          stdout=subprocess.PIPE,
          text=True,
        )
        answer = json.loads(done.stdout.splitlines()[-1])
        evals.append(
          {
            'flags': flags,
            **{
              key: answer[key]
              for key in ('split', 'loss', 'accuracy', 'examples')
            },
          }
        )
      keep(train_dir, at, evals)
  return 0


# The pages.


def percent(value):
  return '%.2f%%' % (100 * value)


def spread(runs):
  """'mean ± standard deviation' of the last test accuracies, or the one."""
  values = [one.accuracy for one in runs.values()]
  if len(values) == 1:
    return percent(values[0])
  return '%.2f%% ± %.2f' % (
    100 * statistics.mean(values),
    100 * statistics.stdev(values),
  )


def table(header, rows):
  rows = [header, ['---'] * len(header), *rows]
  return '\n'.join('| %s |' % ' | '.join(row) for row in rows)


def machines(runs):
  """{line of about.txt without its date: letter} over all that is kept."""
  lines = sorted(
    {
      one.about.rpartition('; ')[0]
      for part in runs.values()
      for one in part.values()
    }
  )
  return {line: chr(ord('P') + n) for n, line in enumerate(lines)}


def accuracy_table():
  """Every recipe that was run, with its seeds: for BUILD.md."""
  runs = {name: kept(name) for name in RUNS if 'departures' not in name}
  runs = {name: part for name, part in runs.items() if part}
  letters = machines(runs)
  rows = []
  for name, part in runs.items():
    seeds = ', '.join('%d' % seed for seed in part)
    values = ', '.join(percent(one.accuracy) for one in part.values())
    where = sorted(
      {letters[one.about.rpartition('; ')[0]] for one in part.values()}
    )
    secs = statistics.mean(one.rows[-1]['total_secs'] for one in part.values())
    rows.append(
      [
        RUNS[name].text,
        seeds,
        values,
        '**%s**' % spread(part),
        '%d min' % round(secs / 60),
        ', '.join(where),
      ]
    )
  lines = ['%s: %s.' % (letter, line) for line, letter in letters.items()]
  return '\n\n'.join(
    [
      table(
        [
          'run',
          'seeds',
          'test accuracy',
          'mean ± standard deviation',
          'training',
          'machine',
        ],
        rows,
      ),
      '\n'.join(lines),
    ]
  )


def results_table():
  """The recipes in one line each: for README.md."""
  rows = []
  for name, reference in (
    ('fast8', ''),
    ('fast10', '94.1%'),
    ('dawn24', '94.08%'),
    ('fast10_width16', ''),
    ('dawn24_width16', ''),
    ('short', ''),
  ):
    part = kept(name)
    if part:
      rows.append(
        [RUNS[name].text, '%d' % len(part), '**%s**' % spread(part), reference]
      )
  parts = [
    table(['recipe', 'seeds', 'test accuracy', 'davidcpage/cifar10-fast'], rows)
  ]
  if panels():
    parts.append('![Test accuracy by epoch](docs/accuracy.png)')
  return '\n\n'.join(parts)


def epochs_table():
  """Each epoch of the full-width 10-epoch run of seed 0: for BUILD.md."""
  part = kept('fast10')
  if 0 not in part:
    return NOT_YET
  rows = [
    [
      '%g' % round(row['epoch'], 2),
      '%.2f' % row['learning_rate'],
      '%.1f' % row['train_secs'],
      '%.3f' % row['train_loss'],
      percent(row['train_accuracy']),
      '%.3f' % row['test_loss'],
      percent(row['test_accuracy']),
    ]
    for row in part[0].rows
  ]
  return table(
    [
      'epoch',
      'learning rate',
      'training, s',
      'train loss (smoothed)',
      'train accuracy',
      'test loss',
      'test accuracy',
    ],
    rows,
  )


def evals_table():
  """More evaluations of last checkpoints: for BUILD.md."""
  rows = []
  for name, plan in RUNS.items():
    for seed, one in kept(name).items():
      for line in one.evals:
        rows.append(
          [
            plan.text,
            '%d' % seed,
            '`%s`' % line['flags'],
            percent(line['accuracy']),
            '%.3f' % line['loss'],
          ]
        )
  if not rows:
    return NOT_YET
  return table(
    ['run', 'seed', '`eval --checkpoint=DIR` and', 'accuracy', 'loss'], rows
  )


def departures():
  """[(text, flags, seeds, difference, its error)], sorted; percent points.

  One seed alone has the variance of the recipe's.
  """
  base = [100 * one.accuracy for one in kept('short').values()]
  if len(base) < 2:
    return []
  found = []
  for name, (text, flags) in DEPARTURES.items():
    values = [100 * one.accuracy for one in kept('departures/' + name).values()]
    if not values:
      continue
    error = (
      statistics.variance(base) / len(base)
      + statistics.variance(values if len(values) > 1 else base) / len(values)
    ) ** 0.5
    found.append(
      (
        text,
        flags,
        len(values),
        statistics.mean(values) - statistics.mean(base),
        error,
      )
    )
  return sorted(found, key=lambda row: row[3])


def departures_table():
  """What each departure from the recipe costs: for docs/porting.md."""
  part, rows = kept('short'), []
  for text, flags, seeds, difference, error in departures():
    rows.append(
      [text, '`%s`' % flags, '%d' % seeds, '%+.2f ± %.2f' % (difference, error)]
    )
  if not rows:
    return NOT_YET
  return '\n\n'.join(
    [
      'Percent points of test accuracy against the recipe at width 16 and 8 '
      'epochs (%s over %d seeds), with the standard error of the difference; '
      'one seed alone is taken to spread as the recipe does.'
      % (spread(part), len(part)),
      table(['departure', 'flags', 'seeds', 'difference'], rows),
      '![What each departure costs](departures.png)',
    ]
  )


def broken_text():
  """What the case of missing update ops shows: for README.md."""
  case = json.loads((DOCS / 'cases' / 'update_ops.json').read_text())
  arms = {arm['name']: arm for arm in case['arms']}
  broken = arms['no control dependency']
  return (
    '*One line apart: on the right the train op waits for the update ops, else '
    'not, the mistake that costs\npeople weeks. Training looks the same, '
    '%.1f%%; evaluation with the moving statistics, which are still\n0 and 1, '
    'finds %.1f%%, by batch statistics %.1f%% with the same weights. It is the '
    'first of [the cases](docs/cases.md).*'
    % tuple(
      100 * broken[name]
      for name in (
        'train_accuracy',
        'eval_moving_accuracy',
        'eval_batch_accuracy',
      )
    )
  )


BLOCKS = {
  'accuracy': accuracy_table,
  'broken': broken_text,
  'results': results_table,
  'epochs': epochs_table,
  'evals': evals_table,
  'departures': departures_table,
}
PAGES = ('README.md', 'BUILD.md', 'docs/porting.md')


def page(text):
  """The text of a page with every block between markers made anew."""

  def block(match):
    begin, name, end = match.groups()
    return '%s\n%s\n%s' % (begin, BLOCKS[name](), end)

  return re.sub(
    r'(<!-- (\w+):begin -->)\n.*?(<!-- \2:end -->)', block, text, flags=re.S
  )


def panels():
  """[(title, names)] of the accuracy by epoch, where there are runs."""
  both = (
    ('10 epochs: fast10.flags', ('fast10', 'fast10_width16')),
    ('24 epochs: dawn24.flags', ('dawn24', 'dawn24_width16')),
  )
  return [(title, names) for title, names in both if any(map(kept, names))]


def accuracy_picture():
  """Test accuracy by epoch, a line a seed, with the reference's."""
  from matplotlib import figure

  count = len(panels())
  canvas = figure.Figure(figsize=(1 + 4 * count, 3.6), layout='constrained')
  row = canvas.subplots(1, count, sharey=True, squeeze=False)[0]
  for axes, (title, names) in zip(row, panels()):
    for name, style in zip(names, ('C0o-', 'C1s--')):
      label = 'width 16' if 'width16' in name else 'full width'
      for seed, one in kept(name).items():
        axes.plot(
          [row['epoch'] for row in one.rows],
          [100 * row['test_accuracy'] for row in one.rows],
          style,
          linewidth=1,
          markersize=3,
          label='%s, seed %d' % (label, seed),
        )
    axes.axhline(100 * REFERENCE, color='gray', linestyle=':')
    axes.set(title=title, xlabel='epoch', xlim=(0, None), ylim=(70, 96))
    axes.text(
      0.2, 94.3, '94%: davidcpage/cifar10-fast', color='gray', fontsize=8
    )
    axes.grid(alpha=0.3)
    axes.legend(loc='lower right', fontsize=7)
  row[0].set_ylabel('test accuracy, %')
  return canvas


def departures_picture():
  """Difference to the recipe with its standard error, sorted, dots."""
  from matplotlib import figure

  rows = departures()
  canvas = figure.Figure(
    figsize=(8, 0.8 + 0.26 * len(rows)), layout='constrained'
  )
  axes = canvas.subplots()
  # The worst would squeeze all others into a line.
  least = -6
  for at, (_, _, _, difference, error) in enumerate(rows):
    if difference < least:
      axes.plot(least, at, 'k<')
      axes.annotate(
        '%.1f' % difference, (least, at), (8, -4), textcoords='offset points'
      )
    else:
      axes.errorbar(difference, at, xerr=error, fmt='ko', capsize=3)
  axes.axvline(0, color='gray', linestyle=':')
  axes.set_yticks(range(len(rows)), [row[0] for row in rows])
  axes.set_ylim(-0.6, len(rows) - 0.4)
  axes.set_xlabel('percent points of test accuracy against the recipe')
  axes.grid(axis='x', alpha=0.3)
  return canvas


def pages():
  for name in PAGES:
    path = ROOT / name
    if path.exists():
      path.write_text(page(path.read_text()))
  if panels():
    accuracy_picture().savefig(DOCS / 'accuracy.png', dpi=110)
  if departures():
    departures_picture().savefig(DOCS / 'departures.png', dpi=110)


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  commands = parser.add_subparsers(dest='command', required=True)
  running = commands.add_parser('run')
  running.add_argument('--data_dir', required=True)
  running.add_argument('--runs_dir', required=True)
  running.add_argument('names', nargs='*', choices=[[], *RUNS], metavar='NAME')
  keeping = commands.add_parser('keep')
  keeping.add_argument('train_dir')
  keeping.add_argument('name')
  commands.add_parser('pages')
  given = parser.parse_args()
  if given.command == 'run':
    return run(
      given.names,
      os.path.abspath(given.data_dir),
      os.path.abspath(given.runs_dir),
    )
  if given.command == 'keep':
    keep(given.train_dir, given.name)
  else:
    pages()
  return 0


if __name__ == '__main__':
  sys.exit(main())
