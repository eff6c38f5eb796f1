"""Ops beside a graph that measure what its layers are given."""

import re
from typing import Any
from typing import List
from typing import NamedTuple
from typing import Sequence

import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.graph import view as graph_view
from graph_resnet9.doctor.measure import moments
from graph_resnet9.doctor.measure import session as subject_lib
from graph_resnet9.errors import UserError

_CHANGES = re.compile('(Resource)?(Sparse)?(Assign|Apply|Scatter)')


class Tap(NamedTuple):
  """The measuring ops of a layer.

  layer: anatomy.Layer. sites: the Sites that are measured, one a call.
  stored: [mean, variance] of its variables, [] if it has none in this graph.
  outputs: for each site {'means', 'm2': [examples, channels] float64 Tensors,
    'positions': int Tensor}, the fields of moments.Batch.
  labels: Nodes of what is measured instead, in a Tap of labels.
  """

  layer: Any
  sites: List[Any]
  stored: List[Any]
  outputs: List[Any]
  labels: Sequence[Any] = ()


def taps(subject, frozen=True, among=None):
  """Adds measuring ops to the graph of a Subject.

  Args:
    subject: subject.Subject.
    frozen: bool, whether to measure layers by moving statistics too; layers
      that cannot be measured are then left out.
    among: names of ops; only calls of layers that are made of these, whether a
      step runs them or not. None: as below.
  Returns:
    list of Tap: of the calls that a training step runs by batch statistics; of
    layers that have none, and where there is no training step, of all calls.
  Raises:
    UserError: no layer has an input that can be fetched, or without `frozen`
      one has not.
  """
  variables = {
    v.op.name: v
    for v in subject.graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)
  }
  found, hidden = [], []
  with subject.graph.as_default():
    for layer in subject.anatomy.layers:
      if among is None:
        sites = _measured_sites(subject.anatomy, layer, frozen)
      else:
        sites = [
          site
          for site in layer.sites
          if site.by_batch and site.node.name in among
        ]
      inputs = [subject_lib.tensor_of(subject.graph, site.x) for site in sites]
      if not sites:
        continue
      if None in inputs or any(
        _in_loop(subject.anatomy.view, site.x.node) for site in sites
      ):
        hidden.append(layer.name)
        continue
      stored = [
        variables[v.name]
        for v in layer.means[:1] + layer.variances[:1]
        if v.name in variables
      ]
      found.append(
        Tap(
          layer,
          sites,
          stored if len(stored) == 2 else [],
          [_outputs(x, site.channel_axis) for x, site in zip(inputs, sites)],
        )
      )
  # Some layers healed and others not would be no checkpoint to trust.
  if hidden and not (found and frozen):
    raise UserError(
      'layers with their inputs inside functions or loops, where '
      'they cannot be measured: %s' % ', '.join(hidden[:6])
    )
  if not found:
    raise UserError(
      'no layer normalises by batch statistics in this graph; '
      'give the meta graph of the training'
    )
  return found


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
    and (site.decided is not False or subject_lib.fed_choice(site))
  ]
  if by_batch or not frozen:
    return by_batch
  if anatomy.steps:
    return [site for site in layer.sites if site.node in anatomy.reached]
  return layer.sites


def _outputs(x, channel_axis):
  """Moments of each example, in float64."""
  with tf.name_scope('tap'):
    rank = x.shape.rank
    if rank is None:
      raise UserError('%s: its rank is not known; set its shape' % x.name)
    axis = channel_axis % rank
    if axis != rank - 1:
      x = tf.transpose(x, [k for k in range(rank) if k != axis] + [axis])
    shape = tf.shape(x)
    positions = tf.reduce_prod(shape[1:-1])
    x = tf.reshape(tf.cast(x, tf.float64), [shape[0], positions, shape[-1]])
    means = tf.reduce_mean(x, 1)
    m2 = tf.reduce_sum(tf.math.squared_difference(x, means[:, None]), 1)
    return dict(means=means, m2=m2, positions=positions)


def run(session, subject, tapped, count):
  """Runs batches and yields what the layers were given.

  No variable changes: updates that a layer's output waits for, as of slim with
  updates_collections=None, are taken back at the end, and what else they move.

  Args:
    session: tf.Session with the subject's graph and its variables.
    subject: subject.Subject.
    tapped: list of Tap.
    count: int, batches to run at most.
  Yields:
    for each batch a list, for each Tap a list, for each call a moments.Batch.
  Raises:
    UserError: as subject.batches; or no batch comes, or a value is not finite.
  """
  nodes = [
    node
    for tap in tapped
    for node in [site.x.node for site in tap.sites] + list(tap.labels)
  ]
  variables = _changed_by(subject, nodes)
  before = session.run(variables)
  done = 0
  try:
    for values in subject_lib.batches(
      session, subject, [tap.outputs for tap in tapped], nodes, count
    ):
      batch = [[moments.Batch(**call) for call in calls] for calls in values]
      for tap, calls in zip(tapped, batch):
        for call in calls:
          if (
            not np.isfinite(call.means).all() or not np.isfinite(call.m2).all()
          ):
            raise UserError(
              'layer %s: its input is not finite in batch %d'
              % (tap.layer.name, done + 1)
            )
      done += 1
      yield batch
  finally:
    for variable, value in zip(variables, before):
      # By the op that is there: the graph may be finalised.
      session.run(variable.initializer, {variable.initializer.inputs[1]: value})
  if not done:
    raise subject_lib.InputEnded(
      'the input ended before the first batch; are its files there, and its '
      'queues large enough?'
    )


def _changed_by(subject, nodes):
  """The global variables that change whenever `nodes` run."""
  changed = {
    graph_view.variable(node.inputs[0])
    for node in subject.anatomy.view.ancestors(nodes)
    if _CHANGES.match(node.op) and node.inputs
  }
  names = {node.name for node in changed if node}
  return [
    v
    for v in subject.graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)
    if v.op.name in names
  ]


def records(session, subject, tapped, count, step=None):
  """moments.Record of each Tap over at most `count` batches.

  Args:
    session, subject, tapped, count: as `run`.
    step: int, training steps taken, or None.
  """
  stored = session.run([tap.stored for tap in tapped])
  calls = [[[] for _ in tap.outputs] for tap in tapped]
  for batch in run(session, subject, tapped, count):
    for layer, values in zip(calls, batch):
      for call, value in zip(layer, values):
        call.append(moments.summary(value))
  found = []
  for tap, values, summaries in zip(tapped, stored, calls):
    mean, variance = [
      np.asarray(v, np.float64).reshape(-1) for v in values
    ] or (None, None)
    found.append(
      moments.Record(
        tap.layer.name,
        mean,
        variance,
        summaries,
        subject.anatomy.initial_share(
          tap.layer, next(iter(tap.layer.means), None), step
        ),
        epsilon=max([site.epsilon for site in tap.sites], default=0.0),
        labels=bool(tap.labels),
        frozen=bool(subject.anatomy.steps and tap.sites)
        and not any(site.by_batch for site in tap.sites),
      )
    )
  return found
