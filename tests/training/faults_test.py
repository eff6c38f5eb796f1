"""Faults of tests/tools/fault_harness.py that take processes, once each."""

import concurrent.futures

from absl.testing import absltest
from absl.testing import parameterized

from tests import helpers
from tests.tools import cluster_faults
from tests.tools import fault_harness

# What the process itself can be given has tests that start none.
ELSEWHERE = {
  'tests/training/kill_test.py': ('killed_in_turn',),
  'tests/checkpoints/choose_test.py': (
    'newest_damaged',
    'index_missing',
    'all_damaged',
    'eval_of_damaged',
    'state_file',
    'no_checkpoint_left',
    'killed_saves',
  ),
  'tests/training/train_dir_test.py': (
    'second_training',
    'patterns',
    'planted_links',
  ),
  'tests/cluster/processes_test.py': tuple(
    f.__name__ for f in cluster_faults.FAULTS
  ),
}
NAMES = sorted(set(fault_harness.FAULTS) - set().union(*ELSEWHERE.values()))


class FaultsTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    helpers.take_signals()
    # Two at once, as a start takes longer than the rest.
    pool = concurrent.futures.ThreadPoolExecutor(2)
    cls.addClassCleanup(pool.shutdown, cancel_futures=True)
    cls.results = {
      name: pool.submit(fault_harness.attempt, name, 0) for name in NAMES
    }

  @parameterized.parameters(*NAMES)
  def test_promise_holds(self, name):
    result = self.results[name].result()
    if result['outcome'] == 'skipped':
      self.skipTest(result['detail'])
    self.assertEqual(result['outcome'], 'held', result['detail'])


if __name__ == '__main__':
  absltest.main()
