"""What a graph is fed batch by batch, and how a batch is run."""

import collections.abc
import importlib
import re
import sys
import traceback
from typing import Any
from typing import Dict
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.graph import tensors
from graph_resnet9.doctor.graph.nodes import Tensor
from graph_resnet9.errors import UserError

# A batch that takes longer hangs on a queue that nobody fills.
_TIMEOUT_SECS = 600
_NODE = re.compile(r'\[\[\{\{node (.+?)\}\}')
_NODE_OF_1 = re.compile(r'\[\[node (\S+) \(defined at')


class Batch(NamedTuple):
  """A batch that was run: the values of the fetches, and what was fed."""

  values: Any
  feed: Dict[Any, Any]


def function(name):
  """The function behind module:function.

  Raises:
    UserError: there is none.
  """
  module, _, attribute = name.partition(':')
  try:
    found = getattr(importlib.import_module(module), attribute)
  except (ImportError, AttributeError, TypeError, ValueError) as e:
    if traceback.extract_tb(e.__traceback__)[-1].filename == _file_of(module):
      raise UserError('--feed=%s: %s' % (name, _place(e, module))) from None
    raise UserError(
      '--feed=%s: %s; give module:function, importable from here' % (name, e)
    ) from None
  except Exception as e:  # pylint: disable=broad-exception-caught
    raise UserError('--feed=%s: %s' % (name, _place(e, module))) from None
  if not callable(found):
    raise UserError('--feed=%s: not a function' % name)
  return found


def _file_of(module):
  return getattr(sys.modules.get(module), '__file__', None)


def _place(error, module):
  """Where in the user's module an exception came up, and what it says."""
  frames = traceback.extract_tb(error.__traceback__)
  own = [frame for frame in frames if frame.filename == _file_of(module)]
  frame = (own or frames)[-1]
  text = str(error).strip().splitlines()
  return '%s, line %d: %s%s' % (
    frame.filename,
    frame.lineno,
    type(error).__name__,
    ': ' + text[0] if text else '',
  )


def _of_user(feed):
  """What a user's function yields; its exceptions become UserErrors."""
  module = getattr(feed, '__module__', None)

  def guarded(step, *args):
    try:
      return step(*args)
    except StopIteration:
      raise
    except UserError:
      raise
    except Exception as e:  # pylint: disable=broad-exception-caught
      raise UserError('--feed: %s' % _place(e, module)) from None

  dicts = guarded(feed)
  if not isinstance(dicts, collections.abc.Iterable):
    raise UserError(
      '--feed: returns a %s; yield a dict a batch' % type(dicts).__name__
    )
  dicts = guarded(iter, dicts)
  while True:
    try:
      yield guarded(next, dicts)
    except StopIteration:
      return


def batches(session, runnable, fetches, nodes, count):
  """Runs batches, every layer by the statistics of the batch.

  Args:
    session: as of sessions.restored.
    runnable: sessions.Runnable.
    fetches: function of the number of a batch: nest of Tensors.
    nodes: Nodes that the fetches need.
    count: int, how many at most.
  Yields:
    a Batch, until the input ends.
  Raises:
    UserError: something must be fed and is not, or has another shape; the
      input fails.
  """
  chosen = phase(runnable, by_batch=True)
  dicts = (
    _of_user(runnable.feed) if runnable.feed else ({} for _ in range(count))
  )
  ancestors = runnable.anatomy.view.ancestors(nodes)
  needed = [node for node in ancestors if node.op == 'Placeholder']
  if (
    not runnable.feed
    and not session.graph.get_collection(tf.GraphKeys.QUEUE_RUNNERS)
    and any(node.op.startswith('QueueDequeue') for node in ancestors)
  ):
    raise UserError(
      'the graph reads from a queue, and has no queue runners '
      'that fill it: --feed=module:function feeds what is read'
    )
  for number, feed in zip(range(count), dicts):
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
    values = run(session, fetches(number), feed, number)
    if values is None:
      return
    yield Batch(values, feed)


def run(session, fetches, feed, number):
  """The values of the fetches, or None if the input has ended.

  Args:
    session: tf.Session. fetches: nest of Tensors. feed: feed dict.
    number: int, of the batch, for messages.
  Raises:
    UserError: the batch cannot be run.
  """
  options = tf.RunOptions(timeout_in_ms=int(_TIMEOUT_SECS * 1000))
  try:
    return session.run(fetches, feed, options)
  except tf.errors.OutOfRangeError:
    return None
  except tf.errors.DeadlineExceededError:
    raise UserError(
      'batch %d: nothing came for %d seconds; is there a queue '
      'that nobody fills?' % (number + 1, _TIMEOUT_SECS)
    ) from None
  except (ValueError, TypeError, tf.errors.OpError) as e:
    raise UserError('batch %d: %s' % (number + 1, line(e))) from None


def _named(graph, feed):
  """A feed dict with Tensors for keys."""
  if not isinstance(feed, dict):
    raise UserError(
      '--feed: yields a %s; give a dict {name of a placeholder: '
      'value}' % type(feed).__name__
    )
  named = {}
  for key, value in feed.items():
    name = str(getattr(key, 'name', key))
    try:
      tensor = graph.get_tensor_by_name(name if ':' in name else name + ':0')
    except (KeyError, ValueError):
      raise UserError('--feed: no tensor %r in the graph' % name) from None
    named[tensor] = value
  return named


def phase(runnable, by_batch):
  """A feed dict by which every layer that can choose uses one kind.

  Args:
    runnable: sessions.Runnable.
    by_batch: bool, whether that is the statistics of the batch.
  """
  feed = {}
  view = runnable.anatomy.view
  for site in _choosing(runnable):
    sources = phase_sources(site)
    if sources[:1] and sources[0].node.op == 'ReadVariableOp':
      # A variable is read anew for each use.
      handle = sources[0].node.inputs[0].node
      sources = [
        Tensor(node, 0)
        for node in view.consumers[handle]
        if node.op == 'ReadVariableOp'
      ]
    for source in sources:
      tensor = tensor_of(runnable.graph, source)
      if tensor is not None:
        feed[tensor] = site.choice.value == by_batch
  return feed


def by_stored(runnable, feed):
  """The Sites that a feed dict tells to use the stored statistics."""
  return [
    site
    for site in _choosing(runnable)
    for source in phase_sources(site)
    if bool(feed.get(tensor_of(runnable.graph, source), site.choice.value))
    != site.choice.value
  ]


def _choosing(runnable):
  return [
    site
    for layer in runnable.anatomy.layers
    for site in layer.sites
    if site.by_batch and site.choice
  ]


def phase_sources(site):
  """The Tensors that say what a Site that can choose uses.

  Placeholders; or, where a variable decides, what is read of it.
  """
  if site.decided is not None and not fed_choice(site):
    return []
  return fed_choice(site) or [_read_of(site.choice.predicate)]


def _read_of(predicate):
  """The first tensor on the way to a predicate that can be fed.

  Not a copy of it: tf.cond makes one for its switches and none for its pivots.
  """
  tensor = predicate
  while (
    tensor.node.op in ('Identity', '_Arg')
    and tensor.node.inputs[0].node.op not in tensors.VARIABLE_OPS
  ):
    tensor = tensor.node.inputs[0]
  return tensor


def fed_choice(site):
  """The placeholders, as Tensors, that a site's choice is fed by."""
  return [
    source
    for source in (
      tensors.sources(site.choice.predicate) if site.choice else ()
    )
    if source.node.op in ('Placeholder', 'PlaceholderWithDefault')
  ]


def tensor_of(graph, tensor):
  """The tf.Tensor of a Tensor, or None if it is in a function."""
  try:
    return graph.get_tensor_by_name('%s:%d' % (tensor.node.name, tensor.index))
  except (KeyError, ValueError):
    return None


def line(error):
  """The line of an error's message that says what is wrong.

  Of a failed op TensorFlow tells first where it was defined, then what is
  wrong, before or behind it the op's name: "Node: 'its/name'" or, in the next
  line, "[[{{node its/name}}]]"; TensorFlow 1.15 says "[[node its/name (defined
  at" there.
  """
  lines = str(getattr(error, 'message', None) or error).splitlines() or ['']
  nodes = [k for k, text in enumerate(lines[:-1]) if text.startswith('Node: ')]
  if lines[0].startswith('Graph execution error') and nodes:
    return '%s: %s' % (
      lines[nodes[-1]][len('Node: ') :].strip("'"),
      lines[nodes[-1] + 1],
    )
  for before, text in zip(lines, lines[1:]):
    node = _NODE_OF_1.search(text)
    if node:
      return '%s: %s' % (node.group(1), before)
    node = _NODE.search(text)
    if node and lines[0].startswith('Graph execution error'):
      return '%s: %s' % (node.group(1), before)
  return lines[0]
