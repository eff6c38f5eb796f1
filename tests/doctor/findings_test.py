"""doctor/lint/findings.py: what a finding says, and lists of names."""

from absl.testing import absltest
from absl.testing import parameterized

from graph_resnet9.doctor.graph.nodes import Node
from graph_resnet9.doctor.lint import findings
from graph_resnet9.doctor.lint.findings import Finding

EFFECT = (
  '  effect: they are noise, which training learns to live with and '
  'evaluation does not have'
)


class FindingTest(parameterized.TestCase):
  def test_all_that_it_says(self):
    finding = Finding(
      'few-values', ('op',), ('v', 'w'), 'down to 8', 'do this', ('a.py:7',)
    )
    self.assertEqual(
      str(finding).splitlines(),
      [
        'warning few-values: batch statistics of very few values (down to 8)',
        '  made at: a.py:7',
        '  ops: op',
        '  variables: v, w',
        EFFECT,
        '  mend: do this',
      ],
    )

  def test_what_is_not_known_is_no_line(self):
    self.assertEqual(
      str(Finding('few-values', (), ())).splitlines(),
      [
        'warning few-values: batch statistics of very few values',
        EFFECT,
        '  mend: use a larger batch',
      ],
    )

  def test_severity_is_that_of_the_code(self):
    self.assertEqual(Finding('few-values', (), ()).severity, 'warning')
    self.assertEqual(Finding('single-example', (), ()).severity, 'error')

  def test_of_nodes_each_name_once_and_in_order(self):
    b, a, v = (Node(name, 'NoOp', {}, 0) for name in 'bav')
    self.assertEqual(
      findings.of('few-values', [b, a, b], [v, v], 'detail', 'mend'),
      Finding('few-values', ('b', 'a'), ('v',), 'detail', 'mend'),
    )
    bare = findings.of('few-values', [], [])
    self.assertEqual((bare.ops, bare.variables, bare.detail), ((), (), ''))
    self.assertEqual((bare.mend, bare.places), ('', ()))

  @parameterized.parameters(
    ('', ''),
    ('a', 'a'),
    ('abcd', 'a, b, c, d'),
    ('abcde', 'a, b, c, d and 1 more'),
    ('abcdefghi', 'a, b, c, d and 5 more'),
  )
  def test_four_names_are_listed_and_the_others_counted(self, names, expected):
    self.assertEqual(findings.listed(list(names)), expected)

  def test_as_many_as_asked_for(self):
    self.assertEqual(findings.listed(('a', 'b', 'c'), 1), 'a and 2 more')
    self.assertEqual(findings.listed(('a', 'b', 'c'), 3), 'a, b, c')


if __name__ == '__main__':
  absltest.main()
