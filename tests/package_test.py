"""What is shipped: a wheel and an sdist, used where the checkout is not."""

import json
import pathlib
import re
import shutil
import sys
import sysconfig
import tarfile
import tempfile
import zipfile

from absl.testing import absltest

import graph_resnet9
from graph_resnet9 import __main__
from tests import helpers

_BUILD = 'from setuptools import build_meta as b; b.build_%s(%r)'


class PackageTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    """Builds from a copy: setuptools leaves files where it builds."""
    super().setUpClass()
    scratch = tempfile.mkdtemp()
    cls.addClassCleanup(shutil.rmtree, scratch)
    cls.scratch = pathlib.Path(scratch)
    copy = cls.scratch / 'checkout'
    shutil.copytree(
      helpers.ROOT,
      copy,
      symlinks=True,
      ignore=shutil.ignore_patterns(
        '.git', '__pycache__', 'build', 'dist', '*.egg-info', '*venv'
      ),
    )
    for kind in ('sdist', 'wheel'):
      done = helpers.program(
        sys.executable, '-c', _BUILD % (kind, scratch), cwd=copy
      )
      assert done.returncode == 0, done.stderr
    (cls.sdist,) = cls.scratch.glob('*.tar.gz')
    (cls.wheel,) = cls.scratch.glob('*.whl')

  @classmethod
  def environment(cls):
    """bin/ of a fresh environment: the wheel, and the packages of this one."""
    folder = cls.scratch / 'environment'
    if not folder.exists():
      helpers.program(
        sys.executable, '-m', 'venv', '--without-pip', folder, cwd='/'
      )
      (site,) = folder.glob('lib/python*/site-packages')
      packages = sysconfig.get_path('purelib')
      # As a site, for its .pth files: by one, setuptools gives Python 3.12
      # the distutils that TensorFlow 2.18 imports.
      (site / 'others.pth').write_text(
        'import site; site.addsitedir(%r)\n' % packages
      )
      done = helpers.program(
        *(sys.executable, '-m', 'pip', '--python', folder, 'install'),
        *('--no-deps', '--no-index', '--ignore-installed', cls.wheel),
        cwd='/',
      )
      assert done.returncode == 0, done.stderr
    return folder / 'bin'

  def test_version_stands_in_one_place(self):
    name = 'graph_resnet9-%s' % graph_resnet9.__version__
    self.assertEqual(self.sdist.name, name + '.tar.gz')
    self.assertStartsWith(self.wheel.name, name)
    changes = (helpers.ROOT / 'CHANGELOG.md').read_text()
    self.assertIn('## %s' % graph_resnet9.__version__, changes)

  def test_wheel_has_all_of_the_package_and_no_more(self):
    names = zipfile.ZipFile(self.wheel).namelist()
    package = helpers.ROOT / 'graph_resnet9'
    expected = [
      str(path.relative_to(helpers.ROOT))
      for path in package.rglob('*')
      if path.is_file() and '__pycache__' not in path.parts
    ]
    self.assertCountEqual(
      [name for name in names if '.dist-info/' not in name], expected
    )
    self.assertIn('graph_resnet9/recipes/fast10.flags', names)
    self.assertIn('graph_resnet9/py.typed', names)

  def test_sdist_has_all_that_the_checkout_has(self):
    with tarfile.open(self.sdist) as archive:
      names = {name.partition('/')[2] for name in archive.getnames()}
    for name in (
      *('README.md', 'BUILD.md', 'CHANGELOG.md', 'LICENSE', '.ci/run'),
      *(
        'docs/cases.md',
        'docs/cases/update_ops.png',
        'scripts/local_cluster.sh',
      ),
      *('tests/package_test.py', 'tests/model/data/pytorch_reference.json'),
      *('flags/fast10.flags', 'graph_resnet9/recipes/fast10.flags'),
    ):
      self.assertIn(name, names)

  def test_metadata_needs_no_checkout(self):
    with zipfile.ZipFile(self.wheel) as archive:
      (name,) = (n for n in archive.namelist() if n.endswith('/METADATA'))
      text = archive.read(name).decode()
    links = re.findall(r'\]\(([^)]*)\)', text)
    self.assertNotEmpty(links)
    for link in links:
      self.assertStartsWith(link, 'https://')
    for field in ('Author:', 'Keywords:', 'Classifier:', 'Requires-Python:'):
      self.assertIn('\n' + field, text)

  def test_installed_elsewhere_it_trains_by_a_recipe(self):
    elsewhere = pathlib.Path(self.create_tempdir().full_path)
    done = helpers.program(
      *(self.environment() / 'graph_resnet9', 'train', '--recipe=quickstart'),
      *('--train_dir=run', '--epochs=0.05', '--width=4'),
      cwd=elsewhere,
      PYTHONPATH='',
    )
    self.assertEqual((done.returncode, done.stderr), (0, ''))
    result = json.loads(done.stdout.splitlines()[-1])
    self.assertEqual((result['dataset'], result['step']), ('synthetic', 4))
    text = (elsewhere / 'run' / 'flags.txt').read_text()
    self.assertIn('--batch_size=128\n', text)

  def test_what_runs_there_is_the_wheel(self):
    done = helpers.program(
      *(self.environment() / 'python', '-c'),
      'import graph_resnet9; print(graph_resnet9.__file__)',
      cwd='/',
      PYTHONPATH='',
    )
    self.assertStartsWith(done.stdout, str(self.scratch))


class MainTest(helpers.CommandTestCase):
  error_code = 2

  def main(self, *args):
    return helpers.program(sys.executable, '-m', 'graph_resnet9', *args)

  def test_it_lists_every_command(self):
    done = self.main()
    self.assertEqual((done.returncode, done.stderr), (0, ''))
    commands = [
      path.stem
      for path in (helpers.ROOT / 'graph_resnet9').glob('*.py')
      if "if __name__ == '__main__':" in path.read_text()
      and path.stem != '__main__'
    ]
    self.assertCountEqual(__main__.COMMANDS, commands)
    for name in commands:
      self.assertRegex(done.stdout, r'(?m)^  %s  +\w' % name)
    self.assertLessEqual(max(map(len, done.stdout.splitlines())), 80)
    self.assertEqual(self.main('--help').stdout, done.stdout)

  def test_it_is_the_command(self):
    text = self.main('lint', '--help').stdout
    self.assertEqual(
      text.replace('lint.py', ''),
      helpers.fresh_command('lint', '--help').stdout.replace('lint.py', ''),
    )
    self.assertIn('--meta_graph', text)

  def test_version_and_wrong_commands(self):
    self.assertEqual(
      self.main('--version').stdout, graph_resnet9.__version__ + '\n'
    )
    self.fails(
      self.main('trian'), "graph_resnet9: 'trian' is no command", 'train'
    )


if __name__ == '__main__':
  absltest.main()
