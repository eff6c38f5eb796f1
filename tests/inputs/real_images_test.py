"""More, where real images can be made: all 60,000 in both of the layouts."""

import shutil
import subprocess
import sys
import tempfile

from absl.testing import absltest
import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.inputs import augment
from graph_resnet9.inputs import dataset
from graph_resnet9.inputs import formats
from graph_resnet9.inputs import queues
from tests import helpers

MAKER = helpers.ROOT.parent / 'shared' / 'data' / 'make_cifar10.py'


@absltest.skipUnless(MAKER.exists(), 'needs ../shared/data')
class RealImagesTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.dir = tempfile.mkdtemp()
    cls.addClassCleanup(shutil.rmtree, cls.dir)
    subprocess.run(
      [sys.executable, MAKER, cls.dir, '--layout=both'],
      check=True,
      stdout=subprocess.DEVNULL,
    )
    cls.source = dataset.find('cifar10', cls.dir)
    cls.train = dataset.load(cls.source, 'train')

  def test_both_layouts_hold_the_same_images(self):
    pickled = self.source._replace(
      path=self.source.path.replace('batches-bin', 'batches-py')
    )
    self.assertIn(formats.PICKLE_FOLDER, pickled.path)
    for split, examples in (('train', 50000), ('test', 10000)):
      one = dataset.load(self.source, split)
      other = dataset.load(pickled, split)
      self.assertEqual(one.images.shape, (examples, 32, 32, 3))
      np.testing.assert_array_equal(one.images, other.images)
      np.testing.assert_array_equal(one.labels, other.labels)
      self.assertEqual(set(np.bincount(one.labels)), {examples // 10})

  def test_mean_and_std_are_those_of_the_recipe(self):
    images = self.train.images.reshape(-1, 3)
    np.testing.assert_allclose(images.mean(0), augment.MEAN, atol=0.5)
    np.testing.assert_allclose(images.std(0), augment.STD, atol=0.5)

  def test_records_and_indices_give_the_same_batch(self):
    paths, examples = dataset.record_files(self.source, 'train', '')
    sizes = dict(batch_size=300, shuffle='none', seed=0)
    with tf.Graph().as_default():
      table = queues.table(self.train, 'train')
      batches = [
        queues.record_queue(paths, examples, **sizes),
        queues.table_batch(table, queues.index_queue(examples, **sizes)),
      ]
      images = [augment.crops(b.pixels, b.indices) for b in batches]
      scaffold = tf.train.Scaffold(local_init_feed_dict=table.feed)
      with tf.train.MonitoredSession(
        tf.train.ChiefSessionCreator(scaffold)
      ) as session:
        (one, other), labels = session.run(
          [images, [b.labels for b in batches]]
        )
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(one, self.train.images[:300])
    np.testing.assert_array_equal(labels[0], labels[1])


if __name__ == '__main__':
  absltest.main()
