"""doctor/lint/normalising.py: bounds, and whose statistics it speaks of."""

import types

from absl.testing import absltest
from absl.testing import parameterized
import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.graph import programs
from graph_resnet9.doctor.graph.nodes import Tensor
from graph_resnet9.doctor.layers.anatomy import Anatomy
from graph_resnet9.doctor.lint import normalising
from graph_resnet9.doctor.lint import step_states
from graph_resnet9.doctor.lint.step_states import Updates
from tests.doctor import small_graphs
from tests.doctor.hand_made import HandMade

fake = types.SimpleNamespace


class DecaysTest(parameterized.TestCase):
  def found(self, *decays, reached=(), steps=()):
    """Findings on a layer with an update of each decay, named by its index."""
    updates = [
      fake(node=fake(name='u%d' % k), variable=fake(name='v%d' % k), decay=d)
      for k, d in enumerate(decays)
    ]
    anatomy = fake(
      layers=[fake(updates=updates)],
      steps=steps,
      reached=[updates[k].node for k in reached],
    )
    return list(normalising.decays(anatomy))

  @parameterized.parameters(None, 0.5, 0.9, 0.999)
  def test_decays_as_they_should_be(self, decay):
    self.assertEmpty(self.found(decay))

  @parameterized.parameters((0.0, '0'), (0.1, '0.1'), (0.499, '0.499'))
  def test_decays_like_pytorchs(self, decay, text):
    (finding,) = self.found(0.9, decay)
    self.assertEqual(finding.code, 'decay-like-pytorch')
    self.assertEqual((finding.ops, finding.variables), (('u1',), ('v1',)))
    self.assertEqual(finding.detail, 'decay ' + text)

  def test_the_smallest_is_told(self):
    (finding,) = self.found(0.2, 0.1, 0.3)
    self.assertEqual(finding.detail, 'decay 0.1')
    self.assertEqual(finding.ops, ('u0', 'u1', 'u2'))

  def test_where_there_are_steps_only_what_they_run_counts(self):
    self.assertEmpty(self.found(0.1, steps=['step']))
    (finding,) = self.found(0.1, 0.2, steps=['step'], reached=[1])
    self.assertEqual(finding.ops, ('u1',))


class ValuesTest(absltest.TestCase):
  def found(self, *sizes, steps=('step',)):
    """{code: (ops, detail)}; sizes: (shape of x or None, values) of sites."""
    made = HandMade()
    for k, (size, _) in enumerate(sizes):
      made.op('x%d' % k, 'NoSuchOp', size=size)
    view = made.view()
    sites = [
      fake(x=Tensor(node, 0), node=node, values=values)
      for node, (_, values) in zip(view.nodes.values(), sizes)
    ]
    states = [fake(sites=[site]) for site in sites]
    return {
      f.code: (f.ops, f.detail)
      for f in normalising.values(fake(steps=steps), states)
    }

  def test_enough(self):
    self.assertEmpty(
      self.found(((16, 4), 16), ((2, 8, 8, 4), 128), ((None, 4), None))
    )

  def test_few(self):
    self.assertEqual(
      self.found(((15, 4), 15), ((2, 2, 2, 4), 8), ((16, 4), 16)),
      {'few-values': (('x0', 'x1'), 'down to 8')},
    )

  def test_one_example_however_large(self):
    self.assertEqual(
      self.found(((1, 9, 9, 4), 81), ((1, 4), 1)),
      {'single-example': (('x0', 'x1'), '')},
    )

  def test_both(self):
    self.assertSetEqual(
      set(self.found(((1, 4), 1), ((2, 4), 2))),
      {'single-example', 'few-values'},
    )

  def test_what_is_not_known_is_not_judged(self):
    self.assertEmpty(self.found((None, 2)))

  def test_without_a_step_nothing_is(self):
    self.assertEmpty(self.found(((1, 4), 1), ((2, 4), 2), steps=()))


class EvaluationTest(absltest.TestCase):
  def found(self, by_batch=True, decided=True, steps=(), gradients=()):
    site = fake(by_batch=by_batch, decided=decided, node=fake(name='root'))
    layer = fake(sites=[site], stored=[fake(name='mean')])
    # Of what is as it should be nothing is said.
    other = fake(
      sites=[fake(by_batch=False, decided=True)], stored=[fake(name='other')]
    )
    return list(
      normalising.evaluation(
        fake(steps=steps, gradients=gradients),
        [fake(layer=layer), fake(layer=other)],
      )
    )

  def test_by_the_batch_where_nothing_is_trained(self):
    (finding,) = self.found()
    self.assertEqual(finding.code, 'evaluation-by-batch-statistics')
    self.assertEqual((finding.ops, finding.variables), (('root',), ('mean',)))

  def test_where_it_is_not_or_need_not_be(self):
    self.assertEmpty(self.found(by_batch=False))
    for decided in (None, False):
      self.assertEmpty(self.found(decided=decided))
    self.assertEmpty(self.found(steps=['step']))
    self.assertEmpty(self.found(gradients=['gradient']))


class UnusedFlagTest(parameterized.TestCase):
  def found(self, updates=(Updates.ALL,), by_batch=True, choice=None, bools=1):
    with tf.Graph().as_default() as graph:
      for _ in range(bools):
        tf.placeholder(tf.bool, [], 'flag')
    states = [
      fake(
        updates=each, layer=fake(sites=[fake(by_batch=by_batch, choice=choice)])
      )
      for each in updates
    ]
    view = programs.of_graph(graph).view
    return [
      (f.code, f.ops) for f in normalising.unused_flag(fake(view=view), states)
    ]

  def test_beside_layers_that_are_fine(self):
    for updates in ([Updates.ALL], [Updates.ALL, Updates.NOT_TRAINED]):
      self.assertEqual(
        self.found(updates), [('training-flag-unused', ('flag',))]
      )
    self.assertEqual(
      self.found(bools=2), [('training-flag-unused', ('flag', 'flag_1'))]
    )
    self.assertEmpty(self.found(bools=0))

  @parameterized.parameters(
    Updates.PARTLY, Updates.NEVER, Updates.NONE, Updates.BY_ANOTHER_TOWER
  )
  def test_other_findings_say_enough(self, updates):
    self.assertEmpty(self.found([Updates.ALL, updates]))

  def test_where_a_layer_has_a_choice_or_goes_by_what_is_stored(self):
    self.assertEmpty(self.found(choice='another flag'))
    self.assertEmpty(self.found(by_batch=False))


def net(training=True, trains=True, momentum=0.9, decay=0.9):
  """One layer, and a momentum step; of gamma and beta too, if it `trains`."""
  with small_graphs.kind():
    y = tf.layers.batch_normalization(
      tf.placeholder(tf.float32, [32, 4], 'x'),
      training=training,
      momentum=decay,
      name='bn',
    )
    loss = tf.reduce_sum(tf.square(tf.layers.dense(y, 2, name='dense')))
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
      tf.train.MomentumOptimizer(0.1, momentum).minimize(
        loss, var_list=tf.trainable_variables('' if trains else 'dense')
      )


def findings_of(rule, build, saver=None):
  """The findings of a rule on a graph; saver: function that makes one."""
  with tf.Graph().as_default() as graph:
    build()
    made = saver and saver()
  found = Anatomy(programs.of_graph(graph, made))
  return list(rule(found))


STATISTICS = ('bn/moving_mean', 'bn/moving_variance')


class SaverTest(absltest.TestCase):
  def found(self, build, saved=None):
    """Names of the variables that a saver of those of `saved` leaves out."""
    results = findings_of(
      normalising.saver,
      build,
      saved and (lambda: tf.train.Saver(saved(), name='save')),
    )
    for finding in results:
      self.assertEqual(finding.code, 'statistics-not-saved')
      self.assertEqual(finding.ops, ('save/SaveV2',))
    return [name for finding in results for name in finding.variables]

  def test_what_a_saver_leaves_out(self):
    self.assertEmpty(self.found(net, tf.global_variables))
    self.assertEqual(self.found(net, tf.trainable_variables), list(STATISTICS))
    self.assertEqual(
      self.found(
        net,
        lambda: [v for v in tf.global_variables() if 'ance' not in v.op.name],
      ),
      [STATISTICS[1]],
    )

  def test_where_there_is_no_saver_of_the_network(self):
    self.assertEmpty(self.found(net))
    self.assertEmpty(
      self.found(net, lambda: tf.global_variables('bn/moving_mean'))
    )

  def test_what_nothing_changes_need_not_be_saved(self):
    self.assertEmpty(self.found(lambda: net(False), tf.trainable_variables))

  def test_who_only_evaluates_reads_what_was_saved(self):
    def evaluates():
      tf.layers.batch_normalization(
        tf.placeholder(tf.float32, [32, 4]), name='bn'
      )

    self.assertEqual(
      self.found(evaluates, tf.trainable_variables), list(STATISTICS)
    )


class NeverTest(absltest.TestCase):
  def found(self, build, saver=None):
    def rule(found):
      return normalising.never(
        found, [step_states.of(found, layer) for layer in found.layers]
      )

    return [
      (f.code, f.variables, f.detail) for f in findings_of(rule, build, saver)
    ]

  def test_forgotten_or_restored(self):
    self.assertEqual(
      self.found(lambda: net(False)), [('frozen-or-forgotten', STATISTICS, '')]
    )
    self.assertEqual(
      self.found(lambda: net(False), tf.train.Saver),
      [
        (
          'never-by-batch',
          STATISTICS,
          'nothing sets them but a checkpoint of such a training',
        )
      ],
    )

  def test_a_flag_that_nothing_uses_is_told(self):
    def build():
      tf.placeholder(tf.bool, [], 'flag')
      net(False)

    self.assertEqual(
      self.found(build, tf.train.Saver),
      [
        (
          'never-by-batch',
          STATISTICS,
          'nothing uses the placeholder flag; nothing sets them but a '
          'checkpoint of such a training',
        )
      ],
    )

  def test_a_phase_by_default_whose_updates_no_step_runs(self):
    def build(more=lambda x: x):
      phase = tf.placeholder_with_default(False, [], 'phase')
      with small_graphs.kind():
        x = tf.placeholder(tf.float32, [32, 4], 'x')
        y = tf.layers.batch_normalization(x, training=phase, name='bn')
        y = more(y)
        tf.train.GradientDescentOptimizer(0.1).minimize(tf.reduce_sum(y))

    expected = (
      'updates-not-run',
      STATISTICS,
      'with phase fed; without, nothing is ever normalised',
    )
    self.assertEqual(self.found(build), [expected])

    # Keras has them in no collection, and may be a frozen part.
    def in_none():
      build()
      tf.get_default_graph().clear_collection(tf.GraphKeys.UPDATE_OPS)

    self.assertEqual(
      self.found(in_none),
      [
        (
          'frozen-or-forgotten',
          STATISTICS,
          'unless phase is fed; no step runs the updates then',
        )
      ],
    )
    # Beside one that nobody can feed.
    more = lambda x: tf.layers.batch_normalization(x, name='never')
    self.assertEqual(
      self.found(lambda: build(more)),
      [
        expected,
        (
          'frozen-or-forgotten',
          ('never/moving_mean', 'never/moving_variance'),
          '',
        ),
      ],
    )

  def test_frozen_layers_whose_phase_may_be_fed(self):
    def rule(found):
      return normalising.frozen(
        found, [step_states.of(found, layer) for layer in found.layers]
      )

    def build(default=False, trained=(), more=False):
      phase = tf.placeholder_with_default(default, [], 'phase')
      x = tf.placeholder(tf.float32, [32, 4], 'x')
      with small_graphs.kind():
        w = tf.get_variable('w', [4])
        y = tf.layers.batch_normalization(w * x, training=phase, name='bn')
        if more:
          y = tf.layers.batch_normalization(y, training=True, name='trained')
        trained = [v for v in tf.trainable_variables() if v.op.name in trained]
        loss = tf.reduce_sum(y)
        tf.train.GradientDescentOptimizer(0.1).minimize(
          loss, var_list=[w, *trained]
        )

    ((finding),) = findings_of(rule, build)
    self.assertEqual(
      (finding.code, finding.severity), ('frozen-by-batch', 'warning')
    )
    self.assertEqual(finding.variables, STATISTICS)
    self.assertEqual(finding.detail, 'with phase fed')
    for how in (
      dict(default=True),
      dict(trained=['bn/gamma']),
      dict(trained=['bn/beta']),
      dict(more=True),  # Of which something worse is said.
    ):
      self.assertEmpty(findings_of(rule, lambda: build(**how)))

  def test_who_trains_neither_gamma_nor_beta_is_frozen_on_purpose(self):
    self.assertEmpty(self.found(lambda: net(False, trains=False)))

  def test_who_sees_batches_is_healthy(self):
    self.assertEmpty(self.found(net))


if __name__ == '__main__':
  absltest.main()
