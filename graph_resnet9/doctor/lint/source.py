"""Which line of a program made an op, of a graph that the program has built."""

import os
import re

# Libraries that make layers for others.
_LIBRARIES = re.compile(
  r'[/\\](tensorflow|tensorflow_core|tensorflow_estimator|tf_keras|keras|'
  r'keras_applications|tf_slim|tensorpack|tflearn|sonnet)[/\\]|'
  r'[/\\]nets[/\\]|^<|[/\\](contextlib|functools)\.py$'
)
_MOST = 4


def with_places(graph, finding):
  """A findings.Finding with the lines that made its ops, or its variables."""
  places = {}
  for name in finding.ops or finding.variables:
    place = _place(graph, name)
    if place:
      places[place] = None
    if len(places) == _MOST:
      break
  return finding._replace(places=tuple(places))


def _place(graph, name):
  """'file:line' of the innermost frame outside of libraries, or None."""
  try:
    operation = graph.get_operation_by_name(name)
  except (KeyError, ValueError):  # In a function.
    return None
  for frame in reversed(list(operation.traceback or ())):
    path, line = frame[0], frame[1]
    if not _LIBRARIES.search(path):
      inside = os.path.relpath(path)
      return '%s:%d' % (path if inside.startswith('..') else inside, line)
  return None
