"""Figures of accuracy on the pages are what docs/results/ gives."""

import importlib.util
import json
import re

from absl.testing import absltest

from tests import helpers

SPEC = importlib.util.spec_from_file_location(
  'make_results', helpers.ROOT / 'docs' / 'make_results.py'
)
make_results = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(make_results)


def numbers(text):
  """A flag's value, read as numbers where it is some."""
  try:
    return [float(part) for part in text.split(',')]
  except ValueError:
    return text


class PagesTest(absltest.TestCase):
  def test_every_block_is_what_the_results_give(self):
    blocks = 0
    for name in make_results.PAGES:
      with self.subTest(name):
        text = (helpers.ROOT / name).read_text()
        blocks += text.count(':begin -->')
        self.assertEqual(make_results.page(text), text)
    self.assertGreaterEqual(blocks, 2)

  def test_a_changed_page_is_seen(self):
    text = (helpers.ROOT / 'BUILD.md').read_text()
    end = text.index('<!-- accuracy:end -->')
    changed = text[:end] + '99.99%\n' + text[end:]
    self.assertEqual(make_results.page(changed), text)

  def test_what_is_kept_is_whole_and_tells_the_run(self):
    folders = sorted(make_results.RESULTS.rglob('about.txt'))
    for path in folders:
      with self.subTest(str(path)):
        name = str(path.parent.parent.relative_to(make_results.RESULTS))
        run = make_results.RUNS[name]
        flags = (path.parent / 'flags.txt').read_text()
        self.assertIn('--seed=%s\n' % path.parent.name[4:], flags)
        self.assertNotIn('data_dir', flags)
        wanted = {}  # The last of a flag counts.
        for flag in run.flags:
          if '--flagfile' not in flag:
            name, _, value = flag[2:].partition('=')
            if not value and name.startswith('no'):
              name, value = name[2:], 'False'
            wanted[name] = value or 'True'
        for name, value in wanted.items():
          (given,) = re.findall(r'--%s=(.*)' % name, flags)
          self.assertEqual(numbers(given), numbers(value), name)
        rows = [
          json.loads(line)
          for line in (path.parent / 'metrics.jsonl').read_text().splitlines()
        ]
        epochs = float(re.findall(r'--epochs=(.*)', flags)[0])
        self.assertAlmostEqual(rows[-1]['epoch'], epochs, delta=0.02)
        self.assertEqual({row['dataset'] for row in rows}, {'cifar10'})

  def test_differences_carry_their_standard_error(self):
    kept = {
      'short': [0.80, 0.82],
      'departures/pad_3': [0.79, 0.75],
      'departures/pad_5': [0.81],
    }

    def some(name):
      return {
        seed: make_results.Kept([{'test_accuracy': value}], [], '')
        for seed, value in enumerate(kept.get(name, []))
      }

    with absltest.mock.patch.object(make_results, 'kept', some):
      two, one = make_results.departures()
    text, flags, seeds, difference, error = two
    self.assertEqual((text, flags, seeds), ('padding 3', '--pad=3', 2))
    self.assertAlmostEqual(difference, -4)
    # Variances 2 and 8 of two runs each.
    self.assertAlmostEqual(error, (2 / 2 + 8 / 2) ** 0.5)
    self.assertEqual(one[1:3], ('--pad=5', 1))
    self.assertAlmostEqual(one[3], 0)
    # One run is taken to have the recipe's variance.
    self.assertAlmostEqual(one[4], (2 / 2 + 2 / 1) ** 0.5)


if __name__ == '__main__':
  absltest.main()
