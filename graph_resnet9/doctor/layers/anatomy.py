"""The layers of batch normalisation in a graph, and what a step of it runs."""

import re
from typing import Any
from typing import List
from typing import NamedTuple

from graph_resnet9.doctor.graph import shapes
from graph_resnet9.doctor.graph import tensors
from graph_resnet9.doctor.graph import variables
from graph_resnet9.doctor.graph.nodes import Tensor
from graph_resnet9.doctor.layers import normalisations
from graph_resnet9.doctor.layers import updates
from graph_resnet9.errors import UserError


class Layer(NamedTuple):
  """All normalisations that share variables or statistics of a batch.

  Where they share gamma or beta alone, they have several pairs of statistics.

  name: scope of its variables. sites: list of Site. updates: list of Update.
  means, variances: lists of the Nodes of stored statistics.
  """

  name: str
  sites: List[Any]
  updates: List[Any]
  means: List[Any]
  variances: List[Any]

  @property
  def stored(self):
    return self.means + self.variances


class Anatomy:
  """What a Program does about batch normalisation.

  layers: list of Layer, in the order of the graph.
  gradients: Nodes of gradients of weights that something takes.
  steps: Nodes that take a training step, as found or given.
  last_steps: those of them that no other one waits for.
  assumed: Nodes that group updates, not part of a step, taken to be run too.
  reached: set of the Nodes that run in a step.
  """

  def __init__(self, program, train_ops=()):
    """Takes the graph apart.

    Args:
      program: programs.Program.
      train_ops: names of the ops that a step runs, all of them; empty: those of
        the collection TRAIN_OP, all by which optimizers change variables, and
        what depends on them.
    Raises:
      UserError: one of `train_ops` is not in the graph.
    """
    self.program = program
    view = self.view = program.view
    sites = normalisations.find(view)
    self.layers = _layers(sites, updates.find(view, sites, program.trainable))
    self.gradients = _gradients_of_weights(view)
    self.assumed = []
    if train_ops:
      self.steps = [view.find(name) for name in train_ops]
      for name, node in zip(train_ops, self.steps):
        if node is None:
          raise UserError(
            '--train_op=%s: no op of this name in the graph' % name
          )
      self.reached = view.ancestors(self.steps)
    else:
      self.steps = self._steps()
      # Around a loop everything depends on everything.
      self.reached = view.ancestors(
        view.descendants(
          self.steps, stop=lambda node: node.op == 'NextIteration'
        )
      )
      self.assumed = self._groups_of_updates()
      self.reached |= view.ancestors(self.assumed)
    if not self.steps:
      self.layers = [self._without_unread(layer) for layer in self.layers]
    before = view.ancestors(
      {t.node for node in self.steps for t in node.inputs}
      | {c for node in self.steps for c in node.controls}
    )
    self.last_steps = [n for n in self.steps if n not in before] or self.steps

  def _steps(self):
    """The train ops of the collection, and all that change trained variables.

    TRAIN_OP alone is not enough: it holds what minimize() made, and not the
    group or the sync that the user made of it.
    """
    found = dict.fromkeys(self.program.train_ops)
    found.update(
      (node, None)
      for node in self.view.nodes.values()
      if variables.APPLIES.fullmatch(node.op)
    )
    moved = {
      node: tensors.variable(node.inputs[0])
      for node in self.view.nodes.values()
      if node.op in updates.ASSIGNS and node in self.view.backward
    }
    # A gradient method written out.
    found.update(
      (node, None)
      for node, variable in moved.items()
      if variable in self.program.trainable
    )
    # Gradients gathered over several batches, which another step applies.
    needed = self.view.ancestors(found) if moved else ()
    found.update(
      (node, None) for node, variable in moved.items() if variable in needed
    )
    return list(found)

  def _without_unread(self, layer):
    """A Layer of evaluation, without what nothing takes.

    Keras always normalises by the batch, for the updates alone where its phase
    is 0, and by stored statistics beside it.
    """
    if len(layer.sites) < 2:
      return layer
    read = [s for s in layer.sites if normalisations.is_read(self.view, s)]
    inputs = {site.x for site in read}
    return layer._replace(
      sites=[
        site
        for site in layer.sites
        if site.x not in inputs or any(site is other for other in read)
      ]
    )

  def _groups_of_updates(self):
    """Groups of all updates that a step leaves out, made for a session hook.

    As tensorpack does: a NoOp that nothing depends on, over every layer. Or the
    loss itself waits for all of them, of which gradients do not need the value.
    """
    owners = {
      u.node: u.variable for layer in self.layers for u in layer.updates
    }
    missing = set(owners.values()) - {
      variable for node, variable in owners.items() if node in self.reached
    }
    concerned = [
      layer for layer in self.layers if any(v in missing for v in layer.stored)
    ]
    if not self.steps or not concerned:
      return []
    found = []
    for node in self.view.nodes.values():
      if node in self.reached:
        continue
      if node.op == 'NoOp':
        if self.view.consumers[node] or len(concerned) < 2:
          continue
        waits_for = [node]
      elif node.op == 'Identity' and node.controls:
        waits_for = node.controls
      else:
        continue
      grouped = self.view.ancestors(waits_for, stop=lambda n: n.op != 'NoOp')
      if missing <= {owners[n] for n in grouped if n in owners} and (
        node.op == 'NoOp' or self._is_loss(node)
      ):
        found.append(node)
    return found

  def _is_loss(self, node):
    """Whether a Node is a scalar made of something that a step runs."""
    if shapes.shape(Tensor(node, 0)) != []:
      return False
    return bool(self.reached & self.view.ancestors([node.inputs[0].node]))

  def trained_sites(self, layer):
    """The sites of a layer that a step runs with the statistics of a batch."""
    return [
      site
      for site in layer.sites
      if site.by_batch
      and site.node in self.reached
      and site.decided is not False
    ]

  def initial_share(self, layer, variable, step):
    """What is left of a moving average's initial value, or None if unknown.

    Args:
      layer: Layer. variable: Node of one of its stored statistics.
      step: int, training steps taken, or None.
    Returns:
      The product of the decays of all updates in a step, to the power of
      `step`.
    """
    decays = [
      u.decay
      for u in layer.updates
      if u.node in self.reached and u.variable is variable
    ]
    if step is None or not decays or None in decays:
      return None
    return tensors.product(decays) ** step


# Ops whose first output is the gradient of weights.
_OF_WEIGHTS = re.compile('.*Backprop(Filter|Kernel).*|BiasAddGrad')


def _gradients_of_weights(view):
  """Nodes of gradients of weights that anything takes.

  With the gradient of an input, as an attack or a completion asks for, those
  of weights are made too, and nobody reads them.
  """
  found, backward = [], view.backward
  for node in view.nodes.values():
    if node not in backward:
      continue
    if _OF_WEIGHTS.fullmatch(node.op) or (
      node.op == 'MatMul' and node.attribute('transpose_a').b
    ):
      taken = view.consumers[node]
    elif node.op.startswith('FusedBatchNormGrad'):
      taken = [
        tensor
        for reader in view.readers[node]
        for tensor in reader.inputs
        if tensor.node is node and tensor.index in (1, 2)
      ]
    else:
      continue
    if taken:
      found.append(node)
  return found


def _layers(sites, found):
  """Groups sites that share a variable, or the statistics of a batch.

  Args:
    sites: list of normalisations.Site. found: list of updates.Update, all.
  """
  leader = {}

  def find(key):
    while leader.setdefault(key, key) != key:
      key = leader[key]
    return key

  updated = {}
  for update in found:
    updated.setdefault(id(update.site), []).append(update.variable)
  keys = []
  for site in sites:
    own = [variable for variable in (site.gamma, site.beta) if variable]
    own += site.moving_mean + site.moving_variance
    own += updated.get(id(site), []) + site.batch_variance
    own = own or [site.node]
    keys.append(own[0])
    for variable in own[1:]:
      leader[find(variable)] = find(own[0])
  groups, group_of = {}, {}
  for site, key in zip(sites, keys):
    group = group_of[id(site)] = groups.setdefault(find(key), ([], []))
    group[0].append(site)
  for update in found:
    group_of[id(update.site)][1].append(update)
  return [_layer(*group) for group in groups.values()]


def _layer(sites, found):
  means = [v for site in sites for v in site.moving_mean]
  variances = [v for site in sites for v in site.moving_variance]
  means += [u.variable for u in found if u.kind == 'mean']
  variances += [u.variable for u in found if u.kind == 'variance']
  scales = [node for site in sites for node in (site.gamma, site.beta) if node]
  scopes = [node.name.rpartition('/')[0] for node in scales + means]
  return Layer(
    next(filter(None, scopes), sites[0].node.name),
    sites,
    found,
    list(dict.fromkeys(means)),
    list(dict.fromkeys(variances)),
  )
