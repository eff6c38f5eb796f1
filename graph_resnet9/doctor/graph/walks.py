"""One way to walk over a graph: nearest first, each once, up to a budget."""

import collections

from absl import logging

BUDGET = 2000  # Of a walk around one layer, which takes a few dozen.


def walk(start, following, budget=BUDGET):
  """Yields what is reached from `start`, the nearest first, each once.

  Args:
    start: iterable of Nodes or Tensors.
    following: function of one of them that returns an iterable of those that
      come after it; called when the caller has looked at it.
    budget: int, how many are yielded at most; None: all. A walk that ends
      there has not seen all, and says so in the log.
  """
  seen = set()
  waiting = collections.deque()

  def meet(things):
    for thing in things:
      if thing not in seen:
        seen.add(thing)
        waiting.append(thing)

  meet(start)
  count = 0
  while waiting:
    thing = waiting.popleft()
    if count == budget:
      logging.warning(
        'around %s: looked at %d ops and no further',
        getattr(thing, 'node', thing).name,
        budget,
      )
      return
    count += 1
    yield thing
    meet(following(thing))
