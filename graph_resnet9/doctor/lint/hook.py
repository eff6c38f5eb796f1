"""The static check before the first step of a MonitoredTrainingSession."""

from absl import logging
import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.lint import rules
from graph_resnet9.doctor.lint.kinds import ERROR
from graph_resnet9.errors import UserError


class LintHook(tf.train.SessionRunHook):
  """Checks the graph when the session is there, once; works on any graph.

  Findings go to absl's log, errors as errors. By then the graph is finalised,
  so that the session's saver is among what is checked. A graph without batch
  normalisation is none of its business; a defect of the check is one warning.
  """

  def __init__(self, train_ops=(), raise_errors=False):
    """Makes the hook.

    Args:
      train_ops: names of all ops that a step runs; empty: found out.
      raise_errors: bool, whether to raise ValueError if there are errors
        instead of logging them.
    """
    self._train_ops = train_ops
    self._raise_errors = raise_errors
    self._done = False

  def after_create_session(self, session, coord):
    del coord
    if self._done:  # The session was lost, and is there again.
      return
    self._done = True
    try:
      report = rules.lint_graph(session.graph, self._train_ops)
    except UserError as e:
      logging.info('lint: %s', e)
      return
    # The training is worth more than its check.
    except Exception as e:  # pylint: disable=broad-exception-caught
      logging.warning('lint: the graph was not checked: %s', rules.failure(e))
      return
    if report.errors and self._raise_errors:
      raise ValueError(str(report))
    for finding in report.findings:
      log = logging.error if finding.severity == ERROR else logging.warning
      log('%s', finding)
