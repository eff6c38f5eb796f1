"""What the loops need to build a step, piece by piece."""

import math
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import tensorflow.compat.v1 as tf

from graph_resnet9.cli import recipe_flags
from graph_resnet9.errors import UserError
from graph_resnet9.training import graph
from tests import helpers


def optimizer(**values):
  return helpers.settings(recipe_flags.Optimizer, **values)


class GraphTest(parameterized.TestCase):
  def test_a_loss_is_scaled_by_a_power_of_two(self):
    """Then scaling and its inverse round nothing."""
    self.assertEqual(graph.loss_scale('float32'), 1)
    self.assertEqual(graph.loss_scale('bfloat16'), 1)
    scale = graph.loss_scale('float16')
    self.assertGreater(scale, 1)
    self.assertEqual(math.frexp(scale)[0], 0.5)

  def test_the_schedule_is_stretched_to_the_epochs(self):
    settings = optimizer(epochs=48, lr_epochs='0,5,24', lr_values='0,.4,0')
    self.assertEqual(graph.knots(settings), ([0, 10, 48], [0, 0.4, 0]))

  @parameterized.parameters(
    (24, 97, 2328), (0.5, 97, 48), (0.001, 97, 1), (1.5, 3, 4)
  )
  def test_last_step(self, epochs, steps_per_epoch, expected):
    """Half a step is rounded to even."""
    settings = optimizer(epochs=epochs)
    self.assertEqual(graph.last_step(settings, steps_per_epoch), expected)

  def test_devices(self):
    self.assertEqual(graph.devices(1), ('',))
    with mock.patch.object(tf.config, 'list_physical_devices', lambda _: 'ab'):
      self.assertEqual(graph.devices(2), ('/gpu:0', '/gpu:1'))
      with self.assertRaisesRegex(UserError, 'TensorFlow finds 2 GPUs here'):
        graph.devices(3)

  def test_xla_is_on_where_it_is_asked_for_or_a_gpu_is(self):
    for xla, gpus, compiled in (
      ('on', '', True),
      ('off', 'a', False),
      ('auto', '', False),
      ('auto', 'a', True),
    ):
      with (
        self.subTest(xla=xla, gpus=gpus),
        tf.Graph().as_default(),
        mock.patch.object(tf.config, 'list_physical_devices', lambda _: gpus),
      ):
        with graph.compiled(xla):
          op = tf.constant(1.0).op
        attributes = op.node_def.attr
        self.assertEqual(attributes['_XlaMustCompile'].b, False)
        self.assertEqual(attributes['_XlaCompile'].b, compiled)

  def test_whitening_filters_are_made_where_they_are_used(self):
    for whitening, restored, calls in (
      (False, False, 0),
      (True, False, 1),
      (True, True, 0),
    ):
      with (
        self.subTest(whitening=whitening, restored=restored),
        tf.Graph().as_default(),
        mock.patch.object(
          graph, 'whitening_filters', wraps=graph.whitening_filters
        ) as filters,
      ):
        helpers.built(whitening=whitening, restored=restored)
        self.assertEqual(filters.call_count, calls)


if __name__ == '__main__':
  absltest.main()
