"""What a network does by stored, by new and by the batch's own statistics."""

import math
import re
from typing import Any
from typing import Dict
from typing import List
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.graph.nodes import Tensor
from graph_resnet9.doctor.measure import by_stored
from graph_resnet9.doctor.measure import feeds
from graph_resnet9.doctor.measure import sessions
from graph_resnet9.errors import UserError

# Losses that differ by less are alike.
_MARGIN = 0.05
_MOST_OUTPUTS = 8
_TINY = np.finfo(np.float32).tiny
_OF_SHAPE = ('ZerosLike', 'OnesLike')
_CHANGES = re.compile('(Resource)?(Sparse)?(Assign|Apply|Scatter)')
_CROSS_ENTROPY = (
  'SparseSoftmaxCrossEntropyWithLogits',
  'SoftmaxCrossEntropyWithLogits',
)
# Where what comes from outside or by chance enters a graph.
_ENTRIES = ('QueueDequeue', 'IteratorGetNext', 'ReaderRead')
_CHANCE = (
  'RandomUniform',
  'RandomStandardNormal',
  'TruncatedNormal',
  'RandomUniformInt',
  'Multinomial',
)


class Measure(NamedTuple):
  """What is compared.

  kind: 'loss', or 'outputs' where no loss is found.
  names: of its Tensors; logits: of those of cross-entropies.
  inputs: names of the Tensors by which a batch is given again.
  nodes: Nodes of both.
  """

  kind: str
  names: List[str]
  inputs: List[str]
  nodes: List[Any]
  logits: List[str] = []

  def fetches(self, graph):
    """(measured Tensors, logits, Tensors of the batch) of a tf.Graph."""
    return tuple(
      [graph.get_tensor_by_name(name) for name in names]
      for names in (self.names, self.logits, self.inputs)
    )

  def held_out(self, batch):
    """HeldOut of a probes.Measured."""
    measured, logits, inputs = batch.more
    feed = {tensor.name: value for tensor, value in batch.feed.items()}
    feed.update(zip(self.inputs, inputs))
    return HeldOut(measured, logits, feed)


class HeldOut(NamedTuple):
  """A batch to compare on.

  by_batch, logits: values of those of a Measure, by the batch's statistics.
  feed: {name of a Tensor: value}, which gives the batch again.
  """

  by_batch: List[Any]
  logits: List[Any]
  feed: Dict[str, Any]


class Comparison(NamedTuple):
  """Means over the held out batches.

  kind: as of Measure. stored, batch, new: floats; of outputs how far they are
    from those by the batch, in their standard deviations.
  batches: int. apart: bool, whether the new ones are not of these batches.
  worse: bool, whether the new ones are, beyond what chance explains.
  guessing: bool, whether all losses are above that of guessing, so that the
    outputs are compared: these are not the data that the network was made for.
  """

  kind: str
  stored: float
  batch: float
  new: float
  batches: int
  worse: bool
  apart: bool = True
  guessing: bool = False

  @property
  def trained_by_stored(self):
    """Whether the loss says that training normalised by the stored ones."""
    return self.kind == 'loss' and self.stored < self.batch - _MARGIN * abs(
      self.batch
    )

  def as_dict(self):
    """The figures, for JSON, which has no NaN: None for one."""
    figures = dict(stored=self.stored, batch=self.batch, new=self.new)
    return dict(
      batches=self.batches,
      measure=self.kind,
      **{k: v if math.isfinite(v) else None for k, v in figures.items()},
    )

  def __str__(self):
    what = 'deviation of the outputs from those by the batch'
    return (
      '%s%s %.4g by the stored statistics, %.4g by those of the batch, %.4g by '
      'the new ones, over %d batch%s %s'
      % (
        'the loss is above that of guessing (are these its data and labels?), '
        if self.guessing
        else '',
        'loss' if self.kind == 'loss' else what,
        self.stored,
        self.batch,
        self.new,
        self.batches,
        '' if self.batches == 1 else 'es',
        'held out' if self.apart else 'that is all there was',
      )
    )


def measure_of(runnable, probes):
  """The Measure of a graph.

  The loss is that of the cross-entropies that a step computes; else what is in
  the collection LOSSES; else the one scalar in which paths of real numbers
  from the layers end. Where there are several such, all ends are the outputs.

  Args:
    runnable: sessions.Runnable. probes: list of probing.Probe.
  Raises:
    UserError: there is nothing to measure.
  """
  view = runnable.anatomy.view
  losses = [
    node
    for node in view.nodes.values()
    if node.op in _CROSS_ENTROPY
    and node in runnable.anatomy.reached
    and _can_be_fetched(runnable, node)
  ]
  logits = [
    '%s:%d' % (node.inputs[0].node.name, node.inputs[0].index)
    for node in losses
  ]
  if not losses:
    losses = [view.find(name) for name in runnable.losses]
    losses = [n for n in losses if n and _can_be_fetched(runnable, n)]
  kind = 'loss'
  if not losses:
    ends = [
      node
      for node in _ends(runnable, probes)
      if _can_be_fetched(runnable, node)
    ]
    scalars = [n for n in ends if _shape(runnable, n) == []]
    if len(scalars) == 1:
      losses = scalars
    else:
      kind, losses = 'outputs', ends[-_MOST_OUTPUTS:]
  if not losses:
    raise UserError(
      'neither a loss nor outputs are found, by which new statistics could be '
      'compared with the stored ones; --force writes them unseen'
    )
  inputs = _inputs(runnable, losses)
  return Measure(
    kind,
    [node.name + ':0' for node in losses],
    inputs,
    losses + [view.find(name) for name in inputs],
    logits,
  )


def _shape(runnable, node):
  """Static shape of an op's first output: a list, or None."""
  shape = runnable.graph.get_tensor_by_name(node.name + ':0').shape
  return None if shape.rank is None else shape.as_list()


def _can_be_fetched(runnable, node):
  tensor = feeds.tensor_of(runnable.graph, Tensor(node, 0))
  return (
    tensor is not None
    and tensor.dtype.is_floating
    and runnable.graph.is_fetchable(tensor)
    and not by_stored.in_branch_or_loop(runnable.anatomy.view, node)
  )


def _ends(runnable, probes):
  """Nodes where paths of real numbers from the layers end: at scalars, too.

  Not those that lead into variables, as averages and gradients do.
  """
  view = runnable.anatomy.view
  gradients = _gradients(runnable)
  sites = {site.node for probe in probes for site in probe.sites}
  ends, seen, waiting = set(), set(), list(sites)
  while waiting:
    node = waiting.pop()
    if node in seen or node in gradients or _is_change(node):
      continue
    seen.add(node)
    tensor = feeds.tensor_of(runnable.graph, Tensor(node, 0))
    if tensor is not None and not tensor.dtype.is_floating:
      continue
    if tensor is not None and tensor.shape.rank == 0 and node not in sites:
      ends.add(node)
      continue
    consumers = [
      c
      for c in view.consumers[node]
      if _takes(c, node) and c.op not in _OF_SHAPE
    ]
    waiting += consumers
    if node not in sites and not any(
      c in gradients or _CHANGES.match(c.op) or _is_real(runnable, c)
      for c in consumers
    ):
      ends.add(node)
  ends = {n for n in ends if not any(map(_is_change, view.consumers[n]))}
  return [node for node in view.nodes.values() if node in ends]


def _gradients(runnable):
  """Nodes of gradients, those that are plain arithmetic, too.

  What follows from an op that only gradients have, or from the scalar 1 that
  tf.gradients begins with at a loss: Fill, which nobody else has of a scalar.
  """
  view = runnable.anatomy.view
  # A transposed convolution is the same op as a gradient of one.
  waiting = [
    node
    for node in runnable.anatomy.gradients
    if not node.op.endswith('BackpropInput')
  ]
  for node in view.nodes.values():
    if node.op in ('Fill', 'OnesLike'):
      tensor = feeds.tensor_of(runnable.graph, Tensor(node, 0))
      if tensor is not None and tensor.shape.rank == 0:
        waiting.append(node)
  seen = set()
  while waiting:
    node = waiting.pop()
    if node not in seen:
      seen.add(node)
      waiting += [c for c in view.consumers[node] if _takes(c, node)]
  return seen


def _takes(consumer, node):
  """Whether a Node is given another's value: not by a control input alone."""
  return any(
    tensor.node is node
    for tensors in [consumer.inputs] + consumer.results
    for tensor in tensors
  )


def _is_change(node):
  return bool(_CHANGES.match(node.op))


def _is_real(runnable, node):
  tensor = feeds.tensor_of(runnable.graph, Tensor(node, 0))
  return tensor is None or tensor.dtype.is_floating


def _inputs(runnable, nodes):
  """Names of the Tensors by which a batch enters, with what chance adds."""
  names = []
  view = runnable.anatomy.view
  for node in view.ancestors(nodes):
    entry = node.op.startswith(_ENTRIES)
    if not entry and node.op not in _CHANCE:
      continue
    outputs = (
      runnable.graph.get_operation_by_name(node.name).outputs
      if feeds.tensor_of(runnable.graph, Tensor(node, 0)) is not None
      and not by_stored.in_branch_or_loop(view, node)
      else []
    )
    outputs = [t for t in outputs if t.dtype not in (tf.resource, tf.variant)]
    if entry and not outputs:
      raise UserError(
        'what %s gives cannot be given again, by which new statistics could be '
        'compared with the stored ones; --force writes them unseen' % node.name
      )
    names += [tensor.name for tensor in outputs]
  return names


def compare(runnable, prefix, probes, measure, held_out, values):
  """The Comparison of a checkpoint's statistics with others.

  Args:
    runnable: sessions.Runnable. prefix: of the checkpoint.
    probes: list of probing.Probe, of the layers concerned.
    measure: Measure. held_out: list of HeldOut.
    values: {name of a variable: array}, the new statistics.
  Raises:
    UserError: the graph cannot be run by stored statistics.
  """
  copy = by_stored.copy(runnable, probes)
  results = {'stored': [], 'new': []}
  with sessions.restored(copy, prefix, start_input=False) as session:
    variables = {v.op.name: v for v in tf.global_variables()}
    variables = {name: variables[name] for name in values}
    kinds = {'stored': session.run(variables), 'new': values}
    fetches = measure.fetches(copy.graph)[:2]
    phase = feeds.phase(copy, by_batch=False)
    for number, batch in enumerate(held_out):
      feed = {
        copy.graph.get_tensor_by_name(name): value
        for name, value in batch.feed.items()
      }
      feed.update(phase)
      for kind, statistics in kinds.items():
        # Again for each: the graph may update them on its way.
        sessions.assign(
          session, [(v, statistics[name]) for name, v in variables.items()]
        )
        results[kind].append(feeds.run(session, fetches, feed, number))
  by_batch = [(batch.by_batch, batch.logits) for batch in held_out]
  losses = [
    [_loss(values) for values, _ in of_kind]
    for of_kind in (results['stored'], by_batch, results['new'])
  ]
  guessing = bool(measure.logits) and all(
    np.mean(loss) > _loss_of_guessing(by_batch[0][1]) for loss in losses
  )
  kind = 'outputs' if guessing else measure.kind
  if kind == 'outputs':
    part = 1 if guessing else 0
    losses = [
      [_deviation(v[part], b[part]) for v, b in zip(of_kind, by_batch)]
      for of_kind in (results['stored'], by_batch, results['new'])
    ]
  stored, batch, new = losses
  return Comparison(
    kind,
    *(float(np.mean(v)) for v in losses),
    batches=len(held_out),
    worse=is_worse(stored, batch, new),
    guessing=guessing,
  )


def _loss_of_guessing(logits):
  """The cross-entropy of logits that are all alike."""
  return sum(math.log(np.shape(values)[-1]) for values in logits)


def _loss(values):
  return sum(float(np.mean(np.asarray(v, np.float64))) for v in values)


def _deviation(values, references):
  """Root mean square of the deviations, each in standard deviations."""
  squares = []
  for value, reference in zip(values, references):
    value, reference = (np.asarray(v, np.float64) for v in (value, reference))
    if value.size:
      squares.append(
        np.mean((value - reference) ** 2)
        / max(reference.var(), 1e-6 * np.mean(reference**2), _TINY)
      )
  return math.sqrt(np.mean(squares)) if squares else 0.0


def is_worse(stored, batch, new):
  """Whether new statistics are worse than the stored ones.

  By more than a twentieth, and more than two standard errors of the difference.

  Args:
    stored, batch, new: for each batch a float, lower is better.
  """
  stored, batch, new = (np.asarray(v, np.float64) for v in (stored, batch, new))
  if not np.isfinite(new).all():
    return True
  if not np.isfinite(stored).all():
    return False
  difference = new - stored
  error = (
    difference.std(ddof=1) / math.sqrt(len(difference))
    if len(difference) > 1
    else 0.0
  )
  scale = max(abs(stored.mean()), abs(batch.mean()))
  return bool(difference.mean() > _MARGIN * scale + 2 * error)
