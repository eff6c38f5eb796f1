"""pytest runs the absltest classes: what absltest.main does, it must do too."""

import os
import shutil
import tempfile

from absl import flags
import pytest

from tests import helpers

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')


def pytest_configure(config):
  helpers.take_signals()
  # That tf.compat.v1 is deprecated is no news to these tests.
  for line in ('ignore:.*tf.layers.* is deprecated:UserWarning',):
    config.addinivalue_line('filterwarnings', line)


def pytest_sessionfinish(session):
  if hasattr(session.config, 'workeroutput'):  # A process of pytest-xdist.
    session.config.workeroutput['summary'] = helpers.SUMMARY


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
  helpers.SUMMARY.extend(getattr(node, 'workeroutput', {}).get('summary', []))


def pytest_terminal_summary(terminalreporter):
  for line in helpers.SUMMARY:
    terminalreporter.write_line(line)


@pytest.fixture(scope='session', autouse=True)
def absl_flags():
  """Parsed flags, and a directory of this session's own for create_tempdir."""
  flags.FLAGS.mark_as_parsed()
  flags.FLAGS.test_tmpdir = tempfile.mkdtemp(prefix='graph_resnet9_test')
  yield
  shutil.rmtree(flags.FLAGS.test_tmpdir, ignore_errors=True)
