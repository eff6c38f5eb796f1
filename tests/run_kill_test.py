"""kill -9 at random moments, through the real command."""

import pathlib
import random
import signal
import subprocess
import sys

from absl.testing import absltest

from tests import helpers

KILLS = 10
FLAGS = dict(dataset='synthetic', train_examples=1024, test_examples=64,
             width=4, batch_size=32, epochs=20, shuffle='epoch', save_secs=.3)
LAST = 'model.ckpt-640'


def start(train_dir, **kwargs):
  return subprocess.Popen(
      [sys.executable, '-m', 'graph_resnet9.train', *helpers.arguments(
          train_dir=train_dir, **FLAGS)], cwd=helpers.ROOT,
      env=helpers.environment(), **kwargs)


def epochs(train_dir):
  """How many rows the run in train_dir has."""
  path = train_dir / 'metrics.jsonl'
  return len(path.read_text().splitlines()) if path.exists() else 0


def read_table(process, rows):
  """Reads stdout up to the head of the table and `rows` rows."""
  for line in process.stdout:
    if 'epoch' in line.split():
      break
  for _ in range(rows):
    process.stdout.readline()


class KillTest(absltest.TestCase):

  def test_killed_ten_times_ends_bit_for_bit_as_the_unbroken_run(self):
    scratch = pathlib.Path(self.create_tempdir().full_path)
    whole, broken = scratch / 'whole', scratch / 'broken'
    self.assertEqual(start(whole, stdout=subprocess.DEVNULL).wait(), 0)

    moments = random.Random(0)
    steps = []
    for kill in range(KILLS):
      process = start(broken, stdout=subprocess.PIPE, text=True)
      latest = 4.  # Seconds: anywhere in the start, or in the first steps.
      if kill % 5:
        latest = .5
        # Past the head of the table steps are taken and saved; past one more
        # row than there was, an epoch has been.
        read_table(process, epochs(broken) + 1 if kill % 2 else 0)
      try:
        process.wait(timeout=moments.uniform(0, latest))
      except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
      process.wait()
      process.stdout.close()
      state = broken / 'checkpoint'
      steps.append(int(state.read_text().split('"')[1].rsplit('-', 1)[1])
                   if state.exists() else 0)
    # Every session went on from where the one before was killed, none from 0.
    self.assertEqual(steps, sorted(steps))
    self.assertGreater(len(set(steps)), KILLS // 3)

    self.assertEqual(start(broken, stdout=subprocess.DEVNULL).wait(), 0)
    self.assertEqual(helpers.differing(whole / LAST, broken / LAST), [])
    rows = (broken / 'metrics.jsonl').read_text().splitlines()
    self.assertLen(rows, FLAGS['epochs'])


if __name__ == '__main__':
  absltest.main()
