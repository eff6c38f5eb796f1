"""The benchmark's arithmetic, and that it runs."""

import functools
import importlib.util
import json
import shutil
import time
import types
from unittest import mock

from absl.testing import absltest
import tensorflow.compat.v1 as tf
from tensorflow.core.framework import step_stats_pb2

from graph_resnet9.cli import train_flags
from graph_resnet9.errors import UserError
from graph_resnet9.model import resnet9
from graph_resnet9.model import winograd
from graph_resnet9.speed import jax_peer
from graph_resnet9.speed import measure
from graph_resnet9.speed import torch_peer
from graph_resnet9.speed import trace
from graph_resnet9.speed import turns
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

  def command(self, *args, conv):
    done = helpers.fresh_command(
      'benchmark',
      '--steps=1',
      '--runs=1',
      *args,
      *helpers.arguments(**{**helpers.TINY, 'conv': conv}),
    )
    self.assertEqual((done.returncode, done.stderr), (0, ''))
    return done.stdout.splitlines()

  def test_json_is_the_only_line_and_holds_every_figure(self):
    (line,) = self.command('--json', conv='auto')
    result = json.loads(line)
    for name in (
      'product_gflops',
      'forward_images_per_sec',
      'first_step_secs',
      'train_images_per_sec',
      'train_share_of_product',
    ):
      self.assertGreater(result[name], 0, name)
    self.assertLen(result['input_images_per_sec'], 5)
    self.assertGreater(min(result['input_images_per_sec'].values()), 0)
    self.assertAlmostEqual(
      result['train_gflops'],
      result['train_images_per_sec'] * measure.flop_per_image(4) / 1e9,
    )
    self.assertEqual(result['peers'], {})
    self.assertEqual(list(result['training']), [result['conv'], 'direct'])
    for conv, training in result['training'].items():
      for name, value in training.items():
        if name != 'trace':
          self.assertGreater(value, 0, (conv, name))
      self.assertGreater(training['peak_mib'], 100)  # TensorFlow alone.

  def test_table_lists_the_ops_that_take_most(self):
    lines = self.command('--ops=3', conv='direct')
    self.assertStartsWith(lines[0], 'dataset: synthetic, width 4')
    first = [line[:20] for line in lines].index('ops of a training st')
    shares = [
      float(line.split()[-1].rstrip('%'))
      for line in lines[first + 1 : first + 4]
    ]
    self.assertEqual(shares, sorted(shares, reverse=True))
    self.assertIn('Conv2D', ' '.join(lines[first + 1 : first + 4]))
    self.assertEqual(lines[first + 4].split()[-1], 'direct')
    self.assertEqual(
      [line.split()[0] for line in lines[first + 5 :]],
      [
        'prep/conv',
        'layer1/conv',
        'layer1/residual/res1/conv',
        'layer1/residual/res2/conv',
        'layer2/conv',
        'layer3/conv',
        'layer3/residual/res1/conv',
        'layer3/residual/res2/conv',
      ],
    )

  def test_trace_sums_by_type_and_by_convolution(self):
    stats = step_stats_pb2.StepStats()
    for name, label, start, end in (
      ('prep/conv/Conv2D', 'prep/conv/Conv2D = Conv2D(a, b)', 5, 1005),
      ('gradients/prep/conv/Conv2D_grad/dw', 'x = Filter(a)', 0, 2000),
      ('layer1/conv/Conv2D', 'y = Conv2D(a, b)', 0, 500),
      ('layer1/bn/Fused', 'z = Fused(a)', 0, 4000),
    ):
      stats.dev_stats.add().node_stats.add(
        node_name=name,
        timeline_label=label,
        op_start_rel_micros=start,
        op_end_rel_micros=end,
      )
    found = trace.sums(stats)
    self.assertEqual(list(found.by_type), ['Fused', 'Filter', 'Conv2D'])
    count, secs = found.by_type['Conv2D']
    self.assertEqual(count, 2)
    self.assertAlmostEqual(secs, 1.5e-3)
    self.assertEqual(list(found.by_convolution), ['prep/conv', 'layer1/conv'])
    self.assertAlmostEqual(found.by_convolution['prep/conv'], 3e-3)

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
      turns,
      'time',
      types.SimpleNamespace(
        perf_counter=lambda: clock.now, process_time=lambda: 2 * clock.now
      ),
    ):
      secs = turns.in_turn(
        {
          'a': (work('a', [90, 90, 1, 2, 90, 90, 4, 80]), 2),
          'b': (work('b', [90, 90, 5, 7, 6, 90, 90, 8, 70, 9]), 3),
        },
        2,
      )
    self.assertEqual(clock.calls, 'aaaabbbbbaaaabbbbb')
    # The medians of 1 2 4 80 and 5 6 7 8 9 70.
    self.assertEqual(secs, {'a': (3, 6), 'b': (7.5, 15)})

  def test_waiting_takes_no_cpu_seconds(self):
    secs = turns.in_turn({'wait': (functools.partial(time.sleep, 0.1), 1)}, 1)[
      'wait'
    ]
    self.assertGreaterEqual(secs.wall, 0.1)
    self.assertLess(secs.cpu, 0.1)

  def test_auto_trains_both_ways_another_conv_alone(self):
    convs = measure._convs  # pylint: disable=protected-access
    self.assertEqual(convs('direct'), ['direct'])
    self.assertEqual(convs('winograd'), ['winograd'])
    for chosen, expected in (
      ('winograd64', ['winograd64', 'direct']),
      ('direct', ['direct']),
    ):
      with mock.patch.object(winograd, 'chosen', return_value=chosen):
        self.assertEqual(convs('auto'), expected)

  def test_missing_peers_are_one_line(self):
    for name, peer in (('torch', torch_peer), ('jax', jax_peer)):
      with mock.patch.dict('sys.modules', {name: None}):
        with self.assertRaisesRegex(
          UserError, r'--compare=%s: .*\[bench\]' % name
        ):
          peer.load()

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
      for variant in torch_peer.VARIANTS[:2]:
        torch_peer.training_step(torch, settings, variant)()

  def test_compiling_is_left_out_without_a_compiler(self):
    torch = mock.Mock(__version__='1')
    torch.cuda.is_available.return_value = False
    variants = torch_peer._variants  # pylint: disable=protected-access
    with mock.patch.object(shutil, 'which', return_value=None):
      with self.assertLogs(level='WARNING'):
        self.assertEqual(variants(torch), ('contiguous', 'channels_last'))
    with mock.patch.object(shutil, 'which', return_value='/usr/bin/c++'):
      self.assertEqual(variants(torch), torch_peer.VARIANTS)

  @absltest.skipUnless(importlib.util.find_spec('jax'), 'needs JAX')
  def test_jax_has_the_same_parameters_and_takes_the_step(self):
    jax = jax_peer.load()
    for recipe in ('dawn24', 'fast10'):
      settings = helpers.settings(
        train_flags.Recipe,
        flagfile=helpers.ROOT / 'flags' / (recipe + '.flags'),
        width=8,
        batch_size=64,
      )
      state = jax_peer._initial(  # pylint: disable=protected-access
        jax, settings.model, jax.random.key(0)
      )
      with tf.Graph().as_default():
        resnet9.logits(
          tf.zeros([64, 32, 32, 3]), training=True, **settings.model
        )
        ours = sum(v.shape.num_elements() for v in tf.trainable_variables())
      self.assertEqual(sum(v.size for v in state['weights'].values()), ours)
      step = jax_peer.training_step(jax, settings)
      step()
      step()  # The first one's results have been given away.


if __name__ == '__main__':
  absltest.main()
