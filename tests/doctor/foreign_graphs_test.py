"""lint on graphs that people published, and on small programs with one fault.

They lie in ../shared/foreign; without it the tests are skipped.
"""

import csv
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile

from absl.testing import absltest

from graph_resnet9.doctor.graph import decoding
from graph_resnet9.doctor.lint import rules
from graph_resnet9.errors import UserError
from tests import helpers

FOREIGN = helpers.ROOT.parent / 'shared' / 'foreign'
# What index.tsv says in words.
NEVER = {'never-by-batch'}
IN_WORDS = {
  '(never normalises by the batch)': NEVER,
  '(D never normalises by the batch)': NEVER,
}
# {program: {end of a file that it writes: the codes due}}; a checkpoint beside
# a .meta is looked at, too.
PROGRAMS = {
  'attention_of_probabilities': {'.meta': set()},
  'checkpoint_not_finite': {'.meta': {'statistics-not-finite'}},
  'completion_of_the_input': {'.meta': {'evaluation-by-batch-statistics'}},
  'frozen_by_hand': {'.meta': set()},
  'import_old_shapes': {'.meta': set()},
  'keras_trainable_collection': {'.meta': set()},
  'moments_tf1_0': {'.meta': {'updates-not-run'}},
  'moments_tf1_2': {'.meta': {'updates-not-run'}},
  'saver_without_unused': {'.meta': NEVER},
  'text_and_frozen': {
    '.meta.pbtxt': {'evaluation-by-batch-statistics'},
    'graph.pbtxt': {'evaluation-by-batch-statistics'},
    'frozen.pb': {'evaluation-by-batch-statistics'},
  },
  'trained_by_stored': {'.meta': NEVER},
  'training_flag_forgotten': {'.meta': NEVER},
  'transposed_convolution': {'.meta': set()},
  'updates_in_evaluation': {'.meta': {'updates-in-evaluation'}},
}
# All in one process: TensorFlow takes longer to load than they take.
_RUN = """
import runpy, sys
import tensorflow.compat.v1 as tf
for path in sys.argv[2:]:
  sys.argv[1:2] = [sys.argv[1]]
  arguments, sys.argv = sys.argv, [path, sys.argv[1]]
  with tf.Graph().as_default():
    runpy.run_path(path, run_name='__main__')
  sys.argv = arguments
"""


def checked(path, checkpoint=None):
  """(exit code of lint, codes) of a file."""
  try:
    _, meta_graph = decoding.read(str(path))
    report = rules.lint_meta_graph(meta_graph, checkpoint=checkpoint)
  except UserError:
    return 2, set()
  return int(report.errors > 0), {f.code for f in report.findings}


@absltest.skipIf(not FOREIGN.exists(), 'no graphs of others here')
class PublishedTest(absltest.TestCase):
  def test_every_graph_as_the_index_says(self):
    right = graphs = 0
    with tempfile.TemporaryDirectory() as folder:
      with tarfile.open(FOREIGN / 'graphs.tar.xz') as files:
        files.extractall(folder)
      with open(os.path.join(folder, 'index.tsv'), newline='') as f:
        rows = list(csv.DictReader(f, delimiter='\t'))
      for row in rows:
        graphs += 1
        said = row['expected_codes']
        due = IN_WORDS.get(said, set(filter(None, said.split(','))))
        code, codes = checked(os.path.join(folder, row['file']))
        noise = {'several-updates-a-step'} if 'noise' in row['note'] else set()
        with self.subTest(row['file']):
          self.assertEqual(code, int(row['expected_exit']))
          if said in IN_WORDS:
            self.assertContainsSubset(due, codes)
          else:
            self.assertSetEqual(codes - noise, due - noise)
          right += 1
    helpers.SUMMARY.append(
      'lint on %d graphs that people published: %d as expected'
      % (graphs, right)
    )


@absltest.skipIf(not FOREIGN.exists(), 'no programs of others here')
class ProgramsTest(absltest.TestCase):
  def test_every_program_as_it_says(self):
    paths = [FOREIGN / 'cases' / (name + '.py') for name in PROGRAMS]
    self.assertSetEqual(
      {path.name for path in paths},
      {path.name for path in (FOREIGN / 'cases').glob('*.py')},
    )
    with tempfile.TemporaryDirectory() as folder:
      subprocess.run(
        [sys.executable, '-c', _RUN, folder, *map(str, paths)],
        check=True,
        capture_output=True,
        env=dict(os.environ, TF_USE_LEGACY_KERAS='1'),
      )
      for name, files in PROGRAMS.items():
        for end, due in files.items():
          path = pathlib.Path(folder) / (name + end if end[0] == '.' else end)
          prefix = path.with_suffix('')
          there = path.suffix == '.meta' and os.path.exists('%s.index' % prefix)
          with self.subTest(program=name, file=path.name):
            _, codes = checked(path, str(prefix) if there else None)
            self.assertSetEqual(codes, due)


if __name__ == '__main__':
  absltest.main()
