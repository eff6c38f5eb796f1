"""Who may import whom: the table of BUILD.md, kept by a test."""

import ast
import pathlib
import re

from absl.testing import absltest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'graph_resnet9'
MAX_LINES = 300
LEAVES = {'errors'}
# What each part may import besides itself and LEAVES. A module of the package
# root that is not here is a command: it may import anything, nobody imports it.
ALLOWED = {
    'errors': set(),
    'options': set(),
    'config': {'options', 'recipe_flags', 'cluster_flags'},
    'cluster_flags': {'recipe_flags'},
    'recipe_flags': set(),
    'doctor_flags': set(),
    'command_line': set(),
    'inputs': set(),
    'model': set(),
    'run': {'config', 'options', 'inputs', 'model'},
    'batchnorm': {'inputs', 'model'},
    'demos': {'options', 'inputs', 'model', 'run', 'batchnorm'},
}
# These load before TensorFlow, or are worth having without it.
WITHOUT_TENSORFLOW = (
    '__init__.py', 'cluster_flags.py', 'config.py', 'doctor_flags.py', 'options.py',
    'recipe_flags.py',
    'inputs/dataset.py', 'inputs/download.py', 'inputs/formats.py', 'inputs/pickles.py',
    'inputs/synthetic.py', 'demos/__init__.py', 'demos/report.py',
    'demos/gallery.py', 'batchnorm/findings.py', 'batchnorm/judge.py',
    'batchnorm/moments.py')


def files():
  return sorted(PACKAGE.rglob('*.py'))


def imported_modules(path):
  """The dotted names of all modules that the file at `path` imports."""
  names = []
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      names += [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      names += ['%s.%s' % (node.module, alias.name) for alias in node.names]
  return names


class LayoutTest(absltest.TestCase):

  def test_imports_point_down(self):
    for path in files():
      part = path.relative_to(PACKAGE).with_suffix('').parts[0]
      for module in imported_modules(path):
        target = module.split('.')[1:2]
        if not module.startswith('graph_resnet9.'):
          continue
        with self.subTest(file=str(path.relative_to(ROOT)), imports=module):
          self.assertIn(target[0], ALLOWED, 'a command is never imported')
          if part in ALLOWED:
            self.assertIn(target[0], ALLOWED[part] | {part} | LEAVES)

  def test_plain_modules_do_not_import_tensorflow(self):
    for name in WITHOUT_TENSORFLOW:
      with self.subTest(file=name):
        modules = imported_modules(PACKAGE / name)
        self.assertFalse([m for m in modules if m.startswith('tensorflow')])

  def test_only_config_and_command_line_read_flags(self):
    for path in files():
      with self.subTest(file=str(path.relative_to(ROOT))):
        if path.name not in ('config.py', 'doctor_flags.py', 'command_line.py'):
          self.assertIsNone(re.search(r'\bFLAGS\b', path.read_text()))

  def test_files_are_short(self):
    for path in files():
      with self.subTest(file=str(path.relative_to(ROOT))):
        self.assertLessEqual(len(path.read_text().splitlines()), MAX_LINES)

  def test_every_part_stands_in_build_md(self):
    text = (ROOT / 'BUILD.md').read_text()
    for path in files():
      if path.name != '__init__.py':
        with self.subTest(file=str(path.relative_to(ROOT))):
          self.assertTrue(path.name in text, 'BUILD.md does not name it')


if __name__ == '__main__':
  absltest.main()
