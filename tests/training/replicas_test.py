"""Towers on several devices, and what a replica of a cluster leaves out."""

import contextlib
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.cluster import tasks
from graph_resnet9.cluster import worker_loop
from graph_resnet9.doctor.lint import rules
from graph_resnet9.errors import UserError
from graph_resnet9.inputs import augment
from graph_resnet9.inputs import dataset
from graph_resnet9.model import layers
from graph_resnet9.training import graph
from tests import helpers
from tests.training import placement_test

PLAIN = dict(pad=0, flip=False, cutout=0, shuffle='none', xla='off')
TWO = ('/cpu:0', '/cpu:1')


def worker(index, workers, sync=False):
  hosts = tuple('localhost:%d' % (1 + k) for k in range(workers))
  return tasks.Task('worker', index, hosts[:1], hosts, sync, 'loopback', 1.0)


def build(towers=None, **flags):
  return helpers.built(towers, **{**PLAIN, **flags})


@contextlib.contextmanager
def built_worker(one, **flags):
  """Yields the graph.Step of a worker, on this machine, while data are open."""
  settings = helpers.settings(
    **{**helpers.TINY, **PLAIN, **flags}, train_dir='-'
  )
  with (
    dataset.opened(**settings.data) as data,
    mock.patch.object(tasks.Task, 'device', ''),
  ):
    yield worker_loop.build(settings, one, data)[0]


def session(feed):
  """A session on two virtual CPU devices, its queues running."""
  running = tf.Session(
    config=tf.ConfigProto(device_count={'CPU': 2}, allow_soft_placement=True)
  )
  running.run(tf.global_variables_initializer())
  running.run(tf.local_variables_initializer(), feed)
  coordinator = tf.train.Coordinator()
  tf.train.start_queue_runners(running, coordinator)
  return running


def trained(weights=None, steps=2, **arguments):
  """(weights before, weights after, losses) of some steps.

  Args:
    weights: {name: array} to begin with.
    steps: int.
    **arguments: of build.
  """
  with tf.Graph().as_default():
    step = build(**arguments)
    with session(step.feed) as running:
      for variable in tf.global_variables():
        if weights and variable.op.name in weights:
          variable.load(weights[variable.op.name], running)
      values = lambda: {
        v.op.name: running.run(v) for v in tf.global_variables()
      }
      before = values()
      losses = [
        running.run([step.loss, step.train_op])[0] for _ in range(steps)
      ]
      return before, values(), losses


class TowersTest(parameterized.TestCase):
  def assert_same_step(self, one, other):
    """Movements agree to a thousandth of their size; losses to 1e-5."""
    (before, after, losses), (_, other_after, other_losses) = one, other
    np.testing.assert_allclose(losses, other_losses, rtol=1e-5)
    for name, start in before.items():
      if 'moving' in name or name == 'global_step':
        continue
      moved = after[name] - start
      self.assertGreater(np.linalg.norm(moved), 0, name)
      self.assertLess(
        np.linalg.norm(after[name] - other_after[name]),
        1e-3 * np.linalg.norm(moved),
        name,
      )

  def test_two_towers_are_one_big_batch_without_batch_norm(self):
    with mock.patch.object(
      layers, 'batch_norm', lambda images, *_, **__: images
    ):
      one = trained()
      self.assert_same_step(one, trained(one[0], towers=TWO))

  def test_two_towers_are_two_ghost_batches(self):
    one = trained(ghost_batch=16)
    self.assert_same_step(one, trained(one[0], towers=TWO))

  def test_a_plain_batch_differs_from_two_towers(self):
    one = trained()
    with self.assertRaises(AssertionError):
      self.assert_same_step(one, trained(one[0], towers=TWO))

  def test_moving_statistics_are_those_of_the_first_tower(self):
    towers = trained(steps=1, towers=TWO)
    first = trained(towers[0], steps=1, batch_size=16)
    names = [name for name in first[1] if 'moving' in name]
    self.assertLen(names, 16)
    for name in names:
      self.assertFalse(np.array_equal(towers[0][name], towers[1][name]), name)
      np.testing.assert_allclose(
        towers[1][name], first[1][name], rtol=1e-5, atol=1e-6, err_msg=name
      )

  def test_forward_and_gradient_of_a_tower_are_on_its_device(self):
    with tf.Graph().as_default() as graph:
      build(towers=TWO)
      # Two of the eight convolutions are Winograd's, a product each way.
      for kind, least in (
        ('Conv2D', 6),
        ('Conv2DBackpropFilter', 6),
        ('BatchMatMul', 6),
        ('FusedBatchNormGrad', 8),
      ):
        on_first, on_second = self.placement(graph, kind)
        self.assertGreaterEqual(on_first, least, kind)
        self.assertEqual(on_first, on_second, kind)

  def placement(self, graph, kind):
    """How many ops of a step whose type has `kind` in it run on each device."""
    train_op = graph.get_collection(tf.GraphKeys.TRAIN_OP)[0]
    feed = {
      op.outputs[0]: np.zeros(
        op.outputs[0].shape.as_list(), op.outputs[0].dtype.as_numpy_dtype
      )
      for op in graph.get_operations()
      if op.type == 'Placeholder'
    }
    metadata = tf.RunMetadata()
    with session(feed) as running:
      running.run(
        train_op,
        options=tf.RunOptions(output_partition_graphs=True),
        run_metadata=metadata,
      )
    return [
      sum(
        kind in node.op
        for part in metadata.partition_graphs
        for node in part.node
        if node.device.endswith(str(index))
      )
      for index in range(2)
    ]

  def test_update_ops_of_one_tower_and_nothing_for_lint(self):
    with tf.Graph().as_default() as graph:
      built = build(towers=TWO)
      self.assertLen(tf.get_collection(tf.GraphKeys.UPDATE_OPS), 16)
      report = rules.lint_graph(graph, [built.train_op.name])
      self.assertEqual(report.findings, [])

  def test_more_gpus_than_there_are(self):
    with self.assertRaisesRegex(UserError, '--num_gpus=63: TensorFlow finds'):
      graph.devices(63)

  @parameterized.parameters(
    lambda: build(towers=('',) * 3),
    lambda: built_worker(worker(0, 5, True)).__enter__(),
    lambda: build(towers=TWO, ghost_batch=32),
  )
  def test_batch_that_cannot_be_split(self, building):
    with (
      tf.Graph().as_default(),
      self.assertRaisesRegex(
        UserError, '--batch_size=32: must be a multiple of'
      ),
    ):
      building()


class ReplicasTest(parameterized.TestCase):
  @parameterized.parameters(False, True)
  def test_the_chief_alone_updates_the_statistics(self, sync):
    for index, updates in ((0, 16), (1, 0)):
      with tf.Graph().as_default():
        with built_worker(worker(index, 2, sync)) as step:
          ops = placement_test.ancestors(step.train_op)
        written = [
          op
          for op in ops
          if op.type == 'AssignSubVariableOp'
          and 'moving' in op.inputs[0].op.name
        ]
        self.assertLen(written, updates)

  @parameterized.product(
    sync=[False, True],
    source=['indices', 'records'],
    shuffle=['none', 'shuffle_batch'],
  )
  def test_shares_are_disjoint_and_leave_nothing_out(
    self, sync, source, shuffle
  ):
    everything = dataset.load(dataset.find('synthetic'), 'train', 256).images
    seen = []
    for index in range(2):
      with tf.Graph().as_default():
        seen.append(
          self.images_of_an_epoch(
            worker(index, 2, sync),
            input=source,
            shuffle=shuffle,
            min_after_dequeue=0,
          )
        )
    self.assertEmpty(seen[0] & seen[1])
    if shuffle == 'none':
      self.assertEqual(
        len(seen[0] | seen[1]), len({image.tobytes() for image in everything})
      )

  def images_of_an_epoch(self, one, **flags):
    size = 16 if one.sync else 32
    with built_worker(one, **flags) as step, session(step.feed) as running:
      self.assertEqual(step.steps_per_epoch, 8)
      self.assertEqual(step.images.shape[0], size)
      return {
        image.tobytes()
        for _ in range(128 // size)
        for image in running.run(step.images)
      }

  def test_replicas_draw_their_own_crops(self):
    with mock.patch.object(augment, 'draws', wraps=augment.draws) as draws:
      for index in range(3):
        with tf.Graph().as_default():
          with built_worker(worker(index, 3), seed=2**31 - 2):
            pass
    seeds = [call.args[1] for call in draws.call_args_list]
    self.assertEqual(seeds, [2**31 - 2, 2**31 - 1, 0])


if __name__ == '__main__':
  absltest.main()
