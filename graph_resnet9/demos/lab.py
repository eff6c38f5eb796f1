"""What the cases share: the graph of an arm, its training, its measurement."""

import contextlib
import itertools
import random
import sys
import time
from typing import Any
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf
import tqdm

from graph_resnet9.demos import checks
from graph_resnet9.demos import report
from graph_resnet9.demos import towers
from graph_resnet9.inputs import dataset
from graph_resnet9.inputs import queues

TRAIN_EXAMPLES = 10000
TEST_EXAMPLES = 1000
_POINTS = 5  # Evaluations along a training.


class Graph(NamedTuple):
  """The graph of an arm.

  train: Tower over the batch of the step.
  train_op: Operation.
  evaluation: Evaluation.
  feed: for Scaffold(local_init_feed_dict=).
  init_fn: for Scaffold(init_fn=), or None.
  figures: {name: scalar Tensor}, fetched at every step into Arm.traces, their
    means into Arm.figures.
  others: {name: Evaluation}, other ways to evaluate at the end.
  guessing: as of report.Arm.
  """

  train: towers.Tower
  train_op: tf.Operation
  evaluation: towers.Evaluation
  feed: dict[tf.Tensor, Any]
  init_fn: Any = None
  figures: dict[str, tf.Tensor] = {}
  others: dict[str, towers.Evaluation] = {}
  guessing: float = 0.1


class Trainer:
  """Where the arms of a case are trained: same seed, data and steps for all.

  seed: int. source: dataset.Source. fast: bool, shorter trainings.
  """

  def __init__(self, seed, source, fast):
    self.seed = seed
    self.source = source
    self.fast = fast
    self._splits = {}

  def data(self, split, order='file'):
    """formats.Split: the examples of 'train' or 'test' that the cases use."""
    count = TRAIN_EXAMPLES if split == 'train' else TEST_EXAMPLES
    if (split, order) not in self._splits:
      self._splits[split, order] = dataset.load(
        self.source, split, count, order
      )
    return self._splits[split, order]

  def steps(self, full, fast):
    """How long to train: `fast` steps with --fast, else `full`."""
    return fast if self.fast else full

  @contextlib.contextmanager
  def graph(self):
    """A new default graph, with the trainer's seed and resource variables."""
    with tf.Graph().as_default():
      tf.set_random_seed(self.seed)
      # The initial weights of tf.layers do not follow the seed of the graph:
      # tf-keras draws a seed for each from Python's generator.
      random.seed(self.seed)
      with tf.variable_scope('', use_resource=True):
        tf.train.get_or_create_global_step()
        yield

  def image_graph(
    self, tower, train_op, train_tower=None, batch_size=towers.BATCH_SIZE
  ):
    """The usual Graph of an arm on images: every epoch another permutation.

    Args:
      tower: function of (queues.Batch, training) to Tower.
      train_op: function of the loss to Operation.
      train_tower: function of queues.Batch to Tower, what the training uses;
        None: tower(batch, training=True).
      batch_size: int, of the training.
    Returns:
      Graph.
    """
    train_data = queues.table(self.data('train'), 'train')
    test_data = queues.table(self.data('test'), 'test')
    batch = towers.shuffled_batch(train_data, self.seed, batch_size)
    train = train_tower(batch) if train_tower else tower(batch, training=True)
    return Graph(
      train,
      train_op(train.loss),
      towers.evaluation_of(tower, test_data),
      {**train_data.feed, **test_data.feed},
    )

  def train(self, name, broken, build, steps, batches=50):
    """Trains an arm, measures it, and asks lint and diagnose about it.

    Args:
      name: str, for the table.
      broken: bool, whether this is the failure or a cure.
      build: function without arguments that builds a Graph in the default one.
      steps: int.
      batches: int, how many of the training diagnose looks at.
    Returns:
      report.Arm.
    """
    with self.graph():
      graph = build()
      doctor = checks.Doctor(graph.train_op)
      measured = checks.Measurement(graph.evaluation)
      with session_of(graph) as session:
        curve, traces = fit(session, graph, steps, name)
        diagnosis = doctor.diagnose(session, batches)
        layers = measured.records(session)
        others = {
          other: scores(session, evaluation)
          for other, evaluation in graph.others.items()
        }
    return report.Arm(
      name,
      broken,
      curve,
      layers,
      {key: float(np.mean(values)) for key, values in traces.items()},
      traces,
      others,
      doctor.lint,
      diagnosis,
      graph.guessing,
    )


def session_of(graph):
  """A MonitoredTrainingSession that saves nothing."""
  return tf.train.MonitoredTrainingSession(
    scaffold=tf.train.Scaffold(
      local_init_feed_dict=graph.feed, init_fn=graph.init_fn
    ),
    config=tf.ConfigProto(allow_soft_placement=True),
  )


def fit(session, graph, steps, name):
  """Takes `steps` steps; says on stderr how long they took.

  Returns:
    (list of report.Point, the last at the end; {name: list of numbers, one a
    step} of graph.figures).
  """
  points = {round(steps * (k + 1) / _POINTS) for k in range(_POINTS)}
  fetches = (_fetches(graph.train), graph.figures, graph.train_op)
  curve, since, figures = [], [], []
  began = time.monotonic()
  for step in tqdm.trange(
    1,
    steps + 1,
    desc=name,
    unit='step',
    leave=False,
    disable=None,
    dynamic_ncols=True,
  ):
    values, more, _ = session.run(fetches)
    since.append(values)
    figures.append(more)
    if step in points:
      # All the data at the end only.
      most = None if step == steps else 1
      curve.append(
        report.Point(
          step, _mean(since), *scores(session, graph.evaluation, most)
        )
      )
      since = []
  print(
    '  %s: %d steps in %.0f s' % (name, steps, time.monotonic() - began),
    file=sys.stderr,
    flush=True,
  )
  return curve, {
    key: [float(step[key]) for step in figures] for key in graph.figures
  }


def save(session, saver, path):
  """Saves variables of a MonitoredSession, weights only."""
  session.run_step_fn(
    lambda step_context: saver.save(
      step_context.session, path, write_meta_graph=False, write_state=False
    )
  )


def scores(session, evaluation, most=None):
  """(report.Scores by moving statistics, the same by batch statistics).

  most: int, batches at most; None: all.
  """
  feeds = evaluation.feeds
  if callable(feeds):
    feeds = feeds(session)
  values = [
    session.run((_fetches(evaluation.moving), _fetches(evaluation.batch)), feed)
    for feed in itertools.islice(feeds, most)
  ]
  return tuple(_mean(column) for column in zip(*values))


def _fetches(tower):
  return [x for x in tower if x is not None]


def _mean(values):
  """report.Scores from a list of fetched [loss] or [loss, accuracy]."""
  means = [float(x) for x in np.mean(np.array(values, np.float64), 0)]
  return report.Scores(*means, *[None] * (2 - len(means)))
