"""Checkpoints recalibrated by one TensorFlow restore in another.

Runs where scripts/engines.sh or scripts/doctor_on_tensorflow1.sh has made an
environment with TensorFlow 1.15 and GRAPH_RESNET9_ENGINES names its folder.
"""

import json
import os
import pathlib
import subprocess

from absl.testing import absltest
import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.measure import recalibration
from tests import helpers
from tests.doctor import small_graphs

PYTHON = os.path.join(
  os.environ.get('GRAPH_RESNET9_ENGINES', ''), 'tensorflow1', 'bin', 'python'
)
VALUES = small_graphs.examples(4)


def feed():
  for batch in np.split(VALUES, 7):
    yield {'x': batch}


def build():
  x = tf.placeholder(tf.float32, [None, 4], 'x')
  training = tf.placeholder_with_default(False, [], 'training')
  y = tf.layers.batch_normalization(x, training=training, name='bn')
  small_graphs.train(tf.identity(y, 'y'))


def save(folder):
  """A checkpoint of step 9 whose statistics have moved the wrong way."""
  small_graphs.save(
    folder, build, {'moving_mean': 7, 'moving_variance': 9}, step=9
  )


def restored(prefix, meta):
  """Means and variances of y over VALUES, as a saver and a session give it."""
  with tf.Graph().as_default(), tf.Session() as session:
    tf.train.import_meta_graph(meta).restore(session, prefix)
    y = session.run('y:0', {'x:0': VALUES})
  return dict(mean=y.mean(0).tolist(), variance=y.var(0).tolist())


@absltest.skipUnless(os.path.exists(PYTHON), 'no TensorFlow 1.15 here')
class ExchangeTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.create_tempdir().full_path)
    self.old('save(%r)' % str(self.dir))
    self.prefix = str(self.dir / 'model.ckpt')
    self.new = str(self.dir / 'new')

  def old(self, expression):
    """The value of an expression of this module in TensorFlow 1.15."""
    done = self.run_old(
      '-c',
      'import json, sys\n'
      'from tests.doctor.exchange_test import *\n'
      'assert tf.__version__.startswith("1.15"), tf.__version__\n'
      'print(json.dumps(%s))' % expression,
    )
    return json.loads(done.stdout.splitlines()[-1])

  def run_old(self, *args):
    done = subprocess.run(
      [PYTHON, *args],
      cwd=helpers.ROOT,
      env=helpers.environment(PYTHONPATH=str(helpers.ROOT)),
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      universal_newlines=True,
      check=False,
    )
    self.assertEqual(done.returncode, 0, done.stderr[-3000:])
    return done

  def assert_normalised(self, statistics):
    np.testing.assert_allclose(statistics['mean'], 0, atol=1e-5)
    np.testing.assert_allclose(statistics['variance'], 1, rtol=0.02)

  def test_recalibrated_here_restores_there(self):
    recalibration.recalibrate(
      small_graphs.Saved(self.prefix).runnable(feed),
      self.prefix,
      self.new,
      9,
      held_out=0,
    )
    there = 'restored(%r, %r)'
    before = self.old(there % (self.prefix, self.prefix + '.meta'))
    self.assertGreater(abs(before['mean'][0]), 1)
    self.assert_normalised(self.old(there % (self.new, self.new + '.meta')))

  def test_recalibrated_there_restores_here(self):
    done = self.run_old(
      '-m',
      'graph_resnet9.recalibrate',
      '--checkpoint=' + self.prefix,
      '--out=' + self.new,
      '--feed=tests.doctor.exchange_test:feed',
      '--force',  # All of it is compared in comparison_test.py.
    )
    self.assertEqual(json.loads(done.stdout)['batches'], 6)
    got = helpers.weights(self.new)
    rows = VALUES[10:].astype(np.float64)
    np.testing.assert_allclose(got['bn/moving_mean'], rows.mean(0), rtol=1e-5)
    self.assertEqual(
      helpers.differing(self.prefix, self.new),
      ['bn/moving_mean', 'bn/moving_variance'],
    )
    with tf.Graph().as_default() as graph, tf.Session() as session:
      build()
      tf.train.Saver().restore(session, self.new)
      y = session.run(graph.get_tensor_by_name('y:0'), {'x:0': rows})
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-4)


if __name__ == '__main__':
  absltest.main()
