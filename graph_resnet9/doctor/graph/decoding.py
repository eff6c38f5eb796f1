"""The graph in a file, in whatever form a TensorFlow wrote it.

Reads only: nothing is imported into TensorFlow, and a file of another kind is
named for what it is.
"""

import os
import re
import stat
import struct

from google.protobuf import message
from google.protobuf import text_format
import tensorflow.compat.v1 as tf
from tensorflow.core.protobuf import saved_model_pb2

from graph_resnet9.errors import UserError

SAVED_MODEL = 'saved_model.pb'
SAVED_MODEL_TEXT = 'saved_model.pbtxt'
# No protocol buffer is larger than 2 GiB. Read, it takes some four times as
# much memory.
MAX_BYTES = 1 << 30
# Text is read at 1 to 2 MB a second, and takes twenty times as much memory.
MAX_TEXT_BYTES = 128 << 20
# An event file begins with its graph, and goes on with pictures.
MAX_EVENT_BYTES = 256 << 20
_EVENT_HEAD = b'brain.Event:'
_TEXT = re.compile(rb'\s*(?:#[^\n]*\n\s*)*([A-Za-z_]+)\s*[:{<]')
_TEXT_BYTES = bytes(range(32, 256)) + b'\t\n\r\f'
# First words of the text forms.
_GRAPH_WORDS = ('node', 'library', 'versions', 'version', 'debug_info')
_META_WORDS = (
  'meta_info_def',
  'graph_def',
  'saver_def',
  'collection_def',
  'signature_def',
  'asset_file_def',
  'object_graph_def',
)
_MODEL_WORDS = ('saved_model_schema_version', 'meta_graphs')
_GIVE = (
  'give a .meta file of tf.train.Saver, a checkpoint beside one, a '
  'SavedModel, a graph.pbtxt, a frozen .pb or an event file with a graph'
)
# What other files begin with, and what to say of them.
_KERAS = (
  'give what TensorFlow 1 saves of the session that holds it: '
  'tf.train.Saver().save(tf.keras.backend.get_session(), PREFIX)'
)
_OTHERS = (
  (0, b'\x89HDF\r\n\x1a\n', 'an HDF5 file of Keras, which has no graph; '),
  (0, b'PK\3\4', 'a zip archive, such as .keras, .npz or .pt; '),
  (4, b'TFL3', 'a TensorFlow Lite model, in which batch norm is folded; '),
  (0, b'\x1f\x8b', 'compressed by gzip; unpack it. '),
  (0, b'\xfd7zXZ', 'compressed by xz; unpack it. '),
  (0, b'BZh', 'compressed by bzip2; unpack it. '),
  (0, b'\x80\2', 'a pickle; '),
  (0, b'\x93NUMPY', 'an array of NumPy; '),
  (0, b'\x89PNG', 'a picture; '),
)
_TABLE_MAGIC = b'\x57\xfb\x80\x8b\x24\x75\x47\xdb'  # Ends a checkpoint's index.


def read(path, training=False):
  """(form, MetaGraphDef) of a file.

  Args:
    path: of a .meta file, a SavedModel's saved_model.pb, a GraphDef, both of
      them binary or text, or an event file.
    training: of the graphs of a SavedModel, take that for training where there
      is one; else that for serving.
  Returns:
    form: 'MetaGraphDef', 'SavedModel', 'GraphDef' or 'event file'.
    MetaGraphDef; of the last two forms its graph_def alone is filled.
  Raises:
    UserError: no such file, or no graph in it, or a damaged one.
  """
  try:
    with opened(path) as f:
      return _read(path, f, training)
  except _Refused as e:
    raise UserError('%s: %s' % (path, e)) from None


class _Refused(Exception):
  """Why a file is not read."""


def opened(path):
  """A regular file, open for reading; does not wait as for a pipe's other end.

  Raises:
    UserError: there is none that can be read.
  """
  try:
    descriptor = os.open(path, os.O_RDONLY | getattr(os, 'O_NONBLOCK', 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
      os.close(descriptor)
      raise UserError('%s: not a file; %s' % (path, _GIVE))
    return os.fdopen(descriptor, 'rb')
  except OSError as e:
    raise UserError('%s: %s' % (path, e.strerror)) from None
  except ValueError as e:  # A zero byte in the name.
    raise UserError('%r: %s' % (path, e)) from None


def is_old_checkpoint(path):
  """Whether a file is a checkpoint as TensorFlow wrote them before 0.12."""
  with opened(path) as f:
    if os.fstat(f.fileno()).st_size < 48:
      return False
    f.seek(-8, os.SEEK_END)
    return f.read(8) == _TABLE_MAGIC


def _read(path, f, training):
  size = os.fstat(f.fileno()).st_size
  head = f.read(4096)
  f.seek(0)
  if not size:
    raise _Refused('an empty file: no graph in it')
  if head[12 : 12 + len(_EVENT_HEAD) + 2].endswith(_EVENT_HEAD):
    return 'event file', _of_events(f)
  name = os.path.basename(path)
  for at, magic, what in _OTHERS:
    if head[at : at + len(magic)] == magic:
      keras = 'HDF5' in what or name.endswith('.keras')
      raise _Refused(what + (_KERAS if keras else _GIVE))
  word = _TEXT.match(head)
  text = word and not head.translate(None, _TEXT_BYTES)
  most = MAX_TEXT_BYTES if text else MAX_BYTES
  if size > most:
    raise _Refused(
      '%d bytes; at most %d are read of %s'
      % (size, most, 'a text' if text else 'a graph')
    )
  data = f.read(most)
  if text:
    return _of_text(data, word.group(1).decode(), training)
  return _of_bytes(data, name, training)


# Binary forms.


def _of_bytes(data, name, training):
  if name == SAVED_MODEL or data[:1] == b'\x08':
    model = _parsed(saved_model_pb2.SavedModel, data)
    if model is None:
      raise _Refused('not a SavedModel, or a truncated one; give a whole file')
    return 'SavedModel', _of_saved_model(model, training)
  meta_graph = _parsed(tf.MetaGraphDef, data)
  if meta_graph and _is_graph(meta_graph.graph_def):
    return 'MetaGraphDef', meta_graph
  graph_def = _parsed(tf.GraphDef, data)
  if graph_def and _is_graph(graph_def):
    return 'GraphDef', _wrapped(graph_def)
  for graph in (meta_graph and meta_graph.graph_def, graph_def):
    if graph and graph.library.function and not graph.node:
      raise _Refused(_FUNCTIONS)
  if data[-8:] == _TABLE_MAGIC:
    raise _Refused('the index of a checkpoint; %s' % _GIVE)
  if meta_graph and not meta_graph.graph_def.node:
    raise _Refused('no graph in this file; %s' % _GIVE)
  raise _Refused(
    'not a MetaGraphDef or GraphDef, or a truncated one; give a whole file'
  )


_FUNCTIONS = (
  'functions of TensorFlow 2 only, and no graph that calls them; give the '
  'SavedModel with its signatures: tf.saved_model.save(model, DIR, signatures)'
)


def _parsed(kind, data):
  """A message of a kind from bytes, or None."""
  try:
    return kind.FromString(data)
  except (message.DecodeError, UnicodeDecodeError):
    return None


def _is_graph(graph_def):
  """Whether bytes read as a GraphDef were one."""
  return bool(graph_def.node) and all(
    node.op and node.name for node in graph_def.node
  )


def _wrapped(graph_def):
  meta_graph = tf.MetaGraphDef()
  meta_graph.graph_def.CopyFrom(graph_def)
  return meta_graph


def _of_saved_model(model, training):
  """Of several graphs the one for serving, or that for training."""
  graphs = list(model.meta_graphs)
  tags = tf.saved_model.tag_constants
  if len(graphs) > 1:
    wanted = (tags.TRAINING,) if training else ()
    for tag in wanted + (tags.SERVING,):
      some = [g for g in graphs if tag in g.meta_info_def.tags]
      if some:
        graphs = some
        break
    graphs = [g for g in graphs if len(g.meta_info_def.tags) == 1] or graphs
  if len(graphs) != 1 or not graphs[0].graph_def.node:
    if any(g.graph_def.library.function for g in graphs):
      raise _Refused(_FUNCTIONS)
    raise _Refused('a SavedModel without a graph for serving')
  return graphs[0]


# Text.


def _of_text(data, word, training):
  kinds = (
    (_GRAPH_WORDS, tf.GraphDef),
    (_META_WORDS, tf.MetaGraphDef),
    (_MODEL_WORDS, saved_model_pb2.SavedModel),
  )
  kind = next((kind for words, kind in kinds if word in words), None)
  if kind is None:
    raise _Refused('a text, and no graph; %s' % _GIVE)
  try:
    read_message = text_format.Parse(
      data.decode('utf-8'), kind(), allow_unknown_field=True
    )
  except (text_format.ParseError, ValueError, TypeError, RecursionError) as e:
    raise _Refused(
      'not the text of a %s, or a damaged one: %s'
      % (
        kind.DESCRIPTOR.name,
        ' '.join(str(e).partition('\n')[0].split())[:200],
      )
    ) from None
  if kind is saved_model_pb2.SavedModel:
    return 'SavedModel', _of_saved_model(read_message, training)
  if kind is tf.GraphDef:
    read_message = _wrapped(read_message)
  if not _is_graph(read_message.graph_def):
    raise _Refused('no graph in this file; %s' % _GIVE)
  form = 'GraphDef' if kind is tf.GraphDef else 'MetaGraphDef'
  return form, read_message


# Event files.


def _of_events(f):
  """The first MetaGraphDef of an event file, or else its first GraphDef."""
  graph_def = None
  for record in _records(f):
    event = _parsed(tf.Event, record)
    if event is None:
      raise _Refused('a damaged event file')
    if event.meta_graph_def:
      meta_graph = _parsed(tf.MetaGraphDef, event.meta_graph_def)
      if meta_graph and _is_graph(meta_graph.graph_def):
        return meta_graph
    if event.graph_def and graph_def is None:
      graph_def = _parsed(tf.GraphDef, event.graph_def)
      graph_def = graph_def if graph_def and _is_graph(graph_def) else None
  if graph_def is None:
    raise _Refused(
      'an event file without a graph: tf.summary.FileWriter(DIR, '
      'tf.get_default_graph()) writes one'
    )
  return _wrapped(graph_def)


def _records(f):
  """The records of an event file that is whole, or up to where it is not."""
  size = os.fstat(f.fileno()).st_size
  while f.tell() < min(size, MAX_EVENT_BYTES):
    head = f.read(12)  # Length, and a checksum of it.
    if len(head) < 12:
      return
    (length,) = struct.unpack('<Q', head[:8])
    if length + 4 > size - f.tell():
      return
    if length > MAX_EVENT_BYTES:
      f.seek(length + 4, os.SEEK_CUR)
      continue
    yield f.read(length)
    f.seek(4, os.SEEK_CUR)
