"""A graph to run: imported or given, its variables restored, its input open."""

import collections
import collections.abc
import contextlib
import importlib
from typing import Any
from typing import Dict
from typing import NamedTuple
from typing import Optional

import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.graph import program as program_lib
from graph_resnet9.doctor.graph import view as graph_view
from graph_resnet9.doctor.layers import anatomy
from graph_resnet9.doctor.lint import checkpoint as lint_checkpoint
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
# A batch that takes longer hangs on a queue that nobody fills.
_TIMEOUT_SECS = 600


class InputEnded(UserError):
  """No batch came."""


class Subject(NamedTuple):
  """A graph and where its input comes from.

  graph: tf.Graph. anatomy: anatomy.Anatomy of it.
  init_feed: feed dict for the initialisation of local variables.
  feed: function without arguments that yields a feed dict a batch, or None.
  """

  graph: tf.Graph
  anatomy: anatomy.Anatomy
  init_feed: Dict[Any, Any] = {}
  feed: Optional[Any] = None


def of_graph(graph, init_feed):
  """Subject of a tf.Graph whose input needs no feeds."""
  return Subject(graph, anatomy.Anatomy(program_lib.of_graph(graph)), init_feed)


def of_meta_graph(path, feed):
  """Subject of a .meta file.

  Args:
    path: of the file.
    feed: 'module:function' or ''. The module is imported before the graph, so
      that it can load the libraries of custom ops.
  Raises:
    UserError: the file or the function cannot be used.
  """
  function = feed_function(feed) if feed else None
  meta_graph = program_lib.read_meta_graph(path)
  try:
    found = anatomy.Anatomy(program_lib.of_meta_graph(meta_graph))
    for key in list(meta_graph.collection_def):
      if key not in _COLLECTIONS:
        del meta_graph.collection_def[key]
    with tf.Graph().as_default() as graph:
      tf.train.import_meta_graph(meta_graph, clear_devices=True)
  except (ValueError, KeyError, tf.errors.OpError) as e:
    reason = _line(e)
    if 'registered' in reason:
      reason = (
        '%s; load its library in the module of --feed'
        % (reason.partition('. ')[0])
      )
    raise UserError(
      '--meta_graph=%s: cannot be imported: %s' % (path, reason)
    ) from None
  if not found.layers:
    raise UserError(
      '--meta_graph=%s: no batch normalisation in this graph' % path
    )
  return Subject(graph, found, {}, function)


def feed_function(name):
  """The function behind module:function.

  Raises:
    UserError: there is none.
  """
  module, _, attribute = name.partition(':')
  try:
    function = getattr(importlib.import_module(module), attribute)
  except (ImportError, AttributeError, TypeError, ValueError) as e:
    raise UserError(
      '--feed=%s: %s; give module:function, importable from here' % (name, e)
    ) from None
  if not callable(function):
    raise UserError('--feed=%s: not a function' % name)
  return function


@contextlib.contextmanager
def restored(subject, prefix):
  """A session on the subject's graph, restored, with its queues running.

  Yields:
    tf.Session, in which the graph is the default one.
  Raises:
    UserError: the checkpoint is not of this graph, or its input cannot start.
  """
  reader = lint_checkpoint.open_reader(prefix, subject.anatomy.program)
  coordinator = tf.train.Coordinator()
  with subject.graph.as_default(), tf.Session(
    config=tf.ConfigProto(allow_soft_placement=True)
  ) as session:
    _restore(session, subject, reader, prefix)
    try:
      session.run(
        [tf.local_variables_initializer(), tf.tables_initializer()],
        subject.init_feed,
      )
      session.run(_iterator_initializers(subject))
    except tf.errors.OpError as e:
      raise UserError(
        'the input of the graph cannot be initialised: %s' % _line(e)
      ) from None
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


def _iterator_initializers(subject):
  """Ops that start iterators of tf.data, where it is clear which and how."""
  found = collections.defaultdict(list)
  view = subject.anatomy.view
  for node in view.nodes.values():
    if node.op == 'MakeIterator':
      found[node.inputs[1].node].append(node)
  return [
    subject.graph.get_operation_by_name(nodes[0].name)
    for nodes in found.values()
    if len(nodes) == 1
    and not any(node.op == 'Placeholder' for node in view.ancestors(nodes))
  ]


def _failure(coordinator):
  """What a queue runner failed with, in brackets, or ''."""
  try:
    coordinator.raise_requested_exception()
  except Exception as e:  # pylint: disable=broad-exception-caught
    return ' (%s)' % _line(e)
  return ''


def _restore(session, subject, reader, prefix):
  """Gives all global variables their values, those not saved initial ones."""
  keys = program_lib.checkpoint_names(subject.anatomy.program)
  parts = program_lib.checkpoint_slices(subject.anatomy.program)
  for variable in tf.global_variables():
    name = variable.op.name
    key = keys.get(name, name)
    feed = {}
    if reader.has_tensor(key):
      value = reader.get_tensor(key)
      feed[variable.initializer.inputs[1]] = (
        value[parts[name]] if name in parts else value
      )
    try:
      session.run(variable.initializer, feed)
    except (ValueError, tf.errors.OpError) as e:
      raise UserError(
        '--checkpoint=%s: %s cannot be restored: %s' % (prefix, key, _line(e))
      ) from None


def batches(session, subject, fetches, nodes, count):
  """Runs batches.

  Args:
    session: as of `restored`.
    subject: Subject.
    fetches: nest of Tensors.
    nodes: graph_view Nodes that the fetches need.
    count: int, how many at most.
  Yields:
    The values of the fetches, until the input ends.
  Raises:
    UserError: something must be fed and is not, or has another shape; the
      input fails.
  """
  chosen = _choices(subject)
  feeds = subject.feed() if subject.feed else ({} for _ in range(count))
  if not isinstance(feeds, collections.abc.Iterable):
    raise UserError(
      '--feed: returns a %s; yield a dict a batch' % type(feeds).__name__
    )
  ancestors = subject.anatomy.view.ancestors(nodes)
  needed = [node for node in ancestors if node.op == 'Placeholder']
  if (
    not subject.feed
    and not session.graph.get_collection(tf.GraphKeys.QUEUE_RUNNERS)
    and any(node.op.startswith('QueueDequeue') for node in ancestors)
  ):
    raise UserError(
      'the graph reads from a queue, and has no queue runners '
      'that fill it: --feed=module:function feeds what is read'
    )
  options = tf.RunOptions(timeout_in_ms=int(_TIMEOUT_SECS * 1000))
  for number, feed in zip(range(count), feeds):
    feed = {**chosen, **_named(session.graph, feed)}
    missing = [
      node.name
      for node in needed
      if session.graph.get_tensor_by_name(node.name + ':0') not in feed
    ]
    if missing:
      raise UserError(
        'placeholder %s must be fed: --feed=module:function, which yields '
        "{'%s': value, ...} for each batch" % (', '.join(missing), missing[0])
      )
    try:
      yield session.run(fetches, feed, options)
    except tf.errors.OutOfRangeError:
      return
    except tf.errors.DeadlineExceededError:
      raise UserError(
        'batch %d: nothing came for %d seconds; is there a queue '
        'that nobody fills?' % (number + 1, _TIMEOUT_SECS)
      ) from None
    except (ValueError, TypeError, tf.errors.OpError) as e:
      raise UserError('batch %d: %s' % (number + 1, _line(e))) from None


def _named(graph, feed):
  """A feed dict with Tensors for keys."""
  if not isinstance(feed, dict):
    raise UserError(
      '--feed: yields a %s; give a dict {name of a placeholder: '
      'value}' % type(feed).__name__
    )
  found = {}
  for key, value in feed.items():
    name = str(getattr(key, 'name', key))
    try:
      tensor = graph.get_tensor_by_name(name if ':' in name else name + ':0')
    except (KeyError, ValueError):
      raise UserError('--feed: no tensor %r in the graph' % name) from None
    found[tensor] = value
  return found


def _choices(subject):
  """A feed dict by which every layer uses the statistics of the batch."""
  found = {}
  for layer in subject.anatomy.layers:
    for site in layer.sites:
      for source in fed_choice(site) if site.by_batch else ():
        tensor = tensor_of(subject.graph, source)
        if tensor is not None:
          found[tensor] = site.choice.value
  return found


def fed_choice(site):
  """The placeholders, as graph_view.Tensors, that a site's choice is fed by."""
  return [
    source
    for source in (
      graph_view.sources(site.choice.predicate) if site.choice else ()
    )
    if source.node.op in ('Placeholder', 'PlaceholderWithDefault')
  ]


def tensor_of(graph, tensor):
  """The tf.Tensor of a graph_view.Tensor, or None if it is in a function."""
  try:
    return graph.get_tensor_by_name('%s:%d' % (tensor.node.name, tensor.index))
  except (KeyError, ValueError):
    return None


def _line(error):
  """The line of an error's message that says what is wrong.

  Of a failed op TensorFlow tells first where it was defined, then
  "Node: 'its/name'", then what is wrong.
  """
  lines = str(getattr(error, 'message', None) or error).splitlines() or ['']
  nodes = [k for k, line in enumerate(lines[:-1]) if line.startswith('Node: ')]
  if lines[0].startswith('Graph execution error') and nodes:
    return '%s: %s' % (
      lines[nodes[-1]][len('Node: ') :].strip("'"),
      lines[nodes[-1] + 1],
    )
  return lines[0]
