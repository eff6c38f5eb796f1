"""What the bits of a step depend on: said as the machine says it."""

import os
import pathlib
from unittest import mock

from absl.testing import absltest

from graph_resnet9.training import conditions


class ConditionsTest(absltest.TestCase):
  def here(self, cpuinfo, **variables):
    """The conditions of a machine with such a /proc/cpuinfo, split."""
    with (
      mock.patch.object(pathlib.Path, 'read_text', **cpuinfo),
      mock.patch.dict(os.environ, variables),
    ):
      return conditions.here().split(', ')

  def test_the_widest_vectors_are_named(self):
    for flags, expected in (
      ('fpu avx2 avx512f sse', 'avx512f'),
      ('fpu avx2 sse', 'avx2'),
      ('fpu avx sse avx512', 'neither avx512f nor avx2'),
    ):
      with self.subTest(flags):
        found = self.here(dict(return_value='flags\t\t: %s\n' % flags))
        self.assertEqual(found[2], expected)

  def test_no_proc_is_no_vectors(self):
    found = self.here(dict(side_effect=FileNotFoundError))
    self.assertEqual(found[2], 'neither avx512f nor avx2')

  def test_threads_are_those_stated_else_the_cpus_of_the_process(self):
    cpuinfo = dict(return_value='')
    found = self.here(cpuinfo, TF_NUM_INTRAOP_THREADS='3')
    self.assertEqual(found[0], 'TF_NUM_INTRAOP_THREADS=3')
    with mock.patch.object(os, 'sched_getaffinity', lambda _: {0, 2, 4, 5}):
      found = self.here(cpuinfo, TF_NUM_INTRAOP_THREADS='')
    self.assertEqual(found[0], 'TF_NUM_INTRAOP_THREADS=4')

  def test_a_flagfile_gives_back_its_line(self):
    path = pathlib.Path(self.create_tempdir().full_path) / 'flags.txt'
    path.write_text('--width=4\n' + conditions.line() + '--epochs=2\n')
    self.assertEqual(conditions.saved(str(path)), conditions.here())
    path.write_text('--width=4\n')
    self.assertIsNone(conditions.saved(str(path)))


if __name__ == '__main__':
  absltest.main()
