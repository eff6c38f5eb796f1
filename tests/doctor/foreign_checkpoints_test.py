"""Checkpoints that people published: measured, recalibrated and restored.

They lie in ../shared/foreign, and the test is skipped where that is not.
"""

import os
import pathlib
import tarfile
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.measure import diagnosis
from graph_resnet9.doctor.measure import recalibration
from graph_resnet9.doctor.measure import sessions
from graph_resnet9.errors import UserError
from tests import helpers

FOREIGN = helpers.ROOT.parent / 'shared' / 'foreign'
# Prefix: graph, verdict on inputs drawn at random, how many tensors change.
CHECKPOINTS = {
  'pohsu/LeNet_v2': (
    'pohsu+CarND-Traffic-Sign-Classifier-Project__tmp__LeNet_v2.meta',
    'data-differ',
    4,
  ),
  'codybuilder/model': (
    'CodyBuilder-dev+DL-termproject__model__model.meta',
    'data-differ',
    34,
  ),
  'unmicst_cytoplasm/model.ckpt': (
    'HMS-IDAC+UnMicst__models__CytoplasmIncell__model.ckpt.meta',
    'data-differ',
    4,
  ),
  'unmicst_nuclei/model.ckpt': (
    'HMS-IDAC+UnMicst__models__nucleiDAPI__model.ckpt.meta',
    'data-differ',
    4,
  ),
  # Gamma and beta were trained, and nothing was ever normalised.
  'faceid/model': (
    'arthurdouillard+tensorflow-faceid__model__model.meta',
    'never-by-batch',
    'in all . layers training uses the stored ones',
  ),
  'eeg_dcgan/model.ckpt': (
    'Biswa-10+EEG-DCGAN__models__model.ckpt.meta',
    'never-by-batch',
    'in all . layers training uses the stored ones',
  ),
}


def drawn(graph, batches=6):
  """Feed dicts of what fits the placeholders of a graph."""
  # The size of a batch is written into a transposed convolution.
  fixed = any(op.type == 'Conv2DBackpropInput' for op in graph.get_operations())
  examples = 16 if fixed else 4
  random = np.random.RandomState(0)
  for _ in range(batches):
    feed = {}
    for op in graph.get_operations():
      tensor = op.outputs[0] if op.type == 'Placeholder' else None
      if tensor is None or tensor.dtype == tf.bool:
        continue
      shape = tensor.shape.as_list() if tensor.shape.rank else []
      shape = [examples if size is None else size for size in shape]
      feed[tensor.name] = (
        random.randint(0, 2, shape)
        if tensor.dtype.is_integer
        else random.uniform(0.2, 0.8, shape)
      )
    yield feed


@absltest.skipUnless((FOREIGN / 'checkpoints.tar.xz').exists(), 'not here')
class ForeignCheckpointsTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.dir = tempfile.TemporaryDirectory()
    with tarfile.open(FOREIGN / 'checkpoints.tar.xz') as f:
      f.extractall(cls.dir.name)
    with tarfile.open(FOREIGN / 'graphs.tar.xz') as f:
      for name, _, _ in CHECKPOINTS.values():
        f.extract(name, cls.dir.name)

  @classmethod
  def tearDownClass(cls):
    cls.dir.cleanup()
    super().tearDownClass()

  def runnable(self, name):
    runnable = sessions.of_meta_graph(os.path.join(self.dir.name, name), '')
    return runnable._replace(feed=lambda: drawn(runnable.graph))

  @parameterized.parameters(*CHECKPOINTS)
  def test_measured_recalibrated_restored_or_refused(self, checkpoint):
    name, verdict, change = CHECKPOINTS[checkpoint]
    prefix = os.path.join(self.dir.name, checkpoint)
    result = diagnosis.diagnose(self.runnable(name), prefix, 5)
    self.assertEqual([v.code for v in result.verdicts], [verdict])
    out = pathlib.Path(self.create_tempdir().full_path) / 'new'
    if isinstance(change, str):
      with self.assertRaisesRegex(UserError, change):
        recalibration.recalibrate(self.runnable(name), prefix, str(out), 5)
      self.assertEmpty(list(out.parent.iterdir()))
      return
    done = recalibration.recalibrate(self.runnable(name), prefix, str(out), 5)
    self.assertFalse(done.comparison.worse)
    self.assertEqual(helpers.differing(prefix, out), sorted(done.values.keys()))
    self.assertLen(done.values, change)
    # By the saver of the graph, as its owner would.
    runnable = self.runnable(name)
    with runnable.graph.as_default(), tf.Session() as session:
      tf.train.Saver(
        [v for v in tf.global_variables() if v.op.name in helpers.weights(out)]
      ).restore(session, str(out))
      for variable in tf.global_variables():
        if variable.op.name in done.values:
          np.testing.assert_array_equal(
            session.run(variable), done.values[variable.op.name]
          )


if __name__ == '__main__':
  absltest.main()
