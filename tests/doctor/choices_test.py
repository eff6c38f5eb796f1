"""doctor/layers/choices: which branch is that of the batch."""

from absl.testing import absltest
from absl.testing import parameterized

from graph_resnet9.doctor.graph.nodes import Tensor
from graph_resnet9.doctor.layers import choices
from tests.doctor.hand_made import HandMade


class GraphTest(parameterized.TestCase):
  """A phase p, data x, the batch's mean and a stored one, v/read."""

  def setUp(self):
    super().setUp()
    self.made = made = HandMade()
    self.op = made.add
    made.placeholder('p')
    made.placeholder('x', 4, 3)
    made.const('axes', [0])
    made.op('mean', 'Mean', 'x', 'axes')
    made.variable('v', 3)

  def call(self, *inputs, op='If', **functions):
    """An op of branches; functions: {attribute: name}."""
    name = self.op(op, *inputs)
    for attribute, function in functions.items():
      self.made.graph_def.node[-1].attr[attribute].func.name = function
    return name

  def loop(self, name):
    """A Switch around a loop of a tensor."""
    return self.op('Switch', name, self.op('LoopCond', 'p'))

  def assert_choice(self, found, predicate, value):
    self.assertEqual(
      found and (found.predicate.node.name, found.value), (predicate, value)
    )


class DecidedTest(GraphTest):
  def test_by_what_the_predicate_is(self):
    self.made.const('yes', True)
    self.made.const('no', False)
    self.made.const('one', [1])
    self.made.const('several', [True, True])
    default = self.op('PlaceholderWithDefault', 'no')
    for name, is_true in (
      ('yes', True), ('no', False), ('one', True), (default, False),
      (self.op('Identity', 'yes'), True), (self.op('Identity', default), False),
      ('p', None), ('several', None), (self.op('LogicalNot', 'yes'), None),
      (self.op('Merge', 'yes', 'no'), None),
      (self.op('PlaceholderWithDefault', 'p'), None),
    ):  # fmt: skip
      for value in (False, True):
        found = choices.Choice(self.made.tensor(name), value).decided
        self.assertIs(found, None if is_true is None else is_true == value)

  def test_a_constant_or_several_leave_nothing_to_choose(self):
    self.made.const('yes', True)
    self.made.const('no', False)
    default = self.op('PlaceholderWithDefault', 'no')
    for name, expected in (
      ('yes', True), (self.op('Identity', 'no'), True),
      (self.op('Merge', 'yes', 'no'), True), (default, False), ('p', False),
      (self.op('Merge', 'yes', 'p'), False),
    ):  # fmt: skip
      found = choices.Choice(self.made.tensor(name), True)
      self.assertIs(found.is_fixed, expected)


class AroundTest(GraphTest):
  def around(self, name, index=0):
    return choices.around(self.made.tensor(name, index))

  def test_switches(self):
    switch = self.op('Switch', 'x', 'p')
    handed = self.op('Cast', self.op('Identity', switch + ':1'))
    nested = self.op('Switch', handed, 'axes')
    self.assert_choice(self.around(switch, 1), 'p', True)
    self.assert_choice(self.around(switch, 0), 'p', False)
    self.assert_choice(self.around(handed), 'p', True)
    self.assert_choice(self.around(nested, 0), 'axes', False)  # The inner one.
    for name in ('x', self.op('Neg', handed), self.loop('x')):
      self.assertIsNone(self.around(name))

  def test_functions(self):
    self.made.function('inner', ['b'], [('n', 'Neg', 'b')], {'out': 'n:0'})
    self.made.function(
      'f', ['a'], [('c', 'inner', 'a'), ('n', 'Identity', 'a')], {'out': 'c:0'}
    )
    call = self.call('p', 'x', then_branch='f', else_branch='f')
    plain = self.op('inner', 'x')
    loop = self.call('x', op='While', body='f', cond='f')
    for branch in ('then', 'else'):
      for inner in ('a', 'n', 'c/b'):
        self.assert_choice(
          self.around('%s/%s_branch/%s' % (call, branch, inner)),
          'p',
          branch == 'then',
        )
    self.assertIsNone(self.around(call + '/then_branch/c/n'))
    self.assertIsNone(self.around(plain + '/b'))
    self.assertIsNone(self.around(loop + '/body/a'))


class MeetingTest(GraphTest):
  def meeting(self, name, index=0):
    return choices.meeting_at(self.made.tensor(name, index))

  @parameterized.parameters('Select', 'SelectV2')
  def test_selects(self, op):
    for inputs, value in (
      (('mean', 'v/read'), True),
      (('v/read', 'mean'), False),
    ):
      name = self.op(op, 'p', *inputs)
      self.assert_choice(self.meeting(name), 'p', value)
      # What is made of it, or handed on.
      self.assert_choice(
        self.meeting(self.op('Sub', 'x', self.op('Reshape', name, 'axes'))),
        'p',
        value,
      )
    for inputs in (('mean', 'mean'), ('v/read', 'v/read')):
      self.assertIsNone(self.meeting(self.op(op, 'p', *inputs)))
    self.assertIsNone(self.meeting(self.op('Add', 'mean', 'v/read')))

  @parameterized.parameters('If', 'StatelessIf')
  def test_calls(self, op):
    for name, returned in (('f', ('a', 'b')), ('g', ('b', 'a'))):
      body = self.made.function(name, 'ab', [], {})
      for output, value in zip(('one', 'two'), returned):
        body.signature.output_arg.add(name=output)
        body.ret[output] = value
    call = self.call(
      'p', 'mean', 'v/read', op=op, then_branch='f', else_branch='g'
    )
    self.assert_choice(self.meeting(call), 'p', True)
    self.assert_choice(self.meeting(call, 1), 'p', False)
    same = self.call(
      'p', 'mean', 'v/read', op=op, then_branch='f', else_branch='f'
    )
    self.assertIsNone(self.meeting(same))

  def test_merges(self):
    """Of the branch of the batch it is said which one it is."""
    for index in (0, 1):
      switch = self.op('Switch', 'x', 'p')
      batch = self.op('Mean', '%s:%d' % (switch, index), 'axes')
      stored = self.op('Identity', 'v/read')
      for inputs in ((batch, stored), (stored, batch)):
        merged = self.op('Merge', *inputs)
        self.assert_choice(self.meeting(merged), 'p', bool(index))
        made_of = self.op('Mul', merged, 'v/read')
        self.assert_choice(self.meeting(made_of), 'p', bool(index))

  def test_a_branch_that_only_waits_for_its_pivot(self):
    switch = self.op('Switch', 'p', 'p')
    pivot = self.op('Identity', switch + ':1')
    waiting = self.op('Identity', 'mean', '^' + pivot)
    merged = self.op('Merge', waiting, 'v/read')
    self.assert_choice(self.meeting(merged), 'p', True)

  def test_merges_that_are_no_choice(self):
    for inputs in (
      ('mean', 'v/read'),  # Neither is in a branch.
      (self.loop('mean'), 'v/read'), ('v/read', 'v/read'),
    ):  # fmt: skip
      self.assertIsNone(self.meeting(self.op('Merge', *inputs)))

  def test_a_merge_of_two_batches_does_not_choose_the_batch(self):
    """As where one branch takes the statistics of the batch's first half."""
    switch = self.op('Switch', 'x', 'p')
    whole = self.op('Mean', switch + ':1', 'axes')
    half = self.op('Mean', self.op('Slice', switch, 'axes', 'axes'), 'axes')
    self.assertIsNone(self.meeting(self.op('Merge', whole, half)))


class BehindTest(GraphTest):
  """y is what is normalised; what only hands it on goes on with it."""

  def setUp(self):
    super().setUp()
    self.made.op('y', 'NoSuchOp')

  def behind(self, name='y'):
    view = self.made.view()
    return choices.behind(
      view,
      Tensor(view.find(name), 0),
      lambda node: node.op in ('Reshape', 'Identity', '_Arg'),
    )

  def test_selects(self):
    for inputs, value in ((('p', 'y', 'x'), True), (('p', 'x', 'y'), False)):
      self.setUp()
      self.op('Select', *inputs)
      self.assert_choice(self.behind(), 'p', value)
    for inputs in (('p', 'y', 'y'), ('y', 'x', 'x')):
      self.setUp()
      self.op('SelectV2', *inputs)
      self.assertIsNone(self.behind())

  def test_nobody_chooses(self):
    self.assertIsNone(self.behind())
    self.op('Relu', 'y')
    self.assertIsNone(self.behind())

  def test_what_goes_on(self):
    on = self.op('Reshape', self.op('Reshape', 'y', 'axes'), 'axes')
    self.op('Select', 'p', 'x', on)
    self.assert_choice(self.behind(), 'p', False)
    relu = self.op('Relu', on)
    self.assert_choice(self.behind(), 'p', False)  # Nobody reads it.
    self.op('ReluGrad', 'x', relu)
    self.assertIsNone(self.behind())

  def test_what_only_looks_on(self):
    self.op('Select', 'p', 'y', 'x')
    self.op('Shape', 'y')
    self.op('ReluGrad', 'y', 'y')
    zero = self.op('Equal', self.op('Abs', 'y'), 'axes')
    summary = self.op('HistogramSummary', 'x', self.op('Mean', zero, 'axes'))
    self.op('MergeSummary', summary)
    self.op('NoSuchOp', '^y')
    self.assert_choice(self.behind(), 'p', True)
    for _ in range(80):
      zero = self.op('Neg', zero)
    self.assert_choice(self.behind(), 'p', True)
    for _ in range(30):
      zero = self.op('Neg', zero)  # It goes on and on.
    self.assertIsNone(self.behind())

  def test_what_is_chosen_for_a_summary(self):
    self.op('Select', 'p', 'y', 'x')
    switch = self.op('Switch', self.op('Relu', 'y'), 'x')
    merge = self.op('Merge', self.op('Neg', switch), switch + ':1')
    self.op('ScalarSummary', 'x', merge)
    self.op('Size', merge)
    self.assert_choice(self.behind(), 'p', True)
    self.op('Neg', merge)  # What a graph is for may be chosen, too.
    self.assertIsNone(self.behind())

  def test_what_is_chosen_by_sizes(self):
    self.op('Select', 'p', 'y', 'x')
    size = self.op('LessEqual', self.op('Size', 'y'), 'axes')
    switch = self.op('Switch', self.op('Relu', 'y'), self.op('Identity', size))
    self.op('Neg', switch)
    self.assert_choice(self.behind(), 'p', True)

  def test_two_choices_are_none(self):
    self.op('Select', 'p', 'y', 'x')
    self.op('Select', 'p', 'y', 'x')
    self.assert_choice(self.behind(), 'p', True)
    self.op('Select', 'p', 'x', 'y')
    self.assertIsNone(self.behind())

  def test_switches(self):
    for index in (0, 1):
      self.setUp()
      switch = self.op('Switch', 'y', 'p')
      self.op('Neg', '%s:%d' % (switch, index))
      other = '%s:%d' % (switch, 1 - index)
      self.op('Shape', other)  # Are no use of the other branch.
      self.op('ReluGrad', other, 'x')
      pivot = self.op('Identity', self.op('Identity', other))
      self.assert_choice(self.behind(), 'p', bool(index))
      self.op('Neg', pivot)
      self.assertIsNone(self.behind())

  def test_a_switch_may_be_set_by_it_or_go_round_a_loop(self):
    self.op('Neg', self.op('Switch', 'x', 'y') + ':1')
    self.assertIsNone(self.behind())
    self.setUp()
    self.op('Neg', self.loop('y') + ':1')
    self.assertIsNone(self.behind())

  @parameterized.parameters(
    ('fg', True), ('gf', False), ('ff', None), ('gg', None), ('f', None),
    ('hg', True), ('ng', None),
  )  # fmt: skip
  def test_calls(self, functions, expected):
    for name, nodes, returned in (
      ('f', [], 'a'), ('g', [], 'b'), ('h', [('i', 'Identity', 'a')], 'i:0'),
      ('n', [('i', 'Neg', 'a')], 'i:0'),
    ):  # fmt: skip
      self.made.function(name, 'ab', nodes, {'out': returned})
    branches = dict(zip(('then_branch', 'else_branch'), functions))
    self.call('p', 'y', 'x', **branches)
    found = self.behind()
    if expected is None:
      self.assertIsNone(found)
    else:
      self.assert_choice(found, 'p', expected)


if __name__ == '__main__':
  absltest.main()
