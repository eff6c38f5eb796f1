"""doctor/measure/feeds.py: functions of users, batches, phases, messages."""

import itertools
import pathlib
import sys
import types

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.graph import programs
from graph_resnet9.doctor.graph.nodes import GraphView
from graph_resnet9.doctor.graph.nodes import Tensor
from graph_resnet9.doctor.layers.anatomy import Anatomy
from graph_resnet9.doctor.measure import feeds
from graph_resnet9.errors import UserError
from tests.doctor import small_graphs

X = small_graphs.examples(4)[:10]


fake = types.SimpleNamespace


# What --feed may name.


def raises():
  raise KeyError('no such column')


def raises_in_a_library():
  yield {}
  np.split(np.zeros(3), 2)


def raises_without_a_word():
  raise RuntimeError


def refuses():
  raise UserError('--feed: as it is')


NO_FUNCTION = 7


def line_of(function, after):
  """'FILE, line N' so many lines after a function begins."""
  code = function.__code__
  return '%s, line %d' % (code.co_filename, code.co_firstlineno + after)


class FunctionTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.create_tempdir().full_path)
    sys.path.insert(0, str(self.dir))
    self.addCleanup(sys.path.remove, str(self.dir))

  def refused(self, name):
    with self.assertRaises(UserError) as caught:
      feeds.function(name)
    self.assertLen(str(caught.exception).splitlines(), 1)
    return str(caught.exception)

  def test_it_is_found(self):
    self.assertIs(feeds.function(raises.__module__ + ':raises'), raises)

  def test_what_is_none(self):
    name = __name__ + ':NO_FUNCTION'
    self.assertEqual(self.refused(name), '--feed=%s: not a function' % name)
    for name in ('no_such_module:f', __name__ + ':nil', __name__, ':f', ''):
      said = self.refused(name)
      self.assertStartsWith(said, '--feed=%s: ' % name)
      self.assertEndsWith(said, '; give module:function, importable from here')

  def test_a_module_that_fails_says_where(self):
    path = self.dir / 'feeds_test_fails.py'
    path.write_text('x = {}\n\nx["column"]\n')
    self.assertEqual(
      self.refused('feeds_test_fails:f'),
      "--feed=feeds_test_fails:f: %s, line 3: KeyError: 'column'" % path,
    )

  def test_a_module_that_is_no_python(self):
    (self.dir / 'feeds_test_broken.py').write_text('def f(:\n')
    self.assertIn('SyntaxError', self.refused('feeds_test_broken:f'))


class BatchesTest(parameterized.TestCase):
  def batches(self, build, feed=None, count=9, fetches=None):
    """The Batches of the tensor that build() returns."""
    with tf.Graph().as_default() as graph:
      y = build()
    view = GraphView(graph.as_graph_def())
    runnable = fake(graph=graph, feed=feed, anatomy=fake(view=view, layers=[]))
    with tf.Session(graph=graph) as session:
      return list(
        feeds.batches(
          session,
          runnable,
          (lambda k: y[k]) if fetches else (lambda k: y),
          [view.find(y.op.name)],
          count,
        )
      )

  def double(self):
    return 2 * tf.placeholder(tf.float32, [None], 'x')

  def refused(self, *args, **how):
    with self.assertRaises(UserError) as caught:
      self.batches(*args, **how)
    self.assertLen(str(caught.exception).splitlines(), 1)
    return str(caught.exception)

  @parameterized.parameters('x', 'x:0')
  def test_what_is_fed_is_run(self, name):
    found = self.batches(self.double, lambda: [{name: [1, 2]}, {name: [3]}])
    self.assertEqual([b.values.tolist() for b in found], [[2, 4], [6]])
    self.assertEqual(
      [{k.name: v for k, v in b.feed.items()} for b in found],
      [{'x:0': [1, 2]}, {'x:0': [3]}],
    )

  def test_keys_may_be_tensors_of_another_graph(self):
    with tf.Graph().as_default():
      x = tf.placeholder(tf.float32, [None], 'x')
    (batch,) = self.batches(self.double, lambda: [{x: [4]}])
    self.assertEqual(batch.values, [8])

  def test_no_more_is_drawn_than_asked_for(self):
    drawn = []

    def feed():
      for k in itertools.count():
        drawn.append(k)
        yield {'x': [k]}

    found = self.batches(self.double, feed, count=3)
    self.assertEqual([b.values.tolist() for b in found], [[0], [2], [4]])
    self.assertEqual(drawn, [0, 1, 2])

  def test_the_number_of_a_batch_says_what_is_fetched(self):
    found = self.batches(
      lambda: tf.constant([5, 6, 7, 8]), count=3, fetches=True
    )
    self.assertEqual([b.values for b in found], [5, 6, 7])

  def test_an_input_of_the_graph_ends_by_itself(self):
    def build():
      data = tf.data.Dataset.range(3)
      return tf.data.make_one_shot_iterator(data).get_next()

    self.assertEqual([b.values for b in self.batches(build)], [0, 1, 2])
    self.assertLen(self.batches(build, count=2), 2)

  def test_what_lacks(self):
    def build():
      return (
        self.double()
        + tf.placeholder(tf.float32, [], 'rate')
        + tf.placeholder_with_default(0.0, [], 'default')
      )

    said = "placeholder %s must be fed: --feed=module:function, which yields {'"
    self.assertStartsWith(
      self.refused(build, lambda: [{'x': [1]}]),
      said % 'rate' + "rate': value, ...} for each batch",
    )
    self.assertRegex(
      self.refused(build), r'^placeholder (x, rate|rate, x) must be fed: '
    )
    (batch,) = self.batches(build, lambda: [{'x': [1], 'rate': 2}])
    self.assertEqual(batch.values, [4])

  def test_a_queue_is_fed_or_has_a_runner(self):
    def build():
      queue = tf.FIFOQueue(10, [tf.float32], shapes=[[]])
      return 2 * queue.dequeue(name='example')

    def with_runner():
      tf.train.string_input_producer(['a'])  # A runner, of another queue.
      return build()

    self.assertStartsWith(
      self.refused(build), 'the graph reads from a queue, and has no queue run'
    )
    (batch,) = self.batches(build, lambda: [{'example': 4}])
    self.assertEqual(batch.values, 8)
    with absltest.mock.patch.object(feeds, '_TIMEOUT_SECS', 0.1):
      self.assertStartsWith(
        self.refused(with_runner), 'batch 1: nothing came for 0 seconds; is '
      )
    # A queue that nothing here needs does not matter.
    self.assertLen(self.batches(lambda: (build(), tf.constant(1))[1]), 9)

  def test_a_batch_that_fails_is_numbered(self):
    build = lambda: tf.reshape(self.double(), [-1, 2], name='pairs')
    feed = lambda: [{'x': [1, 2]}, {'x': [1, 2, 3]}]
    said = self.refused(build, feed)
    self.assertStartsWith(said, 'batch 2: pairs: Input to reshape is a tensor')

  def test_functions_that_fail(self):
    for feed, after, what in (
      (raises, 1, "KeyError: 'no such column'"),
      (raises_in_a_library, 2, 'ValueError: array split does not result in'),
    ):
      self.assertStartsWith(
        self.refused(lambda: tf.constant(1), feed),
        '--feed: %s: %s' % (line_of(feed, after), what),
      )
    self.assertEqual(
      self.refused(self.double, raises_without_a_word),
      '--feed: %s: RuntimeError' % line_of(raises_without_a_word, 1),
    )
    self.assertEqual(self.refused(self.double, refuses), '--feed: as it is')

  def test_what_is_no_feed(self):
    for result, expected in (
      (7, '--feed: returns a int; yield a dict a batch'),
      ([7], '--feed: yields a int; give a dict {name of a placeholder: value}'),
      ([{'nil': 1}], "--feed: no tensor 'nil' in the graph"),
      ([{'x:5': 1}], "--feed: no tensor 'x:5' in the graph"),
      ([{7: 1}], "--feed: no tensor '7' in the graph"),
    ):
      self.assertEqual(self.refused(self.double, lambda: result), expected)


PHASES = {
  'placeholder': lambda: tf.placeholder(tf.bool, [], 'phase'),
  'default_false': lambda: tf.placeholder_with_default(False, [], 'phase'),
  'default_true': lambda: tf.placeholder_with_default(True, [], 'phase'),
  'inverted': lambda: tf.logical_not(
    tf.placeholder_with_default(True, [], 'evaluates')
  ),
  'variable': lambda: tf.get_variable(
    'phase', initializer=False, trainable=False
  ),
}


class PhaseTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.mean, self.variance = np.arange(4), np.arange(4) + 2

  def build(self, phase, layers=1, **how):
    """(Runnable, outputs of layers that one phase decides for)."""
    with small_graphs.kind(**how), tf.Graph().as_default() as graph:
      phase = phase and PHASES[phase]()
      self.x = tf.placeholder(tf.float32, [None, 4], 'x')
      outputs = [
        tf.layers.batch_normalization(
          self.x,
          training=True if phase is None else phase,
          moving_mean_initializer=tf.constant_initializer(self.mean),
          moving_variance_initializer=tf.constant_initializer(self.variance),
        )
        for _ in range(layers)
      ]
      self.initial = tf.global_variables_initializer()
    anatomy = Anatomy(programs.of_graph(graph))
    return fake(graph=graph, anatomy=anatomy, feed=None), outputs

  @parameterized.product(
    phase=list(PHASES),
    how=[
      dict(resource=True),
      dict(resource=False),
      dict(functional=True),  # An If takes no ref variables.
    ],
  )
  def test_every_layer_does_as_it_is_told(self, phase, how):
    runnable, outputs = self.build(phase, 2, **how)
    for by_batch, mean, variance in (
      (True, X.mean(0), X.var(0)),
      (False, self.mean, self.variance),
    ):
      feed = feeds.phase(runnable, by_batch)
      self.assertNotEmpty(feed)
      with tf.Session(graph=runnable.graph) as session:
        session.run(self.initial)
        for y in session.run(outputs, {**feed, self.x: X}):
          np.testing.assert_allclose(
            y, (X - mean) / np.sqrt(variance + 1e-3), atol=1e-4
          )

  def test_who_has_no_choice_is_told_nothing(self):
    runnable, _ = self.build(None)
    self.assertEmpty(feeds.phase(runnable, True))
    ((site,),) = [layer.sites for layer in runnable.anatomy.layers]
    self.assertEmpty(feeds.phase_sources(site))
    self.assertEmpty(feeds.fed_choice(site))
    self.assertEmpty(feeds.by_stored(runnable, {}))

  @parameterized.parameters('placeholder', 'default_false', 'default_true')
  def test_who_is_told_to_go_by_what_is_stored(self, phase):
    runnable, _ = self.build(phase)
    tensor = runnable.graph.get_tensor_by_name('phase:0')
    ((site,),) = [layer.sites for layer in runnable.anatomy.layers]
    self.assertEqual(feeds.by_stored(runnable, {tensor: False}), [site])
    self.assertEqual(feeds.by_stored(runnable, {tensor: np.array(0)}), [site])
    self.assertEmpty(feeds.by_stored(runnable, {tensor: True}))
    self.assertEmpty(feeds.by_stored(runnable, {}))
    self.assertEqual(
      [t.node.name for t in feeds.phase_sources(site)], ['phase']
    )

  def test_the_tensor_of_a_node(self):
    runnable, _ = self.build(None)
    node = runnable.anatomy.view.find('x')
    self.assertIs(feeds.tensor_of(runnable.graph, Tensor(node, 0)), self.x)
    self.assertIsNone(feeds.tensor_of(runnable.graph, Tensor(node, 1)))
    inner = fake(name='call/inner')
    self.assertIsNone(feeds.tensor_of(runnable.graph, Tensor(inner, 0)))


FAILED = "Graph execution error:\n\nDetected at node 'a/b' defined at:\n"


class LineTest(parameterized.TestCase):
  @parameterized.parameters(
    # TensorFlow 2.
    (
      FAILED + "Node: 'a/b'\n15 values\n\t [[{{node a/b}}]]\n",
      'a/b: 15 values',
    ),
    (
      FAILED + "Node: 'a/b'\nNode: 'c'\n2 root errors\n(0) 15 values\n",
      'c: 2 root errors',
    ),
    (
      'Graph execution error:\n15 values\n\t [[{{node a/b}}]]',
      'a/b: 15 values',
    ),
    # What is not of a session that failed says it at once.
    ('15 values\nmore\n\t [[{{node a/b}}]]', '15 values'),
    ("15 values\nNode: 'a/b'\nmore", '15 values'),
    # TensorFlow 1.15.
    (
      'words\n15 values\n\t [[node a/b (defined at /n.py:3) ]]\nmore',
      'a/b: 15 values',
    ),
    ('one line', 'one line'),
    ('Graph execution error:', 'Graph execution error:'),
    ('', ''),
  )
  def test_the_line_that_says_what_is_wrong(self, message, expected):
    self.assertEqual(feeds.line(ValueError(message)), expected)
    self.assertEqual(
      feeds.line(tf.errors.InvalidArgumentError(None, None, message)), expected
    )


if __name__ == '__main__':
  absltest.main()
