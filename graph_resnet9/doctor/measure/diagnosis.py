"""A diagnosis: records, verdicts, and how they are shown."""

import json
import math
from typing import Any
from typing import List
from typing import NamedTuple
from typing import Optional

import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.graph import tensors
from graph_resnet9.doctor.measure import probing
from graph_resnet9.doctor.measure import sessions
from graph_resnet9.doctor.measure import verdicts

# Of accuracy: more than chance between two evaluations of the same weights.
_GAIN = 0.01


class Diagnosis(NamedTuple):
  """What is known of the layers of a graph.

  records: list of moments.Record. verdicts: list of verdicts.Verdict.
  step: training steps taken, or None.
  layers: int, of the graph. unmeasured: list of (name of a layer, why not).
  lacking: names of variables that the checkpoint lacks.
  """

  records: List[Any]
  verdicts: List[Any]
  step: Optional[int]
  layers: int
  unmeasured: List[Any]
  lacking: List[str]

  @property
  def healthy(self):
    return [v.code for v in self.verdicts] == ['healthy']

  @property
  def faults(self):
    """Whether a verdict finds one; else what is not healthy is not known."""
    return any(v.code not in verdicts.NO_FAULT for v in self.verdicts)


def diagnose(runnable, prefix, count):
  """Diagnoses a checkpoint.

  Args:
    runnable: sessions.Runnable.
    prefix: of the checkpoint.
    count: int, batches at most.
  Returns:
    Diagnosis.
  Raises:
    UserError: the checkpoint or the input cannot be used.
  """
  probes = probing.of_all(runnable)
  with sessions.restored(runnable, prefix) as session:
    return examine(
      session, runnable, probes, count, sessions.lacking(runnable, prefix)
    )


def examine(session, runnable, probes, count, lacking=()):
  """Diagnosis of what a session holds; changes no variable.

  Args:
    session: tf.Session on the runnable's graph, its queue runners started.
    runnable: sessions.Runnable.
    probes: of probing.of_all, made before the graph was finalised.
    count: int, batches at most.
    lacking: names of variables that hold initial values for want of others.
  """
  step_variable = tf.train.get_global_step(runnable.graph)
  step = None if step_variable is None else int(session.run(step_variable))
  records = probing.records(session, runnable, probes.probes, count, step)
  reasons = [pair for pair in probes.unmeasured if pair[1] != probing.NOT_RUN]
  reasons += [
    (probe.name, 'behind variables that the checkpoint lacks: ' + names)
    for probe, names in behind(runnable, probes.probes, lacking)
  ]
  return Diagnosis(
    records,
    verdicts.judge(records, reasons),
    step,
    probes.layers,
    probes.unmeasured,
    list(lacking),
  )


def behind(runnable, probes, lacking):
  """[(Probe, text)] of layers whose input depends on variables that lack.

  Args:
    runnable: sessions.Runnable. probes: list of probing.Probe.
    lacking: names of variables that are not in the checkpoint.
  """
  # Those that the batch takes the place of do not matter.
  unused = {v.op.name for probe in probes for v in probe.stored}
  unused -= {
    v.op.name
    for probe in probes
    for v in probe.stored
    if not any(site.by_batch for site in probe.sites)
  }
  lacking = set(lacking) - unused
  results = []
  for probe in probes:
    if not lacking or probe.layer is None:
      continue
    names = sorted(
      node.name
      for node in runnable.anatomy.view.ancestors(probe.nodes)
      if node.op in tensors.VARIABLE_OPS and node.name in lacking
    )
    if names:
      results.append((probe, _names(names)))
  return results


def _names(names, most=4):
  """Names, the first of them if they are many."""
  more = len(names) - most
  return ', '.join(names[:most]) + (' and %d more' % more if more > 0 else '')


def as_dict(record):
  """A record's figures, for JSON."""
  known = record.stored_mean is not None
  return dict(
    layer=record.name,
    batches=record.batches,
    calls=len(record.calls),
    batch_size=record.batch_size,
    mean_gap=record.mean_gap if known else None,
    variance_ratio=record.variance_ratio if known else None,
    share_between_batches=record.share_between_batches,
    independent_share=record.independent_share,
    share_between_calls=record.share_between_calls,
    initial=bool(record.initial),
    initial_share=record.initial_share,
    finite=not record.not_finite,
    frozen=record.frozen,
  )


def to_json(result, scores):
  """One line: figures of the layers, verdicts, scores; null for a NaN."""
  return json.dumps(
    _finite(
      dict(
        step=result.step,
        healthy=result.healthy,
        layers_in_graph=result.layers,
        not_measured=[
          dict(layer=name, reason=reason) for name, reason in result.unmeasured
        ],
        not_in_checkpoint=result.lacking,
        layers=[as_dict(r) for r in result.records],
        verdicts=[v._asdict() for v in result.verdicts],
        scores=scores,
      )
    ),
    allow_nan=False,
  )


def _finite(value):
  """A value for JSON, which has neither NaN nor infinities: None for them."""
  if isinstance(value, dict):
    return {key: _finite(v) for key, v in value.items()}
  if isinstance(value, (list, tuple)):
    return [_finite(v) for v in value]
  if isinstance(value, (float, np.floating)):
    return float(value) if math.isfinite(value) else None
  return value


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
    '%d of %d layers measured over %d batches of %.4g examples, step %s'
    % (
      result.layers - len(result.unmeasured),
      result.layers,
      first.batches,
      first.batch_size,
      'unknown' if result.step is None else result.step,
    )
  )
  if result.unmeasured:
    lines.append('not measured: ' + verdicts.listed(result.unmeasured))
  if result.lacking:
    lines.append(
      'not in the checkpoint, so at their initial values: '
      + _names(result.lacking)
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
  from matplotlib import figure  # pylint: disable=g-import-not-at-top

  records = result.records
  at = np.arange(len(records))
  stored = [k for k, r in enumerate(records) if r.stored_mean is not None]
  canvas = figure.Figure(
    figsize=(12, 2 + 0.3 * len(records)), layout='constrained'
  )
  means, variances, shares = canvas.subplots(1, 3, sharey=True)
  means.barh(stored, [records[k].mean_gap for k in stored], color='C4')
  means.axvline(verdicts.MOST_GAP, color='k', ls=':')
  means.set_xlabel('|stored mean - actual|, standard deviations')
  with np.errstate(invalid='ignore', divide='ignore'):  # Negative ones.
    ratios = [np.log2(records[k].variance_ratio) for k in stored]
  variances.barh(stored, ratios, color='C5')
  for bound in (-1, 1):
    variances.axvline(bound * np.log2(verdicts.MOST_RATIO), color='k', ls=':')
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
    % (title, '; '.join(verdicts.TITLES[v.code] for v in result.verdicts)),
    fontsize=10,
  )
  canvas.savefig(path, format='png', dpi=100)
