"""doctor/lint/hook.py: when it checks, and what becomes of the findings."""

import types

from absl.testing import absltest
from absl.testing import parameterized

from graph_resnet9.doctor.lint import hook
from graph_resnet9.doctor.lint import rules
from graph_resnet9.doctor.lint.findings import Finding
from graph_resnet9.doctor.lint.reports import Report
from graph_resnet9.errors import UserError

SEEN = dict.fromkeys(
  (
    'layers',
    'by_batch',
    'by_choice',
    'by_stored',
    'unused',
    'updates',
    'updates_run',
  ),
  1,
)
ERROR = Finding('single-example', ('a',), ())
WARNING = Finding('few-values', ('b',), ())
SESSION = types.SimpleNamespace(graph='the graph')


def report(*findings):
  return Report(list(findings), SEEN, (), ())


class HookTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    patch = absltest.mock.patch.object(rules, 'lint_graph')
    self.lint = patch.start()
    self.addCleanup(patch.stop)

  def lines(self, made, result):
    """What a hook logs, from INFO up, as 'LEVEL:absl:text'."""
    self.lint.side_effect = [result]
    with self.assertLogs('absl', 'INFO') as logs:
      made.after_create_session(SESSION, None)
    return logs.output

  def test_findings_are_logged_as_what_they_are(self):
    lines = self.lines(hook.LintHook(), report(ERROR, WARNING))
    self.assertEqual(
      lines, ['ERROR:absl:' + str(ERROR), 'WARNING:absl:' + str(WARNING)]
    )

  def test_the_graph_and_the_train_ops_are_what_is_checked(self):
    self.lint.return_value = report()
    hook.LintHook(['train']).after_create_session(SESSION, None)
    self.lint.assert_called_once_with('the graph', ['train'])

  @parameterized.parameters(
    (report(),), (UserError('no layers'),), (KeyError('a defect'),)
  )
  def test_it_checks_once_whatever_comes_of_it(self, result):
    """A session that was lost is made again, and the hook told again."""
    self.lint.side_effect = [result, AssertionError('a second time')]
    made = hook.LintHook()
    for _ in range(3):
      made.after_create_session(SESSION, None)
    self.assertEqual(self.lint.call_count, 1)

  def test_errors_raise_where_they_shall(self):
    self.lint.return_value = report(ERROR, WARNING)
    with self.assertRaisesRegex(ValueError, 'single-example'):
      hook.LintHook(raise_errors=True).after_create_session(SESSION, None)

  def test_warnings_never_do(self):
    lines = self.lines(hook.LintHook(raise_errors=True), report(WARNING))
    self.assertEqual(lines, ['WARNING:absl:' + str(WARNING)])

  def test_a_graph_without_layers_is_a_line_of_info(self):
    lines = self.lines(hook.LintHook((), True), UserError('no layers'))
    self.assertEqual(lines, ['INFO:absl:lint: no layers'])

  def test_a_defect_is_a_warning_and_its_traceback_info(self):
    lines = self.lines(hook.LintHook((), True), IndexError('of a rule'))
    traceback, warning = lines
    self.assertIn('Traceback', traceback)
    self.assertStartsWith(
      warning, 'WARNING:absl:lint: the graph was not checked: '
    )
    self.assertIn('IndexError: of a rule', warning)


if __name__ == '__main__':
  absltest.main()
