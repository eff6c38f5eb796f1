"""doctor/graph/decoding: the graph in bytes of every form, whole or damaged."""

import os
import pathlib
import struct
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from google.protobuf import text_format
import tensorflow.compat.v1 as tf
from tensorflow.core.protobuf import saved_model_pb2

from graph_resnet9.doctor.graph import decoding
from graph_resnet9.errors import UserError


def graph(name='a'):
  """A GraphDef of one op."""
  graph_def = tf.GraphDef()
  graph_def.node.add(name=name, op='NoOp')
  return graph_def


def meta_graph(name='a', *tags):
  made = tf.MetaGraphDef(graph_def=graph(name))
  if tags:
    made.meta_info_def.tags.extend(tags)
  return made


def saved_model(*meta_graphs):
  model = saved_model_pb2.SavedModel(saved_model_schema_version=1)
  model.meta_graphs.extend(meta_graphs)
  return model


def library():
  """A GraphDef of a function and no graph."""
  graph_def = tf.GraphDef()
  graph_def.library.function.add().signature.name = 'f'
  return graph_def


def record(**values):
  data = tf.Event(**values).SerializeToString()
  return struct.pack('<QI', len(data), 0) + data + bytes(4)


def events(*records):
  return record(file_version='brain.Event:2') + b''.join(records)


class DecodingTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)

  def read(self, data, name='file', **kwargs):
    path = self.folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return decoding.read(str(path), **kwargs)

  def name(self, data, name='file', **kwargs):
    """Of the first op of the graph that is read."""
    return self.read(data, name, **kwargs)[1].graph_def.node[0].name

  def refused(self, data, pattern, name='file', **kwargs):
    with self.assertRaisesRegex(UserError, pattern) as caught:
      self.read(data, name, **kwargs)
    self.assertStartsWith(str(caught.exception), str(self.folder / name) + ': ')

  @parameterized.parameters(
    (graph(), 'GraphDef'), (meta_graph('a', 'train'), 'MetaGraphDef'),
    (meta_graph(), 'MetaGraphDef'), (saved_model(meta_graph()), 'SavedModel'),
  )  # fmt: skip
  def test_bytes_and_text(self, made, form):
    whole = made if form == 'MetaGraphDef' else meta_graph()
    for data in (
      made.SerializeToString(), str(made), '# A comment.\n\n#\n ' + str(made),
    ):  # fmt: skip
      self.assertEqual(self.read(data), (form, whole))

  def test_the_name_says_that_bytes_are_a_saved_model(self):
    model = saved_model(meta_graph())
    model.saved_model_schema_version = 0  # Which is then not written.
    data = model.SerializeToString()
    self.assertEqual(
      self.read(data, 'saved_model.pb'), ('SavedModel', meta_graph())
    )
    self.refused(b'\xff', 'not a SavedModel, or a truncated', 'saved_model.pb')
    self.refused(b'\x08\x01\xff', 'not a SavedModel, or a truncated')

  def test_which_graph_of_a_saved_model(self):
    served, trained = meta_graph('s', 'serve'), meta_graph('t', 'train')
    on_tpu = meta_graph('s2', 'serve', 'tpu')
    other = meta_graph('o', 'other')
    for graphs, serving, training in (
      ([served, trained], 's', 't'),
      ([trained, on_tpu, served], 's', 't'),
      ([on_tpu, other], 's2', 's2'),
      ([served, other], 's', 's'),
      ([trained], 't', 't'),
      ([other], 'o', 'o'),
    ):
      model = saved_model(*graphs)
      for data in (model.SerializeToString(), str(model)):
        self.assertEqual(self.name(data), serving)
        self.assertEqual(self.name(data, training=True), training)

  def test_saved_models_without_one_graph(self):
    other = meta_graph('o', 'other')
    for graphs in ([], [tf.MetaGraphDef()], [other, meta_graph('p', 'q')]):
      self.refused(
        saved_model(*graphs).SerializeToString(),
        'a SavedModel without a graph for serving',
      )
    functions = tf.MetaGraphDef(graph_def=library())
    for graphs in ([functions], [functions, functions]):
      self.refused(
        saved_model(*graphs).SerializeToString(), 'functions of TensorFlow 2'
      )

  def test_bytes_without_a_graph(self):
    empty = tf.MetaGraphDef()
    empty.meta_info_def.tags.append('train')
    opless = tf.GraphDef()
    opless.node.add(name='a')
    partly = graph()
    partly.node.add(op='NoOp')
    for data, pattern in (
      (b'', 'an empty file'),
      (empty.SerializeToString(), 'no graph in this file'),
      (library().SerializeToString(), 'functions of TensorFlow 2'),
      (
        tf.MetaGraphDef(graph_def=library()).SerializeToString(),
        'functions of TensorFlow 2',
      ),
      (b'\xff' * 9, 'not a MetaGraphDef or GraphDef, or a truncated'),
      (graph().SerializeToString()[:-1], 'truncated'),
      (
        b'\xff' * 40 + b'\x57\xfb\x80\x8b\x24\x75\x47\xdb',
        'the index of a checkpoint',
      ),
      (graph('').SerializeToString(), 'not a MetaGraphDef or GraphDef'),
      (partly.SerializeToString(), 'not a MetaGraphDef or GraphDef'),
      (opless.SerializeToString(), 'no graph in this file'),
    ):
      self.refused(data, pattern)

  def test_text_without_a_graph(self):
    for data, pattern in (
      ('item {\n}\n', 'a text, and no graph'),
      ('node {\n  nam', 'not the text of a GraphDef, or a damaged one'),
      ('graph_def {\n  3', 'not the text of a MetaGraphDef, or'),
      ('meta_graphs {\n  3', 'not the text of a SavedModel, or'),
      ('node {\n  name: "a"\n}\n', 'no graph in this file'),
      ('versions {\n}\n', 'no graph in this file'),
      ('meta_info_def {\n}\n', 'no graph in this file'),
    ):
      self.refused(data, pattern)
    latin = (
      text_format.MessageToString(graph()).encode() + b'#' * 5000 + b'\xff'
    )
    self.refused(latin, 'not the text of a GraphDef, or')
    # A field that a later TensorFlow adds does not matter.
    self.assertEqual(
      self.name(text_format.MessageToString(graph()) + 'later: 3\n'), 'a'
    )

  @parameterized.parameters(
    (b'\x89HDF\r\n\x1a\n', 'HDF5.*get_session'),
    (b'PK\3\4', 'a zip archive.*give a .meta'),
    (b'....TFL3', 'TensorFlow Lite'), (b'\x1f\x8b', 'by gzip'),
    (b'\xfd7zXZ', 'by xz'), (b'BZh', 'by bzip2'), (b'\x80\2', 'a pickle'),
    (b'\x93NUMPY', 'an array of NumPy'), (b'\x89PNG', 'a picture'),
  )  # fmt: skip
  def test_other_files_are_named(self, data, pattern):
    self.refused(data, pattern)
    self.refused(data + b'..', pattern)

  def test_archives_of_keras_are_given_advice_of_its_own(self):
    self.refused(b'PK\3\4', 'a zip archive.*get_session', 'model.keras')

  def test_sizes_that_are_read(self):
    data, text = (
      meta_graph().SerializeToString(),
      text_format.MessageToString(meta_graph()),
    )
    for content, limit, of in (
      (data, 'MAX_BYTES', 'a graph'), (text, 'MAX_TEXT_BYTES', 'a text'),
    ):  # fmt: skip
      with mock.patch.object(decoding, limit, len(content)):
        self.assertEqual(self.name(content), 'a')
      with mock.patch.object(decoding, limit, len(content) - 1):
        self.refused(
          content,
          '%d bytes; at most %d are read of %s'
          % (len(content), len(content) - 1, of),
        )
    with mock.patch.object(decoding, 'MAX_TEXT_BYTES', 1):
      self.assertEqual(self.name(data), 'a')

  def test_bytes_that_begin_as_text_does_are_bytes(self):
    """A line, a letter and a colon can begin a message, too."""
    made = tf.GraphDef()
    made.node.add(name='n' * 58, op='Add')
    data = made.SerializeToString()
    self.assertStartsWith(data.decode(), '\nA\n:nnn')
    self.assertEqual(self.name(data), 'n' * 58)

  # Event files.

  def test_events(self):
    bare = record(graph_def=graph('g').SerializeToString())
    later = record(graph_def=graph('later').SerializeToString())
    whole = record(meta_graph_def=meta_graph('m').SerializeToString())
    step = record(step=3)
    void = record(graph_def=b'') + record(meta_graph_def=b'')
    damaged = record(graph_def=b'\xff') + record(meta_graph_def=b'\xff')
    for records, expected in (
      ([bare], 'g'), ([step, bare, later], 'g'), ([bare, whole], 'm'),
      ([void, whole, bare], 'm'), ([damaged, later, step], 'later'),
    ):  # fmt: skip
      form, read = self.read(events(*records))
      self.assertEqual(form, 'event file')
      self.assertEqual(read.graph_def.node[0].name, expected)
    for records in ([], [step], [damaged]):
      self.refused(events(*records), 'an event file without a graph')
    broken = struct.pack('<QI', 1, 0) + b'\xff' + bytes(4)
    self.refused(events(broken, bare), 'a damaged event file')

  def test_an_event_file_is_read_up_to_where_it_is_whole(self):
    bare = record(graph_def=graph('g').SerializeToString())
    whole = record(meta_graph_def=meta_graph('m').SerializeToString())
    for left in range(1, len(whole)):
      self.assertEqual(self.name(events(bare, whole[:left])), 'g', left)
    self.assertEqual(self.name(events(bare, whole)), 'm')
    for left in (4, 11, len(bare) - 4, len(bare) - 1):
      self.refused(events(bare[:left]), 'an event file without a graph')

  def test_only_the_beginning_of_a_long_event_file_is_read(self):
    head = len(events())
    whole = record(meta_graph_def=meta_graph('m').SerializeToString())
    with mock.patch.object(decoding, 'MAX_EVENT_BYTES', head):
      self.refused(events(whole), 'an event file without a graph')
    with mock.patch.object(decoding, 'MAX_EVENT_BYTES', head + 1):
      self.assertEqual(self.name(events(whole)), 'm')

  def test_an_event_that_is_too_large_is_not_read(self):
    large = record(graph_def=graph('g' * 200).SerializeToString())
    with mock.patch.object(decoding, 'MAX_EVENT_BYTES', len(large) - 16):
      self.assertEqual(self.name(events(large)), 'g' * 200)
    with mock.patch.object(decoding, 'MAX_EVENT_BYTES', len(large) - 17):
      self.refused(events(large), 'an event file without a graph')

  # Files.

  def test_what_is_opened(self):
    path = self.folder / 'file'
    path.write_bytes(b'content')
    with decoding.opened(str(path)) as f:
      self.assertEqual(f.read(), b'content')
    os.mkfifo(str(self.folder / 'pipe'))
    for name, pattern in (
      ('pipe', 'pipe: not a file'), ('.', 'not a file'),
      ('gone', 'gone: No such file'), ('a\0b', 'null'),
    ):  # fmt: skip
      with self.assertRaisesRegex(UserError, pattern):
        decoding.opened(str(self.folder / name))

  def test_checkpoints_of_one_file(self):
    magic = b'\x57\xfb\x80\x8b\x24\x75\x47\xdb'
    path = self.folder / 'file'
    for data, expected in (
      (bytes(40) + magic, True), (bytes(39) + magic, False),
      (bytes(48), False), (bytes(40) + magic + b'\0', False), (b'', False),
    ):  # fmt: skip
      path.write_bytes(data)
      self.assertIs(decoding.is_old_checkpoint(str(path)), expected)


if __name__ == '__main__':
  absltest.main()
