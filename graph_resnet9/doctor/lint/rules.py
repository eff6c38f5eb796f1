"""The static check of a graph: what is wrong with its batch normalisation.

Needs neither data nor a session, and nothing of this project in the graph.
"""

import os
import traceback

from absl import logging

from graph_resnet9.doctor.graph import programs
from graph_resnet9.doctor.layers import anatomy
from graph_resnet9.doctor.lint import axis_and_loss
from graph_resnet9.doctor.lint import findings
from graph_resnet9.doctor.lint import hazards
from graph_resnet9.doctor.lint import normalising
from graph_resnet9.doctor.lint import running
from graph_resnet9.doctor.lint import saved_statistics
from graph_resnet9.doctor.lint import source
from graph_resnet9.doctor.lint import step_states
from graph_resnet9.doctor.lint.reports import Report
from graph_resnet9.errors import UserError

# Of statistics with these findings the checkpoint has no more to say.
_CAUSES = (
  'updates-not-run',
  'updates-partly-run',
  'no-updates',
  'statistics-not-saved',
)


def lint(found, checkpoint=None):
  """Checks a graph.

  Args:
    found: anatomy.Anatomy of the graph.
    checkpoint: prefix of a checkpoint of this graph, or None.
  Returns:
    reports.Report.
  Raises:
    UserError: no batch normalisation in the graph, or no checkpoint of it.
  """
  if not found.layers:
    raise UserError(
      'no batch normalisation in this graph: nothing is divided '
      'by the root of a variance over the examples'
    )
  states = [step_states.of(found, layer) for layer in found.layers]
  rules = [
    running.updates(found, states),
    running.in_cond(found),
    running.in_evaluation(found),
    running.several(found),
    running.in_loops(found),
    # What was restored the graph can only guess, and the checkpoint knows.
    normalising.never(found, states) if not checkpoint else (),
    normalising.frozen(found, states),
    normalising.unused_flag(found, states),
    normalising.evaluation(found, states),
    normalising.values(found, states),
    normalising.decays(found),
    normalising.saver(found),
    axis_and_loss.axes(found),
    axis_and_loss.losses(found),
  ]
  results = [finding for rule in rules for finding in rule]
  if checkpoint:
    explained = {
      name for f in results if f.code in _CAUSES for name in f.variables
    }
    results += saved_statistics.statistics(found, checkpoint, explained)
  return Report(
    sorted(results, key=lambda f: f.severity),
    _seen(found, states),
    findings.names(found.last_steps),
    findings.names(found.assumed),
    tuple(hazards.notes(found.view)),
  )


def _seen(found, states):
  """What there was to see, as of reports.Report."""
  updates = {u.node for layer in found.layers for u in layer.updates}
  return dict(
    {
      mode.value: sum(state.mode is mode for state in states)
      for mode in step_states.Mode
    },
    layers=len(states),
    updates=len(updates),
    updates_run=len(updates & found.reached),
  )


def lint_graph(graph, train_ops=(), saver=None, checkpoint=None):
  """`lint` of a tf.Graph; findings name the lines that made the layers.

  Args:
    graph: tf.Graph.
    train_ops: as of anatomy.Anatomy. saver: as of programs.of_graph.
    checkpoint: as of lint.
  """
  found = anatomy.Anatomy(programs.of_graph(graph, saver), train_ops)
  report = lint(found, checkpoint)
  return report._replace(
    findings=[source.with_places(graph, f) for f in report.findings]
  )


def lint_meta_graph(meta_graph, train_ops=(), checkpoint=None):
  """`lint` of a MetaGraphDef; arguments as of lint_graph.

  Raises:
    UserError: as of lint; or the graph is damaged, or the check itself fails.
  """
  try:
    return lint(
      anatomy.Anatomy(programs.of_meta_graph(meta_graph), train_ops), checkpoint
    )
  except UserError:
    raise
  except ValueError as e:
    raise UserError('damaged graph: %s' % e) from None
  # The one place where any other exception ends: a file from anywhere must not
  # end in a traceback.
  except Exception as e:  # pylint: disable=broad-exception-caught
    raise UserError(failure(e)) from None


def failure(error):
  """The line for an exception that no rule expects."""
  logging.info('%s', traceback.format_exc())
  where = traceback.extract_tb(error.__traceback__)[-1]
  return (
    'a damaged graph, or a defect of the check (%s: %s, %s:%d); --verbosity=0 '
    'prints where'
    % (
      type(error).__name__,
      error,
      os.path.basename(where.filename),
      where.lineno,
    )
  )
