"""Recalibration: statistics of the population into a new checkpoint."""

from typing import Any
from typing import Dict
from typing import List
from typing import NamedTuple
from typing import Optional

import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.measure import comparing
from graph_resnet9.doctor.measure import diagnosis
from graph_resnet9.doctor.measure import feeds
from graph_resnet9.doctor.measure import moments
from graph_resnet9.doctor.measure import probing
from graph_resnet9.doctor.measure import rewriting
from graph_resnet9.doctor.measure import sessions
from graph_resnet9.errors import UserError

HELD_OUT = 10  # Batches that a comparison takes.
_FORCE = '; --force writes them all the same'


class Statistics(NamedTuple):
  """Population statistics.

  values: {name of a variable: array of its shape and dtype}.
  batches: int, that they are of.
  held_out: list of comparing.HeldOut, batches that they are not of; of the
    only batch if there is no other: apart is False then.
  """

  values: Dict[str, Any]
  batches: int
  held_out: List[Any]
  apart: bool = True


class Recalibration(NamedTuple):
  """What was written.

  values: {name of a variable: array}. batches: int, that they are of.
  comparison: comparing.Comparison of old and new ones; None if not asked for.
  """

  values: Dict[str, Any]
  batches: int
  comparison: Optional[Any]


def of_layers(runnable):
  """Probes of all layers that use the statistics of the batch.

  Args:
    runnable: sessions.Runnable.
  Raises:
    UserError: one cannot be measured, or its variables cannot be told.
  """
  probes = probing.of_layers(runnable, frozen=False).probes
  for probe in probes:
    if not probe.stored:
      raise UserError(
        'layer %s: has no moving statistics in this graph that '
        'could be recalibrated%s'
        % (
          probe.name,
          ': not clear which of %s are those of which call'
          % ', '.join(v.name for v in probe.layer.stored[:6])
          if len(probe.layer.stored) > 2
          else '',
        )
      )
  return probes


def statistics(
  session, runnable, probes, count, measure=None, held_out=0, check=None
):
  """Population statistics of all layers that use those of the batch.

  The weights stay as they are and the layers before normalise by the statistics
  of each batch, as in training: Wu & Johnson 2021, arXiv 2105.07576, section
  3.2 ("precise batch norm"). Every value counts once, whatever batch it comes
  in, and all calls of a layer count together.

  Args:
    session: tf.Session as of sessions.restored.
    runnable: sessions.Runnable.
    probes: of of_layers.
    count: int, batches at most, besides those held out.
    measure: comparing.Measure, or None.
    held_out: int, the first batches are kept for it, a fifth of all or one at
      most.
    check: function of the feed dict of a batch, which may raise UserError.
  Returns:
    Statistics.
  Raises:
    UserError: something is not finite.
  """
  totals = [moments.Moments(0, np.float64(0), np.float64(0)) for _ in probes]
  held_out = held_out and min(held_out, max(1, count // 4))
  kept = []  # (HeldOut, list of Moments)
  done = 0
  fetches = measure.fetches(runnable.graph) if measure else []
  for batch in probing.run(
    session,
    runnable,
    probes,
    count + held_out,
    lambda k: fetches if k < held_out else [],
    measure.nodes if measure else (),
  ):
    if check:
      check(batch.feed)
    of_batch = [
      moments.merged(call.moments for call in calls) for calls in batch.calls
    ]
    if done < held_out:
      kept.append((measure.held_out(batch), of_batch))
    else:
      totals = _merged(totals, of_batch)
    done += 1
  # An input that ends soon is not spent on comparisons.
  held_out = min(len(kept), max(1, done // 5))
  used = kept[held_out:] if done > 1 else kept
  for _, of_batch in used:
    totals = _merged(totals, of_batch)
  return Statistics(
    _values(probes, totals),
    done - held_out if done > 1 else done,
    [batch for batch, _ in kept[:held_out]],
    done > 1,
  )


def _merged(totals, of_batch):
  return [moments.merged(pair) for pair in zip(totals, of_batch)]


def _values(probes, totals):
  """{name of a variable: array of its shape and dtype}."""
  values = {}
  for probe, total in zip(probes, totals):
    for variable, value in zip(probe.stored, (total.mean, total.variance)):
      if variable.shape.num_elements() != value.size:
        raise UserError(
          'layer %s: %s has %s elements and its input %d '
          'channels'
          % (
            probe.name,
            variable.op.name,
            variable.shape.num_elements(),
            value.size,
          )
        )
      with np.errstate(over='ignore'):  # Told below.
        value = value.astype(variable.dtype.base_dtype.as_numpy_dtype)
      if not np.isfinite(value).all():
        raise UserError('%s: its statistics are not finite' % variable.op.name)
      values[variable.op.name] = value.reshape(variable.shape.as_list())
  return values


def recalibrate(runnable, prefix, out, count, held_out=HELD_OUT, force=False):
  """Writes a checkpoint that differs from `prefix` in the statistics alone.

  Statistics that the checkpoint lacks are added under the variables' names.

  Args:
    runnable: sessions.Runnable.
    prefix, out: prefixes of checkpoints.
    count: int, batches at most.
    held_out: int, batches more on which old and new statistics are compared;
      0: they are not.
    force: bool, whether to write what would rather not be written.
  Returns:
    Recalibration.
  Raises:
    UserError: as `of_layers` and `statistics`, `out` exists or cannot be
      written, or new statistics would do harm; nothing is left behind.
  """
  rewriting.check_out(out)
  probes = of_layers(runnable)
  measure = None
  if held_out:
    try:
      measure = comparing.measure_of(runnable, probes)
    except UserError:
      if not force:
        raise
  with sessions.restored(runnable, prefix) as session:
    if not force:
      _check_restored(runnable, probes, sessions.lacking(runnable, prefix))
      _check_trained_by_batch(session, runnable, probes)
    new = statistics(
      session,
      runnable,
      probes,
      count,
      measure,
      held_out if measure else 0,
      None if force else lambda feed: _check_feed(runnable, feed),
    )
  compared = None
  if measure:
    compared = _compared(runnable, prefix, probes, measure, new, force)
    if compared and compared.worse and not force:
      raise UserError(
        'the new statistics would be worse: %s%s%s'
        % (
          compared,
          '. Training seems to have normalised by the stored ones'
          if compared.trained_by_stored
          else '',
          _FORCE,
        )
      )
  rewriting.rewrite(runnable.anatomy.program, prefix, out, new.values)
  return Recalibration(new.values, new.batches, compared)


def _compared(runnable, prefix, probes, measure, new, force):
  """comparing.Comparison of Statistics, or None if forced to do without."""
  try:
    return comparing.compare(
      runnable, prefix, probes, measure, new.held_out, new.values
    )._replace(apart=new.apart)
  except UserError:
    if not force:
      raise
    return None


def _check_restored(runnable, probes, lacking):
  """Raises UserError if a layer's input depends on initial values."""
  for probe, names in diagnosis.behind(runnable, probes, lacking):
    raise UserError(
      'layer %s is behind variables that the checkpoint lacks: %s; its inputs '
      'would be those of initial weights%s' % (probe.name, names, _FORCE)
    )


def _check_feed(runnable, feed):
  """Raises UserError if what is fed tells layers to use the stored ones."""
  names = sorted(
    {
      source.node.name
      for site in feeds.by_stored(runnable, feed)
      for source in feeds.phase_sources(site)
    }
  )
  if names:
    raise UserError(
      '--feed: feeds %s so that layers normalise by the stored statistics; '
      'leave it out: it is fed by itself. If training was fed so too, there is '
      'nothing to recalibrate%s' % (', '.join(names), _FORCE)
    )


def _check_trained_by_batch(session, runnable, probes):
  """Raises UserError if a step's updates left the initial statistics."""
  step = tf.train.get_global_step(runnable.graph)
  step = None if step is None else int(session.run(step))
  for probe in probes:
    values = session.run(list(probe.stored))
    if probing.trained_by_stored(runnable.anatomy, probe, values, step):
      raise UserError(
        'layer %s: a training step runs its updates, and after step %d its '
        'statistics are still the initial ones: training normalised by those, '
        'since nothing told it to use the batch; new ones would give the '
        'network what it has never seen. Set what says so (%s) and train '
        'again%s'
        % (
          probe.name,
          step,
          ', '.join(
            sorted(
              {
                source.node.name
                for site in probe.sites
                for source in feeds.phase_sources(site)
              }
            )
          ),
          _FORCE,
        )
      )
