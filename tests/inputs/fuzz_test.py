"""A few damaged files of every format; tools/format_fuzz.py has thousands."""

import pathlib

from absl.testing import absltest
from absl.testing import parameterized

from tests import helpers
from tests.tools import format_fuzz

INPUTS = 50


class FormatFuzzTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.reader = format_fuzz.Reader()
    cls.addClassCleanup(cls.reader.close)

  @parameterized.parameters(*format_fuzz.FORMATS)
  def test_damaged_file_is_read_or_refused(self, name):
    count = max(3, int(INPUTS * format_fuzz.FORMATS[name].share))
    result = format_fuzz.fuzz(self.reader, name, range(count))
    self.assertEmpty(result.escaped)
    helpers.SUMMARY.append('damaged files: ' + result.row(name))

  @parameterized.parameters(*sorted(set(format_fuzz.FORMATS) - {'full size'}))
  def test_seed_makes_the_same_damage_again(self, name):
    """Otherwise a failure could not be made again."""
    is_graph = name.startswith('graph ')  # Else a checkpoint's by-product.
    seen = []
    for seed in (1, 2, 1):
      folder = self.create_tempdir().full_path
      form = format_fuzz.FORMATS[name](folder)
      form.damage(format_fuzz.random.Random(seed))
      seen.append(
        {
          path.name: path.read_bytes()
          for path in pathlib.Path(folder).rglob('*')
          if path.is_file() and (is_graph or path.suffix != '.meta')
        }
      )
    self.assertEqual(seen[0], seen[2])
    self.assertNotEqual(seen[0], seen[1])


class _Faulty(format_fuzz.Format):
  """A reader that does what none should."""

  def damage(self, chance):
    self.seed = None if chance is None else chance.randrange(6)
    return 'the file'

  def read(self):
    if self.seed == 0:
      raise KeyError('of the reader')
    if self.seed == 1:
      raise format_fuzz.UserError('the file: one\ntwo')
    if self.seed == 2:
      raise format_fuzz.UserError('some file: damaged')
    if self.seed == 3:
      bytearray(b'x') * (600 << 20)
    if self.seed == 4:
      raise format_fuzz.UserError('the file: damaged')


class OutcomeTest(parameterized.TestCase):
  """The harness sees what it is to see."""

  @parameterized.parameters(
    (0, 'escaped', 'KeyError'),
    (1, 'escaped', 'not one line'),
    (2, 'escaped', 'does not name'),
    (3, 'escaped', 'took '),
    (4, 'refused', 'the file: damaged'),
    (5, 'valid', ''),
  )
  def test_kind_and_detail(self, fault, kind, detail):
    seed = next(
      i
      for i in range(999)
      if format_fuzz.random.Random(i).randrange(6) == fault
    )
    found = format_fuzz.outcome(_Faulty(''), seed)
    self.assertEqual(found.kind, kind)
    self.assertIn(detail, found.detail)

  def test_process_that_dies_is_an_escape_and_the_next_input_is_read(self):
    reader = format_fuzz.Reader()
    self.addCleanup(reader.close)
    self.assertEqual(reader.outcome('metrics.jsonl', None).kind, 'valid')
    reader._process.kill()  # pylint: disable=protected-access
    self.assertIn(
      'ended the process', reader.outcome('metrics.jsonl', 0).detail
    )
    self.assertEqual(reader.outcome('metrics.jsonl', None).kind, 'valid')


if __name__ == '__main__':
  absltest.main()
