"""What the cases share: the graph of an arm, its training, its measurement."""

import contextlib
import functools
import random
from typing import Any
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf
import tqdm

from graph_resnet9.demos import checks as doctor
from graph_resnet9.demos import report
from graph_resnet9.inputs import augment
from graph_resnet9.inputs import dataset
from graph_resnet9.inputs import queues
from graph_resnet9.model import losses
from graph_resnet9.model import optimizer
from graph_resnet9.model import resnet9

BATCH_SIZE = 64
WIDTH = 8  # Of ResNet9, where a case uses it: 1/8 of the published one.
TRAIN_EXAMPLES = 10000
TEST_EXAMPLES = 1000
EVAL_BATCH_SIZE = 500
_POINTS = 8  # Evaluations along a training.


class Tower(NamedTuple):
  """Means over a batch, float32 scalar Tensors; accuracy None if none."""

  loss: tf.Tensor
  accuracy: tf.Tensor | None


class Evaluation(NamedTuple):
  """The network on the evaluation data, beside the training tower.

  moving, batch: Tower over a batch, by the stored statistics and by its own.
  batch_ops: names of the ops of the tower that uses batch statistics.
  feeds: feed dicts; one a batch, of one size, all data once.
  """

  moving: Tower
  batch: Tower
  batch_ops: frozenset[str]
  feeds: list[dict[tf.Tensor, Any]]


class Graph(NamedTuple):
  """The graph of an arm.

  train: Tower over the batch of the step.
  train_op: Operation.
  evaluation: Evaluation.
  feed: for Scaffold(local_init_feed_dict=).
  init_fn: for Scaffold(init_fn=), or None.
  figures: {name: scalar Tensor}, averaged over all steps into Arm.figures.
  others: {name: Evaluation}, other ways to evaluate at the end.
  """

  train: Tower
  train_op: tf.Operation
  evaluation: Evaluation
  feed: dict[tf.Tensor, Any]
  init_fn: Any = None
  figures: dict[str, tf.Tensor] = {}
  others: dict[str, Evaluation] = {}


class Trainer:
  """Where the arms of a case are trained: same seed, data and steps for all.

  seed: int. source: dataset.Source. fast: bool, shorter trainings.
  """

  def __init__(self, seed, source, fast):
    self.seed = seed
    self.source = source
    self.fast = fast

  @functools.cache  # pylint: disable=method-cache-max-size-none
  def data(self, split, order='file'):
    """formats.Split: the examples of 'train' or 'test' that the cases use."""
    count = TRAIN_EXAMPLES if split == 'train' else TEST_EXAMPLES
    return dataset.load(self.source, split, count, order)

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

  def image_graph(self, tower, train_op, train_tower=None):
    """The usual Graph of an arm on images: every epoch another permutation.

    Args:
      tower: function of (queues.Batch, training) to Tower.
      train_op: function of the loss to Operation.
      train_tower: function of queues.Batch to Tower, what the training uses;
        None: tower(batch, training=True).
    Returns:
      Graph.
    """
    train_data = queues.table(self.data('train'), 'train')
    test_data = queues.table(self.data('test'), 'test')
    batch = shuffled_batch(train_data, self.seed)
    train = train_tower(batch) if train_tower else tower(batch, training=True)
    return Graph(
      train,
      train_op(train.loss),
      evaluation_of(tower, test_data),
      {**train_data.feed, **test_data.feed},
    )

  def train(self, name, broken, build, steps):
    """Trains an arm, measures it, and asks lint and diagnose about it.

    Args:
      name: str, for the table.
      broken: bool, whether this is the failure or a cure.
      build: function without arguments that builds a Graph in the default one.
      steps: int.
    Returns:
      report.Arm.
    """
    with self.graph():
      graph = build()
      checks = doctor.Doctor(graph.train_op)
      measured = doctor.Measurement(graph.evaluation)
      with session_of(graph) as session:
        curve, figures = fit(session, graph, steps, name)
        diagnosed = checks.diagnose(session)
        layers = measured.records(session)
        others = {
          other: scores(session, evaluation)
          for other, evaluation in graph.others.items()
        }
    return report.Arm(
      name, broken, curve, layers, figures, others, checks.lint, diagnosed
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
  """Takes `steps` steps.

  Returns:
    (list of report.Point, the last at the end; {name: mean} of graph.figures).
  """
  points = {round(steps * (k + 1) / _POINTS) for k in range(_POINTS)}
  fetches = (_fetches(graph.train), graph.figures, graph.train_op)
  curve, seen, figures = [], [], []
  for step in tqdm.trange(
    1, steps + 1, desc=name, unit='step', disable=None, dynamic_ncols=True
  ):
    values, more, _ = session.run(fetches)
    seen.append(values)
    figures.append(more)
    if step in points:
      curve.append(
        report.Point(step, _mean(seen), *scores(session, graph.evaluation))
      )
      seen = []
  return curve, {
    key: float(np.mean([step[key] for step in figures]))
    for key in graph.figures
  }


def save(session, saver, path):
  """Saves variables of a MonitoredSession, weights only."""
  session.run_step_fn(
    lambda step_context: saver.save(
      step_context.session, path, write_meta_graph=False, write_state=False
    )
  )


def scores(session, evaluation):
  """(report.Scores by moving statistics, the same by batch statistics)."""
  values = [
    session.run((_fetches(evaluation.moving), _fetches(evaluation.batch)), feed)
    for feed in evaluation.feeds
  ]
  return tuple(_mean(column) for column in zip(*values))


def _fetches(tower):
  return [x for x in tower if x is not None]


def _mean(values):
  """report.Scores from a list of fetched [loss] or [loss, accuracy]."""
  means = [float(x) for x in np.mean(np.array(values, np.float64), 0)]
  return report.Scores(*means, *[None] * (2 - len(means)))


# The pieces of most graphs: ResNet9 that tells classes apart.


def classes_logits(batch, training):
  """Logits of narrow ResNet9 on the images of a queues.Batch, as they are.

  Args:
    batch: queues.Batch.
    training: Python bool.
  Returns:
    [batch, 10] float32 Tensor.
  Variables, Collections: as of resnet9.logits.
  """
  images = augment.normalised(augment.crops(batch.pixels, batch.indices))
  return resnet9.logits(images, training, WIDTH)


def classes_tower(batch, training):
  """Tower of classes_logits."""
  return scored(classes_logits(batch, training), batch.labels)


def scored(logits, labels):
  """Tower of [batch, classes] logits: cross-entropy and share of right ones."""
  return Tower(
    tf.reduce_mean(losses.cross_entropy(logits, labels)),
    tf.reduce_mean(tf.cast(losses.correct(logits, labels), tf.float32)),
  )


def shuffled_batch(table, seed, batch_size=BATCH_SIZE):
  """The next queues.Batch of a table: every epoch another permutation."""
  return queues.table_batch(
    table, queues.index_queue(table.examples, batch_size, 'epoch', seed)
  )


def evaluation_of(tower, test):
  """Evaluation of `tower` on a table, beside the training tower.

  Args:
    tower: function of (queues.Batch, training) to Tower.
    test: queues.Table; a multiple of EVAL_BATCH_SIZE examples.
  Returns:
    Evaluation.
  Collections:
    UPDATE_OPS: + 2 a layer. Read it for the train op before this is called.
  """
  first = tf.placeholder(tf.int32, [])
  batch = queues.table_batch(test, tf.range(first, first + EVAL_BATCH_SIZE))
  return both_towers(
    functools.partial(tower, batch),
    [{first: begin} for begin in range(0, test.examples, EVAL_BATCH_SIZE)],
  )


def both_towers(tower, feeds):
  """Evaluation of tower(training), by moving and by batch statistics.

  Variables: shares those of the training tower, or makes them if there is none.
  """
  with tf.variable_scope(tf.get_variable_scope(), reuse=tf.AUTO_REUSE):
    moving = tower(training=False)
    before = len(tf.get_default_graph().get_operations())
    batch = tower(training=True)
  ops = tf.get_default_graph().get_operations()[before:]
  return Evaluation(moving, batch, frozenset(op.name for op in ops), feeds)


def learning_rate(steps, peak):
  """Up to `peak` in a fifth of the steps, then down to 0, linearly."""
  return optimizer.learning_rate(
    tf.train.get_global_step(), steps, [0, 0.2, 1], [0, peak, 0]
  )


def train_op(loss, rate, update_ops=None):
  """A step of Adam at `rate`, a float or Tensor, after the update ops.

  update_ops: list of Operations; None: all of the collection.
  """
  if update_ops is None:
    update_ops = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
  with tf.control_dependencies(update_ops):
    return tf.train.AdamOptimizer(rate).minimize(
      loss, tf.train.get_global_step()
    )
