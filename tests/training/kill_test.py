"""kill -9 at random moments and in the middle of saves, on the real command."""

import pathlib
import random

from absl.testing import absltest

from tests.tools import fault_harness

KILLS = 5


class KillTest(absltest.TestCase):
  def test_killed_in_turn_ends_bit_for_bit_as_the_unbroken_run(self):
    scratch = pathlib.Path(self.create_tempdir().full_path)
    steps, _ = fault_harness.killed_in_turn(scratch, random.Random(0), KILLS)
    # The kills did strike, between different saves.
    self.assertGreater(len(set(steps)), KILLS // 3)


if __name__ == '__main__':
  absltest.main()
