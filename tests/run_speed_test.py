"""The benchmark's arithmetic, and that it runs."""

import json

from absl.testing import absltest

import graph_resnet9  # pylint: disable=unused-import
import tensorflow.compat.v1 as tf

from graph_resnet9.model import resnet9
from graph_resnet9.run import speed
from tests import helpers


class SpeedTest(absltest.TestCase):

  def test_flop_are_three_times_those_of_the_forward_graph(self):
    """Counted from the shapes of the graph's own operations."""
    with tf.Graph().as_default() as graph:
      resnet9.logits(tf.zeros([1, 32, 32, 3]), training=False, width=64)
      multiply_adds = 0
      for op in graph.get_operations():
        if op.type in ('Conv2D', 'MatMul'):
          kernel = op.inputs[1].shape.num_elements()
          output = op.outputs[0].shape.num_elements()
          multiply_adds += kernel * output // int(op.outputs[0].shape[-1])
    self.assertEqual(speed.flop_per_image(64), 6 * multiply_adds)
    self.assertAlmostEqual(speed.flop_per_image(64) / 1e9, 2.27, delta=.01)

  def test_command_prints_figures_and_json(self):
    done = helpers.command(
        'benchmark', '--steps=1', *helpers.arguments(**helpers.TINY))
    self.assertEqual((done.returncode, done.stderr), (0, ''))
    result = json.loads(done.stdout.splitlines()[-1])
    for name in ('product_gflops', 'input_images_per_sec',
                 'train_images_per_sec', 'train_share_of_product'):
      self.assertGreater(result[name], 0)
    self.assertAlmostEqual(
        result['train_gflops'], result['train_images_per_sec']
        * speed.flop_per_image(4) / 1e9)


if __name__ == '__main__':
  absltest.main()
