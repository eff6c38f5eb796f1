"""A diagnosis: records, verdicts, and how they are shown."""

import json
from typing import Any
from typing import List
from typing import NamedTuple

from matplotlib import figure
import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.measure import labels
from graph_resnet9.doctor.measure import session as subject_lib
from graph_resnet9.doctor.measure import taps as tap
from graph_resnet9.doctor.measure import verdicts as judge

# Of accuracy: more than chance between two evaluations of the same weights.
_GAIN = 0.01


class Diagnosis(NamedTuple):
  """records: list of moments.Record. verdicts: list of judge.Verdict.

  step: training steps taken, or None.
  """

  records: List[Any]
  verdicts: List[Any]
  step: Any

  @property
  def healthy(self):
    return [v.code for v in self.verdicts] == ['healthy']


def diagnose(subject, prefix, count):
  """Diagnoses a checkpoint.

  Args:
    subject: subject.Subject.
    prefix: of the checkpoint.
    count: int, batches at most.
  Returns:
    Diagnosis.
  Raises:
    UserError: the checkpoint or the input cannot be used.
  """
  tapped = all_taps(subject)
  with subject_lib.restored(subject, prefix) as session:
    return examine(session, subject, tapped, count)


def all_taps(subject):
  """Measuring ops of the layers, and of the labels if there are any."""
  return tap.taps(subject) + labels.taps(subject)


def examine(session, subject, tapped, count):
  """Diagnosis of what a session holds; changes no variable.

  Args:
    session: tf.Session on the subject's graph, its queue runners started.
    subject: subject.Subject.
    tapped: of all_taps, made before the graph was finalised.
    count: int, batches at most.
  """
  step_variable = tf.train.get_global_step(subject.graph)
  step = None if step_variable is None else int(session.run(step_variable))
  records = tap.records(session, subject, tapped, count, step)
  return Diagnosis(records, judge.judge(records), step)


def as_dict(record):
  """A record's figures, for JSON."""
  return dict(
    layer=record.name,
    batches=record.batches,
    calls=len(record.calls),
    batch_size=record.batch_size,
    mean_gap=None if record.stored_mean is None else record.mean_gap,
    variance_ratio=None
    if record.stored_mean is None
    else record.variance_ratio,
    share_between_batches=record.share_between_batches,
    independent_share=record.independent_share,
    share_between_calls=record.share_between_calls,
    initial=bool(record.initial),
    initial_share=record.initial_share,
  )


def to_json(result, scores):
  """One line: figures of the layers, verdicts, scores."""
  return json.dumps(
    dict(
      step=result.step,
      healthy=result.healthy,
      layers=[as_dict(r) for r in result.records],
      verdicts=[v._asdict() for v in result.verdicts],
      scores=scores,
    )
  )


def table(result, scores):
  """The same as text."""
  width = max([len(r.name) for r in result.records] + [5])
  lines = [
    '%-*s %9s %9s %10s %10s'
    % (width, '', 'mean off', 'variance', 'between', 'if drawn'),
    '%-*s %9s %9s %10s %10s'
    % (width, 'layer', 'by (sd)', 'ratio', 'batches', 'at random'),
  ]
  for r in result.records:
    gap, ratio = (
      ('-', '-')
      if r.stored_mean is None
      else ('%.3f' % r.mean_gap, '%.3g' % r.variance_ratio)
    )
    lines.append(
      '%-*s %9s %9s %9.2f%% %9.2f%%'
      % (
        width,
        r.name,
        gap,
        ratio,
        100 * r.share_between_batches,
        100 * r.independent_share,
      )
    )
  first = result.records[0]
  lines.append(
    'over %d batches of %.4g examples, step %s'
    % (
      first.batches,
      first.batch_size,
      'unknown' if result.step is None else result.step,
    )
  )
  for score in scores:
    lines.append(
      '%-13s statistics: accuracy %6.2f%%, loss %.4f'
      % (score['statistics'], 100 * score['accuracy'], score['loss'])
    )
  by = {score['statistics']: score['accuracy'] for score in scores}
  gain = by.get('recalibrated', 0) - by.get('moving', 0)
  if result.healthy and gain > _GAIN:
    lines.append(
      'the moving statistics lag behind the weights, which still '
      'move fast: recalibrate gains %.1f points' % (100 * gain)
    )
  return '\n'.join(lines + [str(v) for v in result.verdicts])


def draw(path, result, title):
  """Draws how far off means and variances are, and how batches are mixed.

  Args:
    path: PNG file to write.
    result: Diagnosis.
    title: str, for the first line above; the verdicts are the second.
  """
  records = result.records
  at = np.arange(len(records))
  stored = [k for k, r in enumerate(records) if r.stored_mean is not None]
  canvas = figure.Figure(
    figsize=(12, 2 + 0.3 * len(records)), layout='constrained'
  )
  means, variances, shares = canvas.subplots(1, 3, sharey=True)
  means.barh(stored, [records[k].mean_gap for k in stored], color='C4')
  means.axvline(judge.MOST_GAP, color='k', ls=':')
  means.set_xlabel('|stored mean - actual|, standard deviations')
  variances.barh(
    stored, [np.log2(records[k].variance_ratio) for k in stored], color='C5'
  )
  for bound in (-1, 1):
    variances.axvline(bound * np.log2(judge.MOST_RATIO), color='k', ls=':')
  variances.set_xlabel('log2 of stored variance / actual')
  for shift, colour, label, values in (
    (-0.2, 'C0', 'measured', [r.share_between_batches for r in records]),
    (0.2, '.7', 'if drawn at random', [r.independent_share for r in records]),
  ):
    shares.barh(at + shift, values, 0.4, color=colour, label=label)
  # A twentieth at least: what is next to nothing shall look so.
  shares.set_xlim(
    0,
    max(
      0.05,
      1.05
      * max(max(r.share_between_batches, r.independent_share) for r in records),
    ),
  )
  shares.xaxis.set_major_formatter('{x:.0%}')
  shares.set_xlabel('share of the variance between batches')
  shares.legend(fontsize=8)
  means.set_yticks(at, [r.name for r in records], fontsize=8)
  means.invert_yaxis()
  for axes in (means, variances, shares):
    axes.tick_params(labelsize=8)
    axes.grid(axis='x', alpha=0.3)
  canvas.suptitle(
    '%s\n%s'
    % (title, '; '.join(judge.TITLES[v.code] for v in result.verdicts)),
    fontsize=10,
  )
  canvas.savefig(path, format='png', dpi=100)
