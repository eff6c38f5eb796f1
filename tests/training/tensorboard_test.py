"""What a training writes for TensorBoard, read from its event files."""

import pathlib
import tempfile
import types
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.evaluation import evaluate
from graph_resnet9.inputs import dataset
from graph_resnet9.model import layers
from graph_resnet9.training import graph as training_graph
from graph_resnet9.training import rows
from graph_resnet9.training import tensorboard
from tests import helpers

MEAN_COLOUR = 125, 123, 114  # Of the CIFAR-10 training images, rounded.
EPSILON = 1e-5  # Of batch normalisation.


def events(train_dir):
  return [
    event
    for path in sorted(pathlib.Path(train_dir).glob('events*'))
    for event in tf.train.summary_iterator(str(path))
  ]


def values(train_dir):
  """{tag: {step: tf.Summary.Value}} of the event files."""
  found = {}
  for event in events(train_dir):
    for value in event.summary.value:
      found.setdefault(value.tag, {})[event.step] = value
  return found


def scalars(of_tag):
  return {step: value.simple_value for step, value in of_tag.items()}


def tiles(value):
  """The 32 x 32 images of a grid, row by row: [images, 32, 32, 3] uint8."""
  with tf.Graph().as_default(), tf.Session() as session:
    pixels = session.run(tf.image.decode_png(value.image.encoded_image_string))
  side = len(pixels) // 32
  return np.array(
    [
      pixels[32 * row : 32 * row + 32, 32 * column : 32 * column + 32]
      for row in range(side)
      for column in range(side)
    ]
  )


class RunTest(absltest.TestCase):
  """The event files of runs."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.scratch = tempfile.TemporaryDirectory()
    cls.addClassCleanup(cls.scratch.cleanup)
    cls.trained = {}

  def run_of(self, hooks=(), **flags):
    """(train_dir, values) of 6 epochs of 8 steps; each set of flags once."""
    key = repr(sorted(flags.items()))
    if key not in self.trained:
      folder = pathlib.Path(self.scratch.name) / str(len(self.trained))
      helpers.train(folder, hooks, **{**dict(epochs=6), **flags})
      self.trained[key] = folder, values(folder)
    return self.trained[key]

  def test_scalars_are_written_every_20_steps(self):
    _, found = self.run_of()
    for tag in ('train/loss', 'train/accuracy', 'train/learning_rate'):
      self.assertEqual(list(found[tag]), [1, 21, 41], tag)
    np.testing.assert_allclose(
      list(scalars(found['train/learning_rate']).values()),
      np.interp([1 / 8, 21 / 8, 41 / 8], [0, 6 * 5 / 24, 6], [0, 0.4, 0]),
      rtol=1e-5,
    )

  def test_rows_of_epochs_are_written_as_they_are(self):
    folder, found = self.run_of()
    epochs = rows.read_rows(str(folder))
    self.assertEqual([row.step for row in epochs], [8, 16, 24, 32, 40, 48])
    for name in rows.Row._fields:
      if name in ('epoch', 'step', 'dataset'):
        self.assertNotIn('epoch/' + name, found)
        continue
      written = scalars(found['epoch/' + name])
      self.assertEqual(
        written, {row.step: np.float32(getattr(row, name)) for row in epochs}
      )
    np.testing.assert_allclose(
      list(scalars(found['epoch/images_per_sec']).values()),
      [8 * 32 / row.train_secs for row in epochs],
      rtol=1e-6,
    )

  def test_session_says_once_that_it_starts(self):
    """Of all before a start TensorBoard drops what is not of earlier steps."""
    folder, _ = self.run_of()
    starts = [
      event.step
      for event in events(folder)
      if event.session_log.status == tf.SessionLog.START
    ]
    self.assertEqual(starts, [1])

  def test_images_per_sec_are_of_the_steps_alone(self):
    """By a clock in which a step takes a second, and all else much longer."""
    clock = types.SimpleNamespace(now=0.0)

    def read():
      clock.now += 1
      return clock.now

    def slow(test):
      def tested(*args):
        clock.now += 1000
        return test(*args)

      return tested

    class SlowPlanning(tf.train.SessionRunHook):
      steps = 0

      def before_run(self, run_context):
        self.steps += 1
        if self.steps <= 2:
          clock.now += 1000

    tested = evaluate.BesideTraining.run
    with (
      mock.patch.object(
        tensorboard, 'time', types.SimpleNamespace(perf_counter=read)
      ),
      mock.patch.object(evaluate.BesideTraining, 'run', slow(tested)),
    ):
      _, found = self.run_of([SlowPlanning()], seed=1)
    self.assertEqual(
      scalars(found['train/images_per_sec']), {22: 32.0, 42: 32.0}
    )

  def test_first_images_are_those_of_the_data_set(self):
    _, found = self.run_of(
      epochs=0.25, pad=0, flip=False, cutout=0, shuffle='none'
    )
    images = dataset.load(dataset.find('synthetic'), 'train', 16).images
    self.assertEqual(list(found['train/images/image']), [1])
    np.testing.assert_array_equal(tiles(found['train/images/image'][1]), images)

  def test_images_show_the_hole_of_cutout(self):
    _, found = self.run_of()
    shown = tiles(found['train/images/image'][1])
    self.assertLen(shown, 16)
    for image in shown:
      hole = (image == MEAN_COLOUR).all(-1)
      windows = np.lib.stride_tricks.sliding_window_view(hole, (8, 8))
      self.assertTrue(windows.all((2, 3)).any())

  def test_images_and_histograms_come_once_an_epoch(self):
    """With every 20th step, the first of a session and of each epoch."""
    for run, steps in (
      (self.run_of(), [1, 21, 41]),  # 8 steps an epoch.
      (self.run_of(train_examples=320, batch_size=8, epochs=2), [1, 41]),
    ):
      _, found = run
      tags = [
        tag for tag in found if tag.startswith(('weights/', 'statistics/'))
      ]
      self.assertLen(tags, 25 + 16)
      for tag in tags + ['train/images/image']:
        self.assertEqual(list(found[tag]), steps, tag)

  def test_histograms_are_of_the_weights_that_the_step_began_with(self):
    folder, _, _ = helpers.finished_run()
    initial = helpers.weights(folder / 'model.ckpt-0')
    found = values(folder)
    for tag in found:
      if tag.startswith(('weights/', 'statistics/')):
        with self.subTest(tag=tag):
          weights = initial[tag.partition('/')[2]].astype(np.float64)
          histogram = found[tag][1].histo
          self.assertEqual(histogram.num, weights.size)
          np.testing.assert_allclose(
            [
              histogram.min,
              histogram.max,
              histogram.sum,
              histogram.sum_squares,
            ],
            [weights.min(), weights.max(), weights.sum(), (weights**2).sum()],
            rtol=1e-5,
            atol=1e-5,
          )

  def test_gap_closes_when_the_updates_run_and_stays_when_not(self):
    flags = dict(epochs=10, lr_values='0,.05,0')
    for run, closes in (
      (self.run_of(**flags), True),
      (self.run_of(update_ops='none', **flags), False),
    ):
      _, found = run
      means, variances = (
        [scalars(found[tag]) for tag in found if tag.startswith(prefix)]
        for prefix in ('gap_mean/', 'gap_variance/')
      )
      self.assertLen(means, 8)
      self.assertLen(variances, 8)
      for mean, variance in zip(means, variances):
        self.assertGreater(variance[1], 1)  # Stored: 0 and 1, for both.
        self.assertEqual(mean[61] < 0.25 and variance[61] < 0.6, closes)


class GapTest(parameterized.TestCase):
  """The gap of every layer against NumPy, from the inputs of the layer."""

  def tensors(self, graph):
    """{layer: inputs of its kernel calls} in training, by graph edges."""
    found = {}
    for op in graph.get_operations():
      if op.type == 'FusedBatchNormV3' and op.get_attr('is_training'):
        gamma = op.inputs[1].op.inputs[0].op.name
        found.setdefault(gamma.rpartition('/')[0], []).append(op.inputs[0])
    return found

  @parameterized.parameters(
    {},
    dict(ghost_batch=8),
    dict(precision='bfloat16'),
    dict(precision='float16'),
    dict(update_ops='none'),
  )
  def test_gap_is_that_of_numpy_before_the_update(self, **flags):
    with tf.Graph().as_default() as graph:
      built = helpers.built(**flags)
      tensorboard.add(built, EPSILON)
      inputs = self.tensors(graph)
      self.assertLen(inputs, 8)
      stored = {
        v.op.name: v
        for v in tf.global_variables()
        if v.op.name.startswith(tuple(inputs))
      }
      merged = tf.summary.merge_all()
      with tf.train.MonitoredSession(
        tf.train.ChiefSessionCreator(
          tf.train.Scaffold(local_init_feed_dict=built.feed)
        )
      ) as session:
        for _ in range(3):
          session.run(built.train_op)
        before = session.run(stored)
        _, text, x = session.run((built.train_op, merged, inputs))
        after = session.run(stored)
    shown = {
      value.tag: value.simple_value
      for value in tf.Summary.FromString(text).value
    }
    for layer, groups in x.items():
      groups = [g.astype(np.float64).reshape(-1, g.shape[-1]) for g in groups]
      mean = np.mean([g.mean(0) for g in groups], 0)
      variance = np.mean([g.var(0, ddof=1) for g in groups], 0) + EPSILON
      moving_mean = before[layer + '/moving_mean']
      moving_variance = before[layer + '/moving_variance'] + EPSILON
      np.testing.assert_allclose(
        shown['gap_mean/' + layer],
        np.sqrt(((moving_mean - mean) ** 2 / variance).mean()),
        rtol=1e-3,
      )
      np.testing.assert_allclose(
        shown['gap_variance/' + layer],
        np.sqrt((np.log2(moving_variance / variance) ** 2).mean()),
        rtol=1e-3,
      )
      updated = flags.get('update_ops') != 'none'
      self.assertEqual(
        updated,
        np.any(after[layer + '/moving_mean'] != before[layer + '/moving_mean']),
      )
      if not updated:
        self.assertEqual(set(moving_mean), {0.0})

  def test_summaries_alone_change_no_variable(self):
    with tf.Graph().as_default():
      built = helpers.built()
      tensorboard.add(built, EPSILON)
      everything = [
        tf.summary.merge_all(),
        tf.summary.merge_all(tensorboard.EPOCH_SUMMARIES),
      ]
      variables = tf.global_variables()
      with tf.train.MonitoredSession(
        tf.train.ChiefSessionCreator(
          tf.train.Scaffold(local_init_feed_dict=built.feed)
        )
      ) as session:
        session.run(built.train_op)
        before = session.run(variables)
        session.run(everything)
        for was, now in zip(before, session.run(variables)):
          np.testing.assert_array_equal(was, now)

  def test_other_update_is_left_out_with_a_warning(self):
    """A training does not end for a picture."""
    with tf.Graph().as_default(), tf.variable_scope('', use_resource=True):
      variable = tf.get_variable('count', [2])
      tf.add_to_collection(
        tf.GraphKeys.UPDATE_OPS,
        variable.assign_sub(tf.square(variable), read_value=False),
      )
      with self.assertLogs('absl', level='WARNING') as logs:
        self.assertEqual(tensorboard.gaps(EPSILON), {})
    self.assertIn('no gap in TensorBoard: Assign', logs.output[0])

  def test_gaps_of_batch_norm_that_is_not_fused(self):
    """Like those of the fused kernel, whose variance is the unbiased one."""
    shown = []
    for fused in (True, False):
      with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(1)
        layers.batch_norm(
          tf.constant(
            np.random.RandomState(0).normal(3, 2, [64, 8, 8, 5]), tf.float32
          ),
          training=True,
          fused=fused,
        )
        gaps = tensorboard.gaps(EPSILON)
        session.run(tf.global_variables_initializer())
        shown.append(session.run(gaps))
    np.testing.assert_allclose(shown[0]['bn'], shown[1]['bn'], rtol=1e-3)


class WeightsTest(absltest.TestCase):
  """Histograms of weights that no tiny run has."""

  def histogram(self, weights):
    with tf.Graph().as_default(), tf.variable_scope('', use_resource=True):
      zero = tf.constant(0.0)
      loss = tf.reduce_sum(tf.get_variable('w', initializer=weights))
      step = dict.fromkeys(training_graph.Step._fields)
      step.update(loss=loss, accuracy=zero, learning_rate=zero)
      step.update(images=tf.zeros([4, 32, 32, 3]))
      tensorboard.add(training_graph.Step(**step), EPSILON)
      with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        text = session.run(tf.summary.merge_all(tensorboard.EPOCH_SUMMARIES))
    found = {value.tag: value for value in tf.Summary.FromString(text).value}
    return found['weights/w'].histo

  def test_sample_of_a_large_kernel_meets_every_filter(self):
    filters = np.arange(512, dtype=np.float32)
    histogram = self.histogram(
      np.broadcast_to(filters, [3, 3, 512, 512]).copy()
    )
    self.assertBetween(histogram.num, 2**15, 2**17)
    self.assertEqual((histogram.min, histogram.max), (0, 511))
    self.assertAlmostEqual(histogram.sum / histogram.num, 255.5, delta=0.5)

  def test_sample_meets_every_filter_of_any_number(self):
    """192 filters, as of --width=24, have a factor of 3."""
    for filters in (192, 3, 45):
      each = np.arange(filters, dtype=np.float32)
      size = 3 * 65536 // filters + 1  # So that every third value is taken.
      histogram = self.histogram(np.broadcast_to(each, [size, filters]).copy())
      self.assertEqual((histogram.min, histogram.max), (0, filters - 1))
      self.assertAlmostEqual(
        histogram.sum / histogram.num, (filters - 1) / 2, delta=0.5
      )

  def test_weights_that_are_not_finite_are_no_error(self):
    """So that the guard of the loss can say what has happened."""
    histogram = self.histogram(np.float32([1, np.nan, -2, np.inf]))
    self.assertEqual((histogram.num, histogram.sum), (4, -1))


if __name__ == '__main__':
  absltest.main()
