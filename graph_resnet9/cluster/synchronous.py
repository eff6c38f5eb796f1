"""One step from the gradients of several workers."""

import tensorflow.compat.v1 as tf


class Optimizer(tf.train.SyncReplicasOptimizer):
  """tf.train.SyncReplicasOptimizer that takes one gradient for each worker.

  It takes the first so many that come, and a fast worker may supply two of
  them. A worker that dies stalls the others until it is there again.
  """

  def __init__(self, optimizer: tf.train.Optimizer, workers: int) -> None:
    """Makes the optimizer.

    Args:
      optimizer: tf.train.Optimizer, which applies the mean of the gradients.
      workers: int.
    """
    super().__init__(optimizer, workers, total_num_replicas=workers)

  def apply_gradients(
    self, grads_and_vars, global_step=None, name=None
  ) -> tf.Operation:
    """As of tf.train.SyncReplicasOptimizer; returns an Operation.

    It may stand under control dependencies on the update ops, as an
    apply_gradients of one process does: here the gradients wait for them. Left
    to itself, tf.train.SyncReplicasOptimizer hands these dependencies on to the
    ops that it makes for the chief's queue of tokens, which then take batches
    and updates of their own, besides the steps.

    Collections:
      LOCAL_VARIABLES: + 1, the worker's own step. TRAIN_OP: + 1.
      GLOBAL_VARIABLES: what the optimizer within makes.
    """
    grads_and_vars = [(tf.identity(g), v) for g, v in grads_and_vars]
    with tf.control_dependencies(None):
      train_op = super().apply_gradients(grads_and_vars, global_step, name)
    # Where no session comes to be, TensorFlow would complain that it is unused.
    self.ready_for_local_init_op.mark_used()
    return tf.group(train_op)

  def get_chief_queue_runner(self) -> tf.train.QueueRunner:
    """As of tf.train.SyncReplicasOptimizer, but quiet at the end.

    The thread of this runner waits for gradients until its session is closed,
    and would then die with a traceback.
    """
    runner = super().get_chief_queue_runner()
    return tf.train.QueueRunner(
      runner.queue,
      runner.enqueue_ops,
      queue_closed_exception_types=(
        tf.errors.OutOfRangeError,
        tf.errors.CancelledError,
      ),
    )
