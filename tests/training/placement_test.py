"""Where the ops of a training step run, as far as a machine without GPU tells.

TensorFlow's Linux wheel registers the kernels of its GPU build, whether or not
there is a GPU; from these follows what the placer could put there.
"""

from absl.testing import absltest
from absl.testing import parameterized
import tensorflow.compat.v1 as tf
from tensorflow.python.framework import kernels

from tests import helpers

FAST10 = '%s' % (helpers.ROOT / 'flags' / 'fast10.flags')
# On the CPU on purpose: the queue, the labels (GPUs keep no int32 variables),
# and the step counter, which the hooks read.
HOST = {
  'FIFOQueueV2',
  'QueueDequeueV2',
  'RandomShuffleQueueV2',
  'QueueDequeueManyV2',
  'VarHandleOp',
  'ResourceGather',
  'Const',
  'AssignAddVariableOp',
  'Split',
}


def ancestors(op):
  """The op and all that it depends on, inside a step."""
  found, waiting = set(), [op]
  while waiting:
    op = waiting.pop()
    if op not in found:
      found.add(op)
      waiting += [tensor.op for tensor in op.inputs] + list(op.control_inputs)
  return found


def runs_on_gpu(op):
  """Whether a kernel for a GPU is registered for the op's types."""

  def fits(kernel):
    for constraint in kernel.constraint:
      allowed = constraint.allowed_values.list.type
      if (
        allowed and op.get_attr(constraint.name).as_datatype_enum not in allowed
      ):
        return False
    return True

  return any(
    kernel.device_type in ('GPU', 'DEFAULT') and fits(kernel)
    for kernel in kernels.get_registered_kernels_for_op(op.type).kernel
  )


@absltest.skipUnless(
  tf.test.is_built_with_cuda(), 'TensorFlow without GPU code'
)
class PlacementTest(parameterized.TestCase):
  def step_ops(self, **values):
    return ancestors(helpers.built(**values).train_op)

  @parameterized.product(
    recipe=[{}, dict(flagfile=FAST10)],
    precision=['float32', 'float16', 'bfloat16'],
  )
  def test_what_is_left_to_the_placer_has_a_gpu_kernel(self, recipe, precision):
    with tf.Graph().as_default():
      ops = self.step_ops(precision=precision, **recipe)
      self.assertGreater(len(ops), 500)
      lacking = {op.type for op in ops if not op.device and not runs_on_gpu(op)}
      self.assertEqual(lacking, set())

  @parameterized.parameters('shuffle_batch', 'epoch')
  def test_only_queue_labels_and_step_are_held_on_the_cpu(self, shuffle):
    with tf.Graph().as_default():
      held = [op for op in self.step_ops(shuffle=shuffle) if op.device]
      self.assertContainsSubset({op.type for op in held}, HOST)
      self.assertEqual({op.device for op in held}, {'/device:CPU:0'})
      self.assertCountEqual(
        [op.name for op in held if op.type == 'VarHandleOp'],
        ['input/train/labels', 'global_step'],
      )

  def test_an_op_without_a_gpu_kernel_is_seen(self):
    with tf.Graph().as_default():
      self.assertFalse(runs_on_gpu(tf.as_string(tf.constant(1.0)).op))
      self.assertTrue(runs_on_gpu(tf.nn.relu(tf.zeros([2])).op))

  def test_images_stay_on_the_device_that_trains(self):
    """Pixels are a variable that no device is named for, gathered there."""
    with tf.Graph().as_default():
      ops = {op.name: op for op in self.step_ops()}
      self.assertEqual(ops['input/train/pixels'].device, '')
      (gather,) = (
        op
        for op in ops.values()
        if op.type == 'ResourceGather'
        and op.inputs[0].op.name == 'input/train/pixels'
      )
      self.assertEqual((gather.device, gather.outputs[0].dtype), ('', tf.uint8))


if __name__ == '__main__':
  absltest.main()
