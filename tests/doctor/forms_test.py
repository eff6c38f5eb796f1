"""What a path may mean to the doctor's commands, and what it may not."""

import json
import os
import pathlib
import shutil
import struct
import tempfile
import time

from absl.testing import absltest
from absl.testing import parameterized
from google.protobuf import text_format
import tensorflow.compat.v1 as tf

from graph_resnet9 import lint
from graph_resnet9.doctor.graph import decoding
from graph_resnet9.doctor.graph import paths
from graph_resnet9.doctor.lint import kinds
from graph_resnet9.doctor.lint import reports
from graph_resnet9.errors import UserError
from tests.doctor import commands_test
from tests.doctor import small_graphs

run = commands_test.run


def record(**values):
  """A record of an event file, without the checksums that nobody reads here."""
  data = tf.Event(**values).SerializeToString()
  return struct.pack('<QI', len(data), 0) + data + bytes(4)


class FormsTest(parameterized.TestCase):
  """One training without its update ops, in every form."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.scratch = tempfile.mkdtemp()
    cls.saved = small_graphs.save(
      cls.scratch, commands_test.forgotten_updates, step=500
    )

  @classmethod
  def tearDownClass(cls):
    shutil.rmtree(cls.scratch)  # addClassCleanup is not in Python 3.7.
    super().tearDownClass()

  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.create_tempdir().full_path)
    self.meta_graph = tf.MetaGraphDef.FromString(
      pathlib.Path(self.saved.meta).read_bytes()
    )

  def write(self, name, data):
    path = self.dir / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path

  def found(self, path, **values):
    """Codes that lint prints of a path."""
    code, text = run('lint', path, format='json', **values)
    codes = [f['code'] for f in json.loads(text)['findings']]
    self.assertEqual(code, int('updates-not-run' in codes))
    return codes

  def refused(self, path, pattern):
    with self.assertRaisesRegex(UserError, pattern) as caught:
      run('lint', path)
    self.assertIn(str(path), str(caught.exception))
    self.assertLen(str(caught.exception).splitlines(), 1)

  def test_every_form_of_the_graph_gives_the_same(self):
    graph_def = self.meta_graph.graph_def
    events = record(file_version='brain.Event:2')
    event = record(graph_def=graph_def.SerializeToString())
    whole = record(meta_graph_def=self.meta_graph.SerializeToString())
    for name, data in (
      ('a.meta', self.meta_graph.SerializeToString()),
      ('no_name_says_it', self.meta_graph.SerializeToString()),
      ('text.meta', text_format.MessageToString(self.meta_graph)),
      ('graph.pb', graph_def.SerializeToString()),
      (
        'graph.pbtxt',
        '# A comment.\n' + text_format.MessageToString(graph_def),
      ),
      ('events.out.tfevents.1.a', events + event),
      ('events.out.tfevents.2.a', events + whole),
      ('events.out.tfevents.3.a', events + event + b'\x07'),  # Being written.
    ):
      with self.subTest(name):
        path = self.write(name, data)
        self.assertEqual(self.found(path), ['updates-not-run'])

  def test_a_checkpoint_brings_its_graph(self):
    for path in (
      self.saved.prefix,
      self.saved.prefix + '.index',
      self.saved.prefix + '.data-00000-of-00001',
      self.scratch,
    ):
      with self.subTest(path):
        files = paths.find(path)
        self.assertEqual(
          files, paths.Files(self.saved.meta, self.saved.prefix, False)
        )
        self.assertEqual(self.found(path), ['updates-not-run'])
    files = paths.find(self.saved.meta)
    self.assertEqual((files.asked, files.checkpoint), (True, self.saved.prefix))

  def test_the_checkpoint_that_is_named_is_checked(self):
    for path in pathlib.Path(self.scratch).iterdir():
      shutil.copy(path, self.dir)
    data = self.dir / 'model.ckpt.data-00000-of-00001'
    data.write_bytes(b'')
    self.refused(self.dir / 'model.ckpt', 'damaged')
    self.assertEqual(
      self.found(self.dir / 'model.ckpt.meta'), ['updates-not-run']
    )

  def test_a_directory_means_its_newest_checkpoint(self):
    for name in ('a.ckpt-9', 'b-10'):
      self.write(name + '.index', b'')
    os.utime(self.dir / 'b-10.index', (1, 1))
    self.assertEqual(paths.find(str(self.dir)).checkpoint[-8:], 'a.ckpt-9')
    # The state file says which, whatever directory it was written for.
    self.write('checkpoint', 'model_checkpoint_path: "/elsewhere/b-10"\n')
    self.assertEqual(paths.find(str(self.dir)).checkpoint[-4:], 'b-10')
    self.assertIsNone(paths.find(str(self.dir)).graph)
    self.write('graph.pbtxt', '')
    self.assertEqual(
      paths.find(str(self.dir)).graph, str(self.dir / 'graph.pbtxt')
    )
    self.write('b-10.meta', b'')
    self.assertEqual(
      paths.find(str(self.dir)).graph, str(self.dir / 'b-10.meta')
    )

  def test_a_state_file_of_nonsense_takes_no_time(self):
    """A megabyte of line ends, or of names that are cut off: minutes before."""
    self.write('a-9.index', b'')
    for text in ('\n' * (1 << 20), 'model_checkpoint_path: "' * 43000):
      self.write('checkpoint', text)
      begin = time.process_time()
      self.assertEqual(paths.find(str(self.dir)).checkpoint[-3:], 'a-9')
      self.assertLess(time.process_time() - begin, 5)

  def test_diagnose_takes_a_checkpoint_and_a_graph_of_another_form(self):
    graph = self.write(
      'graph.pbtxt', text_format.MessageToString(self.meta_graph.graph_def)
    )
    for arguments, values in (
      ([self.saved.prefix], {}),
      ([self.saved.meta], {}),
      ([graph], dict(checkpoint=self.saved.prefix)),
    ):
      with self.subTest(str(arguments)):
        _, text = run(
          'diagnose',
          *arguments,
          feed='tests.doctor.commands_test:good_feed',
          format='json',
          **values,
        )
        self.assertEqual(json.loads(text)['layers'][0]['batches'], 7)

  def test_what_is_no_graph_is_named(self):
    for name, data, pattern in (
      ('model.h5', b'\x89HDF\r\n\x1a\n', 'HDF5 file of Keras.*Saver'),
      ('model.keras', b'PK\3\4...', 'zip archive, such as .keras.*Saver'),
      ('weights.npz', b'PK\3\4...', 'zip archive.*give a .meta'),
      ('model.tflite', b'\x1c\0\0\0TFL3', 'TensorFlow Lite'),
      ('a.gz', b'\x1f\x8b\x08', 'gzip; unpack'),
      ('empty', b'', 'an empty file'),
      ('labels.pbtxt', 'item {\n  id: 1\n}\n', 'a text, and no graph'),
      ('broken.pbtxt', 'node {\n  nam: \n', 'text of a GraphDef, or a damaged'),
      ('noise', b'\xff' * 100, 'not a MetaGraphDef or GraphDef'),
      (
        'events.out.tfevents.1.a',
        record(file_version='brain.Event:2'),
        'event file without a graph',
      ),
    ):
      with self.subTest(name):
        self.refused(self.write(name, data), pattern)
    library = tf.GraphDef()
    library.library.function.add().signature.name = 'f'
    for name, data in (
      ('functions.pb', library.SerializeToString()),
      (
        'saved_model.pb',
        b'\x08\x01'
        + b'\x12%c' % (2 + library.ByteSize())
        + b'\x12%c' % library.ByteSize()
        + library.SerializeToString(),
      ),
    ):
      self.refused(self.write(name, data), 'functions of TensorFlow 2 only')

  def test_pipes_and_directories_are_refused_at_once(self):
    os.mkfifo(self.dir / 'pipe')
    self.refused(self.dir / 'pipe', 'not a file')
    (self.dir / 'empty').mkdir()
    self.refused(self.dir / 'empty', 'a directory without')
    self.refused(self.dir / 'nil', 'No such file')
    self.refused('/dev/zero', 'not a file')

  def test_a_file_that_is_too_large_is_not_read(self):
    path = self.write('big.meta', b'\n\0')
    os.truncate(path, decoding.MAX_BYTES + 1)
    self.refused(path, 'bytes; at most')

  def test_several_at_once(self):
    healthy = self.dir / 'healthy'
    healthy.mkdir()
    good = small_graphs.save(healthy, commands_test.placeholder).meta
    bad, broken = self.saved.meta, self.write('broken', b'\xff')
    self.assertEqual(run('lint', good, good)[0], 0)
    code, text = run('lint', good, bad)
    self.assertEqual(code, 1)
    self.assertIn(good + ':\n', text)
    self.assertEqual(run('lint', bad, broken)[0], 2)
    self.assertLen(run('lint', good, bad, format='json')[1].splitlines(), 2)

  # Output.

  def test_the_first_line_is_what_was_seen(self):
    _, text = run('lint', self.saved.meta)
    self.assertEqual(
      text.splitlines()[0],
      '1 layer: 1 by the batch; 0 of 2 updates run; train op: '
      + json.loads(run('lint', self.saved.meta, format='json')[1])['train_ops'][
        0
      ],
    )

  def test_findings_can_be_left_out_or_taken_for_errors(self):
    meta = self.saved.meta
    self.assertEqual(run('lint', meta, ignore='updates-not-run')[0], 0)
    with self.assertRaisesRegex(UserError, '--ignore=nil: no such code'):
      run('lint', meta, ignore='nil')
    warned = self.dir / 'warned.meta'
    with tf.Graph().as_default():
      small_graphs.train(
        tf.layers.batch_normalization(tf.placeholder(tf.float32, [None, 4]))
      )
      tf.train.export_meta_graph(str(warned))
    self.assertEqual(self.found(warned), ['frozen-or-forgotten'])
    self.assertEqual(run('lint', warned, fail_on='warning')[0], 1)

  def test_annotations_of_github(self):
    _, text = run('lint', self.saved.meta, format='github')
    (line,) = text.splitlines()
    self.assertStartsWith(
      line, '::error file=%s,title=updates-not-run::' % self.saved.meta
    )
    finding = lint.check(self.saved.meta).findings[0]
    made = finding._replace(places=('a,b.py:7',), detail='50%\n')
    line = reports.github(
      [('x', lint.check(self.saved.meta)._replace(findings=[made]))]
    )
    self.assertIn('file=a%2Cb.py,line=7,title', line)
    self.assertIn('(50%25%0A)', line)

  def test_sarif(self):
    log = json.loads(run('lint', self.saved.meta, format='sarif')[1])
    self.assertEqual(log['version'], '2.1.0')
    (results,) = [part['results'] for part in log['runs']]
    rules = log['runs'][0]['tool']['driver']['rules']
    self.assertEqual([r['id'] for r in rules], ['updates-not-run'])
    self.assertEqual(results[0]['level'], 'error')
    self.assertEqual(rules[results[0]['ruleIndex']]['id'], 'updates-not-run')
    place = results[0]['locations'][0]
    self.assertEqual(
      place['physicalLocation']['artifactLocation']['uri'], self.saved.meta
    )
    self.assertIn(
      {'fullyQualifiedName': 'bn/moving_mean'}, place['logicalLocations']
    )
    self.assertContainsSubset(
      {kind.severity for kind in kinds.KINDS.values()}, {'error', 'warning'}
    )


class NothingRunsTest(absltest.TestCase):
  """Graphs that TensorFlow's own inference of shapes would fall for."""

  def refuse(self, graph_def, pattern):
    path = os.path.join(self.create_tempdir().full_path, 'graph.pb')
    with open(path, 'wb') as f:
      f.write(graph_def.SerializeToString())
    with self.assertRaisesRegex(UserError, pattern):
      lint.check(path)

  def test_files_that_a_graph_names_are_not_opened(self):
    pipe = os.path.join(self.create_tempdir().full_path, 'pipe')
    os.mkfifo(pipe)  # Who opens it waits for ever.
    graph_def = tf.GraphDef()
    for name, op, inputs in (
      ('path', 'Const', []),
      ('bytes', 'ReadFile', ['path']),
      ('size', 'DecodeRaw', ['bytes']),
      ('value', 'Const', []),
      ('fill', 'Fill', ['size', 'value']),
    ):
      graph_def.node.add(name=name, op=op, input=inputs)
    graph_def.node[0].attr['value'].tensor.CopyFrom(tf.make_tensor_proto(pipe))
    graph_def.node[2].attr['out_type'].type = tf.int32.as_datatype_enum
    graph_def.node[3].attr['value'].tensor.CopyFrom(tf.make_tensor_proto(1.0))
    self.refuse(graph_def, 'no batch normalisation')

  def test_constants_take_no_more_than_their_bytes(self):
    with tf.Graph().as_default() as graph:
      x = tf.placeholder(tf.float32, [4, 3])
      tf.sqrt(tf.constant(1.0) + tf.reduce_mean(x, 0))
    graph_def = graph.as_graph_def()
    for node in graph_def.node:
      if node.op == 'Const':
        shape = node.attr['value'].tensor.tensor_shape
        shape.ClearField('dim')
        shape.dim.add(size=3 << 30)
    self.refuse(graph_def, 'no batch normalisation')
    for node in graph_def.node:
      if node.attr['value'].tensor.float_val:
        node.attr['value'].tensor.float_val.append(1.0)
    self.refuse(graph_def, 'damaged graph: .*3221225472 values')

  def test_functions_that_call_functions(self):
    for names, last, pattern in (
      ('f', 'f', 'functions more than 32 deep, or themselves'),
      ('abcdefghijklmnopqrstu', 'NoOp', 'unfold to more than'),
    ):
      graph_def = tf.GraphDef()
      for name, callee in zip(names, [*names[1:], last]):
        function = graph_def.library.function.add()
        function.signature.name = name
        for k in range(2):
          function.node_def.add(name='n%d' % k, op=callee)
      graph_def.node.add(name='call', op=names[0])
      self.refuse(graph_def, pattern)


if __name__ == '__main__':
  absltest.main()
