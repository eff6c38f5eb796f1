"""Times several things in turn, so that what disturbs one disturbs all."""

import statistics
import time
from typing import NamedTuple

_WARM_UP_STEPS = 2


class Secs(NamedTuple):
  """Medians of one run of something.

  wall: seconds.
  cpu: seconds that the threads of this process computed, all together. Another
    process that takes the cores changes the first and hardly the second.
  """

  wall: float
  cpu: float


def in_turn(works, runs):
  """Secs of each work, over runs in which they take turns.

  Args:
    works: {name: (function that does it once, times a run)}.
    runs: int.
  Returns:
    {name: Secs}.
  """
  secs = {name: [] for name in works}
  for _ in range(runs):
    for name, (work, times) in works.items():
      for step in range(_WARM_UP_STEPS + times):
        begin = time.perf_counter(), time.process_time()
        work()
        if step >= _WARM_UP_STEPS:
          secs[name].append(
            (time.perf_counter() - begin[0], time.process_time() - begin[1])
          )
  return {
    name: Secs(*map(statistics.median, zip(*values)))
    for name, values in secs.items()
  }
