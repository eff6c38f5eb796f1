"""Means and sums of squares that can be merged, and what a layer's tell.

NumPy alone, all in float64. Never E[x^2] - E[x]^2: where the mean is large
beside the deviation, that loses all digits and may turn negative.
"""

from typing import Any
from typing import List
from typing import NamedTuple
from typing import Optional

import numpy as np


class Moments(NamedTuple):
  """Count, mean and sum of squared deviations of values; [channels] float64."""

  count: int
  mean: np.ndarray
  m2: np.ndarray

  @property
  def variance(self):
    """The unbiased variance, as the fused kernel stores it; 0 of one value."""
    return self.m2 / max(self.count - 1, 1)


def merged(parts):
  """Moments of the values of all parts together, in any split the same.

  Chan, Golub & LeVeque 1979, "Updating formulae and a pairwise algorithm for
  computing sample variances", equations 2.1.
  """
  count, mean, m2 = 0, 0.0, 0.0
  for part in parts:
    if not part.count:
      continue
    total = count + part.count
    delta = part.mean - mean
    m2 = m2 + part.m2 + delta**2 * (count * part.count / total)
    mean = mean + delta * (part.count / total)
    count = total
  return Moments(count, np.asarray(mean), np.asarray(m2))


def of_rows(rows):
  """Moments of the rows of a [rows, channels] array."""
  rows = np.asarray(rows, np.float64)
  mean = rows.sum(0) / max(len(rows), 1)
  return Moments(len(rows), mean, ((rows - mean) ** 2).sum(0))


class Batch(NamedTuple):
  """What a layer was given in one call: example by example.

  means: [examples, channels] float64, of each example over its positions.
  m2: the same shape, sums of squared deviations from them.
  positions: int, values an example and channel.
  """

  means: np.ndarray
  m2: np.ndarray
  positions: int

  @property
  def moments(self):
    of_means = of_rows(self.means)
    positions = int(self.positions)  # NumPy's integers overflow.
    return Moments(
      len(self.means) * positions,
      of_means.mean,
      self.m2.sum(0) + positions * of_means.m2,
    )


class Record(NamedTuple):
  """A layer's statistics: those stored, and those of its inputs.

  name: str.
  stored_mean, stored_variance: [channels] float64; None if there are none.
  calls: for each call of the layer a list of Summary, one a batch.
  initial_share: share of the initial value that the decay leaves after the
    steps taken, or None if either is not known.
  epsilon: float, what the layer adds to a variance.
  labels: bool, whether these are the labels of a loss, and no layer.
  frozen: bool, whether training normalises by the stored ones, as evaluation
    does.
  """

  name: str
  stored_mean: Optional[np.ndarray]
  stored_variance: Optional[np.ndarray]
  calls: List[List[Any]]
  initial_share: Optional[float]
  epsilon: float = 0.0
  labels: bool = False
  frozen: bool = False

  @property
  def inputs(self):
    """Moments of all inputs."""
    return merged(s.values for call in self.calls for s in call)

  @property
  def batches(self):
    return len(self.calls[0])

  @property
  def batch_size(self):
    """Examples a batch, on average."""
    return float(
      np.mean([s.examples.count for call in self.calls for s in call])
    )

  @property
  def values(self):
    """Values a statistic, of the smallest batch."""
    return min(s.values.count for call in self.calls for s in call)

  @property
  def not_finite(self):
    """Whether a stored value is not a number, infinite or no variance."""
    return self.stored_mean is not None and not (
      np.isfinite(self.stored_mean).all()
      and np.isfinite(self.stored_variance).all()
      and (self.stored_variance >= 0).all()
    )

  @property
  def initial(self):
    """Whether the stored statistics are as initialised: 0, and 1 or 0."""
    return self.stored_mean is not None and is_initial(
      self.stored_mean, self.stored_variance
    )

  @property
  def mean_gap(self):
    """|stored mean - mean| in standard deviations, rms of the channels.

    As the layer sees it, with its epsilon: a layer whose inputs no longer vary
    is not off by infinity.
    """
    inputs = self.inputs
    return mean_gap(
      self.stored_mean, inputs.mean, inputs.variance + self.epsilon
    )

  @property
  def variance_ratio(self):
    """stored variance / variance, median of the channels."""
    return variance_ratio(
      self.stored_variance + self.epsilon, self.inputs.variance + self.epsilon
    )

  @property
  def share_between_batches(self):
    """Share of the variance that lies between the batches of a call.

    0 for batches that are alike, 1 for batches that are each uniform.
    """
    return self.share_between(1)

  def share_between(self, size):
    """The same of blocks of `size` batches that follow each other.

    What is left over at the end belongs to none.
    """
    between = []
    for call in self.calls:
      filled = [s.values for s in call if s.values.count]
      blocks = zip(*(filled[k::size] for k in range(size)))
      between.append(of_rows([merged(block).mean for block in blocks]).variance)
    return self._share(np.mean(between, 0))

  @property
  def independent_share(self):
    """The same if the examples of each batch were drawn independently.

    Variance between the means of examples, within a call, over their number.
    """
    return self._share(
      np.mean(
        [
          merged(s.examples for s in call).variance
          / np.mean([s.examples.count for s in call])
          for call in self.calls
        ],
        0,
      )
    )

  @property
  def freedom(self):
    """How many channels vary independently of each other.

    Of labels, which are one class or another: n - 1 of n classes that are
    equally frequent. Of layers 1, the least, as nothing is known of it.
    """
    frequency = self.inputs.mean
    if not self.labels or abs(frequency.sum() - 1) > 1e-3:
      return 1.0
    frequency = frequency[(frequency > 0) & (frequency < 1)]
    # n^2 / sum of the squared correlations of n channels, each with each.
    odds = frequency / (1 - frequency)
    squares = len(odds) + odds.sum() ** 2 - (odds**2).sum()
    return max(1.0, float(len(odds) ** 2 / max(squares, 1)))

  @property
  def share_between_calls(self):
    """Share of the variance that lies between the calls of a shared layer."""
    means = [merged(s.values for s in call).mean for call in self.calls]
    return self._share(np.var(means, 0))

  def _share(self, between):
    """Mean over the channels that vary of `between` / all variance."""
    variance = self.inputs.m2 / self.inputs.count
    alive = variance > 1e-6 * variance.mean()
    if not alive.any():  # Of what never varies, or of empty batches.
      return 0.0
    return float(np.mean(np.minimum(between[alive] / variance[alive], 1)))


class Summary(NamedTuple):
  """A batch: Moments of its values, and of the means of its examples."""

  values: Moments
  examples: Moments


def summary(batch):
  return Summary(batch.moments, of_rows(batch.means))


def is_initial(mean, variance):
  """Whether statistics are 0 and 1 throughout, or 0 and 0."""
  return bool(not mean.any() and ((variance == 1).all() or not variance.any()))


def mean_gap(stored, mean, variance):
  """|stored - mean| / standard deviation, root mean square of channels.

  A channel that hardly varies would count without bounds, so the standard
  deviation of a channel is taken to be a hundredth of the layer's at least.
  """
  floor = 1e-4 * variance.mean() + np.finfo(np.float32).tiny
  return float(
    np.sqrt(((stored - mean) ** 2 / np.maximum(variance, floor)).mean())
  )


def variance_ratio(stored, variance):
  """stored / variance, median of the channels."""
  tiny = np.finfo(np.float32).tiny
  return float(np.median((stored + tiny) / (variance + tiny)))
