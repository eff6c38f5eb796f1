"""Evaluation: every example once, by either kind of statistics."""

import os
from unittest import mock

from absl.testing import absltest
import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9 import files
from graph_resnet9.cli import recipe_flags
from graph_resnet9.cli import train_flags
from graph_resnet9.errors import UserError
from graph_resnet9.evaluation import confusion
from graph_resnet9.evaluation import evaluate
from graph_resnet9.inputs import batches
from tests import helpers


class EvaluationTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.done = helpers.finished_run()[0]

  def evaluate(self, **values):
    values = {
      'checkpoint': str(self.done / 'model.ckpt-16'),
      'width': 4,
      'test_examples': 100,
      'dataset': 'synthetic',
      'shuffle': 'none',
      **values,
    }
    return helpers.evaluate(**values)

  def test_counts_every_example_once_whatever_the_batches(self):
    summary, reference, _ = self.evaluate(batch_size=100)
    self.assertEqual(summary['examples'], 100)
    for values in (
      dict(batch_size=1),
      dict(batch_size=33),
      dict(batch_size=999),
      dict(shuffle='shuffle_batch', batch_size=33),
      dict(shuffle='epoch', batch_size=64),
      dict(input='records', batch_size=33),
      dict(order='class_sorted', batch_size=8),
    ):
      with self.subTest(**values):
        _, result, _ = self.evaluate(**values)
        np.testing.assert_array_equal(result.confusion, reference.confusion)
        self.assertAlmostEqual(result.loss, reference.loss, places=5)

  def test_examples_that_do_not_come_are_an_error(self):
    """MonitoredSession takes a queue that ends early for the end."""
    batch = batches.batch

    def one_more(*args, **kwargs):
      found = batch(*args, **kwargs)
      return found._replace(examples=found.examples + 1)

    with mock.patch.object(batches, 'batch', one_more):
      with self.assertRaisesRegex(UserError, 'gave 100 of the 101 test images'):
        self.evaluate()

  def test_moving_statistics_need_no_shuffle_queue(self):
    with mock.patch.object(tf.train, 'shuffle_batch', side_effect=KeyError):
      self.evaluate(shuffle='shuffle_batch')
      with self.assertRaises(KeyError):
        self.evaluate(shuffle='shuffle_batch', batch_norm='batch')

  def test_batch_statistics_depend_on_the_batch_and_moving_ones_do_not(self):
    mixed = self.evaluate(batch_norm='batch', batch_size=100)[0]
    self.assertEqual((mixed['batch_norm'], mixed['examples']), ('batch', 100))
    # One size may come near it by chance: the weights are those of any run.
    uniform = [
      self.evaluate(batch_norm='batch', batch_size=size, order='class_sorted')
      for size in (2, 4, 10)
    ]
    furthest = max(abs(mixed['loss'] - one[0]['loss']) for one in uniform)
    self.assertNotAlmostEqual(furthest, 0, places=2)

  def test_batch_statistics_are_those_of_a_training_step(self):
    """The loss of one batch is that of the network in NumPy."""
    from graph_resnet9.inputs import dataset  # pylint: disable=g-import-not-at-top

    data = dataset.load(dataset.find('synthetic'), 'test', 16)
    values = helpers.weights(self.done / 'model.ckpt-16')
    expected = numpy_losses(data.images, data.labels, values).mean()
    got = self.evaluate(batch_norm='batch', test_examples=16)[0]
    self.assertAlmostEqual(got['loss'], expected, places=4)

  def test_views_are_a_mean_of_logits_the_unshifted_ones_counting_twice(self):
    images = np.random.RandomState(0).randint(256, size=[4, 32, 32, 3])
    padded = np.pad(images, [(0, 0), (1, 1), (1, 1), (0, 0)], 'reflect')
    shifted = [(images, 0.5), (padded[:, :32, :32], 0.25)]
    shifted.append((padded[:, 2:, 2:], 0.25))
    model = helpers.settings(train_flags.Run, width=4).model

    def logits(images, **views):
      with tf.variable_scope('', reuse=tf.AUTO_REUSE):
        return evaluate.logits(
          tf.constant(images.astype(np.uint8)),
          False,
          model,
          recipe_flags.Views(**views),
        )

    with tf.Graph().as_default(), tf.Session() as session:
      tf.set_random_seed(0)
      one = lambda image: logits(image)
      two = lambda image: (logits(image) + logits(image[:, :, ::-1])) / 2
      mean = lambda see: sum(share * see(shot) for shot, share in shifted)
      cases = (
        (dict(), one(images)),
        (dict(mirrored=True), two(images)),
        (dict(shifted=True), mean(one)),
        (dict(mirrored=True, shifted=True), mean(two)),
      )
      found = [logits(images, **views) for views, _ in cases]
      session.run(tf.global_variables_initializer())
      for (views, expected), got in zip(cases, found):
        with self.subTest(**views):
          got, expected = session.run([got, expected])
          np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
      self.assertLen({g[0, 0] for g in session.run(found)}, 4)

  def test_train_split_is_the_training_images(self):
    summary, result, names = self.evaluate(split='train', train_examples=50)
    self.assertEqual((summary['split'], result.examples), ('train', 50))
    self.assertLen(names, 10)

  def test_changes_nothing_in_train_dir(self):
    before = {
      p: (p.stat().st_mtime_ns, p.stat().st_size) for p in self.done.iterdir()
    }
    self.evaluate(batch_norm='batch')
    self.assertEqual(
      before,
      {
        p: (p.stat().st_mtime_ns, p.stat().st_size) for p in self.done.iterdir()
      },
    )

  def test_checkpoint_of_another_width_is_named(self):
    with self.assertRaisesRegex(UserError, 'another --width'):
      self.evaluate(width=8)

  def test_result_of_counts_by_class(self):
    result = evaluate.result_of(
      [
        evaluate.Tower(
          np.array([1.0, 2.0]), np.array([0, 1]), np.array([0, 0])
        ),
        evaluate.Tower(np.array([6.0]), np.array([2]), np.array([2])),
      ]
    )
    self.assertEqual((result.examples, result.loss), (3, 3.0))
    self.assertAlmostEqual(result.accuracy, 2 / 3)
    np.testing.assert_array_equal(result.class_accuracy[:3], [0.5, np.nan, 1.0])

  def test_confusion_is_a_png_that_replaces_the_old_one(self):
    path = os.path.join(self.create_tempdir().full_path, 'c.png')
    confusion.draw(
      path, np.eye(10, dtype=int), ['c%d' % i for i in range(10)], 'title'
    )
    with open(path, 'rb') as f:
      self.assertEqual(f.read(8), b'\x89PNG\r\n\x1a\n')
    self.assertEqual(os.listdir(os.path.dirname(path)), ['c.png'])

  def test_confusion_that_cannot_be_written_is_named_before_the_work(self):
    for path in ('/nowhere/c.png', 'c.pdf'):
      with self.assertRaisesRegex(UserError, '--confusion_png=' + path):
        files.check_png('--confusion_png', path)


def numpy_losses(images, labels, values):
  """Cross-entropy of ResNet9 with batch statistics, in float64 NumPy."""
  x = (images - [125.31, 122.95, 113.87]) / [62.99, 62.09, 66.70]

  def cbr(x, scope):
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    kernel = values[scope + '/conv/kernel'].astype(np.float64)
    side = x.shape[1]
    x = sum(
      padded[:, r : r + side, c : c + side] @ kernel[r, c]
      for r in range(3)
      for c in range(3)
    )
    x = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)
    return np.maximum(
      x * values[scope + '/bn/gamma'] + values[scope + '/bn/beta'], 0
    )

  def pool(x, size):
    n, side, _, channels = x.shape
    return x.reshape(n, side // size, size, side // size, size, channels).max(
      (2, 4)
    )

  def residual(x, scope):
    return x + cbr(cbr(x, scope + '/res1'), scope + '/res2')

  x = cbr(x, 'prep')
  x = residual(pool(cbr(x, 'layer1'), 2), 'layer1/residual')
  x = pool(cbr(x, 'layer2'), 2)
  x = residual(pool(cbr(x, 'layer3'), 2), 'layer3/residual')
  logits = 0.125 * pool(x, 4)[:, 0, 0] @ values['linear/kernel']
  return np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels]


if __name__ == '__main__':
  absltest.main()
