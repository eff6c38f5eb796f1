"""From records of layers to a verdict. No TensorFlow."""

import math
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

TITLES = {
  'updates-never-ran': 'the updates of the moving statistics never ran',
  'too-few-steps': 'too few steps for the decay',
  'batches-not-mixed': 'batches are not mixed',
  'calls-differ': 'a shared layer is given different kinds of inputs',
  'batch-too-small': 'the batch is too small',
  'data-differ': 'the stored statistics are those of other data',
  'healthy': 'healthy',
}
ADVICE = {
  'updates-never-ran': 'run the update ops with the train op; recalibrate '
  'repairs this checkpoint',
  'too-few-steps': 'a smaller decay or more steps; recalibrate repairs this '
  'checkpoint',
  'batches-not-mixed': 'shuffle the files, or let more examples wait in the '
  'queue, and train again',
  'calls-differ': 'normalise one batch that holds all kinds, or bring them '
  'to a common mean and variance first',
  'batch-too-small': 'a larger batch, or normalisation that needs none; '
  'recalibration cannot help what training saw',
  'data-differ': 'evaluate what was trained on, or recalibrate on these data',
  'healthy': '',
}


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


def judge(records):
  """The verdicts on a list of moments.Record, the weightiest first.

  Returns:
    list of Verdict; of 'healthy' alone if there is nothing to say.
  """
  found = []
  # Of a frozen layer training and evaluation see the same.
  batch = [r for r in records if not r.frozen]
  stored = [
    r
    for r in batch
    if r.stored_mean is not None
    # At step 0 they are initial by right.
    and not (r.initial and r.initial_share == 1)
  ]

  initial = [r for r in stored if r.initial]
  if initial:
    worst = max(initial, key=lambda r: r.mean_gap)
    found.append(
      _verdict(
        'updates-never-ran',
        initial,
        'mean 0 and variance 1 exactly in %d of '
        '%d layers, where the inputs of %s are %.1f standard deviations off'
        % (len(initial), len(stored), worst.name, worst.mean_gap),
      )
    )
  slow = [
    r
    for r in stored
    if not r.initial
    and r.initial_share is not None
    and r.initial_share > MOST_INITIAL
    and differs(r)
  ]
  if slow:
    worst = max(slow, key=lambda r: r.initial_share)
    found.append(
      _verdict(
        'too-few-steps',
        slow,
        '%.0f%% of the initial values are left; the '
        'stored variance of %s is %.3g times the actual one'
        % (100 * worst.initial_share, worst.name, worst.variance_ratio),
      )
    )

  apart = [
    r
    for r in batch
    if len(r.calls) > 1 and r.share_between_calls > LEAST_SHARE_OF_CALLS
  ]
  if apart:
    worst = max(apart, key=lambda r: r.share_between_calls)
    found.append(
      _verdict(
        'calls-differ',
        apart,
        '%.0f%% of the variance in %s lies between its '
        '%d calls'
        % (100 * worst.share_between_calls, worst.name, len(worst.calls)),
      )
    )
  unmixed = [r for r in batch if not_mixed(r)]
  if unmixed:
    worst = max(
      unmixed, key=lambda r: r.share_between_batches - r.independent_share
    )
    found.append(
      _verdict(
        'batches-not-mixed',
        unmixed,
        '%.1f%% of the variance of %s lies '
        'between batches, %.1f%% if the examples were drawn independently'
        % (
          100 * worst.share_between_batches,
          worst.name,
          100 * worst.independent_share,
        ),
      )
    )
  small = [
    r
    for r in batch
    if not r.labels
    and (r.independent_share > MOST_NOISE or r.values == 1 or r.batch_size == 1)
  ]
  if small:
    worst = max(small, key=lambda r: r.independent_share)
    found.append(
      _verdict(
        'batch-too-small',
        small,
        '%.0f examples a batch, so that %.0f%% of '
        'the variance in %s lies between batches by chance'
        % (worst.batch_size, 100 * worst.independent_share, worst.name),
      )
    )

  # Any of the above moves the stored statistics, too.
  others = [r for r in stored if differs(r)] if not found else []
  if others:
    worst = max(others, key=lambda r: r.mean_gap)
    found.append(
      _verdict(
        'data-differ',
        others,
        'the stored mean of %s is %.1f standard '
        'deviations off, its variance %.3g times the actual one, though '
        'updates ran and batches are mixed'
        % (worst.name, worst.mean_gap, worst.variance_ratio),
      )
    )
  if found:
    return found
  if not stored:
    return [
      _verdict(
        'healthy',
        records,
        'batches are mixed and large enough; '
        'no moving statistics to compare yet'
        if batch
        else 'training normalises by the stored statistics, as evaluation does',
      )
    ]
  return [
    _verdict(
      'healthy',
      records,
      'stored means within %.2f standard deviations, '
      'variances %.2f to %.2f times the actual ones, over %d batches'
      % (
        max(r.mean_gap for r in stored),
        min(r.variance_ratio for r in stored),
        max(r.variance_ratio for r in stored),
        records[0].batches,
      ),
    )
  ]


def differs(record):
  """Whether the stored statistics do not describe the inputs."""
  ratio = record.variance_ratio
  return record.mean_gap > MOST_GAP or not 1 / MOST_RATIO < ratio < MOST_RATIO


def not_mixed(record):
  """Whether batches differ by more than chance, and by enough to matter.

  The variance of B batch means has a relative standard deviation of
  sqrt(2 / (B - 1)) if the draws are independent.
  """
  chance = 1 + 6 * math.sqrt(2 / max(record.batches - 1, 1))
  share = record.share_between_batches
  return share > LEAST_SHARE and share > chance * record.independent_share


def _verdict(code, records, evidence):
  return Verdict(code, [r.name for r in records], evidence)
