"""export and predict as a user starts them: output, exit codes, error lines."""

import csv
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from absl.testing import absltest
import numpy as np
import tensorflow as tf

from graph_resnet9.inputs import synthetic
from tests import helpers


class ExportPredictCommandsTest(helpers.CommandTestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    scratch = pathlib.Path(tempfile.mkdtemp())
    cls.addClassCleanup(shutil.rmtree, scratch)
    cls.done = helpers.finished_run()[0]
    cls.served = scratch / 'new' / 'served' / '1'
    cls.exported = helpers.command(
      'export', '--checkpoint=%s' % cls.done, '--export_dir=%s' % cls.served
    )
    cls.pictures = scratch / 'pictures'
    cls.pictures.mkdir()
    cls.images = synthetic.split(3, 7).images
    for name, image in zip(('a b.png', 'größe.png', '-x.png'), cls.images):
      (cls.pictures / name).write_bytes(tf.io.encode_png(image).numpy())
    (cls.pictures / 'photo.JPG').write_bytes(
      tf.io.encode_jpeg(
        np.kron(cls.images[0], np.ones([20, 20, 1], np.uint8))
      ).numpy()
    )

  def predict(self, *args, **values):
    return helpers.command(
      'predict', '--export_dir=%s' % self.served, *map(str, args), **values
    )

  # export.

  def test_export_says_what_it_made(self):
    self.assertEqual((self.exported.returncode, self.exported.stderr), (0, ''))
    *_, text, line = self.exported.stdout.splitlines()
    self.assertStartsWith(text, 'trained weights of step 16, width 4, ')
    result = json.loads(line)
    self.assertEqual(result['export_dir'], str(self.served))
    self.assertEqual(result['checkpoint'], str(self.done / 'model.ckpt-16'))
    self.assertEqual(result['class_names'], list(synthetic.CLASS_NAMES))
    self.assertEqual(os.listdir(self.served.parent), ['1'])

  def test_export_again_is_refused(self):
    before = {p: p.stat().st_mtime_ns for p in self.served.rglob('*')}
    self.fails(
      helpers.command(
        'export',
        '--checkpoint=%s' % (self.done / 'model.ckpt-8.index'),
        '--export_dir=%s' % self.served,
      ),
      'export: ',
      'not empty',
    )
    self.assertEqual(
      before, {p: p.stat().st_mtime_ns for p in self.served.rglob('*')}
    )

  def test_export_needs_flags_txt(self):
    folder = pathlib.Path(self.create_tempdir().full_path)
    for path in self.done.glob('model.ckpt-8.*'):
      shutil.copy(path, folder)
    self.fails(
      helpers.command(
        'export',
        '--checkpoint=%s' % (folder / 'model.ckpt-8'),
        '--export_dir=%s' % (folder / 'new'),
      ),
      'flags.txt: not there',
    )
    self.assertFalse((folder / 'new').exists())

  def test_export_refuses_statistics_that_never_moved(self):
    folder = pathlib.Path(self.create_tempdir().full_path)
    helpers.train(folder / 'run', update_ops='none', epochs=0.25)
    self.fails(
      helpers.command(
        'export',
        '--checkpoint=%s' % (folder / 'run'),
        '--export_dir=%s' % (folder / 'new'),
      ),
      'model.ckpt-2: not exported',
      'statistics-still-initial',
      'graph_resnet9.recalibrate',
    )
    self.assertEqual(os.listdir(folder), ['run'])

  def test_lint_takes_the_export(self):
    done = helpers.command(
      'lint',
      '--meta_graph=%s' % self.served,
      '--checkpoint=%s' % (self.served / 'variables' / 'variables'),
    )
    self.assertEqual((done.returncode, done.stderr), (0, ''))
    self.assertStartsWith(done.stdout, '8 layers: 8 never by the batch')
    self.assertEndsWith(done.stdout, 'errors: 0, warnings: 0\n')

  # predict.

  def test_a_line_a_picture_in_the_order_given(self):
    names = ['photo.JPG', 'größe.png', 'a b.png', 'größe.png']
    done = self.predict(*(self.pictures / name for name in names))
    self.assertEqual((done.returncode, done.stderr), (0, ''))
    rows = [line.split('\t') for line in done.stdout.splitlines()]
    self.assertEqual(
      [row[0] for row in rows], [str(self.pictures / name) for name in names]
    )
    self.assertEqual(rows[1], rows[3])
    model = tf.saved_model.load(str(self.served)).signatures['serving_default']
    expected = model(images=tf.constant(self.images[1:2]))
    self.assertEqual(
      rows[1][1:],
      [
        expected['class_names'][0].numpy().decode(),
        '%.4f' % expected['probabilities'].numpy().max(),
      ],
    )

  def expected(self, image):
    """[(name, probability)] of a picture, the most probable one first."""
    model = tf.saved_model.load(str(self.served)).signatures['serving_default']
    (shares,) = model(images=tf.constant(image[None]))['probabilities'].numpy()
    return [(synthetic.CLASS_NAMES[k], shares[k]) for k in np.argsort(-shares)]

  def test_formats(self):
    path = str(self.pictures / 'größe.png')
    expected = self.expected(self.images[1])
    rows = [
      cell for name, share in expected[:3] for cell in (name, '%.4f' % share)
    ]
    done = self.predict(path, '--top_k=3')
    self.assertEqual(done.stdout, '\t'.join([path] + rows) + '\n')
    done = self.predict(
      path, '--format=json', '--top_k=99', PYTHONIOENCODING='ascii'
    )
    (line,) = done.stdout.splitlines()
    answer = json.loads(line)
    self.assertEqual(answer['file'], path)
    self.assertEqual(
      [each['name'] for each in answer['classes']],
      [name for name, _ in expected],
    )
    for each, (_, share) in zip(answer['classes'], expected):
      self.assertEqual(synthetic.CLASS_NAMES[each['index']], each['name'])
      self.assertAlmostEqual(each['probability'], share, delta=1e-6)
    done = self.predict(
      path, self.pictures / 'a b.png', '--format=csv', '--top_k=2'
    )
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    self.assertEqual(
      [(row['file'], row['rank'], row['class']) for row in rows[:2]],
      [(path, str(k + 1), expected[k][0]) for k in range(2)],
    )
    self.assertLen(rows, 4)

  def test_folders_and_a_list_on_standard_input(self):
    folder = pathlib.Path(self.create_tempdir().full_path)
    (folder / 'empty').mkdir()
    (folder / 'b').mkdir()
    good = (self.pictures / 'a b.png').read_bytes()
    for name in ('b/2.JPG', 'b/1.png', 'c.jpeg', 'notes.txt', 'a.png'):
      (folder / name).write_bytes(good)
    names = ['a.png', 'b/1.png', 'b/2.JPG', 'c.jpeg']
    expected = [str(folder / name) for name in names]

    def files(done):
      self.assertEqual((done.returncode, done.stderr), (0, ''))
      return [line.split('\t')[0] for line in done.stdout.splitlines()]

    self.assertEqual(files(self.predict(folder)), expected)
    listed = '\n'.join([expected[3], '', str(folder / 'b')])
    self.assertEqual(
      files(self.predict(expected[0], '-', stdin=listed)),
      [expected[0], expected[3], *expected[1:3]],
    )
    self.fails(
      self.predict(folder / 'empty'), 'empty: a folder without PNG or JPEG'
    )

  def test_newest_version_below_a_base(self):
    base = pathlib.Path(self.create_tempdir().full_path)
    for name in ('9', 'x'):
      shutil.copytree(self.served, base / name)
    (base / '11').mkdir()  # Without a model.
    done = helpers.command(
      'export',
      '--checkpoint=%s' % (self.done / 'model.ckpt-8'),
      '--export_dir=%s' % (base / '10'),
    )
    self.assertEqual(done.returncode, 0, done.stderr)
    path = self.pictures / 'a b.png'
    answers = [
      helpers.command('predict', '--export_dir=%s' % folder, str(path)).stdout
      for folder in (base, base / '10', base / '9')
    ]
    self.assertEqual(answers[0], answers[1])
    self.assertNotEqual(answers[0], answers[2])

  def test_more_pictures_than_a_batch_holds(self):
    good, bad = self.pictures / 'a b.png', self.pictures / 'no.png'
    paths = [bad] * 150 + [good] * 120
    done = self.predict(*paths)
    self.assertEqual(done.returncode, 1)
    self.assertLen(done.stderr.splitlines(), 150)
    self.assertLen(set(done.stdout.splitlines()), 1)
    self.assertLen(done.stdout.splitlines(), 120)

  def test_what_cannot_be_used_does_not_stop_the_rest(self):
    folder = pathlib.Path(self.create_tempdir().full_path)
    jpeg = (self.pictures / 'photo.JPG').read_bytes()
    bad = {
      'cut.jpg': jpeg[: len(jpeg) // 2],
      'head.jpg': jpeg[:30],
      'empty.png': b'',
      'text.png': b'some text',
    }
    for name, contents in bad.items():
      (folder / name).write_bytes(contents)
    empty = pathlib.Path(self.create_tempdir().full_path)
    paths = [folder / name for name in bad] + [empty, folder / 'no such.png']
    done = self.predict(*paths, self.pictures / 'a b.png')
    self.assertEqual(done.returncode, 1)
    self.assertLen(done.stdout.splitlines(), 1)
    lines = done.stderr.splitlines()
    self.assertLen(lines, len(paths), done.stderr)
    for path, line in zip(paths, lines):
      self.assertStartsWith(line, 'predict: %s: ' % path)

  def test_name_that_stdout_cannot_show(self):
    path = os.fsencode(self.pictures) + b'/\xff.png'
    shutil.copy(self.pictures / 'a b.png', path)
    done = helpers.fresh_command(
      'predict',
      '--export_dir=%s' % self.served,
      os.fsdecode(path),
      str(self.pictures / 'größe.png'),
      PYTHONIOENCODING='ascii',
    )
    self.assertEqual((done.returncode, done.stderr), (0, ''))
    self.assertIn('\\udcff.png\t', done.stdout)
    self.assertIn('gr\\xf6\\xdfe.png\t', done.stdout)

  def test_flags_may_stand_behind_files(self):
    done = helpers.command(
      'predict',
      str(self.pictures / 'a b.png'),
      '--export_dir=%s' % self.served,
      '--',
      str(self.pictures / '-x.png'),
    )
    self.assertEqual((done.returncode, done.stderr), (0, ''))
    self.assertLen(done.stdout.splitlines(), 2)

  def test_no_file_and_wrong_flags_are_one_line(self):
    self.fails(self.predict(), 'predict: no files given')
    self.fails(self.predict('x.png', '--top=3'), "'top'")
    self.fails(helpers.command('predict', 'x.png'), '--export_dir')
    self.fails(helpers.command('export', '--checkpoint=x'), '--export_dir')
    self.fails(
      helpers.command('export', '--checkpoint=x', '--export_dir=y', 'z'),
      "'z' is no flag",
    )

  def test_export_dir_that_is_none(self):
    self.fails(
      helpers.command('predict', '--export_dir=%s' % self.done, 'x'),
      '--export_dir=%s: no SavedModel' % self.done,
      'it holds checkpoints: graph_resnet9.export',
    )

  def test_reader_that_goes_away_is_no_traceback(self):
    process = subprocess.Popen(
      [
        sys.executable,
        '-m',
        'graph_resnet9.predict',
        '--export_dir=%s' % self.served,
      ]
      + [str(self.pictures / 'a b.png')] * 9,
      cwd=helpers.ROOT,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      env=helpers.environment(),
    )
    process.stdout.close()
    self.assertEqual(helpers.heard(process.stderr.read()), '')
    process.stderr.close()
    self.assertEqual(process.wait(), 141)


if __name__ == '__main__':
  absltest.main()
