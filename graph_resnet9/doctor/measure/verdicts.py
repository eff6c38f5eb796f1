"""From records of layers to verdicts: a table of rules. No TensorFlow."""

import math
from typing import Any
from typing import Callable
from typing import List
from typing import NamedTuple

# Stored statistics further off than this do not describe the inputs: the mean
# by half a standard deviation, the variance by a factor of two.
MOST_GAP = 0.5
MOST_RATIO = 2.0
# Share of the initial value that may be left in a moving average.
MOST_INITIAL = 0.1
# Share of the variance that may lie between batches drawn independently.
MOST_NOISE = 0.1
# Batches that differ more than chance, and by something that counts.
LEAST_SHARE = 0.02
LEAST_SHARE_OF_CALLS = 0.1


class Verdict(NamedTuple):
  """One thing that a diagnosis says.

  code: key of TITLES. layers: names. evidence: str, its figures.
  """

  code: str
  layers: List[str]
  evidence: str

  def __str__(self):
    line = '%s: %s' % (
      self.code,
      self.evidence
      if self.code == 'healthy'
      else '%s; %s' % (TITLES[self.code], self.evidence),
    )
    return line + ('. ' + ADVICE[self.code] if ADVICE[self.code] else '')


class Rule(NamedTuple):
  """How a verdict is reached.

  applies: function of a moments.Record to bool.
  weight: function of a Record; the evidence is of the largest.
  evidence: function of (that Record, the Records it applies to, all that have
    stored statistics) to str.
  """

  code: str
  title: str
  advice: str
  applies: Callable[[Any], bool]
  weight: Callable[[Any], float]
  evidence: Callable[[Any, List[Any], List[Any]], str]


def _stored(record):
  """Whether there are stored statistics that training does not go by."""
  return record.stored_mean is not None and not record.frozen


def _compared(record):
  """Whether what is stored can be held against what was measured."""
  return (
    _stored(record)
    and not record.not_finite
    # At step 0 they are initial by right.
    and not (record.initial and record.initial_share == 1)
  )


def differs(record):
  """Whether the stored statistics do not describe the inputs."""
  return not (
    record.mean_gap <= MOST_GAP
    and 1 / MOST_RATIO < record.variance_ratio < MOST_RATIO
  )


class Unmixed(NamedTuple):
  """Blocks of batches that differ by more than chance.

  excess: share - independent. size: batches a block that follow each other.
  share: of the variance, between blocks. independent: the same if the examples
  were drawn independently.
  """

  excess: float
  size: int
  share: float
  independent: float


def unmixed(record):
  """The Unmixed of the largest excess, or None.

  Halves of the batches, quarters, ..., and single ones: where a queue is short,
  each batch is nearly like the next, and only many of them drift apart. They
  count if they differ by enough to matter.
  """
  of_one, freedom = record.independent_share, record.freedom
  found, size = [], max(record.batches // 2, 1)
  while size:
    blocks = max(record.batches // size, 2)
    share = record.share_between(size)
    independent = of_one / size
    most = independent * _by_chance((blocks - 1) * freedom)
    if not (share <= LEAST_SHARE or share <= most):
      found.append(Unmixed(share - independent, size, share, independent))
    size //= 2
  return max(found) if found else None


def _by_chance(freedom):
  """What chi-square over its degrees of freedom exceeds once in 3 million.

  Wilson & Hilferty 1931, at five standard deviations.
  """
  spread = 2 / (9 * freedom)
  return (1 - spread + 5 * math.sqrt(spread)) ** 3


def _between(name, found):
  """The evidence of an Unmixed."""
  return (
    '%.1f%% of the variance of %s lies between %s, %.1f%% if the examples were '
    'drawn independently'
    % (
      100 * found.share,
      name,
      'batches'
      if found.size == 1
      else 'blocks of %d batches in a row' % found.size,
      100 * found.independent,
    )
  )


def _slow(record):
  left = record.initial_share
  return (
    not record.initial
    and left is not None
    and left > MOST_INITIAL
    and differs(record)
  )


def _small(record):
  return not record.labels and not (
    record.independent_share <= MOST_NOISE
    and record.values > 1
    and record.batch_size > 1
  )


RULES = (
  Rule(
    'statistics-not-finite',
    'stored statistics are not finite, or a variance is negative',
    'train again from a checkpoint before that, with what made it mended (a '
    'diverged loss, one value a statistic, updates that race); recalibrate '
    'replaces them if the weights are sound',
    lambda r: r.not_finite,
    lambda r: float(not r.frozen),
    lambda worst, layers, stored: (
      '%d of %d layers, as %s' % (len(layers), len(stored), worst.name)
    ),
  ),
  Rule(
    'never-by-batch',
    'training normalises by the stored statistics, and they are the initial '
    'ones',
    'training=True in training, or set the variable or placeholder that says '
    'so, and train again; recalibrate would give the network what it has never '
    'seen',
    lambda r: r.frozen and r.initial,
    lambda r: r.mean_gap,
    lambda worst, layers, stored: (
      'mean 0 and variance 1 exactly in %d of %d '
      'layers: nothing is ever normalised' % (len(layers), len(stored))
    ),
  ),
  Rule(
    'updates-never-ran',
    'the updates of the moving statistics never ran',
    'run the update ops with the train op; recalibrate repairs this checkpoint',
    lambda r: _compared(r) and r.initial,
    lambda r: r.mean_gap,
    lambda worst, layers, stored: (
      'mean 0 and variance 1 exactly in %d of '
      '%d layers, where the inputs of %s are %.1f standard deviations off'
      % (len(layers), len(stored), worst.name, worst.mean_gap)
    ),
  ),
  Rule(
    'too-few-steps',
    'too few steps for the decay',
    'a smaller decay or more steps; recalibrate repairs this checkpoint',
    lambda r: _compared(r) and _slow(r),
    lambda r: r.initial_share,
    lambda worst, layers, stored: (
      '%.0f%% of the initial values are left; the '
      'stored variance of %s is %.3g times the actual one'
      % (100 * worst.initial_share, worst.name, worst.variance_ratio)
    ),
  ),
  Rule(
    'calls-differ',
    'a shared layer is given different kinds of inputs',
    'normalise one batch that holds all kinds, or bring them '
    'to a common mean and variance first',
    lambda r: (
      not r.frozen
      and len(r.calls) > 1
      and r.share_between_calls > LEAST_SHARE_OF_CALLS
    ),
    lambda r: r.share_between_calls,
    lambda worst, layers, stored: (
      '%.0f%% of the variance in %s lies between '
      'its %d calls'
      % (100 * worst.share_between_calls, worst.name, len(worst.calls))
    ),
  ),
  Rule(
    'batches-not-mixed',
    'batches are not mixed',
    'shuffle the files, or let more examples wait in the '
    'queue, and train again',
    lambda r: not r.frozen and unmixed(r) is not None,
    lambda r: unmixed(r).excess,
    lambda worst, layers, stored: _between(worst.name, unmixed(worst)),
  ),
  Rule(
    'batch-too-small',
    'the batch is too small',
    'a larger batch, or normalisation that needs none; '
    'recalibration cannot help what training saw',
    lambda r: not r.frozen and _small(r),
    lambda r: r.independent_share,
    lambda worst, layers, stored: (
      '%.0f examples a batch, so that %.0f%% of '
      'the variance in %s lies between batches by chance'
      % (worst.batch_size, 100 * worst.independent_share, worst.name)
    ),
  ),
)
# Any of the above moves the stored statistics, too: said where none is.
_OTHERWISE = Rule(
  'data-differ',
  'the stored statistics are those of other data',
  'evaluate what was trained on, or recalibrate on these data',
  lambda r: _compared(r) and differs(r),
  lambda r: r.mean_gap,
  lambda worst, layers, stored: (
    'the stored mean of %s is %.1f standard '
    'deviations off, its variance %.3g times the actual one, though '
    'updates ran and batches are mixed'
    % (worst.name, worst.mean_gap, worst.variance_ratio)
  ),
)
# Verdicts that find no fault.
NO_FAULT = ('healthy', 'not-compared')
TITLES = {
  **{rule.code: rule.title for rule in RULES + (_OTHERWISE,)},
  'not-compared': 'it cannot be told whether these layers are healthy',
  'healthy': 'healthy',
}
ADVICE = {
  **{rule.code: rule.advice for rule in RULES + (_OTHERWISE,)},
  'not-compared': '',
  'healthy': '',
}


def judge(records, reasons=()):
  """The verdicts on a list of moments.Record, the weightiest first.

  Args:
    records: list of moments.Record.
    reasons: list of (name of a layer, why it was not measured, or means
      nothing if it was).
  Returns:
    list of Verdict: of what is wrong; or else 'healthy' of the layers that
    could be compared, and 'not-compared' of the others.
  """
  reasons = dict(reasons)
  known = [r for r in records if r.name not in reasons]
  faults = [_verdict(rule, known) for rule in RULES]
  if not any(faults):
    faults = [_verdict(_OTHERWISE, known)]
  if any(faults):
    return [verdict for verdict in faults if verdict]
  layers = [r for r in records if not r.labels]
  for record in layers:
    if not _is_known(record):
      reasons.setdefault(record.name, _unknown(record))
  good = [r for r in layers if r.name not in reasons]
  verdicts = []
  if good:
    verdicts.append(
      Verdict('healthy', [r.name for r in good], _good(good, len(layers)))
    )
  if reasons:
    verdicts.append(
      Verdict('not-compared', list(reasons), listed(reasons.items()))
    )
  return verdicts


def _verdict(rule, records):
  """The Verdict of a rule, or None."""
  concerned = [r for r in records if rule.applies(r)]
  if not concerned:
    return None
  worst = max(concerned, key=rule.weight)
  stored = [r for r in records if r.stored_mean is not None]
  return Verdict(
    rule.code,
    [r.name for r in concerned],
    rule.evidence(worst, concerned, stored),
  )


def _is_known(record):
  """Whether a layer that no rule applies to is healthy."""
  return _compared(record) or (record.frozen and record.stored_mean is not None)


def _unknown(record):
  if record.stored_mean is None:
    return 'no moving statistics in this graph, or not clear which'
  return 'nothing has been averaged yet'


def _good(records, total):
  """The evidence of health."""
  compared = [r for r in records if not r.frozen]
  told = []
  if len(records) < total:
    told.append('%d of %d layers' % (len(records), total))
  if compared:
    told.append(
      'stored means within %.2f standard deviations, '
      'variances %.2f to %.2f times the actual ones, over %d batches'
      % (
        max(r.mean_gap for r in compared),
        min(r.variance_ratio for r in compared),
        max(r.variance_ratio for r in compared),
        compared[0].batches,
      )
    )
  if len(compared) < len(records):
    told.append(
      'training normalises %s by the stored statistics, as evaluation does'
      % (
        'all %d layers' % len(records)
        if not compared
        else '%d layers' % (len(records) - len(compared))
      )
    )
  return '; '.join(told)


def listed(reasons):
  """Pairs of (name, reason) as text, names of one reason together."""
  groups = {}
  for name, reason in reasons:
    groups.setdefault(reason, []).append(name)
  return '; '.join(
    '%s: %s'
    % (
      ', '.join(names[:4])
      + (' and %d more' % (len(names) - 4) if len(names) > 4 else ''),
      reason,
    )
    for reason, names in groups.items()
  )
