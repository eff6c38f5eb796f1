"""What a training says of how long it will take."""

import contextlib
import io
import time
from unittest import mock

from absl.testing import absltest
import tensorflow.compat.v1 as tf

from graph_resnet9.training import hooks


class DurationTest(absltest.TestCase):
  def said(self, last_step, secs_of_steps):
    """What is on stderr after steps that took so long."""
    now = [1000.0]
    with (
      tf.Graph().as_default(),
      mock.patch.object(time, 'monotonic', lambda: now[0]),
    ):
      step = mock.Mock(step=tf.constant(0), last_step=last_step)
      hook = hooks.Duration(step, '; shorter')
      stderr = io.StringIO()
      with contextlib.redirect_stderr(stderr):
        for k, secs in enumerate(secs_of_steps, 1):
          now[0] += secs
          hook.after_step(None, k)
    return stderr.getvalue()

  def test_after_some_steps_of_which_the_first_does_not_count(self):
    self.assertEqual(self.said(1003, [100, 6]), '')
    self.assertEqual(
      self.said(1003, [100, 6, 6, 6]),
      'train: about 1 h 40 min to go, at 6 s a step; shorter\n',
    )

  def test_a_short_training_says_nothing(self):
    self.assertEqual(self.said(10, [100] + [6] * 9), '')

  def test_fast_steps_are_timed_for_ten_seconds(self):
    self.assertEqual(self.said(6001, [5] + [0.5] * 19), '')
    self.assertEqual(
      self.said(6021, [5] + [0.5] * 21),
      'train: about 50 min to go, at 0.5 s a step; shorter\n',
    )


if __name__ == '__main__':
  absltest.main()
