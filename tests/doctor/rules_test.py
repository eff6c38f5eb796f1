"""doctor/lint/rules.py: what a report holds, and defects of the check."""

from absl.testing import absltest
import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.lint import rules
from graph_resnet9.errors import UserError
from tests.doctor import small_graphs


def three_layers(decay=0.9, loss=tf.square):
  """One by the batch, one by a placeholder, one by what is stored."""
  with small_graphs.kind():
    y = tf.placeholder(tf.float32, [32, 4], 'x')
    phase = tf.placeholder(tf.bool, [], 'phase')
    for k, training in enumerate((True, phase, False)):
      y = tf.layers.batch_normalization(
        y, training=training, momentum=decay, name='bn%d' % k
      )
    updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    with tf.control_dependencies(updates[:2]):
      tf.train.GradientDescentOptimizer(0.1).minimize(
        tf.reduce_sum(loss(y)), name='train'
      )


class ReportTest(absltest.TestCase):
  def report(self, build, *args, **how):
    with tf.Graph().as_default() as graph:
      build()
    return rules.lint_graph(graph, *args, **how)

  def test_what_was_seen(self):
    report = self.report(three_layers)
    self.assertEqual(
      report.seen,
      dict(
        layers=3,
        by_batch=1,
        by_choice=1,
        by_stored=1,
        unused=0,
        updates=4,
        updates_run=2,
      ),
    )
    self.assertEqual(report.train_ops, ('train',))
    self.assertEqual((report.assumed, report.notes), ((), ()))
    self.assertEqual(
      {f.code for f in report.findings},
      {'updates-partly-run', 'frozen-or-forgotten'},
    )

  def test_errors_come_first(self):
    def twice(z):
      return tf.nn.sigmoid_cross_entropy_with_logits(
        labels=tf.ones_like(z), logits=tf.sigmoid(z)
      )

    report = self.report(lambda: three_layers(0.1, twice))
    severities = [f.severity for f in report.findings]
    self.assertEqual(severities, ['error'] * 2 + ['warning'] * 2)
    self.assertEqual(report.findings[1].code, 'softmax-twice')

  def test_groups_that_a_hook_of_the_session_runs(self):
    """As tensorpack leaves them: a step waits for none of the updates."""

    def build():
      with small_graphs.kind():
        y = tf.placeholder(tf.float32, [32, 4])
        for _ in range(2):
          y = tf.layers.batch_normalization(y, training=True)
        tf.train.GradientDescentOptimizer(0.1).minimize(tf.reduce_sum(y * y))
        tf.group(*tf.get_collection(tf.GraphKeys.UPDATE_OPS), name='by_hook')

    report = self.report(build)
    self.assertEqual(report.assumed, ('by_hook',))
    self.assertEmpty(report.findings)
    self.assertIn(
      '\ntaken to be run beside the train op: by_hook (--train_op=NAME,NAME '
      'says what a step runs)\n',
      str(report),
    )

  def test_a_graph_without_layers(self):
    with self.assertRaisesRegex(UserError, 'no batch normalisation in this'):
      self.report(lambda: tf.constant(1))


def fails():
  raise IndexError('of a rule')


class FailureTest(absltest.TestCase):
  def test_it_says_what_went_wrong_and_where(self):
    try:
      fails()
    except IndexError as e:
      with self.assertLogs('absl', 'INFO') as logs:
        said = rules.failure(e)
    line = fails.__code__.co_firstlineno + 1
    self.assertEqual(
      said,
      'a damaged graph, or a defect of the check (IndexError: of a rule, '
      'rules_test.py:%d); --verbosity=0 prints where' % line,
    )
    (logged,) = logs.output
    self.assertStartsWith(logged, 'INFO:absl:Traceback')
    self.assertIn("raise IndexError('of a rule')", logged)


if __name__ == '__main__':
  absltest.main()
