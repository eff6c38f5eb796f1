"""The exported model: what it answers, what is in it, who can load it."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from absl.testing import absltest
import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.core.protobuf import saved_model_pb2

from graph_resnet9.cli import flagfile
from graph_resnet9.cli import recipe_flags
from graph_resnet9.errors import UserError
from graph_resnet9.evaluation import saved_model
from graph_resnet9.inputs import dataset
from graph_resnet9.inputs import synthetic
from tests import helpers

EXAMPLES = helpers.TINY['test_examples']
# A program of somebody who has never heard of this project.
TF2_PROGRAM = """
import sys
import numpy as np
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
images = tf.constant(np.load(sys.argv[2]))
outputs = model.signatures['serving_default'](images=images)
np.save(sys.argv[3], outputs['probabilities'].numpy())
print(outputs['class_names'][0].numpy().decode())
"""


def exported(folder, train_dir, step, weights='auto', **views):
  """Exports a checkpoint of a tiny run; returns (summary, settings)."""
  prefix = '%s/model.ckpt-%d' % (train_dir, step)
  run = flagfile.read(str(train_dir))
  if views:
    run = run.replace(views=recipe_flags.Views(**views))
  return saved_model.export(prefix, folder, run, weights), run


def meta_graph(folder):
  with tf.Graph().as_default(), tf.Session() as session:
    return tf.saved_model.loader.load(session, ['serve'], str(folder))


class SavedModelTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    scratch = pathlib.Path(tempfile.mkdtemp())
    cls.addClassCleanup(shutil.rmtree, scratch)
    cls.done = helpers.finished_run()[0]
    cls.folder = scratch / 'served' / '1'
    cls.summary, cls.run_settings = exported(cls.folder, cls.done, 16)
    cls.averaged = scratch / 'averaged'
    helpers.train(
      cls.averaged,
      ema_decay=0.7,
      ema_steps=1,
      mirrored=True,
      epochs=0.5,
      lr_values='0,.2,0',
    )
    cls.data = dataset.load(dataset.find('synthetic'), 'test', EXAMPLES)

  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.create_tempdir().full_path)

  def predict(self, folder, images):
    with saved_model.Predictor(str(folder)) as predictor:
      return predictor.predict(images)

  # What it answers.

  def agrees_with_eval(self, folder, checkpoint, conv='direct', **values):
    """The same confusion matrix; the loss by its probabilities within 1e-6.

    With Winograd's convolutions in eval, other rounding: within 1e-5.
    """
    summary, result, _ = helpers.evaluate(
      checkpoint,
      width=4,
      batch_size=EXAMPLES,
      test_examples=EXAMPLES,
      dataset='synthetic',
      shuffle='none',
      conv=conv,
      **values,
    )
    found = self.predict(folder, self.data.images)
    confusion = np.zeros_like(result.confusion)
    np.add.at(confusion, (self.data.labels, found.classes), 1)
    np.testing.assert_array_equal(confusion, result.confusion)
    shares = found.probabilities[np.arange(EXAMPLES), self.data.labels]
    self.assertAlmostEqual(
      -np.log(shares).mean(),
      summary['loss'],
      delta=1e-6 if conv == 'direct' else 1e-5,
    )
    return summary['loss']

  def test_answers_are_those_of_eval(self):
    for conv in ('direct', 'winograd'):
      with self.subTest(conv):
        self.agrees_with_eval(self.folder, self.done / 'model.ckpt-16', conv)

  def test_convolutions_are_direct_however_the_run_had_them(self):
    self.assertEqual(self.run_settings.model.conv, 'winograd')
    types = [node.op for node in meta_graph(self.folder).graph_def.node]
    self.assertEqual(types.count('Conv2D'), 8)
    self.assertNotIn('BatchMatMulV2', types)

  def test_averages_and_mirror_images_as_in_eval(self):
    checkpoint = self.averaged / 'model.ckpt-4'
    losses = set()
    for k, values in enumerate(
      (
        dict(mirrored=True),
        dict(mirrored=False),
        dict(weights='trained', mirrored=True),
        dict(weights='average', mirrored=False),
        dict(mirrored=True, shifted=True),
      )
    ):
      with self.subTest(**values):
        folder = self.dir / str(k)
        summary, _ = exported(folder, self.averaged, 4, **values)
        self.assertEqual(
          (summary['weights'], summary['mirrored']),
          (values.get('weights', 'average'), values['mirrored']),
        )
        losses.add(self.agrees_with_eval(folder, checkpoint, **values))
    self.assertLen(losses, 4)

  def test_precision_of_the_training(self):
    run = self.run_settings.replace(
      model=self.run_settings.model.replace(precision='bfloat16')
    )
    prefix = str(self.done / 'model.ckpt-16')
    saved_model.export(prefix, self.dir / 'e', run, 'auto')
    self.agrees_with_eval(self.dir / 'e', prefix, precision='bfloat16')

  def test_class_names_are_those_of_the_classes(self):
    found = self.predict(self.folder, self.data.images)
    self.assertEqual(
      found.class_names, [synthetic.CLASS_NAMES[k] for k in found.classes]
    )
    np.testing.assert_array_equal(found.probabilities.argmax(1), found.classes)
    np.testing.assert_allclose(found.probabilities.sum(1), 1, rtol=1e-5)

  def test_answer_does_not_depend_on_the_rest_of_the_batch(self):
    whole = self.predict(self.folder, self.data.images).probabilities
    for size in (1, 7):
      part = self.predict(self.folder, self.data.images[:size]).probabilities
      np.testing.assert_allclose(part, whole[:size], rtol=1e-5)

  # What is in it.

  def test_holds_the_variables_of_inference_and_no_others(self):
    checkpoint = helpers.weights(self.done / 'model.ckpt-16')
    stored = helpers.weights(self.folder / 'variables' / 'variables')
    self.assertCountEqual(
      stored,
      [
        name
        for name in checkpoint
        if name != 'global_step' and not name.endswith('/Momentum')
      ],
    )
    for name, value in stored.items():
      np.testing.assert_array_equal(value, checkpoint[name])

  def test_no_queue_no_training_no_update(self):
    graph = meta_graph(self.folder)
    for node in graph.graph_def.node:
      self.assertNotRegex(node.op, 'Queue|Grad|ApplyM|Iterator|AssignSub')
      self.assertEqual(node.device, '')
      if node.op.startswith('FusedBatchNorm'):
        self.assertFalse(node.attr['is_training'].b)
    self.assertNotIn('update_ops', graph.collection_def)

  def test_all_ops_are_tensorflows_own(self):
    core = subprocess.run(
      [
        sys.executable,
        '-c',
        'import tensorflow as tf\n'
        'from tensorflow.python.framework import op_def_registry\n'
        'graph = tf.compat.v1.MetaGraphDef.FromString(open(0, "rb").read())\n'
        'print([n.op for n in graph.graph_def.node\n'
        '       if op_def_registry.get(n.op) is None])',
      ],
      input=meta_graph(self.folder).SerializeToString(),
      check=True,
      capture_output=True,
      env=helpers.environment(),
    ).stdout
    self.assertEqual(core, b'[]\n')

  def test_no_attribute_that_tensorflow_1_does_not_know(self):
    """Its loader refuses a node that has one, whatever it says."""
    saved = saved_model_pb2.SavedModel.FromString(
      (self.folder / 'saved_model.pb').read_bytes()
    )
    nodes = saved.meta_graphs[0].graph_def.node
    self.assertIn('VarHandleOp', {node.op for node in nodes})
    for node in nodes:
      self.assertNotIn('debug_name', node.attr)

  def test_summary_says_what_was_exported(self):
    self.assertEqual(
      {
        name: self.summary[name]
        for name in ('step', 'weights', 'mirrored', 'width', 'class_names')
      },
      dict(
        step=16,
        weights='trained',
        mirrored=False,
        width=4,
        class_names=synthetic.CLASS_NAMES,
      ),
    )
    self.assertEqual(
      self.summary['parameters'],
      sum(
        value.size
        for name, value in helpers.weights(
          self.folder / 'variables' / 'variables'
        ).items()
        if 'moving' not in name
      ),
    )
    self.assertEqual(
      self.summary['bytes'],
      sum(
        path.stat().st_size for path in self.folder.rglob('*') if path.is_file()
      ),
    )

  # Who can load it.

  def stock(self, *args):
    """Runs Python far from this package; returns stdout."""
    done = helpers.program(sys.executable, *args, cwd=self.dir)
    self.assertEqual(done.returncode, 0, done.stderr)
    return done.stdout

  def test_tensorflow_2_loads_it(self):
    np.save(self.dir / 'images.npy', self.data.images)
    said = self.stock('-c', TF2_PROGRAM, self.folder, 'images.npy', 'out.npy')
    expected = self.predict(self.folder, self.data.images)
    np.testing.assert_allclose(
      np.load(self.dir / 'out.npy'), expected.probabilities, rtol=1e-5
    )
    self.assertEqual(said, expected.class_names[0] + '\n')

  def test_saved_model_cli_runs_it(self):
    np.save(self.dir / 'images.npy', self.data.images)
    self.stock(
      '-m',
      'tensorflow.python.tools.saved_model_cli',
      'run',
      '--dir',
      self.folder,
      '--tag_set',
      'serve',
      '--signature_def',
      'serving_default',
      '--inputs',
      'images=images.npy',
      '--outdir',
      self.dir,
    )
    expected = self.predict(self.folder, self.data.images)
    np.testing.assert_array_equal(
      np.load(self.dir / 'classes.npy'), expected.classes
    )
    np.testing.assert_allclose(
      np.load(self.dir / 'probabilities.npy'), expected.probabilities, rtol=1e-5
    )

  def test_every_output_begins_with_the_batch(self):
    """Or TensorFlow Serving could not answer {"instances": [...]}."""
    signature = meta_graph(self.folder).signature_def['serving_default']
    self.assertEqual(signature.method_name, 'tensorflow/serving/predict')
    for info in [*signature.inputs.values(), *signature.outputs.values()]:
      self.assertEqual(info.tensor_shape.dim[0].size, -1)

  # Complete, or not at all.

  def refuses(self, expected, train_dir=None, step=16, **values):
    """UserError; no file but those there before."""
    before = sorted(self.dir.rglob('*'))
    values = {'export_dir': self.dir / 'new', **values}
    with self.assertRaisesRegex(UserError, expected):
      exported(values.pop('export_dir'), train_dir or self.done, step, **values)
    self.assertEqual(sorted(self.dir.rglob('*')), before)

  def test_directory_in_use_is_left_alone(self):
    (self.dir / 'kept').write_text('mine')
    self.refuses('--export_dir=.*: not empty', export_dir=self.dir)
    self.refuses('--export_dir=.*/kept: a file', export_dir=self.dir / 'kept')
    self.refuses(
      'kept/new: cannot be written: .*kept: File exists',
      export_dir=self.dir / 'kept' / 'new',
    )
    self.assertEqual((self.dir / 'kept').read_text(), 'mine')

  def test_empty_directory_is_taken(self):
    exported(str(self.dir) + '/', self.done, 16)
    self.assertEqual(
      sorted(os.listdir(self.dir)), ['saved_model.pb', 'variables']
    )
    self.assertEqual(os.listdir(self.dir.parent), [self.dir.name])

  def test_others_may_read_what_the_umask_lets_them(self):
    for path in [self.folder, *self.folder.rglob('*')]:
      self.assertEqual(path.stat().st_mode & 0o444, 0o444, path)

  def test_checkpoint_that_does_not_fit_leaves_nothing(self):
    self.refuses('holds no variable', weights='average')
    damaged = self.dir / 'damaged'
    shutil.copytree(self.done, damaged)
    data = damaged / 'model.ckpt-16.data-00000-of-00001'
    data.write_bytes(data.read_bytes()[:-100])
    self.refuses('damaged checkpoint', train_dir=damaged)

  def test_weights_that_are_not_finite_are_refused(self):
    broken = self.dir / 'broken'
    shutil.copytree(self.done, broken)
    prefix = broken / 'model.ckpt-16'
    for value, name in ((np.nan, 'kernel'), (np.inf, 'moving_variance')):
      values = helpers.weights(self.done / 'model.ckpt-16')
      name = min(key for key in values if key.endswith('/' + name))
      values[name].flat[1] = value
      helpers.save_weights(values, prefix)
      self.refuses(
        'ckpt-16: %s: 1 of %d values are not finite'
        % (name, values[name].size),
        train_dir=broken,
      )

  def test_refusal_of_the_check_leaves_nothing(self):
    def check(folder):
      self.assertIn('saved_model.pb', os.listdir(folder))
      raise UserError('not this one')

    with self.assertRaisesRegex(UserError, 'not this one'):
      saved_model.export(
        str(self.done / 'model.ckpt-16'),
        self.dir / 'new',
        self.run_settings,
        'auto',
        check,
      )
    self.assertEqual(list(self.dir.iterdir()), [])

  # What predict is given instead.

  def cannot_load(self, expected):
    with self.assertRaisesRegex(UserError, expected) as caught:
      saved_model.Predictor(str(self.dir))
    self.assertIn('--export_dir=%s: ' % self.dir, str(caught.exception))
    self.assertLen(str(caught.exception).splitlines(), 1)

  def test_what_is_no_saved_model(self):
    self.cannot_load('no SavedModel')
    (self.dir / 'saved_model.pb').write_bytes(b'\xff' * 50)
    self.cannot_load('no SavedModel')
    (self.dir / 'saved_model.pb').write_bytes(b'')
    self.cannot_load('no SavedModel')

  def test_damaged_export(self):
    for name, content in (
      ('saved_model.pb', None),
      ('variables/variables.index', b''),
      ('variables/variables.data-00000-of-00001', b'x'),
    ):
      shutil.copytree(self.folder, self.dir, dirs_exist_ok=True)
      path = self.dir / name
      whole = path.read_bytes()
      path.write_bytes(whole[: len(whole) // 2] if content is None else content)
      self.cannot_load('no SavedModel that can be loaded')

  def test_saved_model_of_somebody_else(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float32, [None], 'x')
      tf.saved_model.simple_save(
        session, str(self.dir / 'm'), {'x': x}, {'y': x + 1}
      )
    self.dir /= 'm'
    self.cannot_load('not one of graph_resnet9.export')


if __name__ == '__main__':
  absltest.main()
