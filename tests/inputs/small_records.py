"""What a layer was given, from NumPy arrays, for tests without a graph."""

import numpy as np

from graph_resnet9.doctor.measure import moments


def batch(values):
  """moments.Batch of a [examples, ..., channels] array."""
  values = np.asarray(values, np.float64)
  rows = values.reshape(
    len(values), int(np.prod(values.shape[1:-1])), values.shape[-1]
  )
  means = rows.mean(1)
  return moments.Batch(
    means, ((rows - means[:, None]) ** 2).sum(1), rows.shape[1]
  )


def record(
  *calls, mean=None, variance=None, initial_share=None, name='bn', **fields
):
  """moments.Record of calls, each a list of [examples, ..., channels] arrays.

  mean, variance: what is stored, lists; None: nothing is.
  **fields: of the Record.
  """
  stored = [
    None if v is None else np.array(v, np.float64) for v in (mean, variance)
  ]
  return moments.Record(
    name,
    *stored,
    [[moments.summary(batch(b)) for b in call] for call in calls],
    initial_share,
    **fields,
  )
