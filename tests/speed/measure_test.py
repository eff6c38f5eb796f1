"""The benchmark's arithmetic, and that it runs."""

import importlib.util
import json
import types
from unittest import mock

from absl.testing import absltest
import tensorflow.compat.v1 as tf

from graph_resnet9.cli import train_flags
from graph_resnet9.errors import UserError
from graph_resnet9.model import resnet9
from graph_resnet9.speed import measure
from graph_resnet9.speed import torch_peer
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
    self.assertEqual(measure.flop_per_image(64), 6 * multiply_adds)
    self.assertAlmostEqual(measure.flop_per_image(64) / 1e9, 2.27, delta=0.01)

  def command(self, *args):
    done = helpers.command(
      'benchmark',
      '--steps=1',
      '--runs=1',
      *args,
      *helpers.arguments(**helpers.TINY),
    )
    self.assertEqual((done.returncode, done.stderr), (0, ''))
    return done.stdout.splitlines()

  def test_json_is_the_only_line_and_holds_every_figure(self):
    (line,) = self.command('--json')
    result = json.loads(line)
    for name in (
      'product_gflops',
      'forward_images_per_sec',
      'first_step_secs',
      'train_images_per_sec',
      'train_share_of_product',
    ):
      self.assertGreater(result[name], 0, name)
    self.assertGreater(result['peak_mib'], 100)  # TensorFlow alone takes that.
    self.assertLen(result['input_images_per_sec'], 5)
    self.assertGreater(min(result['input_images_per_sec'].values()), 0)
    self.assertAlmostEqual(
      result['train_gflops'],
      result['train_images_per_sec'] * measure.flop_per_image(4) / 1e9,
    )
    self.assertIsNone(result['torch_images_per_sec'])

  def test_table_lists_the_ops_that_take_most(self):
    lines = self.command('--ops=3')
    self.assertStartsWith(lines[0], 'dataset: synthetic, width 4')
    self.assertStartsWith(lines[-4], 'ops of a training step')
    shares = [float(line.split()[-1].rstrip('%')) for line in lines[-3:]]
    self.assertEqual(shares, sorted(shares, reverse=True))
    self.assertIn('Conv2D', ' '.join(lines[-3:]))

  def test_works_take_turns_and_the_median_counts(self):
    """Of 2 runs of 2 steps to warm up and 2 or 3 that count."""
    clock = types.SimpleNamespace(now=0.0, calls='')

    def work(name, secs):
      secs = iter(secs)

      def once():
        clock.calls += name
        clock.now += next(secs)

      return once

    with mock.patch.object(
      measure, 'time', types.SimpleNamespace(perf_counter=lambda: clock.now)
    ):
      secs = measure._in_turn(  # pylint: disable=protected-access
        {
          'a': (work('a', [90, 90, 1, 2, 90, 90, 4, 80]), 2),
          'b': (work('b', [90, 90, 5, 7, 6, 90, 90, 8, 70, 9]), 3),
        },
        2,
      )
    self.assertEqual(clock.calls, 'aaaabbbbbaaaabbbbb')
    self.assertEqual(secs, {'a': 3, 'b': 7.5})  # Of 1 2 4 80, 5 6 7 8 9 70.

  def test_missing_pytorch_is_one_line(self):
    with mock.patch.dict('sys.modules', torch=None):
      with self.assertRaisesRegex(UserError, r'--compare=torch: .*\[bench\]'):
        torch_peer.load()

  @absltest.skipUnless(importlib.util.find_spec('torch'), 'needs PyTorch')
  def test_pytorch_has_the_same_parameters_and_takes_the_step(self):
    torch = torch_peer.load()
    for recipe in ('dawn24', 'fast10'):
      settings = helpers.settings(
        train_flags.Recipe,
        flagfile=helpers.ROOT / 'flags' / (recipe + '.flags'),
        width=8,
        batch_size=64,
      )
      network = torch_peer._network(  # pylint: disable=protected-access
        torch, settings.model, settings.ghost_batch
      )
      with tf.Graph().as_default():
        resnet9.logits(
          tf.zeros([64, 32, 32, 3]), training=True, **settings.model
        )
        ours = sum(v.shape.num_elements() for v in tf.trainable_variables())
      theirs = sum(p.numel() for p in network.parameters() if p.requires_grad)
      self.assertEqual(theirs, ours)
      for layout in torch_peer.LAYOUTS:
        torch_peer.training_step(torch, settings, layout)()


if __name__ == '__main__':
  absltest.main()
