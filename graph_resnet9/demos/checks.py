"""What lint and diagnose say of an arm, and what its layers have stored."""

import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.graph import programs
from graph_resnet9.doctor.layers import anatomy
from graph_resnet9.doctor.lint import rules
from graph_resnet9.doctor.measure import diagnosis
from graph_resnet9.doctor.measure import probing
from graph_resnet9.doctor.measure import sessions
from graph_resnet9.doctor.measure import verdicts

_MOST_BATCHES = 16  # Of evaluation, to measure.


class Doctor:
  """Both checks of the default graph.

  lint: list of the codes of the static check.
  """

  def __init__(self, train_op):
    """Checks the graph and adds measuring ops; the graph must be whole.

    Args:
      train_op: Operation that a step runs.
    """
    graph = tf.get_default_graph()
    layers = anatomy.Anatomy(programs.of_graph(graph), [train_op.name])
    # A graph without batch normalisation has nothing to check or measure.
    self.lint = codes(rules.lint(layers)) if layers.layers else []
    self._runnable = sessions.Runnable(graph, layers)
    self._probes = probing.of_all(self._runnable) if layers.layers else None

  def diagnose(self, session, batches=50):
    """List of the codes of the verdicts, on so many batches of the training."""
    if self._probes is None:
      return []
    result = diagnosis.examine(session, self._runnable, self._probes, batches)
    return [v.code for v in result.verdicts if v.code not in verdicts.NO_FAULT]


class Measurement:
  """What the layers have stored beside what an Evaluation gives them."""

  def __init__(self, evaluation):
    """Adds measuring ops to the default graph, which must be whole.

    Args:
      evaluation: towers.Evaluation.
    """
    self._batches = min(len(evaluation.feeds), _MOST_BATCHES)
    graph = tf.get_default_graph()
    layers = anatomy.Anatomy(programs.of_graph(graph))
    self._runnable = sessions.Runnable(
      graph, layers, feed=lambda: evaluation.feeds
    )
    by_batch = any(
      site.by_batch and site.node.name in evaluation.batch_ops
      for layer in layers.layers
      for site in layer.sites
    )
    self._probes = (
      probing.of_layers(self._runnable, among=evaluation.batch_ops).probes
      if by_batch
      else None
    )

  def records(self, session):
    """List of moments.Record, one a layer; [] if none normalises by batches."""
    if self._probes is None:
      return []
    return probing.records(session, self._runnable, self._probes, self._batches)


def codes(report):
  """List of the codes of a rules.Report."""
  return [finding.code for finding in report.findings]
