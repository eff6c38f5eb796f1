"""Graphs written by old TensorFlows themselves: exactly the findings due.

tests/doctor/eras/make.py wrote the archives, and says what each file deserves.
"""

import pathlib
import tarfile
import tempfile

from absl.testing import absltest

from graph_resnet9.doctor.graph import decoding
from graph_resnet9.doctor.lint import rules
from graph_resnet9.errors import UserError
from tests import helpers
from tests.doctor.eras import make

ARCHIVES = sorted(pathlib.Path(make.__file__).parent.glob('*.tar.xz'))


def found_in(folder):
  """{name of a case: codes that lint finds} in an unpacked archive."""
  found = {}
  for path in sorted(pathlib.Path(folder).iterdir()):
    name, _, ending = path.name.partition('.')
    if ending in ('ckpt.index', 'ckpt.data-00000-of-00001'):
      continue
    prefix = str(path)[: -len('.meta')] if ending == 'ckpt.meta' else None
    _, meta_graph = decoding.read(str(path))
    try:
      report = rules.lint_meta_graph(meta_graph, checkpoint=prefix)
    except UserError as e:
      found[name] = {str(e)}
    else:
      found[name] = {finding.code for finding in report.findings}
  return found


class ErasTest(absltest.TestCase):
  def test_every_version_gets_what_it_deserves(self):
    graphs = 0
    for archive in ARCHIVES:
      with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(archive) as files:
          files.extractall(folder)
        found = found_in(folder)
      graphs += len(found)
      for name, codes in found.items():
        with self.subTest(archive=archive.name, case=name):
          self.assertSetEqual(codes, make.codes(name))
    helpers.SUMMARY.append(
      'lint on %d graphs of %d versions of TensorFlow: every one as it '
      'deserves' % (graphs, len(ARCHIVES))
    )

  def test_there_are_archives_of_many_versions(self):
    versions = {
      tuple(archive.name.split('-')[1].split('.')[:2]) for archive in ARCHIVES
    }
    self.assertContainsSubset(
      {
        ('1', '3'),
        ('1', '4'),
        ('1', '8'),
        ('1', '12'),
        ('1', '15'),
        ('2', '1'),
      },
      versions,
    )

  def test_every_case_is_in_an_archive(self):
    names = set()
    for archive in ARCHIVES:
      with tarfile.open(archive) as files:
        names |= {name.partition('.')[0] for name in files.getnames()}
    self.assertSetEqual(names, {case.name for case in make.CASES})


if __name__ == '__main__':
  absltest.main()
