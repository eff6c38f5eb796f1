"""lint, diagnose, recalibrate: what they print, their exit codes, bad input.

Most of it in this process; a few as a user starts them.
"""

import contextlib
import io
import json
import os
import pathlib
import shutil
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf2
import tensorflow.compat.v1 as tf

from graph_resnet9 import diagnose
from graph_resnet9 import lint
from graph_resnet9 import recalibrate
from graph_resnet9.doctor.measure import feeds
from graph_resnet9.errors import UserError
from tests import helpers
from tests.doctor import small_graphs

COMMANDS = {'lint': lint, 'diagnose': diagnose, 'recalibrate': recalibrate}
VALUES = small_graphs.examples(4)
HERE = 'tests.doctor.commands_test:'


# What --feed names.


def good_feed():
  for batch in np.split(VALUES, 7):
    yield {'x': batch}


def no_dict():
  yield VALUES


def no_iterable():
  return 5


def unknown_tensor():
  yield {'no_such_tensor': VALUES}


def odd_key():
  yield {7: VALUES}


def wrong_shape():
  yield {'x': VALUES[:, :2]}


def wrong_type():
  yield {'x': [['a', 'b', 'c', 'd']]}


def raises():
  yield {'x': VALUES[:10]}
  raise KeyError('no such column')


def nothing():
  return iter(())


# Graphs.


def placeholder():
  small_graphs.train(norm(tf.placeholder(tf.float32, [None, 4], 'x')))


def from_queue():
  small_graphs.train(norm(small_graphs.queue(VALUES, 10, epochs=None)))


def from_files():
  files = tf.train.string_input_producer(['/no/such/file'])
  _, record = tf.FixedLengthRecordReader(16).read(files)
  x = tf.reshape(tf.decode_raw(record, tf.float32), [4])
  small_graphs.train(norm(tf.train.batch([x], 10)))


def without_runners():
  queue = tf.FIFOQueue(100, [tf.float32], shapes=[[4]])
  small_graphs.train(norm(queue.dequeue_many(10)))


def without_batch_norm():
  small_graphs.train(
    tf.layers.dense(tf.placeholder(tf.float32, [None, 4], 'x'), 3)
  )


def forgotten_updates():
  y = norm(tf.placeholder(tf.float32, [None, 4], 'x'))
  tf.get_default_graph().clear_collection(tf.GraphKeys.UPDATE_OPS)
  small_graphs.train(y)


def norm(x):
  return tf.layers.batch_normalization(x, training=True, name='bn')


def run(name, *paths, **values):
  """Runs a command's main in this process; returns (exit code, stdout)."""
  module = COMMANDS[name]
  stdout = io.StringIO()
  with absltest.mock.patch.object(
    module, 'FLAGS', helpers.parsed(module.define_flags, **values)
  ):
    with contextlib.redirect_stdout(stdout):
      code = module.main([str(path) for path in paths])
  return code or 0, stdout.getvalue()


class DoctorTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    scratch = tempfile.mkdtemp()
    cls.scratch = scratch
    cls.kept = {}
    stored = {'moving_mean': VALUES.mean(0), 'moving_variance': VALUES.var(0)}
    for build in (
      placeholder,
      from_queue,
      from_files,
      without_runners,
      without_batch_norm,
      forgotten_updates,
    ):
      folder = os.path.join(scratch, build.__name__)
      os.mkdir(folder)
      cls.kept[build] = small_graphs.save(folder, build, stored, step=500)

  @classmethod
  def tearDownClass(cls):
    shutil.rmtree(cls.scratch)
    super().tearDownClass()

  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.create_tempdir().full_path)

  def saved(self, build):
    """A copy of what was saved, to be damaged."""
    for path in self.kept[build].folder.iterdir():
      shutil.copy(path, self.dir)
    return small_graphs.Saved(str(self.dir / 'model.ckpt'))

  def flags(self, name, saved, **values):
    """All flags that a command needs, and others."""
    values = {'meta_graph': saved.meta, 'checkpoint': saved.prefix, **values}
    if name == 'recalibrate':
      values.setdefault('out', self.dir / 'new')
    return values

  def refuses(self, name, saved, expected, **values):
    """UserError of one line that matches `expected`; no file changes."""
    before = sorted(self.dir.rglob('*')), saved.files()
    with self.assertRaisesRegex(UserError, expected) as caught:
      run(name, **self.flags(name, saved, **values))
    self.assertLen(str(caught.exception).splitlines(), 1)
    self.assertEqual((sorted(self.dir.rglob('*')), saved.files()), before)

  # Meta graphs.

  @parameterized.parameters(*COMMANDS)
  def test_meta_graph_that_is_missing(self, name):
    self.refuses(
      name,
      self.saved(placeholder),
      'no.meta: No such file',
      meta_graph=self.dir / 'no.meta',
    )

  @parameterized.parameters(*COMMANDS)
  def test_meta_graph_that_is_truncated(self, name):
    saved = self.saved(placeholder)
    whole = pathlib.Path(saved.meta).read_bytes()
    for size in (10, len(whole) // 2, len(whole) - 1):
      pathlib.Path(saved.meta).write_bytes(whole[:size])
      self.refuses(name, saved, 'model.ckpt.meta: .*(truncated|no graph)')

  @parameterized.parameters(*COMMANDS)
  def test_collection_that_is_damaged(self, name):
    saved = self.saved(placeholder)
    meta_graph = tf.MetaGraphDef.FromString(
      pathlib.Path(saved.meta).read_bytes()
    )
    meta_graph.collection_def['trainable_variables'].bytes_list.value[0] = (
      b'\xff'
    )
    pathlib.Path(saved.meta).write_bytes(meta_graph.SerializeToString())
    self.refuses(name, saved, 'collections hold no variables')

  @parameterized.parameters(*COMMANDS)
  def test_meta_graph_that_is_another_file(self, name):
    saved = self.saved(placeholder)
    other = self.dir / 'other'
    for content in (b'', b'node {\n  name: "x"\n}\n', b'\xff' * 100):
      other.write_bytes(content)
      self.refuses(
        name,
        saved,
        'other: (not a MetaGraphDef|no graph|an empty file)',
        meta_graph=other,
      )

  @parameterized.parameters(
    (dict(training=False), None),
    (dict(training=True), 'evaluation-by-batch-statistics'),
    (dict(training=False, axis=1), 'gamma-not-channels'),
  )
  def test_lint_takes_a_saved_model(self, values, expected):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float32, [None, 8, 8, 4], 'x')
      y = tf.layers.batch_normalization(tf.layers.conv2d(x, 5, 3), **values)
      session.run(tf.global_variables_initializer())
      builder = tf.saved_model.Builder(str(self.dir / 'model'))
      # is_training=True and data_format='NHWC' are defaults: left out.
      builder.add_meta_graph_and_variables(
        session,
        ['serve'],
        {
          'serving_default': tf.saved_model.predict_signature_def(
            {'x': x}, {'y': y}
          )
        },
        strip_default_attrs=True,
      )
      builder.save()
    for path in ('model', 'model/saved_model.pb'):
      code, text = run('lint', meta_graph=self.dir / path, format='json')
      self.assertEqual(
        [f['code'] for f in json.loads(text)['findings']],
        [expected] if expected else [],
      )
      self.assertEqual(code, bool(expected))

  @absltest.skipIf(tf2.__version__.startswith('1.'), 'TensorFlow 1')
  def test_lint_takes_a_saved_model_of_tensorflow_2(self):
    class Model(tf2.Module):
      """A normalisation by moving statistics, or by those of the batch."""

      def __init__(self, training):
        super().__init__()
        self.training = training
        self.stored = [
          tf2.Variable(tf2.fill([4], k)) for k in (1.0, 0.0, 0.0, 1.0)
        ]

      @tf2.function(input_signature=[tf2.TensorSpec([None, 8, 8, 4])])
      def __call__(self, x):
        gamma, beta, mean, variance = [v.read_value() for v in self.stored]
        return tf.nn.fused_batch_norm(
          x,
          gamma,
          beta,
          *([] if self.training else [mean, variance]),
          is_training=self.training,
        )[0]

    for training, code in ((False, 0), (True, 1)):
      folder = self.dir / str(training)
      tf2.saved_model.save(Model(training), str(folder))
      self.assertEqual(run('lint', meta_graph=folder)[0], code)

  def test_lint_of_a_saved_model_that_is_damaged(self):
    saved = self.saved(placeholder)
    path = self.dir / 'saved_model.pb'
    for content, expected in (
      (b'\x08\x01', 'without a graph for serving'),
      (b'', 'an empty file: no graph'),
      (b'\xff' * 9, 'not a SavedModel, or a truncated'),
    ):
      path.write_bytes(content)
      self.refuses(
        'lint', saved, 'saved_model.pb: .*' + expected, meta_graph=path
      )
      self.refuses(
        'lint', saved, 'saved_model.pb: .*' + expected, meta_graph=self.dir
      )
    path.unlink()
    self.refuses('lint', saved, 'No such file', meta_graph=path)

  @parameterized.parameters('diagnose', 'recalibrate')
  def test_graph_without_batch_norm(self, name):
    self.refuses(
      name,
      self.saved(without_batch_norm),
      'model.ckpt.meta: no batch normalisation',
    )

  # Checkpoints.

  @parameterized.parameters(*COMMANDS)
  def test_checkpoint_that_is_missing(self, name):
    self.refuses(
      name,
      self.saved(placeholder),
      '--checkpoint=.*no such|no',
      checkpoint=self.dir / 'no.ckpt',
    )

  @parameterized.product(
    name=list(COMMANDS),
    part=['.data-00000-of-00001', '.index'],
    size=[0, -5, None],
  )
  def test_checkpoint_that_is_damaged(self, name, part, size):
    saved = self.saved(placeholder)
    path = pathlib.Path(saved.prefix + part)
    content = path.read_bytes()
    path.write_bytes(content[:size])
    if size is None and part == '.index':
      path.write_bytes(bytes(len(content)))
    elif size is None:
      path.unlink()
    self.refuses(name, saved, '--checkpoint=.*damaged')

  @parameterized.parameters(*COMMANDS)
  def test_checkpoint_of_another_graph(self, name):
    saved = self.saved(placeholder)
    self.refuses(
      name,
      saved,
      'the checkpoint of another graph',
      checkpoint=self.kept[without_batch_norm].prefix,
    )

  def test_checkpoint_with_another_number_of_channels(self):
    folder = self.dir / 'wide'
    folder.mkdir()
    wide = small_graphs.save(
      folder,
      lambda: small_graphs.train(
        norm(tf.placeholder(tf.float32, [None, 5], 'x'))
      ),
    )
    for name in COMMANDS:
      self.refuses(
        name,
        self.saved(placeholder),
        r'bn/(gamma|beta) is \[5\] there and \[4\]',
        checkpoint=wide.prefix,
      )

  # Input.

  @parameterized.parameters('diagnose', 'recalibrate')
  def test_files_of_the_input_are_missing(self, name):
    self.refuses(
      name,
      self.saved(from_files),
      'ended before the first batch.*/no/such/file',
    )

  @parameterized.parameters('diagnose', 'recalibrate')
  def test_queue_that_nobody_fills(self, name):
    self.refuses(name, self.saved(without_runners), 'no queue runners.*--feed')

  def test_input_that_never_comes(self):
    def build():
      without_runners()
      tf.train.string_input_producer(['a'])  # A runner, of another queue.

    saved = small_graphs.save(self.dir, build)
    with absltest.mock.patch.object(feeds, '_TIMEOUT_SECS', 0.2):
      self.refuses('recalibrate', saved, 'batch 1: nothing came for')

  @parameterized.parameters('diagnose', 'recalibrate')
  def test_placeholder_that_is_not_fed(self, name):
    self.refuses(
      name,
      self.saved(placeholder),
      r"placeholder x must be fed: --feed=.* {'x': value, ...}",
    )

  @parameterized.parameters(
    ('function', '--feed=function:.*module:function'),
    (':', '--feed=:'),
    ('.a:b', '--feed=.a:b'),
    ('no_such_module:f', "No module named 'no_such_module'"),
    (HERE + 'no_such', "no attribute 'no_such'"),
    (HERE + 'VALUES', 'not a function'),
    (HERE + 'no_dict', 'yields a ndarray; give a dict'),
    (HERE + 'no_iterable', 'returns a int; yield a dict'),
    (HERE + 'unknown_tensor', "no tensor 'no_such_tensor'"),
    (HERE + 'odd_key', "no tensor '7'"),
    (HERE + 'wrong_shape', r'batch 1: .*\(70, 2\).*x:0'),
    (HERE + 'wrong_type', 'batch 1: .*could not convert'),
    (
      HERE + 'raises',
      r"commands_test.py, line \d+: KeyError: 'no such column'",
    ),
    (HERE + 'nothing', 'ended before the first batch'),
  )
  def test_feed(self, feed, expected):
    for name in ('diagnose', 'recalibrate'):
      self.refuses(name, self.saved(placeholder), expected, feed=feed)

  # Ops that this TensorFlow does not know.

  def with_custom_op(self, shapes=True):
    saved = self.saved(placeholder)
    meta_graph = tf.MetaGraphDef.FromString(
      pathlib.Path(saved.meta).read_bytes()
    )
    node = meta_graph.graph_def.node.add(name='custom', op='NoSuchOp')
    node.input.append('x')
    if not shapes:
      for node in meta_graph.graph_def.node:
        node.attr.pop('_output_shapes', None)
    pathlib.Path(saved.meta).write_bytes(meta_graph.SerializeToString())
    return saved

  @parameterized.product(name=['diagnose', 'recalibrate'], shapes=[True, False])
  def test_custom_op_is_named(self, name, shapes):
    self.refuses(
      name,
      self.with_custom_op(shapes),
      'NoSuchOp.*load its library in the module of --feed',
    )

  @parameterized.parameters(True, False)
  def test_lint_needs_no_registered_ops(self, shapes):
    saved = self.with_custom_op(shapes)
    self.assertEqual(run('lint', meta_graph=saved.meta)[0], 0)

  # Results.

  def test_lint_finds_errors(self):
    code, said = run('lint', meta_graph=self.kept[forgotten_updates].meta)
    self.assertEqual(code, 1)
    self.assertIn('updates-not-run', said)

  def test_lint_json_is_one_line(self):
    for build, errors in ((placeholder, False), (forgotten_updates, True)):
      code, said = run('lint', format='json', meta_graph=self.kept[build].meta)
      self.assertEqual(code, int(errors))
      self.assertLen(said.splitlines(), 1)
      json.loads(said)

  def test_diagnose_json_is_one_line(self):
    saved = self.saved(placeholder)
    code, said = run(
      'diagnose',
      json=True,
      feed=HERE + 'good_feed',
      **self.flags('diagnose', saved),
    )
    self.assertLen(said.splitlines(), 1)
    result = json.loads(said)
    self.assertEqual(result['healthy'], code == 0)
    self.assertEqual(result['layers'][0]['batches'], 7)

  def test_meta_graph_is_that_beside_the_checkpoint(self):
    saved = self.saved(from_queue)
    code, said = run(
      'recalibrate', checkpoint=saved.prefix, batches=7, out=self.dir / 'new'
    )
    self.assertEqual(code, 0)
    self.assertEqual(json.loads(said)['batches'], 7)
    np.testing.assert_allclose(
      helpers.weights(self.dir / 'new')['bn/moving_mean'],
      VALUES.mean(0),
      rtol=1e-6,
    )

  def test_fewer_batches_than_asked_for(self):
    saved = self.saved(placeholder)
    _, said = run(
      'recalibrate',
      feed=HERE + 'good_feed',
      batches=1000,
      **self.flags('recalibrate', saved),
    )
    self.assertEqual(json.loads(said)['batches'], 6)

  def test_out_of_recalibrate_exists(self):
    saved = self.saved(from_queue)
    self.refuses(
      'recalibrate', saved, 'exists; give another prefix', out=saved.prefix
    )


class ProcessTest(helpers.CommandTestCase):
  """As a user starts them: exit codes, and all that stdout and stderr hold."""

  error_code = 2

  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.create_tempdir().full_path)

  def save(self, build, **values):
    return small_graphs.save(self.dir, build, values, step=500)

  def test_exit_codes_of_lint(self):
    saved = self.save(forgotten_updates)
    done = helpers.fresh_command('lint', '--meta_graph=' + saved.meta)
    self.assertEqual((done.returncode, done.stderr), (1, ''))
    self.fails(
      helpers.command('lint', '--meta_graph=' + __file__),
      'lint: ',
      'not a MetaGraphDef',
    )

  def test_recalibrate_and_diagnose(self):
    saved = self.save(from_queue)
    out = str(self.dir / 'new')
    done = helpers.command(
      'recalibrate',
      '--checkpoint=' + saved.prefix,
      '--out=' + out,
      '--batches=7',
    )
    self.assertEqual((done.returncode, done.stderr), (0, ''))
    self.assertEqual(
      json.loads(done.stdout),
      dict(
        checkpoint=out,
        source=saved.prefix,
        batches=7,
        held_out=json.loads(done.stdout)['held_out'],
        variables=['bn/moving_mean', 'bn/moving_variance'],
      ),
    )
    held_out = json.loads(done.stdout)['held_out']
    self.assertEqual(held_out['measure'], 'loss')
    self.assertLess(held_out['new'], held_out['stored'])
    done = helpers.command('diagnose', '--checkpoint=' + saved.prefix)
    self.assertEqual((done.returncode, done.stderr), (1, ''))
    self.assertIn('updates-never-ran', done.stdout)

  def test_input_that_fails_is_one_line(self):
    saved = self.save(from_files)
    self.fails(
      helpers.command(
        'recalibrate',
        '--checkpoint=' + saved.prefix,
        '--out=%s' % (self.dir / 'new'),
      ),
      'recalibrate: ',
      '/no/such/file',
    )
    self.assertFalse(list(self.dir.glob('new*')))


if __name__ == '__main__':
  absltest.main()
