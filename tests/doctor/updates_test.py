"""doctor/layers/updates: which assignments move statistics, and which not."""

from absl.testing import absltest
from absl.testing import parameterized
import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.graph.nodes import GraphView
from graph_resnet9.doctor.layers import normalisations
from graph_resnet9.doctor.layers import updates
from tests.doctor.layers_test import Made
from tests.doctor.layers_test import means_of_squares


def variable(name, shape=(3,)):
  return tf.get_variable(name, shape, use_resource=False, trainable=False)


def found(graph, trained=()):
  """Updates of a graph; trained: variables that are said to be trained."""
  view = GraphView(graph.as_graph_def())
  return updates.find(
    view, normalisations.find(view), {view.find(v.op.name) for v in trained}
  )


def names(some):
  return {(u.variable.name, u.node.name) for u in some}


class UpdatesTest(parameterized.TestCase):
  @parameterized.parameters(False, True)
  def test_what_an_update_is(self, resource):
    with tf.Graph().as_default() as graph:
      made = Made(resource=resource)
    some = found(graph)
    if not resource:  # Of a resource, what is returned is a reading of it.
      self.assertEqual(
        names(some),
        {(v.op.name, u.op.name) for v, u in zip(made.stored, made.updates)},
      )
    self.assertEqual(
      {(u.variable.name, u.kind) for u in some},
      {('layer/moving_mean', 'mean'), ('layer/moving_var', 'variance')},
    )
    for update in some:
      self.assertAlmostEqual(update.decay, 0.9)
      self.assertIs(update.site, some[0].site)
      self.assertIn('Assign', update.node.op)

  def test_a_variance_made_of_a_mean_is_a_variance(self):
    with tf.Graph().as_default() as graph:
      Made(means_of_squares)
    self.assertEqual(
      {(u.variable.name, u.kind) for u in found(graph)},
      {('layer/moving_mean', 'mean'), ('layer/moving_var', 'variance')},
    )

  def test_what_is_none(self):
    with tf.Graph().as_default() as graph:
      made = Made()
      before = names(found(graph))
      tf.assign(variable('watched', []), tf.reduce_mean(made.batch[0]))
      tf.assign(variable('copy'), made.stored[0])
      tf.assign(variable('fed'), tf.placeholder(tf.float32, [3]))
      other = tf.reduce_mean(tf.placeholder(tf.float32, [9, 3]), 0)
      tf.assign(variable('of_something_else'), other)
    self.assertLen(before, 2)
    self.assertEqual(names(found(graph)), before)

  def test_without_sites_there_are_none(self):
    with tf.Graph().as_default() as graph:
      Made()
    view = GraphView(graph.as_graph_def())
    self.assertEqual(updates.find(view, [], ()), [])


class TrainedTest(parameterized.TestCase):
  """Averages that are said to be trained, as by Keras 2.0 to 2.3."""

  def found(self, use, trained=True):
    """Names of variables that updates move; use: function of an average."""
    with tf.Graph().as_default() as graph:
      made = Made(step=False)
      use(made.stored[0], made)
    some = found(graph, [made.stored[0]] if trained else [])
    return [u.variable.name for u in some if u.kind == 'mean']

  @parameterized.named_parameters(
    ('nothing', lambda v, made: None),
    ('saver', lambda v, made: tf.train.Saver([v])),
    ('initialized', lambda v, made: tf.cond(
      tf.is_variable_initialized(v), tf.no_op, tf.no_op)),
    ('summary', lambda v, made: (
      tf.summary.histogram('s', v), tf.summary.merge_all())),
    ('shape', lambda v, made: tf.shape(v) + 1),
    ('copy', lambda v, made: tf.identity(tf.assign(variable('copy'), v))),
    ('sum_for_nobody', lambda v, made: tf.exp(2.0 * v + 1.0 - v)),
  )  # fmt: skip
  def test_what_a_step_does_not_use_is_an_average(self, use):
    self.assertEqual(self.found(use), ['layer/moving_mean'])

  @parameterized.named_parameters(
    ('itself', lambda v, made: tf.exp(tf.exp(v))),
    ('a_product', lambda v, made: tf.exp(tf.nn.relu(made.x * v))),
    ('another_shape', lambda v, made: tf.exp(tf.exp(tf.reshape(v, [1, 3])))),
    ('a_difference', lambda v, made: tf.exp(tf.exp(1.0 - (v + 1.0)))),
  )
  def test_what_a_step_uses_is_trained(self, use):
    self.assertEqual(self.found(use), [])
    self.assertEqual(self.found(use, trained=False), ['layer/moving_mean'])

  def test_what_a_normalisation_reads_is_an_average_whoever_else_does(self):
    def use(v, made):
      tf.exp(tf.exp(v))
      tf.nn.batch_normalization(
        made.x, *made.stored, made.beta, made.gamma, 1e-3
      )

    self.assertEqual(self.found(use), ['layer/moving_mean'])


class DebiasedTest(parameterized.TestCase):
  """`biased` holds the average; a target gets it divided by 1 - 0.9 ** n."""

  def build(self, difference=False, read=None, targets=('target',)):
    """Builds it; read: what evaluation normalises by, if anything.

    Returns:
      {name of a target: name of the op that assigns to it}, the Graph and the
      name of the op that moves `biased`.
    """
    with tf.Graph().as_default() as graph:
      made = Made(step=False)
      biased, count = variable('biased'), variable('n', [])
      moved = tf.assign_sub(biased, (biased - made.batch[0]) * 0.1)
      share = 1 - tf.pow(0.9, tf.assign_add(count, 1.0))
      assigned = {}
      for name in targets:
        target = variable(name)
        if difference:
          with tf.control_dependencies([moved]):
            average = biased.read_value() / share
          op = tf.assign_sub(target, target - average)
        else:
          op = tf.assign(target, moved / share)
        assigned[name] = op.op.name
      if read:
        with tf.variable_scope('', reuse=True):
          mean = tf.get_variable(read, [3], use_resource=False)
        tf.nn.batch_normalization(
          made.x, mean, made.stored[1], made.beta, made.gamma, 1e-3
        )
    return assigned, graph, moved.op.name

  def moved(self, graph):
    """{name of a variable: its Update}, but for those of the layer itself."""
    return {
      u.variable.name: u
      for u in found(graph)
      if not u.variable.name.startswith('layer/')
    }

  @parameterized.parameters(
    (False, None), (True, None), (False, 'target'), (True, 'target')
  )
  def test_what_gets_the_average_is_updated_by_what_assigns_it(
    self, difference, read
  ):
    assigned, graph, _ = self.build(difference, read)
    ((name, update),) = self.moved(graph).items()
    self.assertEqual((name, update.node.name), ('target', assigned['target']))
    self.assertEqual(update.kind, 'mean')
    self.assertIsNone(update.decay)

  @parameterized.parameters(False, True)
  def test_of_several_it_is_the_one_that_is_read_or_the_first(self, difference):
    targets = ('one', 'two', 'three')
    for read, expected in ((None, 'one'), ('two', 'two'), ('three', 'three')):
      assigned, graph, _ = self.build(difference, read, targets)
      ((name, update),) = self.moved(graph).items()
      self.assertEqual((name, update.node.name), (expected, assigned[expected]))

  @parameterized.parameters((None, ()), ('biased', ('target',)))
  def test_an_average_that_nobody_divides_or_that_is_read_stays(
    self, read, targets
  ):
    _, graph, moved = self.build(read=read, targets=targets)
    ((name, update),) = self.moved(graph).items()
    self.assertEqual((name, update.node.name), ('biased', moved))
    self.assertAlmostEqual(update.decay, 0.9)


class CopiedTest(parameterized.TestCase):
  """The average of a variable that is assigned what the last batch has."""

  def moved(self, average, resource=False):
    with tf.Graph().as_default() as graph:
      made = Made(step=False)
      last = tf.get_variable('last', [3], use_resource=resource)
      tf.assign(last, made.batch[0], name='copy')
      average(last)
    return {
      u.variable.name: u
      for u in found(graph)
      if not u.variable.name.startswith('layer/')
    }

  @parameterized.parameters(False, True)
  def test_it_is_what_is_stored(self, resource):
    ((name, update),) = self.moved(
      lambda last: tf.train.ExponentialMovingAverage(0.75).apply([last]),
      resource,
    ).items()
    self.assertEqual(name, 'last/ExponentialMovingAverage')
    self.assertIn('AssignMovingAvg', update.node.name)
    self.assertEqual(update.kind, 'mean')
    self.assertAlmostEqual(update.decay, 0.75)

  def test_nothing_that_is_no_average_of_it(self):
    def other(last):
      variable('sum').assign_add(last)
      variable('another').assign(last)
      of_something_else = variable('of_something_else')
      of_something_else.assign_sub((of_something_else - 1.0) * 0.1)

    ((name, update),) = self.moved(other).items()
    self.assertEqual(
      (name, update.node.name, update.decay), ('last', 'copy', 0)
    )


if __name__ == '__main__':
  absltest.main()
