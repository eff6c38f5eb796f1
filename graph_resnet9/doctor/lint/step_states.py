"""What a step does about a layer: how it normalises, which updates it runs."""

import enum
from typing import Any
from typing import FrozenSet
from typing import List
from typing import NamedTuple
from typing import Tuple

from graph_resnet9.doctor.graph import tensors
from graph_resnet9.doctor.graph import variables
from graph_resnet9.doctor.layers.updates import ASSIGNS


class Mode(enum.Enum):
  """By what a layer normalises where a step, or evaluation, uses it."""

  BATCH = 'by_batch'
  CHOICE = 'by_choice'
  STORED = 'by_stored'
  UNUSED = 'unused'


class Updates(enum.Enum):
  """What a step does about the updates of a layer's moving statistics."""

  NOT_TRAINED = 'no step normalises by its batch statistics'
  ALL = 'all run'
  PARTLY = 'some run'
  NEVER = 'none runs'
  BY_ANOTHER_TOWER = 'another tower runs them for this one'
  NONE = 'there are none'


class State(NamedTuple):
  """What a step does about one layer.

  layer: anatomy.Layer. mode: Mode. updates: Updates.
  sites: those that a step normalises by statistics of the batch.
  missing: list of the Updates of these that no step runs.
  """

  layer: Any
  mode: Mode
  updates: Updates
  sites: List[Any]
  missing: List[Any]


def of(found, layer):
  """State of a layer in an Anatomy."""
  sites = found.trained_sites(layer)
  reached = {u.variable for u in layer.updates if u.node in found.reached}
  own = [u for u in layer.updates if any(u.site is s for s in sites)]
  missing = [u for u in own if u.variable not in reached]
  if not sites:
    updates = Updates.NOT_TRAINED
  elif not own:
    # Of several towers one may do the updates for all.
    another = reached and reached >= set(layer.stored)
    updates = Updates.BY_ANOTHER_TOWER if another else Updates.NONE
  elif not missing:
    updates = Updates.ALL
  else:
    updates = Updates.PARTLY if len(missing) < len(own) else Updates.NEVER
  return State(layer, _mode(used_sites(found, layer)), updates, sites, missing)


def used_sites(found, layer):
  """The sites of a layer that a step runs; all, in a graph without one."""
  if not found.steps:
    return layer.sites
  return [site for site in layer.sites if site.node in found.reached]


def _mode(sites):
  if not sites:
    return Mode.UNUSED
  choices = [site.choice for site in sites if site.by_batch]
  # By a constant, there is nothing to choose.
  if any(
    not choice or choice.is_fixed and choice.decided for choice in choices
  ):
    return Mode.BATCH
  if any(choice and not choice.is_fixed for choice in choices):
    return Mode.CHOICE
  return Mode.STORED


def trained_variables(found):
  """frozenset of the Nodes of variables that a step changes by gradients."""
  return frozenset(
    tensors.variable(node.inputs[0])
    for node in found.reached
    if node.inputs
    and (
      variables.APPLIES.fullmatch(node.op)
      or node.op in ASSIGNS
      and node in found.steps
    )
  ) - {None}


def scale_is_trained(layer, trained):
  """Whether gamma or beta of a layer are among trained variables."""
  return any(
    v in trained for site in layer.sites for v in (site.gamma, site.beta) if v
  )


def in_loops(view) -> FrozenSet[Any]:
  """The Nodes in bodies of loops."""
  enters: List[Any] = []
  for node in view.nodes.values():
    if node.op in ('Enter', 'RefEnter') or (node.branch == 'body'):
      enters.append(node)
  if not enters:
    return frozenset()
  ends: Tuple[str, ...] = ('Exit', 'RefExit', 'While', 'StatelessWhile')
  inside = view.descendants(enters, stop=lambda node: node.op in ends)
  return frozenset(node for node in inside if node.op not in ends)
