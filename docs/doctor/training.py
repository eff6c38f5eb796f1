"""Somebody's TensorFlow 1 training, with a mistake: the patient of doctor.md.

  python docs/doctor/training.py train FOLDER 'cifar-10-batches-bin/data*.bin'
  python docs/doctor/training.py evaluate PREFIX 'cifar-10-batches-bin/test*bin'

Uses nothing of this project but its environment, in which tf.layers works with
TF_USE_LEGACY_KERAS=1 set.
"""

import sys

import tensorflow.compat.v1 as tf

BATCH_SIZE = 100


def batch(pattern, epochs=None):
  """Images in [0, 1] and labels, from CIFAR-10's binary files."""
  files = tf.train.string_input_producer(
    tf.gfile.Glob(pattern), epochs, shuffle=epochs is None
  )
  _, records = tf.FixedLengthRecordReader(3073).read_up_to(files, BATCH_SIZE)
  records = tf.reshape(tf.decode_raw(records, tf.uint8), [-1, 3073])
  if epochs:
    records = tf.train.batch([records], BATCH_SIZE, enqueue_many=True)
  else:
    records = tf.train.shuffle_batch(
      [records], BATCH_SIZE, 20000, 10000, enqueue_many=True
    )
  images = tf.reshape(records[:, 1:], [BATCH_SIZE, 3, 32, 32])
  images = tf.cast(tf.transpose(images, [0, 2, 3, 1]), tf.float32) / 255
  return images, tf.cast(records[:, 0], tf.int32)


def network(x, is_training):
  """Four convolutions, each with batch normalisation."""
  for k, filters in enumerate((16, 32, 64, 64)):
    x = tf.layers.conv2d(x, filters, 3, padding='same', name='conv%d' % k)
    x = tf.layers.batch_normalization(x, training=is_training, name='bn%d' % k)
    x = tf.nn.max_pool2d(tf.nn.relu(x), 2, 2, 'VALID')
  return tf.layers.dense(tf.layers.flatten(x), 10, name='logits')


def train(folder, pattern, steps=800):
  """Trains, and prints the training accuracy of the last 100 steps."""
  images, labels = batch(pattern)
  logits = network(images, is_training=True)
  loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
  step = tf.train.get_or_create_global_step()
  update_ops = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
  with tf.control_dependencies(update_ops):
    optimizer = tf.train.AdamOptimizer(0.002)
  train_op = optimizer.minimize(loss, step)
  right = tf.reduce_mean(tf.cast(tf.nn.in_top_k(logits, labels, 1), tf.float32))
  seen = []
  with tf.train.MonitoredTrainingSession(
    checkpoint_dir=folder,
    hooks=[tf.train.StopAtStepHook(steps)],
    log_step_count_steps=None,
    save_summaries_steps=None,
  ) as session:
    while not session.should_stop():
      seen.append(session.run([train_op, right])[1])
  print('training accuracy: %.1f%%' % (sum(seen[-100:])))


def evaluate(prefix, pattern):
  """Prints the accuracy on all images."""
  images, labels = batch(pattern, epochs=1)
  right = tf.nn.in_top_k(network(images, is_training=False), labels, 1)
  seen = []
  creator = tf.train.ChiefSessionCreator(checkpoint_filename_with_path=prefix)
  with tf.train.MonitoredSession(creator) as session:
    while not session.should_stop():
      seen.extend(session.run(right))
  print(
    'accuracy on %d images: %.1f%%' % (len(seen), 100 * sum(seen) / len(seen))
  )


if __name__ == '__main__':
  tf.disable_eager_execution()
  {'train': train, 'evaluate': evaluate}[sys.argv[1]](*sys.argv[2:4])
