"""The 10-epoch recipe from flags to checkpoint, and --xla."""

import os
import pathlib
import shutil
import signal
import tempfile

from absl.testing import absltest
import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.cli import flagfile
from graph_resnet9.cli import recipe_flags
from graph_resnet9.doctor.lint import rules
from graph_resnet9.errors import UserError
from graph_resnet9.evaluation import evaluate
from graph_resnet9.inputs import augment
from graph_resnet9.inputs import dataset
from graph_resnet9.inputs import queues
from graph_resnet9.training import graph
from graph_resnet9.training import rows
from tests import helpers

AVERAGE = '/ExponentialMovingAverage'
FAST10 = dict(
  flagfile=str(helpers.ROOT / 'flags' / 'fast10.flags'),
  **{**helpers.TINY, 'ghost_batch': 8, 'epochs': 1},
)


class SignalAt(tf.train.SessionRunHook):
  """Sends this process SIGTERM while a step runs."""

  def __init__(self, step):
    self._step = step

  def before_run(self, run_context):
    return tf.train.SessionRunArgs(tf.train.get_global_step())

  def after_run(self, run_context, run_values):
    if run_values.results == self._step:
      os.kill(os.getpid(), signal.SIGTERM)


class Fast10Test(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    scratch = tempfile.mkdtemp()
    cls.addClassCleanup(shutil.rmtree, scratch)
    cls.done = pathlib.Path(scratch) / 'fast10'
    cls.code, cls.lines = helpers.train(cls.done, **FAST10)

  def evaluate(self, mirrored, weights='auto'):
    """eval of the run: its flags, but those given; returns the summary."""
    run = flagfile.read(str(self.done)).replace(
      views=recipe_flags.Views(mirrored=mirrored)
    )
    with dataset.opened(**run.data) as data:
      return evaluate.evaluate(
        data, str(self.done / 'model.ckpt-8'), run, 'test', 'moving', weights
      )[0]

  def test_row_is_of_the_averages_on_image_and_mirror_image(self):
    (row,) = rows.read_rows(self.done)
    got = self.evaluate(mirrored=True)
    self.assertEqual((got['weights'], got['mirrored']), ('average', True))
    self.assertAlmostEqual(got['loss'], row.test_loss, places=5)
    self.assertEqual(got['accuracy'], row.test_accuracy)

  def test_eval_chooses_weights_and_mirror_image(self):
    losses = {
      (weights, mirrored): self.evaluate(weights=weights, mirrored=mirrored)[
        'loss'
      ]
      for weights in ('average', 'trained')
      for mirrored in (True, False)
    }
    self.assertLen(set(losses.values()), 4)

  def test_averages_that_are_not_there_are_named(self):
    plain = helpers.finished_run()[0]
    with self.assertRaisesRegex(UserError, 'holds no variable .*' + AVERAGE):
      helpers.evaluate(
        plain / 'model.ckpt-16', width=4, dataset='synthetic', weights='average'
      )

  def test_checkpoint_holds_an_average_of_every_weight_and_statistic(self):
    values = helpers.weights(self.done / 'model.ckpt-8')
    for name, value in values.items():
      if not name.endswith((AVERAGE, '/Momentum', 'global_step')):
        with self.subTest(name):
          average = values[name + AVERAGE]
          self.assertEqual(average.shape, value.shape)
          if 'whitening' in name:  # Fixed, so it is its own average.
            np.testing.assert_array_equal(average, value)
          else:
            self.assertGreater(np.abs(average - value).max(), 0)

  def test_resumes_exactly(self):
    path = pathlib.Path(self.create_tempdir().full_path)
    self.assertEqual(
      helpers.train(path, [SignalAt(3)], **FAST10)[0], 128 + signal.SIGTERM
    )
    self.assertEqual(helpers.train(path, **FAST10)[0], 0)
    self.assertEqual(
      helpers.differing(path / 'model.ckpt-8', self.done / 'model.ckpt-8'), []
    )

  def test_whitening_is_of_the_training_images_in_file_order(self):
    """Whatever order they are trained in, and stored for evaluation."""
    images = dataset.load(dataset.find('synthetic'), 'train', 256).images
    images = (images - np.array(augment.MEAN)) / augment.STD
    windows = np.lib.stride_tricks.sliding_window_view(images, (3, 3), (1, 2))
    patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, 27)
    covariance = np.einsum('ni,nj->ij', patches, patches) / (len(patches) - 1)
    kernel = helpers.weights(self.done / 'model.ckpt-8')[
      'prep/whitening/kernel'
    ]
    kernel = kernel.reshape(27, 27)
    whitened = kernel.T @ covariance @ kernel
    size = np.diag(whitened)
    np.testing.assert_allclose(whitened, np.diag(size), atol=1e-4)
    eigenvalues = np.linalg.eigvalsh(covariance)[::-1]
    np.testing.assert_allclose(
      size, eigenvalues / (eigenvalues + 1e-2), rtol=1e-3
    )

  def test_lint_finds_nothing(self):
    with tf.Graph().as_default() as graph:
      tf.train.import_meta_graph(str(self.done / 'model.ckpt-8.meta'))
    self.assertEqual(rules.lint_graph(graph).findings, [])

  def test_mirrored_evaluation_does_not_see_left_and_right(self):
    images = (
      np.random.RandomState(0)
      .randint(256, size=[6, 32, 32, 3])
      .astype(np.uint8)
    )
    model = flagfile.read(str(self.done)).model
    losses = []
    with tf.Graph().as_default(), tf.Session() as session:
      for pixels in (images, images[:, :, ::-1]):
        with tf.variable_scope('', reuse=tf.AUTO_REUSE):
          batch = queues.Batch(
            tf.constant(pixels.reshape(-1, 3)), tf.range(6), tf.range(6)
          )
          losses.append(
            [
              evaluate.tower(
                batch, False, model, recipe_flags.Views(mirrored=mirrored)
              ).losses
              for mirrored in (True, False)
            ]
          )
      session.run(tf.global_variables_initializer())
      # The whitening of a checkpoint is not there; any filters do.
      (kernel,) = (v for v in tf.global_variables() if 'whitening' in v.op.name)
      kernel.load(np.random.RandomState(1).normal(size=kernel.shape), session)
      (one, plain), (other, plain_other) = session.run(losses)
    np.testing.assert_allclose(one, other, rtol=1e-5)
    self.assertGreater(np.abs(plain - plain_other).max(), 1e-3)


class XlaTest(absltest.TestCase):
  def test_compiled_steps_give_the_same_numbers(self):
    folder = pathlib.Path(self.create_tempdir().full_path)
    weights = {}
    for choice in ('off', 'on'):
      path = folder / choice
      helpers.train(path, xla=choice, epochs=0.25, lr_values='0,.01,0')
      weights[choice] = helpers.weights(path / 'model.ckpt-2')
    for name, value in weights['off'].items():
      with self.subTest(name):
        np.testing.assert_allclose(weights['on'][name], value, atol=2e-4)

  def test_auto_is_off_without_a_gpu_and_on_compiles(self):
    if tf.config.list_physical_devices('GPU'):
      self.skipTest('there is a GPU')
    for choice, expected in (('auto', False), ('off', False), ('on', True)):
      with tf.Graph().as_default():
        x = tf.get_variable('x', [2], use_resource=True)
        with graph.compiled(choice):
          y = tf.nn.relu(x)
        (gradient,) = tf.gradients(y, x)
        for op in (y.op, gradient.op):
          self.assertEqual('_XlaCompile' in op.node_def.attr, expected)


if __name__ == '__main__':
  absltest.main()
