"""The commands as a user starts them: output, exit codes, error lines."""

import glob
import importlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

from absl import flags
from absl.testing import absltest

from graph_resnet9.__main__ import COMMANDS
from tests import helpers


def train(*args, **flags):
  return helpers.fresh_command(
    'train', *args, *helpers.arguments(**{**helpers.TINY, **flags})
  )


class CommandsTest(helpers.CommandTestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    scratch = tempfile.mkdtemp()
    cls.addClassCleanup(shutil.rmtree, scratch)
    cls.dir = pathlib.Path(scratch) / 'run'
    cls.trained = train(train_dir=cls.dir)

  def test_train_is_silent_but_for_its_results(self):
    self.assertEqual(self.trained.returncode, 0, self.trained.stderr)
    self.assertEqual(self.trained.stderr, '')
    self.assertEqual(
      json.loads(self.trained.stdout.splitlines()[-1])['step'], 16
    )

  def test_eval_takes_its_flags_from_flags_txt(self):
    done = helpers.fresh_command('eval', '--checkpoint=%s' % self.dir)
    self.assertEqual((done.returncode, done.stderr), (0, ''))
    lines = done.stdout.splitlines()
    result = json.loads(lines[-1])
    self.assertEqual(
      list(result),
      [
        'checkpoint',
        'step',
        'dataset',
        'split',
        'examples',
        'loss',
        'accuracy',
        'batch_norm',
        'weights',
        'mirrored',
        'shifted',
      ],
    )
    self.assertEqual(
      (result['step'], result['dataset'], result['examples']),
      (16, 'synthetic', 100),
    )
    trained = json.loads(self.trained.stdout.splitlines()[-1])
    self.assertEqual(result['accuracy'], trained['test_accuracy'])
    self.assertLen(lines, 3 + 10 + 1)

  def test_eval_flags_override_and_draw(self):
    png = self.dir.parent / 'confusion.png'
    done = helpers.command(
      'eval',
      '--checkpoint=%s' % (self.dir / 'model.ckpt-8.index'),
      '--split=train',
      '--batch_norm=batch',
      '--train_examples=64',
      '--confusion_png=%s' % png,
    )
    result = json.loads(done.stdout.splitlines()[-1])
    self.assertEqual(
      (
        result['step'],
        result['split'],
        result['examples'],
        result['batch_norm'],
      ),
      (8, 'train', 64, 'batch'),
    )
    self.assertTrue(png.exists())

  def test_verbosity_lets_tensorflow_speak(self):
    done = train('--verbosity=0', train_dir=self.dir)
    self.assertIn('deprecated', done.stderr)

  def test_wrong_flags_are_one_line(self):
    for args, expected in (
      (['--width=0'], '--width=0'),
      (['--epochs=0'], '--epochs'),
      (['--lr_epochs=0,1'], 'lr_epochs'),
      (['--momentum=x'], '--momentum=x'),
      (['--no_such_flag'], 'no_such_flag'),
      (['rest'], "'rest'"),
      (['--shuffle=random'], '--shuffle=random'),
    ):
      with self.subTest(args):
        self.fails(
          helpers.command('train', '--train_dir=/tmp/x', *args),
          'train: ',
          expected,
        )
    self.fails(helpers.command('train'), '--train_dir')
    self.fails(helpers.command('eval'), '--checkpoint')

  def test_help_shows_every_flag_once_and_what_matters_first(self):
    for name in COMMANDS:
      done = helpers.fresh_command(name, '--help')
      with self.subTest(name):
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        self.assertLessEqual(max(map(len, done.stdout.splitlines())), 80)
        flag_values = flags.FlagValues()
        module = importlib.import_module('graph_resnet9.' + name)
        module.define_flags(flag_values)
        shown = re.findall(r'(?m)^  --(?:\[no\])?(\w+)', done.stdout)
        self.assertCountEqual(shown, list(flag_values))
    shown = re.findall(
      r'(?m)^  --(\w+)', helpers.fresh_command('train', '-h').stdout
    )
    self.assertEqual(shown[:4], ['train_dir', 'recipe', 'dataset', 'data_dir'])
    process = subprocess.Popen(
      [sys.executable, '-m', 'graph_resnet9.train', '--help'],
      cwd=helpers.ROOT,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
    )
    process.stdout.close()
    self.assertEqual((process.stderr.read(), process.wait()), (b'', 141))
    process.stderr.close()

  def test_what_needs_no_tensorflow_is_refused_before_it_is_loaded(self):
    stub = self.create_tempdir()
    stub.create_file(
      'tensorflow/__init__.py', 'raise SystemExit("TensorFlow is loaded")'
    )
    run = stub.full_path + '/run'
    for expected, args in (
      ('TensorFlow is loaded', ['--dataset=synthetic']),
      ('--data_dir=/nowhere: no such', ['--data_dir=/nowhere']),
      ('holds none of', ['--data_dir=' + stub.full_path]),
      ('has 10000 examples', ['--dataset=synthetic', '--batch_size=10001']),
      ('has 50000 examples', ['--batch_size=50001']),
      ('has 9 examples', ['--batch_size=10', '--train_examples=9']),
      ('Give --data_dir', ['--dataset=cifar100']),
      ('there is no GPU here', ['--num_gpus=2', '--dataset=synthetic']),
      ('/dev/null is not a directory', ['--train_dir=/dev/null/run']),
    ):
      if 'GPU' in expected and glob.glob('/dev/nvidia[0-9]*'):
        continue
      with self.subTest(args):
        done = helpers.fresh_command(
          'train', '--train_dir=' + run, *args, PYTHONPATH=stub.full_path
        )
        self.assertEqual(done.returncode, 1)
        self.assertIn(expected, done.stderr)
        self.assertLen(done.stderr.splitlines(), 1)
    self.assertFalse(os.path.exists(run))

  def test_bad_data_dir_is_one_line(self):
    empty = self.create_tempdir().full_path
    for path, expected in (
      (empty, 'holds none of'),
      (empty + '/no', 'no such directory'),
    ):
      self.fails(
        helpers.command('train', '--train_dir=' + empty, '--data_dir=' + path),
        expected,
      )
    folder = os.path.join(empty, 'cifar-10-batches-bin')
    os.mkdir(folder)
    with open(os.path.join(folder, 'data_batch_1.bin'), 'wb') as f:
      f.write(bytes(3072))
    self.fails(
      helpers.command(
        'train', '--train_dir=' + empty + '/run', '--data_dir=' + empty
      ),
      'data_batch_1.bin',
      '3072 bytes',
    )

  def test_bad_checkpoint_is_one_line(self):
    empty = self.create_tempdir().full_path
    self.fails(
      helpers.command('eval', '--checkpoint=' + empty),
      'no checkpoint in this directory',
    )
    self.fails(
      helpers.command('eval', '--checkpoint=%s' % self.dir, '--width=8'),
      'model.ckpt-16',
      '--width',
    )

  def test_auto_without_a_network_says_synthetic(self):
    offline = dict(
      XDG_CACHE_HOME=self.create_tempdir().full_path,
      https_proxy='http://127.0.0.1:9',
      HTTPS_PROXY='http://127.0.0.1:9',
    )
    run_dir = self.create_tempdir().full_path
    flags = {**helpers.TINY, 'dataset': 'auto', 'train_dir': run_dir}
    done = helpers.command('train', *helpers.arguments(**flags), **offline)
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertIn('NOT CIFAR-10', done.stderr)
    self.assertIn('"dataset": "synthetic"', done.stdout.splitlines()[-1])
    flags['dataset'] = 'cifar10'
    self.fails(
      helpers.command('train', *helpers.arguments(**flags), **offline),
      'cifar-10-binary.tar.gz',
    )

  def test_reader_that_goes_away_is_no_traceback(self):
    process = subprocess.Popen(
      [sys.executable, '-m', 'graph_resnet9.train', '--train_dir=%s' % self.dir]
      + helpers.arguments(**helpers.TINY),
      cwd=helpers.ROOT,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      env=helpers.environment(),
    )
    process.stdout.close()
    self.assertNotIn('Traceback', process.stderr.read())
    process.stderr.close()
    self.assertEqual(process.wait(), 141)


class PackageTest(absltest.TestCase):
  def test_import_changes_no_global_switch(self):
    program = """
import graph_resnet9, os
from graph_resnet9.evaluation import evaluate
from graph_resnet9.training import loop
import tensorflow as tf
assert tf.executing_eagerly() and tf.compat.v1.resource_variables_enabled()
assert not tf.compat.v1.get_default_graph().get_operations()
assert os.environ['TF_USE_LEGACY_KERAS'] == '1'
print(os.environ['TF_ENABLE_ONEDNN_OPTS'])
"""
    for given, expected in (({}, '1'), ({'TF_ENABLE_ONEDNN_OPTS': '0'}, '0')):
      done = helpers.program(sys.executable, '-c', program, **given)
      self.assertEqual(done.stdout, expected + '\n', done.stderr)


if __name__ == '__main__':
  absltest.main()
