"""Five steps against PyTorch on the same weights and batches."""

import importlib.util
import json

from absl.testing import absltest
import numpy as np

import graph_resnet9  # pylint: disable=unused-import
import tensorflow.compat.v1 as tf

from graph_resnet9.model import losses
from graph_resnet9.model import optimizer
from graph_resnet9.model import resnet9
from tests import pytorch_reference as reference

# PyTorch in float32 is itself 6e-6 in the losses and 0.8% in the smallest
# movements (beta of the first layers) away from PyTorch in float64. Leaving the
# weight decay of gamma out would change its movement by 7%.
LOSS_TOLERANCE, MOVEMENT_TOLERANCE = 2e-4, 3e-2


def run_tensorflow():
  """The steps of the reference in this project's graph; returns a summary."""
  before = reference.weights()
  with tf.Graph().as_default(), tf.Session() as session:
    images = tf.placeholder(tf.float32, [None, 32, 32, 3])
    labels = tf.placeholder(tf.int32, [None])
    logits = resnet9.logits(images, training=True, width=reference.WIDTH)
    loss = tf.reduce_mean(losses.cross_entropy(logits, labels))
    rate = optimizer.learning_rate(
        tf.train.get_or_create_global_step(), reference.STEPS_PER_EPOCH,
        list(reference.KNOTS), list(reference.RATES))
    train_op = optimizer.train_op(
        loss, rate, reference.MOMENTUM, reference.WEIGHT_DECAY)
    session.run(tf.global_variables_initializer())
    for variable in tf.trainable_variables():
      variable.load(before[variable.op.name], session)
    values = []
    for x, y in reference.batches():
      values.append(session.run(
          [loss, train_op], {images: x, labels: y})[0])
    after = {v.op.name: session.run(v) for v in tf.global_variables()
             if v in tf.trainable_variables() or 'moving' in v.op.name}
  return reference.summary(values, before, after)


class PytorchTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.ours = run_tensorflow()

  def check(self, theirs):
    np.testing.assert_allclose(
        self.ours['losses'], theirs['losses'], rtol=0,
        atol=LOSS_TOLERANCE)
    self.assertCountEqual(self.ours['movements'], theirs['movements'])
    for name, (size, along) in theirs['movements'].items():
      with self.subTest(variable=name):
        ours = self.ours['movements'][name]
        self.assertGreater(size, 0)
        self.assertAlmostEqual(ours[0], size, delta=MOVEMENT_TOLERANCE * size)
        self.assertAlmostEqual(ours[1], along, delta=MOVEMENT_TOLERANCE * size)

  def test_follows_the_stored_figures_of_pytorch(self):
    self.check(json.loads(reference.STORED.read_text()))

  @absltest.skipUnless(importlib.util.find_spec('torch'), 'needs PyTorch')
  def test_follows_the_pytorch_of_this_machine(self):
    self.check(reference.run_pytorch())


if __name__ == '__main__':
  absltest.main()
