"""A folder of one's own with 12 classes, from training to prediction."""

import json
import pathlib
import shutil
import tempfile

from absl.testing import absltest
import numpy as np
import tensorflow as tf

from graph_resnet9.inputs import formats
from graph_resnet9.inputs import synthetic
from tests import helpers

# Ten shapes, and two of them again upside down.
NAMES = (*synthetic.CLASS_NAMES, 'square below', 'star below')


def twelve_classes(examples, seed):
  images, labels = synthetic.split(examples, seed)
  images, labels = images.copy(), labels.copy()
  for label, other in ((2, 10), (5, 11)):
    turned = np.flatnonzero(labels == label)[::2]
    images[turned] = images[turned, ::-1]
    labels[turned] = other
  return formats.Split(images, labels)


class OtherDataTest(helpers.CommandTestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.dir = pathlib.Path(tempfile.mkdtemp())
    cls.addClassCleanup(shutil.rmtree, cls.dir)
    data = cls.dir / 'data'
    data.mkdir()
    cls.test = twelve_classes(77, 3)
    for name, split in (
      ('part_1', twelve_classes(150, 1)),
      ('part_2', twelve_classes(106, 2)),
      ('test', cls.test),
    ):
      formats.encode_records(split).tofile(data / (name + '.bin'))
    (data / 'batches.meta.txt').write_text('\n'.join(NAMES) + '\n')
    cls.train_dir = cls.dir / 'run'
    cls.trained = helpers.train(
      cls.train_dir,
      dataset='folder',
      data_dir=data,
      train_examples=0,
      test_examples=0,
      mirrored=True,
    )

  def test_training_to_prediction(self):
    code, lines = self.trained
    self.assertEqual(code, 0)
    self.assertEqual(
      lines[0], 'dataset: folder, 8 steps of 32 images an epoch, 77 test images'
    )
    flags = (self.train_dir / 'flags.txt').read_text()
    self.assertIn('--classes=%s\n' % ','.join(NAMES), flags)
    self.assertEqual(
      helpers.weights(self.train_dir / 'model.ckpt-16')['linear/kernel'].shape[
        1
      ],
      12,
    )
    png = self.dir / 'confusion.png'
    done = helpers.command(
      'eval', '--checkpoint=%s' % self.train_dir, '--confusion_png=%s' % png
    )
    self.assertEqual((done.returncode, done.stderr), (0, ''))
    self.assertRegex(done.stdout, r'(?m)^  square below +\d')
    evaluated = json.loads(done.stdout.splitlines()[-1])
    self.assertEqual(
      (evaluated['dataset'], evaluated['examples']), ('folder', 77)
    )

    # Without the data: flags.txt has the names.
    shutil.move(self.dir / 'data', self.dir / 'elsewhere')
    served = self.dir / 'served'
    done = helpers.command(
      'export',
      '--checkpoint=%s' % self.train_dir,
      '--export_dir=%s' % (served / '1'),
    )
    self.assertEqual((done.returncode, done.stderr), (0, ''))
    pictures = self.dir / 'pictures'
    pictures.mkdir()
    for k, image in enumerate(self.test.images):
      (pictures / ('%03d.png' % k)).write_bytes(tf.io.encode_png(image).numpy())
    done = helpers.command(
      'predict',
      '--export_dir=%s' % served,
      '--format=json',
      '--top_k=99',
      str(pictures),
    )
    self.assertEqual((done.returncode, done.stderr), (0, ''))
    answers = [json.loads(line)['classes'] for line in done.stdout.splitlines()]
    self.assertLen(answers, 77)
    for answer in answers:
      self.assertCountEqual([each['name'] for each in answer], NAMES)
    accuracy = np.mean(
      [answer[0]['index'] for answer in answers] == self.test.labels
    )
    self.assertAlmostEqual(accuracy, evaluated['accuracy'])

  def test_data_that_are_gone_are_named(self):
    self.fails(
      helpers.command(
        'train',
        *helpers.arguments(
          **{
            **helpers.TINY,
            'dataset': 'folder',
            'data_dir': self.dir / 'none',
            'train_dir': self.train_dir,
          }
        ),
      ),
      'none: no such directory',
    )


if __name__ == '__main__':
  absltest.main()
