"""What lint and diagnose say of an arm, and what its layers have stored."""

import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.graph import program
from graph_resnet9.doctor.layers import anatomy
from graph_resnet9.doctor.lint import rules as graph_lint
from graph_resnet9.doctor.measure import diagnosis
from graph_resnet9.doctor.measure import probes
from graph_resnet9.doctor.measure import sessions

_BATCHES = 100


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
    found = anatomy.Anatomy(program.of_graph(graph), [train_op.name])
    self.lint = codes(graph_lint.lint(found))
    self._runnable = sessions.Runnable(graph, found)
    self._probes = probes.of_all(self._runnable)

  def diagnose(self, session):
    """List of the codes of the verdicts, on batches of the training."""
    result = diagnosis.examine(session, self._runnable, self._probes, _BATCHES)
    return [v.code for v in result.verdicts if v.code != 'healthy']


class Measurement:
  """What the layers have stored beside what an Evaluation gives them."""

  def __init__(self, evaluation):
    """Adds measuring ops to the default graph, which must be whole.

    Args:
      evaluation: lab.Evaluation.
    """
    self._batches = len(evaluation.feeds)
    graph = tf.get_default_graph()
    self._runnable = sessions.Runnable(
      graph,
      anatomy.Anatomy(program.of_graph(graph)),
      feed=lambda: evaluation.feeds,
    )
    self._probes = probes.of_layers(
      self._runnable, among=evaluation.batch_ops
    ).probes

  def records(self, session):
    """list of doctor.measure.moments.Record, one a layer."""
    return probes.records(session, self._runnable, self._probes, self._batches)


def codes(report):
  """List of the codes of a graph_lint.Report."""
  return [finding.code for finding in report.findings]
