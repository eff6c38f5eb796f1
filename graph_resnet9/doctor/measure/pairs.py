"""Which stored mean and variance belong to which calls of a layer.

A layer is all normalisations that share a variable. Where only gamma or beta is
shared, as by the time steps of a recurrent network or by domains, each call has
statistics of its own.
"""

from typing import Any
from typing import List
from typing import NamedTuple


class Pair(NamedTuple):
  """A stored mean and variance, and the calls that use and update them.

  name: str. sites: list of Site. stored: [mean, variance], Nodes; [] if there
    are none, or if it is not clear which.
  """

  name: str
  sites: List[Any]
  stored: List[Any]


def of_layer(layer, sites):
  """The Pairs of a layer.

  Args:
    layer: anatomy.Layer. sites: those of its Sites that count.
  Returns:
    list of Pair; together they hold `sites`, in order.
  """
  groups = []  # (set of Nodes of stored statistics, list of Sites)
  for site in sites:
    own = _statistics_of(layer, site)
    joined = [group for group in groups if group[0] & own]
    groups = [group for group in groups if not group[0] & own]
    groups.append(
      (
        own.union(*(group[0] for group in joined)),
        [s for group in joined for s in group[1]] + [site],
      )
    )
  if len(layer.means) < 2 and len(layer.variances) < 2:
    # A call that neither reads nor updates them has those of the layer.
    return [Pair(layer.name, list(sites), _pair(layer, set(layer.stored)))]
  return [
    Pair(_name(layer, stored), members, _pair(layer, stored))
    for stored, members in groups
  ]


def _statistics_of(layer, site):
  """Stored statistics that a Site reads or that are updated by it."""
  return set(site.moving_mean + site.moving_variance) | {
    update.variable for update in layer.updates if update.site is site
  }


def _pair(layer, stored):
  means = [v for v in layer.means if v in stored]
  variances = [v for v in layer.variances if v in stored]
  if len(means) == len(variances) == 1 and means != variances:
    return means + variances
  return []


def _name(layer, stored):
  """The scope of a stored mean, where that tells it from the others."""
  pair = _pair(layer, stored)
  if not pair:
    return layer.name
  scopes = [mean.name.rpartition('/')[0] for mean in layer.means]
  scope = pair[0].name.rpartition('/')[0]
  return scope if scope and scopes.count(scope) == 1 else pair[0].name
