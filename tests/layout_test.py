"""Who may import whom: the table of BUILD.md, kept by a test."""

import ast
import importlib.util
import pathlib
import re

from absl.testing import absltest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'graph_resnet9'
MAX_LINES = 420
LEAVES = {'errors', 'files'}
# What each part may import besides itself and LEAVES. A module of the package
# root that is not here is a command: it may import anything, nobody imports it.
ALLOWED = {
  'errors': set(),
  'files': set(),
  'interrupts': set(),
  'cli': set(),
  'inputs': set(),
  'model': set(),
  'checkpoints': set(),
  'evaluation': {'cli', 'checkpoints', 'inputs', 'model'},
  'training': {
    'cli',
    'checkpoints',
    'doctor',
    'evaluation',
    'inputs',
    'interrupts',
    'model',
  },
  'cluster': {
    'cli',
    'checkpoints',
    'evaluation',
    'inputs',
    'interrupts',
    'model',
    'training',
  },
  'speed': {'cli', 'inputs', 'model', 'training'},
  'doctor': {'checkpoints'},
  'demos': {'inputs', 'model', 'doctor'},
}
# These load before TensorFlow, or are worth having without it.
WITHOUT_TENSORFLOW = (
  '__init__.py',
  'cli/flagfile.py',
  'cli/usage.py',
  'cli/recipe_flags.py',
  'cli/recipes.py',
  'cli/settings.py',
  'cli/shared_flags.py',
  'cli/train_flags.py',
  'inputs/dataset.py',
  'inputs/download.py',
  'inputs/formats.py',
  'inputs/cifar.py',
  'inputs/pickles.py',
  'inputs/synthetic.py',
  'demos/cases/__init__.py',
  'demos/report.py',
  'demos/gallery.py',
  'doctor/lint/findings.py',
  'doctor/lint/kinds.py',
  'doctor/lint/reports.py',
  'doctor/measure/verdicts.py',
  'doctor/measure/moments.py',
)


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


def mapped(text):
  """The files of the package on the map of BUILD.md, by their paths in it."""
  block = re.search(r'## Layout\n+```\n(.*?)```', text, re.DOTALL).group(1)
  block = re.search(r'^graph_resnet9/\n((?:  .*\n)+)', block, re.M).group(1)
  paths, room = set(), ''
  for line in block.splitlines():
    first = line.split()[0]
    if line[2] != ' ':
      room = first if first.endswith('/') else ''
    paths |= {room + word for word in re.findall(r'\b\w+\.py\b', line)}
  return paths


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

  def test_only_commands_read_flags(self):
    for path in files():
      if path.parent != PACKAGE and path != PACKAGE / 'cli' / 'command.py':
        with self.subTest(file=str(path.relative_to(ROOT))):
          code = re.sub(r'""".*?"""', '', path.read_text(), flags=re.DOTALL)
          self.assertIsNone(re.search(r'\bFLAGS\b', code))

  def test_files_are_short(self):
    for path in files():
      with self.subTest(file=str(path.relative_to(ROOT))):
        self.assertLessEqual(len(path.read_text().splitlines()), MAX_LINES)

  def test_the_map_of_build_md_has_every_file_in_its_room(self):
    self.assertEqual(
      mapped((ROOT / 'BUILD.md').read_text()),
      {
        str(path.relative_to(PACKAGE))
        for path in files()
        if path.name != '__init__.py'
      },
    )

  def test_the_picture_is_made_of_the_imports(self):
    spec = importlib.util.spec_from_file_location(
      'draw_imports', ROOT / 'scripts' / 'draw_imports.py'
    )
    draw_imports = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(draw_imports)
    self.assertEqual(
      (ROOT / 'docs' / 'house.svg').read_text(),
      draw_imports.svg(),
      'run python scripts/draw_imports.py',
    )

  def test_no_two_modules_have_one_name(self):
    names = [path.name for path in files() if path.name != '__init__.py']
    self.assertLen(names, len(set(names)))

  def test_a_module_goes_by_its_own_name(self):
    for path in files():
      with self.subTest(file=str(path.relative_to(ROOT))):
        renamed = [
          alias.name
          for node in ast.walk(ast.parse(path.read_text()))
          if isinstance(node, ast.ImportFrom)
          for alias in node.names
          if alias.asname
        ]
        self.assertEmpty(renamed)

  def test_a_file_that_is_elsewhere_is_not_found_on_the_map(self):
    text = """## Layout
```
graph_resnet9/
  one.py
  room/     a.py
            words about a.py
  room/in/  b.py
flags/      c.py
```
"""
    self.assertEqual(mapped(text), {'one.py', 'room/a.py', 'room/in/b.py'})


if __name__ == '__main__':
  absltest.main()
