"""doctor/lint/saved_statistics.py: checkpoints beside one graph of 3 layers."""

import os
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.graph import programs
from graph_resnet9.doctor.layers.anatomy import Anatomy
from graph_resnet9.doctor.lint import saved_statistics
from graph_resnet9.errors import UserError
from tests import helpers
from tests.doctor import small_graphs

MEAN, VARIANCE = 'bn/moving_mean', 'bn/moving_variance'
FROZEN = ('frozen/moving_mean', 'frozen/moving_variance')
CHOSEN = ('chosen/moving_mean', 'chosen/moving_variance')


def anatomy(training=True):
  """Layers by the batch, by a placeholder and by what is stored."""
  with small_graphs.kind(), tf.Graph().as_default() as graph:
    tf.train.get_or_create_global_step()
    y = tf.placeholder(tf.float32, [32, 4], 'x')
    phase = tf.placeholder(tf.bool, [], 'phase')
    for name, by_batch in (('bn', True), ('chosen', phase), ('frozen', False)):
      y = tf.layers.batch_normalization(
        y, training=training and by_batch, momentum=0.99, name=name
      )
    if training:
      small_graphs.train(y)
  sizes = {
    v.op.name: v.shape.as_list()
    for v in graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)
  }
  return Anatomy(programs.of_graph(graph)), sizes


class CheckpointTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.training, cls.sizes = anatomy()
    cls.evaluation, _ = anatomy(False)

  def prefix(self, step=5000, **values):
    """A checkpoint of .5 everywhere; values: others, None for none."""
    whole = {}
    for name, size in self.sizes.items():
      value = values.get(name, 0.5)
      if value is not None:
        whole[name] = np.broadcast_to(np.float32(value), size)
    whole['global_step'] = np.asarray(step)
    if step is None:
      del whole['global_step']
    folder = tempfile.mkdtemp(dir=self.create_tempdir().full_path)
    prefix = os.path.join(folder, 'ckpt')
    helpers.save_weights(whole, prefix)
    return prefix

  def found(self, step=5000, explained=(), graph=None, **values):
    """[(code, variables, detail)] on a checkpoint."""
    results = saved_statistics.statistics(
      graph or self.training, self.prefix(step, **values), explained
    )
    return [(f.code, f.variables, f.detail) for f in results]

  def test_nothing_to_say(self):
    self.assertEmpty(self.found())
    self.assertEmpty(self.found(graph=self.evaluation))

  # Values that no statistic has.

  @parameterized.parameters(
    ('mean', [1, np.nan, 2, np.inf], '2 of 4 values not finite'),
    ('variance', [1, -np.inf, 2, 3], '1 of 4 values not finite'),
    ('variance', [-1, -2.5, 2, 3], '2 of 4 values below 0, down to -2.5'),
  )
  def test_not_finite_or_negative(self, which, values, text):
    name = 'bn/moving_' + which
    self.assertEqual(
      self.found(**{name: values}),
      [
        ('statistics-not-finite', (name,), '%s, the first of %s' % (text, name))
      ],
    )

  def test_of_several_the_first_is_told(self):
    ((code, variables, detail),) = self.found(
      **{VARIANCE: -1, FROZEN[1]: [1, 1, 1, np.nan]}
    )
    self.assertEqual(code, 'statistics-not-finite')
    self.assertEqual(variables, (VARIANCE, FROZEN[1]))
    self.assertEqual(
      detail, '4 of 4 values below 0, down to -1, the first of ' + VARIANCE
    )

  def test_a_mean_may_be_negative_and_a_variance_0(self):
    self.assertEmpty(self.found(**{MEAN: -1e30, VARIANCE: 0, FROZEN[0]: -1}))

  # Values that are still the initial ones.

  @parameterized.parameters((5000, '5000'), (1, '1'), (None, 'unknown'))
  def test_initial(self, step, text):
    for variance in (0, 1):
      self.assertIn(
        ('statistics-still-initial', (MEAN, VARIANCE), 'step ' + text),
        self.found(step, **{MEAN: 0, VARIANCE: variance}),
      )

  @parameterized.parameters(np.float32(5000), [[5000, 5000]])
  def test_a_step_that_is_no_number_of_steps(self, step):
    self.assertEqual(
      self.found(step, **{MEAN: 0, VARIANCE: 1}),
      [('statistics-still-initial', (MEAN, VARIANCE), 'step unknown')],
    )

  def test_before_the_first_step_they_are_so_by_right(self):
    self.assertEmpty(self.found(0, **{MEAN: 0, VARIANCE: 1}))

  def test_a_part_of_a_layer_may_be_by_right(self):
    self.assertEmpty(self.found(**{MEAN: 0}))
    self.assertEmpty(self.found(**{VARIANCE: 1}))
    self.assertEmpty(self.found(**{MEAN: 0, VARIANCE: [1, 1, 1, 0]}))
    self.assertEmpty(self.found(**{MEAN: 1, VARIANCE: 1}))

  def test_who_evaluates_needs_others(self):
    self.assertEqual(
      self.found(graph=self.evaluation, **{FROZEN[0]: 0, FROZEN[1]: 1}),
      [('statistics-still-initial', FROZEN, 'step 5000')],
    )

  def test_where_no_step_sees_a_batch_training_went_by_them(self):
    for names in (FROZEN, CHOSEN):
      self.assertEqual(
        self.found(**dict(zip(names, (0, 1)))),
        [('never-by-batch', names, 'step 5000')],
      )

  # Values that are not there, or on their way.

  def test_lacking(self):
    self.assertEqual(
      self.found(**{VARIANCE: None, CHOSEN[0]: None}),
      [('checkpoint-lacks-statistics', (VARIANCE, CHOSEN[0]), '')],
    )
    # Of what no step normalises by the batch other rules speak.
    self.assertEmpty(self.found(**{FROZEN[0]: None}))

  @parameterized.parameters((100, '37'), (229, '10'))
  def test_steps_too_few_for_the_decay(self, step, left):
    both = (MEAN, VARIANCE) + CHOSEN
    self.assertEqual(
      self.found(step),
      [
        (
          'decay-too-slow',
          both,
          'decay 0.99, %d steps: %s%% of the initial values are left'
          % (step, left),
        )
      ],
    )
    self.assertEmpty(self.found(230))

  def test_what_other_findings_explain_is_not_told_again(self):
    explained = (MEAN, VARIANCE)
    self.assertEmpty(self.found(explained=explained, **{MEAN: None}))
    self.assertEmpty(self.found(explained=explained, **{MEAN: 0, VARIANCE: 1}))
    ((_, variables, _),) = self.found(100, explained=explained)
    self.assertEqual(variables, CHOSEN)

  # Whose checkpoint it is.

  def refused(self, pattern, prefix):
    with self.assertRaisesRegex(UserError, pattern) as caught:
      saved_statistics.open_reader(prefix, self.training.program)
    self.assertIn('--checkpoint=' + prefix, str(caught.exception))
    self.assertLen(str(caught.exception).splitlines(), 1)

  def test_another_graphs(self):
    self.refused(
      'none of the trainable variables',
      self.prefix(
        **{
          '%s/%s' % (layer, name): None
          for layer in ('bn', 'chosen', 'frozen')
          for name in ('gamma', 'beta')
        }
      ),
    )
    self.sizes = dict(self.sizes, **{'bn/gamma': [5]})
    self.refused(
      r'bn/gamma is \[5\] there and \[4\] in this graph', self.prefix()
    )

  def test_a_part_of_the_network_will_do(self):
    reader = saved_statistics.open_reader(
      self.prefix(**{'bn/gamma': None}), self.training.program
    )
    np.testing.assert_array_equal(reader.get_tensor('bn/beta'), [0.5] * 4)

  def test_none(self):
    self.refused('no checkpoint, or a damaged one', '/no/such/prefix')


if __name__ == '__main__':
  absltest.main()
