"""The claims of every case fail where its effect is not there."""

from absl.testing import absltest
import numpy as np

from graph_resnet9.demos import report
from graph_resnet9.demos.cases import batch_size_one
from graph_resnet9.demos.cases import frozen_batch_norm
from graph_resnet9.demos.cases import frozen_resnet50
from graph_resnet9.demos.cases import image_pairs
from graph_resnet9.demos.cases import saver_without_statistics
from graph_resnet9.demos.cases import shuffle_batch
from graph_resnet9.demos.cases import slow_decay
from graph_resnet9.demos.cases import update_ops
from tests.inputs import small_records

GOOD = report.Scores(0.3, 0.9)
VALUES = np.random.RandomState(0).normal(1, 2, [500, 2])


def healthy(name, broken=True, **figures):
  """An arm whose evaluation is as good as its training, by any statistics."""
  point = report.Point(1, GOOD, GOOD, GOOD)
  layers = [
    small_records.record(
      [VALUES], mean=VALUES.mean(0), variance=VALUES.var(0, ddof=1)
    )._replace(name=layer)
    for layer in batch_size_one.FIRST_LAYERS
  ]
  return report.Arm(name, broken, [point] * 4, layers, figures)


class ClaimsTest(absltest.TestCase):
  def fail(self, claims, *arms):
    """Asserts that a claim about each of these arms fails."""
    failing = ' / '.join(c.text for c in claims if not c.holds)
    for name in arms:
      with self.subTest(name):
        self.assertIn(name, failing)

  def test_update_ops(self):
    arms = [healthy('none'), healthy('constructor'), healthy('inside', False)]
    self.fail(update_ops.claims(*arms), 'none', 'constructor')

  def test_shuffle_batch(self):
    arms = [
      healthy('tf.train.batch', label_entropy=0.91),
      healthy('500', label_entropy=0.91),
      healthy('10000', False, label_entropy=0.91),
    ]
    self.fail(
      shuffle_batch.claims(arms), 'label entropy', 'tf.train.batch', '500'
    )

  def test_image_pairs(self):
    slow, quick, one, common = (
      healthy(name, between=0.01) for name in ('slow', 'quick', 'one', 'common')
    )
    slow = slow._replace(
      others={
        name: (GOOD, GOOD)
        for name in (*image_pairs.QUEUES[1:], image_pairs.ONE_TOWER)
      }
    )
    claims = list(image_pairs.claims(slow, quick, one, common))
    self.fail(
      claims,
      *('moving statistics, ' + queue for queue in image_pairs.QUEUES),
      'file in order of label: loss with tf.train.batch over',
      'both changes',
      'one tower, weights of six',
      'share of the variance between the towers',
    )
    # And decay 0.9 must not mend it either.
    better = quick._replace(
      curve=[p._replace(moving=report.Scores(0.2)) for p in quick.curve]
    )
    self.fail(image_pairs.claims(slow, better, one, common), 'decay 0.997 to')

  def test_batch_size_one(self):
    arms = [
      healthy(name, k < 3, stuck=0.0, own=0.9)
      for k, name in enumerate(['raw', 'softmax', 'logits', 'b', 'g', 'l'])
    ]
    self.fail(batch_size_one.claims(*arms), 'raw', 'softmax', 'logits')

  def test_slow_decay(self):
    arms = [healthy(name, initial=0.001) for name in ('0.999', '0.99')]
    self.fail(slow_decay.claims(arms), '0.999', '0.99')

  def test_frozen_batch_norm(self):
    names = [name for name, broken, _ in frozen_batch_norm.ARMS if broken]
    arms = [healthy(name, broken) for name, broken, _ in frozen_batch_norm.ARMS]
    self.fail(frozen_batch_norm.claims(arms), *names)
    self.fail(
      frozen_resnet50.claims([healthy('first'), healthy('second', False)]),
      'first',
      'second',
    )

  def test_saver_without_statistics(self):
    arms = [healthy('trainable'), healthy('all', False)]
    self.fail(
      saver_without_statistics.claims(arms[0].curve[-1], *arms), 'trainable'
    )


if __name__ == '__main__':
  absltest.main()
