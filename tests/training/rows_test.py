"""Rows and the files they go to."""

import os

from absl.testing import absltest

from graph_resnet9 import files
from graph_resnet9.errors import UserError
from graph_resnet9.training import rows

ROW = rows.Row(1.0, 8, 'synthetic', 0.1, 2.0, None, None, 2.5, 0.125, 2.0)


class ReportTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.dir = self.create_tempdir().full_path

  def test_rows_come_back_as_they_were_written(self):
    written = [ROW._replace(step=0), ROW, ROW._replace(step=16, train_loss=1.5)]
    rows.write_rows(self.dir, written)
    self.assertEqual(rows.read_rows(self.dir), written)
    self.assertEqual(os.listdir(self.dir), ['metrics.jsonl'])

  def test_the_table_fits_a_terminal(self):
    long = rows.Row(
      99.99,
      10**6,
      'cifar100',
      0.4,
      99999.9,
      22.3456,
      1.0,
      22.3456,
      1.0,
      999999.9,
    )
    for row in (ROW, long):
      self.assertLen(rows.table_row(row), len(rows.table_header()))
    self.assertLessEqual(len(rows.table_header()), 79)

  def test_torn_and_foreign_lines_are_left_out(self):
    rows.write_rows(self.dir, [ROW])
    with open(os.path.join(self.dir, 'metrics.jsonl'), 'a') as f:
      f.write('{"other": 1}\n[]\n{"epoch": 2, "st')
    self.assertEqual(rows.read_rows(self.dir), [ROW])

  def test_lines_of_other_types_and_bytes_are_left_out_with_a_warning(self):
    path = os.path.join(self.dir, 'metrics.jsonl')
    rows.write_rows(self.dir, [ROW])
    with open(path, 'rb') as f:
      line = f.read()
    bad = [
      line.replace(b'"step": 8', step)
      for step in (
        b'"step": "8"',
        b'"step": 8.5',
        b'"step": -8',
        b'"step": null',
      )
    ]
    bad += [
      line.replace(b'2.5', b'"2.5"'),
      line.replace(b'2.5', b'null'),
      line.replace(b'2.5', b'1' + b'0' * 400),
      b'[' * 100000 + b'\n',
      b'\xff\xfe\n',
    ]
    with open(path, 'wb') as f:
      f.write(b''.join(bad) + line)
    with self.assertLogs('absl', level='WARNING') as logs:
      self.assertEqual(rows.read_rows(self.dir), [ROW])
    self.assertIn('9 damaged lines', logs.output[0])

  def test_file_that_cannot_be_read_is_named(self):
    os.mkdir(os.path.join(self.dir, 'metrics.jsonl'))
    with self.assertRaisesRegex(UserError, 'metrics.jsonl: cannot be read'):
      rows.read_rows(self.dir)

  def test_gigabytes_of_nothing_are_refused(self):
    """Two minutes for a terabyte, which takes no disk."""
    path = os.path.join(self.dir, 'metrics.jsonl')
    with open(path, 'wb') as f:
      f.truncate(1 << 40)
    with self.assertRaisesRegex(UserError, 'metrics.jsonl: .* too large'):
      rows.read_rows(self.dir)

  def test_no_file_is_no_row(self):
    self.assertEqual(rows.read_rows(self.dir), [])

  def test_table_row_lines_up_with_the_header(self):
    self.assertLen(rows.table_row(ROW), len(rows.table_header()))
    self.assertEqual(
      rows.table_row(ROW).split(),
      ['1', '0.1000', '2.0', '-', '-', '2.5000', '12.50%', '2.0'],
    )

  def test_file_that_cannot_be_written_is_named_and_kept(self):
    path = os.path.join(self.dir, 'flags.txt')
    files.write(path, 'old')
    os.mkdir(path + '.tmp')  # In the way of the temporary file.
    with self.assertRaisesRegex(UserError, 'flags.txt: cannot be written'):
      files.write(path, 'new')
    with open(path) as f:
      self.assertEqual(f.read(), 'old')


if __name__ == '__main__':
  absltest.main()
