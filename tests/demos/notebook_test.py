"""docs/cases.ipynb: the cells of docs/make_notebook.py, and they run."""

import contextlib
import importlib.util
import io
import json
import os
import sys
import types
from unittest import mock

from absl.testing import absltest

from tests import helpers

DOCS = helpers.ROOT / 'docs'


def cells(kind=None):
  notebook = json.loads((DOCS / 'cases.ipynb').read_text())
  return [
    cell for cell in notebook['cells'] if kind in (None, cell['cell_type'])
  ]


def text_of(cell):
  """What a code cell printed."""
  return ''.join(''.join(output.get('text', ())) for output in cell['outputs'])


class NotebookTest(absltest.TestCase):
  def test_it_is_what_its_script_makes(self):
    spec = importlib.util.spec_from_file_location(
      'make_notebook', DOCS / 'make_notebook.py'
    )
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    self.assertEqual(
      [(cell['cell_type'], ''.join(cell['source'])) for cell in cells()],
      list(script.CELLS),
    )

  def test_it_has_been_executed_from_top_to_bottom_without_an_error(self):
    code = cells('code')
    self.assertEqual(
      [cell['execution_count'] for cell in code], list(range(1, len(code) + 1))
    )
    kinds = [o['output_type'] for cell in code for o in cell['outputs']]
    self.assertNotIn('error', kinds)
    self.assertIn('all claims hold', ' '.join(map(text_of, code)))
    self.assertIn('image/png', json.dumps(code))

  def test_its_cells_run_and_print_the_same_arms(self):
    display = types.ModuleType('IPython.display')
    display.display = lambda *args: None
    display.Markdown = display.Image = lambda text: text
    ipython = types.ModuleType('IPython')
    ipython.version_info = (9, 0)  # matplotlib asks at its first figure.
    modules = {'IPython': ipython, 'IPython.display': display}
    names = {}
    folder = self.create_tempdir().full_path
    self.addCleanup(os.chdir, os.getcwd())
    os.chdir(folder)
    with mock.patch.dict(sys.modules, modules):
      for cell in cells('code'):
        stdout = io.StringIO()
        with contextlib.redirect_stdout(stdout):
          exec(''.join(cell['source']), names)  # pylint: disable=exec-used
        arms = lambda text: [
          line
          for line in text.splitlines()
          if line.startswith(('broken', 'fixed'))
        ]
        first = lambda lines: [line.split('  ')[0] for line in lines]
        self.assertEqual(
          first(arms(stdout.getvalue())), first(arms(text_of(cell)))
        )
      self.assertTrue(names['result']['claim_holds'])
      self.assertTrue(os.path.exists('case.png'))


if __name__ == '__main__':
  absltest.main()
