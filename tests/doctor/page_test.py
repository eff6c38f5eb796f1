"""The session of docs/doctor.md, on images that are easy to tell apart."""

import contextlib
import importlib.util
import io
import os

from absl.testing import absltest
import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.graph import decoding
from graph_resnet9.doctor.lint import rules
from graph_resnet9.doctor.measure import diagnosis
from graph_resnet9.doctor.measure import recalibration
from graph_resnet9.doctor.measure import sessions
from tests import helpers

SPEC = importlib.util.spec_from_file_location(
  'patient', helpers.ROOT / 'docs' / 'doctor' / 'training.py'
)
IMAGES, STEPS = 1000, 60


def write_images(path):
  """Writes binary records: noise on a brightness and a side for each class."""
  random = np.random.RandomState(0)
  labels = np.arange(IMAGES) % 10
  images = random.randint(0, 60, [IMAGES, 3, 32, 32])
  for k, label in enumerate(labels):
    half = slice(0, 16) if label % 2 else slice(16, 32)
    images[k, :, half] += 35 * (label // 2)
  records = np.concatenate([labels[:, None], images.reshape(IMAGES, -1)], 1)
  records.astype(np.uint8).tofile(path)


class SessionTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.patient = importlib.util.module_from_spec(SPEC)
    SPEC.loader.exec_module(self.patient)
    self.dir = self.create_tempdir().full_path
    self.images = os.path.join(self.dir, 'images.bin')
    write_images(self.images)

  def say(self, function, *args):
    """The percentage at the end of what a function prints."""
    stdout = io.StringIO()
    with tf.Graph().as_default(), contextlib.redirect_stdout(stdout):
      function(*args)
    return float(stdout.getvalue().strip().rpartition(' ')[2].rstrip('%'))

  def test_from_symptom_to_cure(self):
    self.say(self.patient.train, self.dir, self.images, STEPS)
    prefix = os.path.join(self.dir, 'model.ckpt-%d' % STEPS)
    self.assertLess(self.say(self.patient.evaluate, prefix, self.images), 40)

    report = rules.lint_meta_graph(
      decoding.read(prefix + '.meta')[1], checkpoint=prefix
    )
    self.assertEqual([f.code for f in report.findings], ['updates-not-run'])

    def verdicts(checkpoint):
      examined = sessions.of_meta_graph(prefix + '.meta', '')
      return [
        v.code for v in diagnosis.diagnose(examined, checkpoint, 10).verdicts
      ]

    self.assertEqual(verdicts(prefix), ['updates-never-ran'])
    cured = os.path.join(self.dir, 'cured')
    recalibration.recalibrate(
      sessions.of_meta_graph(prefix + '.meta', ''), prefix, cured, 20
    )
    self.assertEqual(verdicts(cured), ['healthy'])
    self.assertGreater(self.say(self.patient.evaluate, cured, self.images), 80)


if __name__ == '__main__':
  absltest.main()
