"""doctor/graph/walks: the order of a walk, and where it ends."""

import collections

from absl.testing import absltest

from graph_resnet9.doctor.graph import walks

Thing = collections.namedtuple('Thing', 'name')
Output = collections.namedtuple('Output', 'node')


def along(edges, start, **kwargs):
  """The letters that a walk meets; edges: {letter: letters after it}."""
  return ''.join(walks.walk(start, lambda at: edges.get(at, ''), **kwargs))


class WalkTest(absltest.TestCase):
  def chain(self, **kwargs):
    """How many a walk along an endless chain meets."""
    met = walks.walk(
      [Thing(0)], lambda thing: [Thing(thing.name + 1)], **kwargs
    )
    with self.assertLogs('absl', 'WARNING') as logs:
      count = sum(1 for _ in met)
    (line,) = logs.output
    return count, line

  def test_nearest_first_in_the_order_given(self):
    edges = {'a': 'bc', 'b': 'de', 'c': 'f', 'd': 'g'}
    self.assertEqual(along(edges, 'a'), 'abcdefg')
    self.assertEqual(along(edges, 'cb'), 'cbfdeg')

  def test_each_once_whatever_leads_there(self):
    edges = {'a': 'bb', 'b': 'ca', 'c': 'ad', 'd': 'd'}
    self.assertEqual(along(edges, 'aab'), 'abcd')

  def test_nothing_leads_nowhere(self):
    self.assertEqual(along({}, ''), '')
    self.assertEqual(along({}, 'a'), 'a')

  def test_what_follows_is_asked_after_the_caller_has_looked(self):
    asked = []
    walk = walks.walk('a', lambda at: asked.append(at) or ('b', 'c'))
    self.assertEqual(next(walk), 'a')
    self.assertEqual(asked, [])
    self.assertEqual(next(walk), 'b')
    self.assertEqual(asked, ['a'])

  def test_the_budget_is_how_many_are_met(self):
    for budget in (1, 2, 7):
      count, line = self.chain(budget=budget)
      self.assertEqual(count, budget)
      self.assertIn(
        'around %d: looked at %d ops and no further' % (budget, budget), line
      )

  def test_the_budget_is_2000_unless_it_is_given(self):
    self.assertEqual(self.chain()[0], 2000)

  def test_a_warning_names_the_op_of_an_output(self):
    with self.assertLogs('absl', 'WARNING') as logs:
      met = list(
        walks.walk(
          [Output(Thing('x'))], lambda at: [Output(Thing('y'))], budget=1
        )
      )
    self.assertEqual(met, [Output(Thing('x'))])
    self.assertIn('around y: ', logs.output[0])

  def test_a_budget_that_is_just_enough_is_silent(self):
    with absltest.mock.patch.object(walks.logging, 'warning') as warning:
      self.assertEqual(along({'a': 'b', 'b': 'c'}, 'a', budget=3), 'abc')
    warning.assert_not_called()

  def test_without_a_budget_all_are_met(self):
    met = walks.walk([0], lambda n: [n + 1] if n < 5000 else [], budget=None)
    self.assertEqual(list(met), list(range(5001)))


if __name__ == '__main__':
  absltest.main()
