"""The progress bar of a training."""

from unittest import mock

from absl.testing import absltest
import tensorflow.compat.v1 as tf

from graph_resnet9.training import hooks


class ProgressTest(absltest.TestCase):
  def test_a_session_made_anew_goes_on_with_the_bar(self):
    with tf.Graph().as_default(), tf.Session() as session:
      step = tf.train.get_or_create_global_step()
      hook = hooks.Progress(mock.Mock(step=step, last_step=20))
      with mock.patch.object(hooks.tqdm, 'tqdm') as bars:
        bar = bars.return_value
        session.run(step.assign(4))
        hook.after_create_session(session, None)
        bars.assert_called_once()
        self.assertEqual(bars.call_args.kwargs['initial'], 4)
        # The session is lost, and restored from the checkpoint of step 2.
        bar.n = 7
        session.run(step.assign(2))
        hook.after_create_session(session, None)
        bars.assert_called_once()
        self.assertEqual(bar.n, 2)


if __name__ == '__main__':
  absltest.main()
