"""Runs of older versions go on: their files are in data/."""

import pathlib
import shutil

from absl.testing import absltest
import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.cli import flagfile
from graph_resnet9.training import loop
from graph_resnet9.training import rows
from tests import helpers

# `train --dataset=synthetic --train_examples=128 --test_examples=50 --width=1
# --batch_size=32 --epochs=2 --shuffle=epoch --ema_decay=0.9
# --lr_values=0,0.125,0` by version 0.1: after each epoch a checkpoint.
OLD = pathlib.Path(__file__).parent / 'data' / 'older_run'


class OlderRunsTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.create_tempdir().full_path) / 'run'
    self.dir.mkdir()
    for path in [OLD / 'flags.txt', *OLD.glob('model.ckpt-4.*')]:
      shutil.copy(path, self.dir)
    self.old_rows = rows.read_rows(str(OLD))
    rows.write_rows(str(self.dir), self.old_rows[:1])
    tf.train.update_checkpoint_state(str(self.dir), 'model.ckpt-4')

  def test_second_epoch_is_as_it_was(self):
    """Its weights, averages and velocities, but for the rounding."""
    settings = helpers.settings(flagfile=OLD / 'flags.txt', train_dir=self.dir)
    self.assertEqual(loop.train(settings), 0)
    old = helpers.weights(OLD / 'model.ckpt-8')
    new = helpers.weights(self.dir / 'model.ckpt-8')
    self.assertCountEqual(new, old)
    for name, value in old.items():
      np.testing.assert_allclose(new[name], value, atol=1e-5, err_msg=name)
    first, second = rows.read_rows(str(self.dir))
    self.assertEqual(first, self.old_rows[0])
    self.assertAlmostEqual(
      second.test_loss, self.old_rows[1].test_loss, places=5
    )

  def test_flags_txt_is_read_and_evaluates(self):
    run = flagfile.read(str(OLD))
    self.assertEqual(run.optimizer.lr_values, (0, 0.125, 0))
    summary, _, _ = helpers.evaluate(
      OLD / 'model.ckpt-8',
      width=run.model.width,
      conv='direct',
      dataset='synthetic',
      test_examples=50,
    )
    self.assertEqual(summary['weights'], 'average')
    self.assertAlmostEqual(
      summary['loss'], self.old_rows[1].test_loss, places=5
    )


if __name__ == '__main__':
  absltest.main()
