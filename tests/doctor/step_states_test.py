"""doctor/lint/step_states.py: what a step does about a layer."""

import types

from absl.testing import absltest
from absl.testing import parameterized

from graph_resnet9.doctor.graph.nodes import Node
from graph_resnet9.doctor.layers.anatomy import Layer
from graph_resnet9.doctor.layers.updates import Update
from graph_resnet9.doctor.lint import step_states
from graph_resnet9.doctor.lint.step_states import Mode
from graph_resnet9.doctor.lint.step_states import Updates
from tests.doctor.hand_made import HandMade


def node(name):
  return Node(name, 'NoOp', {}, 0)


def site(by_batch=True, choice=None, gamma=None, beta=None):
  return types.SimpleNamespace(
    node=node('site'), by_batch=by_batch, choice=choice, gamma=gamma, beta=beta
  )


MEAN, VARIANCE = node('mean'), node('variance')
PHASE = types.SimpleNamespace(is_fixed=False, decided=None)
ALWAYS, NEVER = (
  types.SimpleNamespace(is_fixed=True, decided=decided)
  for decided in (True, False)
)


def update(of, variable):
  return Update(node('update'), variable, '', of, 0.9)


class StateTest(parameterized.TestCase):
  def state(self, sites, updates, run, trained, steps=('step',)):
    """State of a layer of which a step runs some updates and sites."""
    layer = Layer('bn', sites, updates, [MEAN], [VARIANCE])
    found = types.SimpleNamespace(
      steps=steps,
      reached={each.node for each in run},
      trained_sites=lambda of: trained if of is layer else None,
    )
    return step_states.of(found, layer)

  @parameterized.parameters(
    ([0, 1], Updates.ALL, []),
    ([0], Updates.PARTLY, [1]),
    ([1], Updates.PARTLY, [0]),
    ([], Updates.NEVER, [0, 1]),
  )
  def test_which_of_its_updates_run(self, run, expected, missing):
    used = site()
    both = [update(used, MEAN), update(used, VARIANCE)]
    state = self.state([used], both, [used] + [both[k] for k in run], [used])
    self.assertIs(state.updates, expected)
    self.assertEqual(state.missing, [both[k] for k in missing])
    self.assertEqual(state.sites, [used])
    self.assertEqual(state.layer.name, 'bn')

  def test_another_op_may_update_the_same_variable(self):
    used = site()
    twice = [update(used, MEAN), update(used, MEAN), update(used, VARIANCE)]
    state = self.state([used], twice, [used] + twice[1:], [used])
    self.assertIs(state.updates, Updates.ALL)
    self.assertEqual(state.missing, [])

  def test_a_layer_that_no_step_normalises_by_the_batch(self):
    used = site()
    state = self.state([used], [update(used, MEAN)], [used], [])
    self.assertIs(state.updates, Updates.NOT_TRAINED)

  @parameterized.parameters(
    ([MEAN, VARIANCE], Updates.BY_ANOTHER_TOWER),
    ([MEAN], Updates.NONE),
    ([], Updates.NONE),
  )
  def test_one_tower_may_update_for_all(self, run, expected):
    tower, other = site(), site()
    updates = [update(other, variable) for variable in (MEAN, VARIANCE)]
    ran = [u for u in updates if u.variable in run]
    state = self.state([tower, other], updates, [tower] + ran, [tower])
    self.assertIs(state.updates, expected)

  @parameterized.parameters(
    ([(True, None)], Mode.BATCH),
    ([(True, PHASE)], Mode.CHOICE),
    ([(True, ALWAYS)], Mode.BATCH),
    ([(True, NEVER)], Mode.STORED),
    ([(False, None)], Mode.STORED),
    ([(False, PHASE)], Mode.STORED),
    ([(True, PHASE), (True, None)], Mode.BATCH),
    ([(False, None), (True, PHASE)], Mode.CHOICE),
    ([(True, NEVER), (True, PHASE)], Mode.CHOICE),
    ([], Mode.UNUSED),
  )
  def test_by_what_it_normalises(self, kinds, expected):
    used = [site(*kind) for kind in kinds]
    # What no step runs does not count; all do where there is no step.
    aside = site(expected is not Mode.BATCH)
    sites = used + [aside]
    self.assertIs(self.state(sites, [], used, []).mode, expected)
    self.assertIs(self.state(used, [], [], [], steps=()).mode, expected)

  def test_the_sites_that_a_step_runs(self):
    used, aside = site(), site()
    layer = Layer('bn', [used, aside], [], [], [])
    found = types.SimpleNamespace(steps=['step'], reached={used.node})
    self.assertEqual(step_states.used_sites(found, layer), [used])
    found.steps = []
    self.assertEqual(step_states.used_sites(found, layer), [used, aside])


class TrainedTest(absltest.TestCase):
  def test_variables_that_a_step_changes_by_gradients(self):
    made = HandMade()
    for name in 'abcde':
      made.variable(name, 3)
    made.op('f', 'VarHandleOp')
    made.const('g', 0.5)
    made.op('accumulator', 'ConditionalAccumulator')
    reached = [
      made.op('adam', 'ApplyMomentum', 'a', 'e', 'g', 'g', 'g'),
      made.op('by_hand', 'AssignSub', 'b', 'g'),
      made.op('average', 'AssignSub', 'c', 'g'),  # Of a statistic.
      made.op('resource', 'ResourceApplyGradientDescent', 'f', 'g', 'g'),
      made.op('sync', 'AccumulatorApplyGradient', 'accumulator', 'g', 'g'),
      made.op('nothing', 'NoOp'),
    ]
    made.op('other', 'ApplyGradientDescent', 'd', 'g', 'g')  # No step runs it.
    view = made.view()
    found = types.SimpleNamespace(
      steps=[view.find('adam'), view.find('by_hand')],
      reached={view.find(name) for name in reached},
    )
    trained = step_states.trained_variables(found)
    self.assertEqual(trained, {view.find(name) for name in 'abf'})
    self.assertIsInstance(trained, frozenset)

  def test_gamma_or_beta_among_them(self):
    gamma, beta = node('gamma'), node('beta')
    layer = Layer('bn', [site(), site(gamma=gamma, beta=beta)], [], [], [])
    for trained, expected in (
      ({gamma}, True),
      ({beta}, True),
      ({MEAN}, False),
      ({None}, False),
      ((), False),
    ):
      self.assertIs(step_states.scale_is_trained(layer, trained), expected)


class LoopsTest(parameterized.TestCase):
  @parameterized.parameters(('Enter', 'Exit'), ('RefEnter', 'RefExit'))
  def test_between_enter_and_exit(self, enter, leave):
    made = HandMade()
    made.const('x', 0.5)
    made.op('before', 'Neg', 'x')
    made.op('enter', enter, 'before')
    made.op('inside', 'Neg', 'enter')
    made.op('beside', 'NoOp', '^inside')
    made.op('exit', leave, 'inside')
    made.op('after', 'Neg', 'exit')
    names = {n.name for n in step_states.in_loops(made.view())}
    self.assertEqual(names, {'enter', 'inside', 'beside'})

  @parameterized.parameters('While', 'StatelessWhile')
  def test_in_the_body_of_a_function(self, op):
    made = HandMade()
    made.const('x', 0.5)
    made.function('body', ['y'], [('inside', 'Neg', 'y')], {'z': 'inside:y:0'})
    made.function('cond', ['y'], [('less', 'Neg', 'y')], {'z': 'less:y:0'})
    made.op('loop', op, 'x')
    for name in ('body', 'cond'):
      made.graph_def.node[-1].attr[name].func.name = name
    made.op('after', 'Neg', 'loop')
    names = {n.name for n in step_states.in_loops(made.view())}
    self.assertEqual(names, {'loop/body/y', 'loop/body/inside'})

  def test_there_may_be_none(self):
    made = HandMade()
    made.const('x', 0.5)
    made.op('y', 'Neg', 'x')
    self.assertEqual(step_states.in_loops(made.view()), frozenset())


if __name__ == '__main__':
  absltest.main()
