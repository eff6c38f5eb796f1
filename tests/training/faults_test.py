"""Every fault of tests/tools/fault_harness.py, once."""

import concurrent.futures

from absl.testing import absltest
from absl.testing import parameterized

from tests.tools import cluster_faults
from tests.tools import fault_harness

# kill -9 has tests/training/kill_test.py, clusters tests/cluster.
NAMES = sorted(
  set(fault_harness.FAULTS)
  - {'killed_in_turn', *(f.__name__ for f in cluster_faults.FAULTS)}
)


class FaultsTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    fault_harness.take_interrupts()
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
