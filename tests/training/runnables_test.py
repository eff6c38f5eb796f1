"""What diagnose and recalibrate run of a training of this project."""

import contextlib
import io
import json
import os
import pathlib
import shutil
from unittest import mock

from absl.testing import absltest
import tensorflow.compat.v1 as tf

from graph_resnet9 import recalibrate
from graph_resnet9.checkpoints import reader
from graph_resnet9.cli import flagfile
from graph_resnet9.doctor.graph import paths
from graph_resnet9.doctor.graph import shapes
from graph_resnet9.training import graph
from graph_resnet9.training import rebuilt
from graph_resnet9.training import runnables
from tests import helpers

BATCH_SIZE = helpers.TINY['batch_size']


def synchronous(workers):
  """MetaGraphDef of a step of SyncReplicasOptimizer."""
  with tf.Graph().as_default():
    loss = tf.square(tf.get_variable('w', []))
    tf.train.SyncReplicasOptimizer(
      tf.train.GradientDescentOptimizer(0.1), workers
    ).minimize(loss, tf.train.get_or_create_global_step())
    return tf.train.export_meta_graph()


def batch_size(run, meta_graph=None):
  """Of what the first layer of the opened graph normalises."""
  chosen = paths.of_session([str(run)], meta_graph, None)
  with runnables.opened(chosen) as opened:
    layer = opened.runnable().anatomy.layers[0]
    return shapes.shape(layer.sites[0].x)[0]


class RunnablesTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.create_tempdir().full_path)
    self.run_dir = self.dir / 'run'

  def finished(self):
    """A copy of a finished run, to be changed."""
    shutil.copytree(helpers.finished_run()[0], self.run_dir)
    return self.run_dir

  def test_a_run_is_built_again_from_its_flags(self):
    self.assertEqual(batch_size(self.finished()), BATCH_SIZE)

  def test_each_worker_of_a_synchronous_run_normalised_its_part(self):
    run = self.finished()
    with open(run / 'flags.txt', 'a') as f:
      f.write('--sync\n')
    (run / 'model.ckpt-16.meta').write_bytes(
      synchronous(workers=4).SerializeToString()
    )
    self.assertEqual(batch_size(run), BATCH_SIZE // 4)

  def test_each_tower_of_several_gpus_normalised_its_part(self):
    run = self.finished()
    with open(run / 'flags.txt', 'a') as f:
      f.write('--num_gpus=2\n')
    self.assertEqual(batch_size(run), BATCH_SIZE // 2)

  def test_nothing_is_read_that_a_session_reads_again(self):
    run = self.finished()
    with open(run / 'flags.txt', 'a') as f:
      f.write('--whitening\n')
    with (
      mock.patch.object(reader, 'shapes') as checked,
      mock.patch.object(graph, 'whitening_filters') as filters,
    ):
      self.assertEqual(batch_size(run), BATCH_SIZE)
    checked.assert_not_called()
    filters.assert_not_called()

  def test_data_may_lie_elsewhere_now(self):
    run = self.finished()
    prefix = str(run / 'model.ckpt-16')
    before = rebuilt.settings_of(prefix, '')
    self.assertEqual(before, flagfile.read(str(run)))
    moved = rebuilt.settings_of(prefix, os.path.relpath(self.dir))
    self.assertEqual(moved.data.data_dir, str(self.dir))
    self.assertEqual(moved.replace(data=before.data), before)
    self.assertIsNone(rebuilt.settings_of(str(self.dir / 'model.ckpt-16'), ''))

  def test_a_graph_that_is_asked_for_is_taken_as_it_is(self):
    run = self.finished()
    meta_graph = str(run / 'model.ckpt-16.meta')
    with open(run / 'flags.txt', 'a') as f:
      f.write('--batch_size=8\n')
    self.assertEqual(batch_size(run), 8)
    self.assertEqual(batch_size(run, meta_graph), BATCH_SIZE)

  def recalibrated(self, run):
    """(what is on stderr, the line of JSON)."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with absltest.mock.patch.object(
      recalibrate,
      'FLAGS',
      helpers.parsed(
        recalibrate.define_flags, out=self.dir / 'new', batches=2, force=True
      ),
    ):
      with (
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
      ):
        recalibrate.main([str(run)])
    return stderr.getvalue(), json.loads(stdout.getvalue())

  def test_who_averages_weights_is_told_which_ones_are_recalibrated(self):
    helpers.train(
      self.run_dir, ema_decay=0.7, ema_steps=1, epochs=0.5, lr_values='0,.2,0'
    )
    said, result = self.recalibrated(self.run_dir)
    self.assertIn('--weights=trained', said)
    changed = helpers.differing(result['source'], result['checkpoint'])
    self.assertEqual(changed, result['variables'])
    self.assertFalse([v for v in changed if 'ExponentialMovingAverage' in v])

  def test_who_does_not_is_not(self):
    said, _ = self.recalibrated(helpers.finished_run()[0])
    self.assertEqual(said, '')


if __name__ == '__main__':
  absltest.main()
