"""doctor/measure/diagnosis.py: an ailment a graph; nothing that it changes."""

import functools
import json
import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.measure import diagnosis
from graph_resnet9.doctor.measure import probing
from graph_resnet9.doctor.measure import recalibration
from graph_resnet9.doctor.measure import verdicts
from tests import helpers
from tests.doctor import small_graphs

CLASSES = 7


def layer(x, training=True, name='bn', **how):
  with tf.variable_scope('net'):
    return tf.layers.batch_normalization(x, training=training, name=name, **how)


def in_place(norm):
  """Two layers: what is measured, the second's input, waits for updates."""
  norm = functools.partial(norm, in_place=True)
  return lambda x: norm(norm(x, name='one'), name='two')


IN_PLACE = {
  'by_hand': in_place(small_graphs.by_hand),
  'debiased': in_place(small_graphs.debiased),
}


class DiagnosisTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.create_tempdir().full_path)
    # Of each class ten examples, sorted as they lie in a file.
    self.labels = np.repeat(np.arange(CLASSES), 10)
    self.sorted = small_graphs.examples(4, 4, 3) + (
      2 * self.labels[:, None, None, None].astype(np.float32)
    )
    self.mixed = np.random.RandomState(1).permutation(self.sorted)
    self.rows = self.sorted.reshape(-1, 3).astype(np.float64)

  def save(self, values, norm=layer, batch_size=10, stored=None, **how):
    """A training graph whose layer has stored (mean, variance)."""

    def build():
      small_graphs.train(norm(small_graphs.queue(values, batch_size)))

    mean, variance = stored or (self.rows.mean(0), self.rows.var(0))
    return small_graphs.save(
      self.dir,
      build,
      {'moving_mean': mean, 'moving_variance': variance},
      **{'step': 500, **how},
    )

  def diagnose(self, *args, **how):
    saved = self.save(*args, **how)
    return diagnosis.diagnose(saved.runnable(), saved.prefix, 50)

  def assert_codes(self, result, *expected):
    self.assertEqual([v.code for v in result.verdicts], list(expected))

  # What ails it.

  def test_healthy(self):
    result = self.diagnose(self.mixed)
    self.assert_codes(result, 'healthy')
    self.assertTrue(result.healthy)

  def test_updates_never_ran(self):
    self.assert_codes(
      self.diagnose(self.mixed, stored=(0, 1)), 'updates-never-ran'
    )

  def test_too_few_steps(self):
    left = 0.99**20
    mean, variance = self.rows.mean(0), self.rows.var(0)
    result = self.diagnose(
      self.mixed,
      step=20,
      stored=((1 - left) * mean, left + (1 - left) * variance),
    )
    self.assert_codes(result, 'too-few-steps')
    self.assertAlmostEqual(result.records[0].initial_share, left, places=6)

  def test_batches_not_mixed(self):
    self.assert_codes(self.diagnose(self.sorted), 'batches-not-mixed')

  def test_uniform_batches(self):
    values = np.repeat(self.sorted[::10], 10, 0)
    result = self.diagnose(values)
    self.assertIn('batches-not-mixed', [v.code for v in result.verdicts])
    self.assertLen(result.records[0].calls[0], CLASSES)

  def test_batch_of_one(self):
    self.assert_codes(
      self.diagnose(self.mixed, batch_size=1), 'batch-too-small'
    )

  @parameterized.parameters(5, -5)
  def test_data_differ(self, shift):
    self.assert_codes(
      self.diagnose(self.mixed + np.float32(shift)), 'data-differ'
    )

  def test_calls_differ(self):
    def twice(x):
      y = layer(x)
      with tf.variable_scope(tf.get_variable_scope(), reuse=True):
        return y + layer(2 * x + 10)

    result = self.diagnose(self.mixed, twice)
    self.assert_codes(result, 'calls-differ')
    self.assertLen(result.records[0].calls, 2)

  @parameterized.product(resource=[True, False], stored=[(0, 1), (-20, 3)])
  def test_recalibration_heals(self, resource, stored):
    saved = self.save(
      self.mixed,
      lambda x: layer(layer(x), name='second'),
      stored=stored,
      resource=resource,
    )
    cured = str(self.dir / 'cured')
    recalibration.recalibrate(
      saved.runnable(), saved.prefix, cured, 50, held_out=0
    )
    before = diagnosis.diagnose(saved.runnable(), saved.prefix, 50)
    after = diagnosis.diagnose(saved.runnable(), cured, 50)
    self.assertFalse(before.healthy)
    self.assert_codes(after, 'healthy')

  def test_frozen_layer_is_measured_too(self):
    def half_frozen(x):
      return layer(layer(x, training=False, name='frozen'))

    result = self.diagnose(self.mixed, half_frozen)
    self.assertEqual([r.name for r in result.records], ['net/frozen', 'net/bn'])
    self.assertLess(result.records[0].mean_gap, 1e-5)

  # The figures.

  def test_figures_are_those_of_numpy(self):
    result = self.diagnose(self.mixed, stored=(1, 9))
    (record,) = result.records
    mean, variance = self.rows.mean(0), self.rows.var(0, ddof=1) + 1e-3
    self.assertAlmostEqual(
      record.mean_gap, np.sqrt(((1 - mean) ** 2 / variance).mean())
    )
    self.assertAlmostEqual(record.variance_ratio, np.median(9.001 / variance))
    means = self.mixed.reshape(7, -1, 3).astype(np.float64).mean(1)
    self.assertAlmostEqual(
      record.share_between_batches,
      (means.var(0, ddof=1) / self.rows.var(0)).mean(),
      places=6,
    )
    self.assertEqual(
      (result.step, record.batches, record.batch_size), (500, 7, 10)
    )

  def test_count_is_a_limit(self):
    saved = self.save(self.mixed)
    result = diagnosis.diagnose(saved.runnable(), saved.prefix, 3)
    self.assertEqual(result.records[0].batches, 3)

  # Nothing changes.

  @parameterized.product(norm=list(IN_PLACE), resource=[True, False])
  def test_session_keeps_its_variables(self, norm, resource):
    saved = self.save(self.mixed, IN_PLACE[norm], resource=resource)
    runnable = saved.runnable()
    tapped = probing.of_layers(runnable)
    with runnable.graph.as_default(), tf.Session() as session:
      session.run(
        [tf.global_variables_initializer(), tf.local_variables_initializer()]
      )
      names = [v.op.name for v in tf.global_variables()]
      before = [np.copy(v) for v in session.run(tf.global_variables())]
      tf.train.start_queue_runners(session)
      result = diagnosis.examine(session, runnable, tapped, 50)
      after = session.run(tf.global_variables())
    self.assertEqual(result.records[0].batches, 7)
    for name, one, other in zip(names, before, after):
      np.testing.assert_array_equal(one, other, name)

  def test_session_need_not_be_the_default_one(self):
    saved = self.save(self.mixed, IN_PLACE['by_hand'])
    runnable = saved.runnable(lambda: [{'batch:0': self.mixed}] * 2)
    tapped = probing.of_layers(runnable)
    session = tf.Session(graph=runnable.graph)
    session.run(
      [
        v.initializer
        for v in runnable.graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)
      ]
    )
    result = diagnosis.examine(session, runnable, tapped, 2)
    self.assertEqual(result.records[0].batch_size, small_graphs.EXAMPLES)

  @parameterized.parameters(*IN_PLACE)
  def test_files_stay_as_they_are(self, norm):
    saved = self.save(self.mixed, IN_PLACE[norm])
    before = saved.files()
    diagnosis.diagnose(saved.runnable(), saved.prefix, 50)
    self.assertEqual(saved.files(), before)

  def test_recalibration_takes_updates_in_place_back(self):
    saved = self.save(self.mixed, IN_PLACE['by_hand'])
    recalibration.recalibrate(
      saved.runnable(), saved.prefix, str(self.dir / 'new'), 50, held_out=0
    )
    self.assertEqual(
      helpers.differing(saved.prefix, self.dir / 'new'),
      ['one/pop_mean', 'one/pop_var', 'two/pop_mean', 'two/pop_var'],
    )

  # How it is shown.

  def test_json_is_one_line_of_all_figures(self):
    line = diagnosis.to_json(self.diagnose(self.sorted), [])
    self.assertLen(line.splitlines(), 1)
    result = json.loads(line)
    self.assertEqual(result['verdicts'][0]['layers'], ['net/bn'])
    self.assertEqual(result['layers'][0]['batches'], 7)
    self.assertFalse(result['healthy'])

  @parameterized.parameters(np.nan, np.inf)
  def test_json_has_no_nan(self, bad):
    result = self.diagnose(self.mixed, stored=(bad, 1))
    self.assert_codes(result, 'statistics-not-finite')
    for line in (
      diagnosis.to_json(result, [dict(statistics='x', loss=bad)]),
      diagnosis.to_json(result, []),
    ):
      parsed = json.loads(
        line, parse_constant=lambda name: self.fail('holds ' + name)
      )
    self.assertIsNone(parsed['layers'][0]['mean_gap'])
    self.assertFalse(parsed['healthy'])
    diagnosis.draw(str(self.dir / 'layers.png'), result, 'a checkpoint')

  def test_what_is_not_measured_is_said(self):
    def with_loop(x):
      y = layer(x)
      with tf.variable_scope('net', reuse=False):
        tf.while_loop(
          lambda z: tf.reduce_sum(z) < 1,
          lambda z: tf.layers.batch_normalization(
            2 * z, training=True, name='looped'
          ),
          [y],
        )
      return y

    with tf.Graph().as_default():
      saved = self.save(self.mixed, with_loop)
    result = diagnosis.diagnose(saved.runnable(), saved.prefix, 50)
    self.assertEqual(result.layers, 2)
    self.assertFalse(result.healthy)
    text = diagnosis.table(result, [])
    self.assertIn('1 of 2 layers measured', text)
    self.assertIn('not measured: net/looped', text)

  def test_table_names_layers_and_verdicts(self):
    text = diagnosis.table(self.diagnose(self.sorted), [])
    self.assertIn('net/bn', text)
    self.assertIn(
      '1 of 1 layers measured over 7 batches of 10 examples, step 500', text
    )
    self.assertIn('batches-not-mixed: batches are not mixed', text)

  def test_table_says_what_recalibration_gains(self):
    def table(moving, recalibrated):
      healthy = self.diagnose(self.sorted)._replace(
        verdicts=[verdicts.Verdict('healthy', ['net/bn'], '')]
      )
      return diagnosis.table(
        healthy,
        [
          dict(statistics=name, accuracy=accuracy, loss=1.0)
          for name, accuracy in (
            ('moving', moving),
            ('recalibrated', recalibrated),
          )
        ],
      )

    self.assertIn('recalibrate gains 4.0 points', table(0.75, 0.79))
    self.assertNotIn('gains', table(0.785, 0.79))

  def test_picture(self):
    png = self.dir / 'layers.png'
    diagnosis.draw(str(png), self.diagnose(self.sorted), 'a checkpoint')
    self.assertEqual(png.read_bytes()[:4], b'\x89PNG')


if __name__ == '__main__':
  absltest.main()
