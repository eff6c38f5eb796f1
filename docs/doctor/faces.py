"""Pairs of pictures for the network of arthurdouillard/tensorflow-faceid.

What --feed names in docs/doctor.md: noise in place of faces, which shows as
well as faces do by what a layer normalises.
"""

import numpy as np

PAIRS = 8


def pairs():
  """Yields feed dicts of two batches of pictures and whether they match."""
  random = np.random.RandomState(0)
  while True:
    yield {
      'Placeholder': random.uniform(size=[PAIRS, 100, 100, 1]),
      'Placeholder_1': random.uniform(size=[PAIRS, 100, 100, 1]),
      'Placeholder_2': random.randint(0, 2, [PAIRS]),
    }
