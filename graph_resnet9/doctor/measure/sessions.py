"""A graph to run: imported or given, its variables restored, its queues on."""

import collections
import contextlib
from typing import Any
from typing import Dict
from typing import NamedTuple
from typing import Optional
from typing import Tuple

import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.graph import decoding
from graph_resnet9.doctor.graph import programs
from graph_resnet9.doctor.graph import tensors
from graph_resnet9.doctor.graph import variables
from graph_resnet9.doctor.layers.anatomy import Anatomy
from graph_resnet9.doctor.lint import saved_statistics
from graph_resnet9.doctor.measure import feeds
from graph_resnet9.errors import UserError

# What a session needs; collections of ops may name what import cannot find.
_COLLECTIONS = (
  tf.GraphKeys.GLOBAL_VARIABLES,
  tf.GraphKeys.LOCAL_VARIABLES,
  tf.GraphKeys.TRAINABLE_VARIABLES,
  tf.GraphKeys.TABLE_INITIALIZERS,
  tf.GraphKeys.QUEUE_RUNNERS,
  tf.GraphKeys.GLOBAL_STEP,
  tf.GraphKeys.MODEL_VARIABLES,
  tf.GraphKeys.MOVING_AVERAGE_VARIABLES,
)


class InputEnded(UserError):
  """No batch came."""


class Runnable(NamedTuple):
  """A graph and where its input comes from.

  graph: tf.Graph. anatomy: anatomy.Anatomy of it.
  init_feed: feed dict for the initialisation of local variables.
  feed: function without arguments that yields a feed dict a batch, or None.
  losses: names of the tensors in the collection LOSSES.
  """

  graph: tf.Graph
  anatomy: Anatomy
  init_feed: Dict[Any, Any] = {}
  feed: Optional[Any] = None
  losses: Tuple[str, ...] = ()


def of_graph(graph, init_feed):
  """Runnable of a tf.Graph whose input needs no feeds."""
  return Runnable(
    graph,
    Anatomy(programs.of_graph(graph)),
    init_feed,
    losses=tuple(t.name for t in graph.get_collection(tf.GraphKeys.LOSSES)),
  )


def of_meta_graph(path, feed):
  """Runnable of a file with a graph.

  Args:
    path: of the file, as of decoding.read.
    feed: 'module:function' or ''. The module is imported before the graph, so
      that it can load the libraries of custom ops.
  Raises:
    UserError: the file or the function cannot be used.
  """
  function = feeds.function(feed) if feed else None
  _, meta_graph = decoding.read(path, training=True)
  losses = ()
  if tf.GraphKeys.LOSSES in meta_graph.collection_def:
    losses = tuple(
      meta_graph.collection_def[tf.GraphKeys.LOSSES].node_list.value
    )
  try:
    anatomy = Anatomy(programs.of_meta_graph(meta_graph))
    variables.name_them(meta_graph, anatomy.view)
    graph = imported(meta_graph)
  except (ValueError, KeyError, tf.errors.OpError) as e:
    reason = feeds.line(e)
    if 'registered' in reason:
      reason = (
        '%s; load its library in the module of --feed'
        % (reason.partition('. ')[0])
      )
    raise UserError('%s: cannot be imported: %s' % (path, reason)) from None
  if not anatomy.layers:
    raise UserError('%s: no batch normalisation in this graph' % path)
  return Runnable(graph, anatomy, {}, function, losses)


def imported(meta_graph):
  """A new tf.Graph of a MetaGraphDef.

  What TensorFlow 1.4 to 2.1 wrote of the shapes of a fused layer's gradients is
  left out, since TensorFlow 2.21 infers others and refuses the graph. All else
  stays: what a queue or a py_func gives has a shape by that alone.
  """
  given, meta_graph = meta_graph, tf.MetaGraphDef()
  meta_graph.CopyFrom(given)
  for key, collection in list(meta_graph.collection_def.items()):
    if key not in _COLLECTIONS or not collection.WhichOneof('kind'):
      del meta_graph.collection_def[key]
  graph_def = meta_graph.graph_def
  for body in [graph_def.node] + [
    function.node_def for function in graph_def.library.function
  ]:
    for node in body:
      if node.op.startswith('FusedBatchNormGrad'):
        node.attr.pop('_output_shapes', None)
  with tf.Graph().as_default() as graph:
    tf.train.import_meta_graph(meta_graph, clear_devices=True)
  return graph


def replicas(path):
  """How many replicas' gradients a step of SyncReplicasOptimizer joins.

  Each normalises its own part of the batch. 1 of a graph without it.

  Args:
    path: of a .meta file.
  Raises:
    UserError: it cannot be read.
  """
  view = programs.of_meta_graph(decoding.read(path)[1]).view
  numbers = [
    tensors.constant(node.inputs[1])
    for node in view.nodes.values()
    if node.op.endswith('AccumulatorTakeGradient')
  ]
  return max([int(n) for n in numbers if n is not None and n.size == 1] + [1])


@contextlib.contextmanager
def restored(runnable, prefix, start_input=True):
  """A session on a Runnable's graph, restored.

  Args:
    runnable: Runnable.
    prefix: of the checkpoint.
    start_input: bool, whether to start its iterators and queue runners.
  Yields:
    tf.Session, in which the graph is the default one.
  Raises:
    UserError: the checkpoint is not of this graph, or its input cannot start.
  """
  reader = saved_statistics.open_reader(prefix, runnable.anatomy.program)
  coordinator = tf.train.Coordinator()
  threads = []
  with runnable.graph.as_default(), tf.Session(
    config=tf.ConfigProto(allow_soft_placement=True)
  ) as session:
    _restore(session, runnable, reader, prefix)
    try:
      session.run(
        [tf.local_variables_initializer(), tf.tables_initializer()],
        runnable.init_feed,
      )
      if start_input:
        session.run(_iterator_initializers(runnable))
    except tf.errors.OpError as e:
      raise UserError(
        'the input of the graph cannot be initialised: %s' % feeds.line(e)
      ) from None
    if start_input:
      threads = tf.train.start_queue_runners(session, coordinator)
    try:
      yield session
    except InputEnded as e:
      raise UserError('%s%s' % (e, _failure(coordinator))) from None
    finally:
      coordinator.request_stop()
      with contextlib.suppress(Exception):  # Told where batches are run.
        coordinator.join(
          threads, stop_grace_period_secs=5, ignore_live_threads=True
        )


def _iterator_initializers(runnable):
  """Ops that start iterators of tf.data, where it is clear which and how."""
  makers = collections.defaultdict(list)
  view = runnable.anatomy.view
  for node in view.nodes.values():
    if node.op == 'MakeIterator':
      makers[node.inputs[1].node].append(node)
  return [
    runnable.graph.get_operation_by_name(nodes[0].name)
    for nodes in makers.values()
    if len(nodes) == 1
    and not any(node.op == 'Placeholder' for node in view.ancestors(nodes))
  ]


def _failure(coordinator):
  """What a queue runner failed with, in brackets, or ''."""
  try:
    coordinator.raise_requested_exception()
  except Exception as e:  # pylint: disable=broad-exception-caught
    return ' (%s)' % feeds.line(e)
  return ''


def _restore(session, runnable, reader, prefix):
  """Gives all global variables their values, those not saved initial ones."""
  keys = programs.checkpoint_names(runnable.anatomy.program)
  parts = programs.checkpoint_slices(runnable.anatomy.program)
  values, initial = [], []
  for variable in tf.global_variables():
    name = variable.op.name
    key = keys.get(name, name)
    if reader.has_tensor(key):
      value = reader.get_tensor(key)
      values.append((variable, value[parts[name]] if name in parts else value))
    else:
      initial.append(variable)
  try:
    assign(session, values)
  except (ValueError, tf.errors.OpError):
    for pair in values:  # One of them it is.
      with _told(prefix, keys, pair[0]):
        assign(session, [pair])
    raise
  for variable in initial:  # In turn: one may be made of another.
    with _told(prefix, keys, variable):
      session.run(variable.initializer)


@contextlib.contextmanager
def _told(prefix, keys, variable):
  """Makes a UserError of what goes wrong with a variable."""
  try:
    yield
  except (ValueError, tf.errors.OpError) as e:
    name = variable.op.name
    raise UserError(
      '--checkpoint=%s: %s cannot be restored: %s'
      % (prefix, keys.get(name, name), feeds.line(e))
    ) from None


def assign(session, values):
  """Sets variables, by the ops that are there: the graph may be finalised.

  Args:
    session: tf.Session.
    values: list of (tf.Variable, array).
  """
  session.run(
    [variable.initializer for variable, _ in values],
    {variable.initializer.inputs[1]: value for variable, value in values},
  )


def lacking(runnable, prefix):
  """Names of the global variables that a checkpoint does not hold."""
  keys = programs.checkpoint_names(runnable.anatomy.program)
  saved = tf.train.load_checkpoint(prefix).get_variable_to_shape_map()
  return [
    variable.op.name
    for variable in runnable.graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)
    if keys.get(variable.op.name, variable.op.name) not in saved
  ]
