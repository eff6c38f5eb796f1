"""Failures of batch normalisation that people report, broken beside fixed.

One module a case. Its docstring is what people read: title, symptom, cause,
cure, what was seen, each a paragraph. It has SOURCE, where the failure was
reported, and run(trainer), which trains the arms and returns report.Outcome.
"""

import importlib

from graph_resnet9.errors import UserError

NAMES = (
  'update_ops',
  'shuffle_batch',
  'image_pairs',
  'batch_size_one',
  'cifar_bottleneck',
  'frozen_batch_norm',
  'saver_without_statistics',
)


def load(name):
  """The module of a case.

  Raises:
    UserError: no such case.
  """
  if name not in NAMES:
    raise UserError(
      '--case=%s: no such case; give one of %s, or all'
      % (name, ', '.join(NAMES))
    )
  return importlib.import_module('graph_resnet9.demos.cases.' + name)


def title(name):
  """'name: what goes wrong', the first line of the case's docstring."""
  return load(name).__doc__.splitlines()[0].rstrip('.')
