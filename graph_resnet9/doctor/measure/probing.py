"""Ops beside a graph that measure what its layers are given."""

import re
from typing import Any
from typing import List
from typing import NamedTuple
from typing import Sequence

import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.graph import shapes
from graph_resnet9.doctor.graph import tensors
from graph_resnet9.doctor.measure import feeds
from graph_resnet9.doctor.measure import moments
from graph_resnet9.doctor.measure import pairs
from graph_resnet9.doctor.measure import sessions
from graph_resnet9.errors import UserError

_CHANGES = re.compile('(Resource)?(Sparse)?(Assign|Apply|Scatter)')
_SPARSE = 'SparseSoftmaxCrossEntropyWithLogits'
_DENSE = 'SoftmaxCrossEntropyWithLogits'
_MOST_CLASSES = 1000  # One-hot rows of more take more than they tell.


class Probe(NamedTuple):
  """The measuring ops of one set of statistics.

  name: of the layer, or 'labels'.
  tensors: for each call {'means', 'm2': [examples, channels] float64 Tensors,
    'positions': int Tensor}, the fields of moments.Batch.
  nodes: Nodes that the measured tensors come from.
  layer: anatomy.Layer, or None of labels.
  sites: the Sites that are measured, one a call.
  stored: [mean, variance] of its variables, [] if it has none in this graph.
  """

  name: str
  tensors: List[Any]
  nodes: List[Any]
  layer: Any = None
  sites: Sequence[Any] = ()
  stored: Sequence[Any] = ()


class Probes(NamedTuple):
  """All that is measured, and what is not.

  probes: list of Probe.
  unmeasured: list of (name of a layer, why it cannot be measured).
  layers: int, of the graph, measured or not.
  """

  probes: List[Probe]
  unmeasured: List[Any]
  layers: int


def of_all(runnable):
  """Probes of the layers, and of the labels if there are any."""
  measured = of_layers(runnable)
  return measured._replace(probes=measured.probes + of_labels(runnable))


def of_layers(runnable, frozen=True, among=None):
  """Adds measuring ops to the graph of a Runnable.

  Args:
    runnable: sessions.Runnable.
    frozen: bool, whether to measure layers by moving statistics too; layers
      that cannot be measured are then left out.
    among: names of ops; only calls of layers that are made of these, whether a
      step runs them or not. None: as below.
  Returns:
    Probes: of the calls that a training step runs by batch statistics; of
    layers that have none, and where there is no training step, of all calls.
  Raises:
    UserError: no layer has an input that can be fetched, or without `frozen`
      one has not.
  """
  variables = {
    v.op.name: v
    for v in runnable.graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)
  }
  probes, unmeasured = [], []
  with runnable.graph.as_default():
    for layer in runnable.anatomy.layers:
      if among is None:
        sites = _measured_sites(runnable.anatomy, layer, frozen)
      else:
        sites = [
          site
          for site in layer.sites
          if site.by_batch and site.node.name in among
        ]
      if not sites:
        unmeasured.append((layer.name, NOT_RUN))
        continue
      try:
        for pair in pairs.of_layer(layer, sites):
          probes.append(_probe(runnable, layer, pair, variables))
      except _Unmeasurable as e:
        unmeasured.append((layer.name, str(e)))
  hidden = [(name, why) for name, why in unmeasured if why != NOT_RUN]
  # Some layers healed and others not would be no checkpoint to trust.
  if hidden and not (probes and frozen):
    raise UserError(
      'layers that cannot be measured: %s'
      % ', '.join('%s (%s)' % pair for pair in hidden[:6])
    )
  if not probes:
    raise UserError(_nothing_by_batch(runnable.anatomy))
  return Probes(probes, unmeasured, len(runnable.anatomy.layers))


NOT_RUN = 'no training step normalises by the batch here'


class _Unmeasurable(Exception):
  """Why a layer cannot be measured."""


def _probe(runnable, layer, pair, variables):
  measured = []
  for site in pair.sites:
    x = feeds.tensor_of(runnable.graph, site.x)
    if x is None or _in_loop(runnable.anatomy.view, site.x.node):
      raise _Unmeasurable('its input is inside a function or a loop')
    if x.shape.rank is None:
      raise _Unmeasurable('the rank of %s is not known; set its shape' % x.name)
    if x.shape.rank < 2:
      raise _Unmeasurable('%s has no examples: it is a vector' % x.name)
    measured.append(_moments(x, site.channel_axis))
  stored = [variables[v.name] for v in pair.stored if v.name in variables]
  return Probe(
    pair.name,
    measured,
    [site.x.node for site in pair.sites],
    layer,
    pair.sites,
    stored if len(stored) == 2 else [],
  )


def _nothing_by_batch(anatomy):
  """Why there is nothing to measure."""
  if not anatomy.steps:
    return (
      'no layer normalises by batch statistics in this graph; '
      'give the meta graph of the training'
    )
  return (
    'no training step normalises by batch statistics: in all %d layers '
    'training uses the stored ones, as evaluation does (training=False?)'
    % len(anatomy.layers)
  )


def _in_loop(view, node):
  """Whether a node is in a loop: it comes from an Enter, and no Exit."""
  return any(
    n.op in ('Enter', 'RefEnter')
    for n in view.ancestors([node], stop=lambda n: n.op in ('Exit', 'RefExit'))
  )


def _measured_sites(anatomy, layer, frozen):
  by_batch = [
    site
    for site in layer.sites
    if site.by_batch
    and (site.node in anatomy.reached or not anatomy.steps)
    # By default it may not, as where evaluation needs no feed.
    and (site.decided is not False or feeds.fed_choice(site))
  ]
  if by_batch or not frozen:
    return by_batch
  if anatomy.steps:
    return [site for site in layer.sites if site.node in anatomy.reached]
  return layer.sites


def _moments(x, channel_axis):
  """Moments of each example, in float64."""
  with tf.name_scope('probe'):
    rank = x.shape.rank
    axis = channel_axis % rank
    if axis != rank - 1:
      x = tf.transpose(x, [k for k in range(rank) if k != axis] + [axis])
    shape = tf.shape(x)
    positions = tf.reduce_prod(shape[1:-1])
    x = tf.reshape(tf.cast(x, tf.float64), [shape[0], positions, shape[-1]])
    means = tf.reduce_mean(x, 1)
    m2 = tf.reduce_sum(tf.math.squared_difference(x, means[:, None]), 1)
    return dict(means=means, m2=m2, positions=positions)


def of_labels(runnable):
  """Probes of the labels of the losses that a training step computes.

  Behind a layer of batch normalisation every batch has the same mean, so deeper
  layers tell little of how batches are mixed; labels tell it all.

  Returns:
    list of Probe, one for each tensor of labels.
  """
  losses = {}
  anatomy = runnable.anatomy
  for node in anatomy.view.nodes.values():
    if node.op in (_SPARSE, _DENSE) and node in anatomy.reached:
      labels = tensors.outside(node.inputs[1])
      logits = tensors.outside(node.inputs[0])
      losses.setdefault(labels, (node, logits))
  probes = []
  with runnable.graph.as_default(), tf.name_scope('probe'):
    for labels, (node, logits) in losses.items():
      values, outputs = (
        feeds.tensor_of(runnable.graph, t) for t in (labels, logits)
      )
      size = shapes.shape(logits)
      if (
        values is None
        or outputs is None
        or (size and (size[-1] or 0) > _MOST_CLASSES)
      ):
        continue
      if node.op == _SPARSE:
        values = tf.one_hot(values, tf.shape(outputs)[-1], dtype=tf.float64)
      values = tf.cast(values, tf.float64)
      probes.append(
        Probe(
          'labels',
          [
            dict(
              means=values, m2=tf.zeros_like(values), positions=tf.constant(1)
            )
          ],
          [labels.node],
        )
      )
  return probes


class Measured(NamedTuple):
  """A batch: for each Probe a list, for each call, of moments.Batch.

  more: values of what was fetched beside. feed: what was fed.
  """

  calls: List[List[moments.Batch]]
  more: Any
  feed: Any


def run(session, runnable, probes, count, more=lambda k: [], nodes=()):
  """Runs batches and yields what the layers were given.

  No variable changes: updates that a layer's output waits for, as of slim with
  updates_collections=None, are taken back at the end, and what else they move.

  Args:
    session: tf.Session with the runnable's graph and its variables.
    runnable: sessions.Runnable.
    probes: list of Probe.
    count: int, batches to run at most.
    more: function of the number of a batch: Tensors to fetch beside.
    nodes: Nodes that those need.
  Yields:
    a Measured for each batch.
  Raises:
    UserError: as feeds.batches; or no batch comes, or a value is not finite.
  """
  nodes = [node for probe in probes for node in probe.nodes] + list(nodes)
  variables = _changed_by(runnable, nodes)
  before = session.run(variables)
  done = 0
  measured = [probe.tensors for probe in probes]
  try:
    for batch in feeds.batches(
      session, runnable, lambda k: (measured, more(k)), nodes, count
    ):
      values, others = batch.values
      calls = [[moments.Batch(**call) for call in probe] for probe in values]
      for probe, batches in zip(probes, calls):
        for call in batches:
          if not (np.isfinite(call.means).all() and np.isfinite(call.m2).all()):
            raise UserError(
              'layer %s: its input is not finite in batch %d'
              % (probe.name, done + 1)
            )
      done += 1
      yield Measured(calls, others, batch.feed)
  finally:
    sessions.assign(session, list(zip(variables, before)))
  if not done:
    raise sessions.InputEnded(
      'the input ended before the first batch; are its files there, and its '
      'queues large enough?'
    )


def _changed_by(runnable, nodes):
  """The global variables that change whenever `nodes` run."""
  changed = {
    tensors.variable(node.inputs[0])
    for node in runnable.anatomy.view.ancestors(nodes)
    if _CHANGES.match(node.op) and node.inputs
  }
  names = {node.name for node in changed if node}
  return [
    v
    for v in runnable.graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)
    if v.op.name in names
  ]


def records(session, runnable, probes, count, step=None):
  """moments.Record of each Probe over at most `count` batches.

  Args:
    session, runnable, probes, count: as `run`.
    step: int, training steps taken, or None.
  """
  stored = session.run([list(probe.stored) for probe in probes])
  calls = [[[] for _ in probe.tensors] for probe in probes]
  told_to = set()
  for batch in run(session, runnable, probes, count):
    told_to.update(site.node for site in feeds.by_stored(runnable, batch.feed))
    for layer, values in zip(calls, batch.calls):
      for call, value in zip(layer, values):
        call.append(moments.summary(value))
  results = []
  anatomy = runnable.anatomy
  for probe, values, summaries in zip(probes, stored, calls):
    mean, variance = [
      np.asarray(v, np.float64).reshape(-1) for v in values
    ] or (None, None)
    results.append(
      moments.Record(
        probe.name,
        mean,
        variance,
        summaries,
        _initial_share(anatomy, probe, step),
        epsilon=max([site.epsilon for site in probe.sites], default=0.0),
        labels=probe.layer is None,
        frozen=bool(anatomy.steps and probe.sites)
        and (
          all(not site.by_batch or site.node in told_to for site in probe.sites)
          or trained_by_stored(anatomy, probe, values, step)
        ),
      )
    )
  return results


def trained_by_stored(anatomy, probe, values, step):
  """Whether training left the initial statistics, though it runs the updates.

  Then nothing told it to normalise by the batch: a variable or a placeholder
  with a default that nobody sets. The network has learned with 0 and 1.

  Args:
    anatomy: anatomy.Anatomy. probe: Probe.
    values: [mean, variance], what its variables hold; or [].
    step: int, training steps taken, or None.
  """
  names = {variable.op.name for variable in probe.stored}
  return bool(
    step
    and names
    and moments.is_initial(*values)
    and all(feeds.phase_sources(site) for site in probe.sites)
    and any(
      update.node in anatomy.reached and update.variable.name in names
      for update in probe.layer.updates
    )
  )


def _initial_share(anatomy, probe, step):
  """As anatomy.initial_share, of what a Probe has stored."""
  if probe.layer is None:
    return None
  names = {variable.op.name for variable in probe.stored}
  for variable in probe.layer.means:
    if not names or variable.name in names:
      return anatomy.initial_share(probe.layer, variable, step)
  return None
