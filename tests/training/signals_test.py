"""Signals before there is a session."""

import signal
import subprocess
import sys

from absl.testing import absltest

from graph_resnet9 import interrupts
from tests import helpers

# An exception here would be KeyboardInterrupt's own line and exit code; raised
# a little later, below TensorFlow's C++ code, it would be lost.
PROGRAM = """
import os, runpy
from graph_resnet9.training import hooks
hooks.Checkpoints.begin = lambda self: os.kill(os.getpid(), %d)
runpy.run_module('graph_resnet9.train', run_name='__main__')
"""


# A step that nothing in Python can interrupt, of minutes.
STEP = """
import hashlib
from graph_resnet9 import interrupts
stop = interrupts.StopOnSignal()
with interrupts.end_the_process():
  stop.listen()
  print('ready', flush=True)
  hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)
  print('done', flush=True)
"""


class SignalsTest(absltest.TestCase):
  def test_before_the_session_a_signal_ends_the_process_without_a_word(self):
    for number in (signal.SIGTERM, signal.SIGINT):
      done = subprocess.run(
        [
          sys.executable,
          '-c',
          PROGRAM % number,
          *helpers.arguments(
            train_dir=self.create_tempdir().full_path, **helpers.TINY
          ),
        ],
        cwd=helpers.ROOT,
        env=helpers.environment(TF_CPP_MIN_LOG_LEVEL='3'),
        capture_output=True,
        text=True,
        check=False,
      )
      self.assertEqual(done.returncode, -number, done.stderr)
      self.assertNotIn('Traceback', done.stderr)
      self.assertNotIn('interrupted', done.stderr)

  def test_a_signal_in_a_step_is_answered_at_once_and_a_second_one_ends_it(
    self,
  ):
    for number, name in (
      (signal.SIGTERM, 'SIGTERM'),
      (signal.SIGINT, 'Ctrl-C'),
    ):
      process = subprocess.Popen(
        [sys.executable, '-c', STEP],
        cwd=helpers.ROOT,
        env=helpers.environment(TF_CPP_MIN_LOG_LEVEL='3'),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
      )
      self.addCleanup(process.kill)
      self.assertEqual(process.stdout.readline(), 'ready\n')
      process.send_signal(number)
      lines = iter(process.stderr.readline, '')
      self.assertIn(
        '%s: stopping after this step; again to stop now\n' % name, lines
      )
      self.assertIsNone(process.poll())
      process.send_signal(number)
      self.assertEqual(process.stdout.read(), '')
      # Ended by the signal itself where the first came before the step did.
      self.assertIn(process.wait(), (128 + number, -number))
      process.stdout.close()
      process.stderr.close()

  def test_handlers_are_as_before_afterwards(self):
    def mine(number, frame):
      del number, frame

    for handler in (signal.default_int_handler, signal.SIG_IGN, mine):
      before = signal.signal(signal.SIGINT, handler)
      self.addCleanup(signal.signal, signal.SIGINT, before)
      with interrupts.end_the_process():
        # What somebody else has asked for stays.
        self.assertEqual(
          signal.getsignal(signal.SIGINT),
          signal.SIG_DFL if handler is signal.default_int_handler else handler,
        )
      self.assertEqual(signal.getsignal(signal.SIGINT), handler)


if __name__ == '__main__':
  absltest.main()
