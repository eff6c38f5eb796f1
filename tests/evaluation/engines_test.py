"""Exported models in engines that are not ours: they answer as eval does.

GRAPH_RESNET9_ENGINES names a folder of virtual environments, one an engine, as
scripts/engines.sh makes them. Without it an engine runs in this interpreter if
that has its package, and is skipped otherwise.
"""

import functools
import importlib.util
import json
import os
import pathlib
import shutil
import sys
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from graph_resnet9.evaluation import saved_model
from graph_resnet9.inputs import dataset
from graph_resnet9.inputs import synthetic
from tests import helpers
from tests.evaluation import saved_model_test

SCRIPT = helpers.ROOT / 'tests' / 'tools' / 'engines.py'
EXAMPLES = helpers.TINY['test_examples']
# Largest difference of a probability; float32 rounds to 6e-8 near 1.
TOLERANCE = 5e-6
PACKAGES = dict(
  tensorflow1=['tensorflow_core'],
  openvino=['openvino'],
  onnx=['onnxruntime', 'tf2onnx'],
  litert=['ai_edge_litert'],
)


def interpreter(engine):
  """The Python that has an engine, or None."""
  folder = os.environ.get('GRAPH_RESNET9_ENGINES')
  if folder:
    python = pathlib.Path(folder, engine, 'bin', 'python')
    return str(python) if python.exists() else None
  return sys.executable if all(map(has, PACKAGES[engine])) else None


def has(package):
  return importlib.util.find_spec(package) is not None


def run(*args):
  done = helpers.program(*args, cwd='/', PYTHONPATH='', TF_USE_LEGACY_KERAS='1')
  assert done.returncode == 0, done.stderr


def to_onnx(python, model, path):
  run(
    *(python, '-m', 'tf2onnx.convert', '--saved-model', model),
    *('--output', path, '--opset', 18),
  )


def to_tflite(python, model, path):
  del python
  converter = tf.lite.TFLiteConverter.from_saved_model(
    str(model), signature_keys=['serving_default']
  )
  path.write_bytes(converter.convert())


TRANSLATED = dict(onnx=to_onnx, litert=to_tflite)


class EnginesTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.scratch = pathlib.Path(tempfile.mkdtemp())
    cls.addClassCleanup(shutil.rmtree, cls.scratch)
    cls.data = dataset.load(dataset.find('synthetic'), 'test', EXAMPLES)
    np.save(cls.scratch / 'images.npy', cls.data.images)

  @classmethod
  @functools.cache
  def model(cls, recipe):
    """A SavedModel of a tiny training by a recipe, and what eval says of it.

    Returns:
      (folder, dict with loss and accuracy on the test images).
    """
    run = cls.scratch / recipe / 'run'
    # A high rate, for answers that differ from each other after 16 steps.
    helpers.train(
      run, recipe=recipe, ghost_batch=0, lr_epochs='0,1,2', lr_values='0,1,0'
    )
    folder = cls.scratch / recipe / '1'
    saved_model_test.exported(folder, run, 16, weights='trained')
    done = helpers.command('eval', '--checkpoint=%s' % run, '--weights=trained')
    return folder, json.loads(done.stdout.splitlines()[-1])

  def answers(self, engine, recipe):
    """({output: array} of an engine on the test images, what eval says)."""
    python = interpreter(engine)
    if not python:
      self.skipTest('no %s here' % engine)
    model, evaluated = self.model(recipe)
    if engine in TRANSLATED:
      path = model.parent / engine
      TRANSLATED[engine](python, model, path)
      model = path
    path = self.scratch / 'answers.npz'
    run(python, SCRIPT, engine, model, self.scratch / 'images.npy', path)
    return np.load(path), evaluated

  @parameterized.product(engine=sorted(PACKAGES), recipe=['dawn24', 'fast10'])
  def test_it_answers_as_eval(self, engine, recipe):
    answers, evaluated = self.answers(engine, recipe)
    probabilities = answers['probabilities']
    label = np.arange(EXAMPLES), self.data.labels
    loss = -np.log(probabilities[label].astype(np.float64)).mean()
    self.assertAlmostEqual(loss, evaluated['loss'], delta=TOLERANCE)
    classes = answers['classes']
    self.assertEqual(
      (classes == self.data.labels).mean(), evaluated['accuracy']
    )
    self.assertEqual(
      answers['class_names'].tolist(),
      [synthetic.CLASS_NAMES[k] for k in classes],
    )
    with saved_model.Predictor(str(self.model(recipe)[0])) as predictor:
      expected = predictor.predict(self.data.images)
    difference = np.abs(probabilities - expected.probabilities).max()
    self.assertLess(difference, TOLERANCE)
    np.testing.assert_array_equal(classes, expected.classes)
    helpers.SUMMARY.append(
      'engine %s, %s: probabilities within %.1e of ours, which are up to %.3f'
      % (engine, recipe, difference, probabilities.max())
    )


if __name__ == '__main__':
  absltest.main()
