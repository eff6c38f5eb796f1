"""doctor/lint on the corpus, in hooks, on graphs of this project."""

import os
import tempfile

from absl.testing import absltest
import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.graph import tensors
from graph_resnet9.doctor.lint import kinds
from graph_resnet9.doctor.lint import rules
from graph_resnet9.doctor.lint.hook import LintHook
from graph_resnet9.doctor.measure import verdicts
from graph_resnet9.errors import UserError
from tests import helpers
from tests.doctor import corpus
from tests.doctor import corpus_phases

# What TensorFlow 1 wrote for ops that have a newer form.
OLD_OPS = {
  'FusedBatchNormV3': 'FusedBatchNorm',
  'AddV2': 'Add',
  'SelectV2': 'Select',
  'BatchMatMulV2': 'BatchMatMul',
}


def disguised(meta_graph):
  """The same graph, older: old ops, and names that say nothing.

  Variables keep their names, by which a checkpoint knows them.
  """
  copy = tf.MetaGraphDef()
  copy.CopyFrom(meta_graph)
  names = {
    node.name: 'n%d' % k
    for k, node in enumerate(copy.graph_def.node)
    if node.op not in tensors.VARIABLE_OPS
  }
  for node in copy.graph_def.node:
    node.name = names.get(node.name, node.name)
    node.op = OLD_OPS.get(node.op, node.op)
    for k, value in enumerate(node.input):
      mark = '^' if value.startswith('^') else ''
      name, colon, index = value.removeprefix('^').partition(':')
      node.input[k] = mark + names.get(name, name) + colon + index
  for key in (tf.GraphKeys.TRAIN_OP, tf.GraphKeys.UPDATE_OPS):
    collected = copy.collection_def[key].node_list.value
    for k, value in enumerate(collected):
      name, colon, index = value.partition(':')
      collected[k] = names.get(name, name) + colon + index
  save = copy.saver_def.save_tensor_name
  if save:
    copy.saver_def.save_tensor_name = names[save.partition(':')[0]] + ':0'
  return copy, names


def lint(case, folder):
  """Codes of a case, by MetaGraphDef and by files, as it is and disguised."""
  with tf.Graph().as_default() as graph:
    built = case.build()
    meta_graph = tf.train.export_meta_graph(
      graph=graph, saver_def=built.saver.saver_def if built.saver else None
    )
  prefix = None
  if built.checkpoint:
    prefix = os.path.join(folder, 'checkpoint')
    helpers.save_weights(built.checkpoint, prefix)
  other, names = disguised(meta_graph)
  reports = (
    rules.lint_meta_graph(meta_graph, built.train_ops, prefix),
    rules.lint_meta_graph(
      other, [names[name] for name in built.train_ops], prefix
    ),
  )
  return [{f.code for f in report.findings} for report in reports]


class EvenCorpusTest(absltest.TestCase):
  """A half of the corpus: the other one can run in another process."""

  first = 0

  def test_every_fault_is_found_and_nothing_else(self):
    right = wrong = missed = 0
    cases = (corpus.cases() + corpus_phases.cases())[self.first :: 2]
    for case in cases:
      with tempfile.TemporaryDirectory() as folder:
        found, disguised_found = lint(case, folder)
      right += len(found & case.codes)
      wrong += len(found - case.codes)
      missed += len(case.codes - found)
      with self.subTest(case.name):
        self.assertSetEqual(found, set(case.codes))
        self.assertSetEqual(disguised_found, found)
    precision, recall = right / (right + wrong), right / (right + missed)
    helpers.SUMMARY.append(
      'lint on %d graphs, %d faults in %d of them: precision %.3f, recall '
      '%.3f'
      % (
        len(cases),
        right + missed,
        sum(bool(case.codes) for case in cases),
        precision,
        recall,
      )
    )
    self.assertEqual((precision, recall), (1, 1))


class OddCorpusTest(EvenCorpusTest):
  first = 1


class CodesTest(absltest.TestCase):
  def test_every_code_stands_in_the_docs(self):
    text = (helpers.ROOT / 'docs' / 'doctor.md').read_text()
    for code, kind in kinds.KINDS.items():
      self.assertIn('| `%s` | %s |' % (code, kind.severity), text)
    for code in verdicts.TITLES:
      self.assertIn('| `%s` |' % code, text)

  def test_every_code_has_a_faulty_graph(self):
    codes = set().union(
      *(case.codes for case in corpus.cases() + corpus_phases.cases())
    )
    self.assertSetEqual(codes, set(kinds.KINDS))


def training_graph(run_updates=True, decay=0.9):
  """A dense layer with batch normalisation, and its train op."""
  tf.train.get_or_create_global_step()
  x = tf.random.normal([32, 4])
  y = tf.layers.batch_normalization(x, training=True, momentum=decay)
  loss = tf.reduce_mean(tf.square(tf.layers.dense(y, 1)))
  updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS) if run_updates else []
  with tf.control_dependencies(updates):
    return tf.train.GradientDescentOptimizer(0.1).minimize(
      loss, tf.train.get_global_step()
    )


class LintTest(absltest.TestCase):
  def test_one_train_op_of_several_is_judged_alone(self):
    with tf.Graph().as_default() as graph:
      updated = training_graph()
      tf.train.GradientDescentOptimizer(0.1).minimize(
        tf.reduce_sum(tf.trainable_variables()[0]), name='other'
      )
      self.assertEmpty(rules.lint_graph(graph).findings)
      self.assertEmpty(rules.lint_graph(graph, [updated.name]).findings)
      # This one does not pass through the layer.
      self.assertEmpty(rules.lint_graph(graph, ['other']).findings)

  def test_unknown_train_op(self):
    with tf.Graph().as_default() as graph:
      training_graph()
      with self.assertRaisesRegex(UserError, '--train_op=nil: no op'):
        rules.lint_graph(graph, ['nil'])

  def test_no_batch_norm(self):
    with tf.Graph().as_default() as graph:
      tf.constant(1)
      with self.assertRaisesRegex(UserError, 'no batch normalisation'):
        rules.lint_graph(graph)

  def test_finding_says_what_where_why_and_how(self):
    with tf.Graph().as_default() as graph:
      training_graph(run_updates=False)
      report = rules.lint_graph(graph)
    (finding,) = report.findings
    self.assertEqual(
      finding.variables,
      (
        'batch_normalization/moving_mean',
        'batch_normalization/moving_variance',
      ),
    )
    self.assertLen(finding.ops, 2)
    self.assertEqual(report.train_ops, ('GradientDescent',))
    for part in (
      'error updates-not-run',
      'AssignMovingAvg',
      'moving_mean',
      'effect: ',
      'mend: with tf.control_dependencies',
      'errors: 1, warnings: 0',
    ):
      self.assertIn(part, str(report))

  def test_a_graph_without_shapes_is_checked_with_inferred_ones(self):
    with tf.Graph().as_default() as graph:
      x = tf.random.normal([1, 8, 8, 3])
      y = tf.layers.batch_normalization(x, training=True)
      with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        tf.train.GradientDescentOptimizer(0.1).minimize(tf.reduce_sum(y * y))
      meta_graph = tf.train.export_meta_graph(graph=graph)
    for node in meta_graph.graph_def.node:
      node.attr.pop('_output_shapes', None)
    codes = [f.code for f in rules.lint_meta_graph(meta_graph).findings]
    self.assertEqual(codes, ['single-example'])

  def test_a_damaged_constant_is_named(self):
    with tf.Graph().as_default() as graph:
      training_graph()
      meta_graph = tf.train.export_meta_graph(graph=graph)
    for node in meta_graph.graph_def.node:
      if node.op == 'Const':
        node.attr['value'].tensor.dtype = 99
    with self.assertRaisesRegex(UserError, 'damaged graph: .*99'):
      rules.lint_meta_graph(meta_graph)

  def test_an_op_without_its_inputs_is_named(self):
    with tf.Graph().as_default() as graph:
      training_graph()
      whole = tf.train.export_meta_graph(graph=graph)
    for op in ('AssignSubVariableOp', 'Rsqrt', 'Mean', 'FusedBatchNormV3'):
      meta_graph = tf.MetaGraphDef()
      meta_graph.CopyFrom(whole)
      for node in meta_graph.graph_def.node[:1]:
        node.op = op
        del node.input[:]
      with self.assertRaisesRegex(
        UserError, 'damaged graph: .*%s takes .* and has 0' % op
      ):
        rules.lint_meta_graph(meta_graph)

  def test_a_defect_of_a_rule_is_one_line(self):
    with tf.Graph().as_default() as graph:
      training_graph()
      meta_graph = tf.train.export_meta_graph(graph=graph)
    with absltest.mock.patch.object(
      rules.running, 'several', side_effect=IndexError('of a rule')
    ):
      with self.assertRaisesRegex(
        UserError, 'defect of the check .IndexError: of a rule'
      ):
        rules.lint_meta_graph(meta_graph)

  def test_a_live_graph_knows_which_lines_made_it(self):
    with tf.Graph().as_default() as graph:
      training_graph(run_updates=False)
      (finding,) = rules.lint_graph(graph).findings
    (place,) = finding.places
    name, _, line = place.rpartition(':')
    self.assertEndsWith(name, 'tests/doctor/lint_test.py')
    with open(__file__) as f:
      self.assertIn(
        'tf.layers.batch_normalization', f.read().splitlines()[int(line) - 1]
      )
    self.assertIn('  made at: ' + place, str(finding))

  def test_a_mend_in_a_loop_is_one_that_works_there(self):
    for case in corpus_phases.cases():
      if case.name == 'updates_not_run/in_cell/layers_plain':
        with tf.Graph().as_default() as graph:
          case.build()
          (finding,) = rules.lint_graph(graph).findings
        self.assertIn('in the body of the loop', finding.cure)
        return
    self.fail('no such case')

  def test_ops_that_open_files_or_run_code_are_named(self):
    with tf.Graph().as_default() as graph:
      training_graph()
      self.assertEmpty(rules.lint_graph(graph).notes)
      tf.read_file('/etc/passwd', name='reads')
      tf.py_func(lambda: 1, [], tf.int64, name='calls')
      report = rules.lint_graph(graph)
    self.assertLen(report.notes, 2)
    self.assertIn('calls', report.notes[0])
    self.assertIn('reads (ReadFile)', report.notes[1])
    self.assertIn('note: when run, ops', str(report))

  def test_an_op_that_is_not_registered_does_not_matter(self):
    with tf.Graph().as_default() as graph:
      training_graph(run_updates=False)
      meta_graph = tf.train.export_meta_graph(graph=graph)
    (node,) = [
      n for n in meta_graph.graph_def.node if n.op == 'RandomStandardNormal'
    ][:1]
    node.op = 'NoSuchOp'
    codes = [f.code for f in rules.lint_meta_graph(meta_graph).findings]
    self.assertEqual(codes, ['updates-not-run'])


class CheckpointTest(absltest.TestCase):
  def codes(self, step, decay, mean=0.5, variance=0.5):
    """Findings on a checkpoint after `step` steps."""
    with tempfile.TemporaryDirectory() as folder:
      prefix = os.path.join(folder, 'checkpoint')
      with tf.Graph().as_default() as graph:
        training_graph(decay=decay)
        values = {
          v.op.name: np.full(v.shape, 0.5, np.float32)
          for v in tf.global_variables()
        }
      values['global_step'] = np.int64(step)
      for name, value in (('mean', mean), ('variance', variance)):
        values['batch_normalization/moving_' + name][:] = value
      helpers.save_weights(values, prefix)
      return [
        f.code for f in rules.lint_graph(graph, checkpoint=prefix).findings
      ]

  def test_what_is_left_of_the_initial_values(self):
    # .99 ** 229 = .1001, .99 ** 230 = .0991.
    self.assertEqual(self.codes(229, 0.99), ['decay-too-slow'])
    self.assertEqual(self.codes(230, 0.99), [])
    self.assertEqual(self.codes(0, 0.99), [])
    self.assertEqual(self.codes(30, 0.9), [])

  def test_initial_statistics(self):
    for variance in (1, 0):  # As of tf.layers, and of an average of one's own.
      self.assertEqual(
        self.codes(500, 0.9, 0, variance), ['statistics-still-initial']
      )
      self.assertEqual(self.codes(0, 0.9, 0, variance), [])
    self.assertEqual(self.codes(500, 0.9, 0, 0.5), [])


class HookTest(absltest.TestCase):
  def run_one_step(self, hook, **how):
    with tf.Graph().as_default():
      train_op = training_graph(**how)
      with tf.train.MonitoredTrainingSession(hooks=[hook]) as session:
        session.run(train_op)

  def test_findings_are_logged_before_the_first_step(self):
    with self.assertLogs('absl', 'ERROR') as logs:
      self.run_one_step(LintHook(), run_updates=False)
    self.assertLen(logs.output, 1)
    self.assertIn('updates-not-run', logs.output[0])

  def test_a_healthy_graph_is_not_talked_about(self):
    with self.assertNoLogs('absl', 'WARNING'):
      self.run_one_step(LintHook())

  def test_a_defect_of_the_check_is_one_warning(self):
    with absltest.mock.patch.object(
      rules, 'lint', side_effect=KeyError('of a rule')
    ):
      for hook in (LintHook(), LintHook((), True)):
        with self.assertLogs('absl', 'WARNING') as logs:
          self.run_one_step(hook)
        self.assertLen(logs.output, 1)
        self.assertIn('the graph was not checked', logs.output[0])

  def test_errors_can_stop_the_training(self):
    with self.assertRaisesRegex(ValueError, 'updates-not-run'):
      self.run_one_step(LintHook(raise_errors=True), run_updates=False)
    self.run_one_step(LintHook(raise_errors=True))

  def test_the_saver_of_the_session_is_checked(self):
    with tf.Graph().as_default():
      train_op = training_graph()
      scaffold = tf.train.Scaffold(
        saver=tf.train.Saver(tf.trainable_variables())
      )
      with self.assertLogs('absl', 'ERROR') as logs:
        with tf.train.MonitoredTrainingSession(
          scaffold=scaffold, hooks=[LintHook()]
        ) as session:
          session.run(train_op)
    self.assertIn('statistics-not-saved', logs.output[0])

  def test_a_graph_without_batch_norm_is_none_of_its_business(self):
    with tf.Graph().as_default(), self.assertNoLogs('absl', 'WARNING'):
      op = tf.no_op()
      with tf.train.MonitoredTrainingSession(hooks=[LintHook()]) as session:
        session.run(op)


class OwnTrainingTest(absltest.TestCase):
  def test_the_recipe_is_healthy(self):
    with self.assertNoLogs('absl', 'WARNING'):
      helpers.train(self.create_tempdir().full_path, [LintHook()])

  def test_without_update_ops_it_is_not(self):
    with self.assertLogs('absl', 'ERROR') as logs:
      helpers.train(
        self.create_tempdir().full_path, [LintHook()], update_ops='none'
      )
    self.assertIn('updates-not-run', logs.output[0])

  def test_it_sees_the_same_with_winograds_convolutions(self):
    for update_ops in ('control_dependencies', 'none'):
      reports = []
      for conv in ('direct', 'winograd'):
        with tf.Graph().as_default() as graph:
          helpers.built(conv=conv, update_ops=update_ops, width=32)
          reports.append(
            rules.lint_meta_graph(tf.train.export_meta_graph(graph=graph))
          )
      direct, winograd = reports
      with self.subTest(update_ops):
        self.assertEqual(direct.seen['layers'], 8)
        self.assertEqual(winograd.seen, direct.seen)
        self.assertEqual(
          bool(direct.findings), update_ops == 'none', direct.findings
        )
        self.assertEqual(winograd.findings, direct.findings)


if __name__ == '__main__':
  absltest.main()
