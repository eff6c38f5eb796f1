"""Failures of batch normalisation that people report, broken beside fixed.

One module a case. Its docstring is what people read: title, symptom, cause,
cure, each a paragraph. It has

  SOURCE: where the failure was reported.
  CAUSES: codes of lint and diagnose, one of which every broken arm must get; ()
    where the doctor knows nothing of the cause.
  SEEN: what was seen, with places for the ranges that were measured, as of
    gallery.filled.
  COMPANIONS: modules beside it that hold a part of it, if there are any.
  run(trainer): trains the arms and returns report.Outcome.

and marks the lines that differ between its arms, as excerpts says.
"""

import importlib

from graph_resnet9.errors import UserError

NAMES = (
  'update_ops',
  'shuffle_batch',
  'image_pairs',
  'batch_size_one',
  'cifar_bottleneck',
  'slow_decay',
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
