"""image_pairs in eight numbers: a layer of batch normalisation by itself."""

import numpy as np
import tensorflow.compat.v1 as tf


def lines(steps=2000):
  """The source's example, through tf.layers.batch_normalization.

  Returns:
    Lines of text: what training gives in its last two steps, the moving
    statistics after them, and what evaluation gives.
  """
  told = []
  for title, batches in (
    ('well mixed', ([1, 1, 1, 2, 2, 1, 2, 2], [1, 1, 2, 1, 2, 2, 2, 1])),
    ('uniform', ([1] * 8, [2] * 8)),
  ):
    with tf.Graph().as_default(), tf.Session() as session:
      inputs = tf.placeholder(tf.float32, [8, 1])
      layer = tf.layers.BatchNormalization()
      normalised = layer.apply(inputs, training=True)
      update_ops = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
      evaluated = layer.apply(inputs, training=False)
      session.run(tf.global_variables_initializer())
      feeds = [{inputs: np.reshape(batch, [8, 1])} for batch in batches]
      for step in range(steps):
        session.run(update_ops, feeds[step % 2])
      mean, variance = session.run([layer.moving_mean, layer.moving_variance])
      told.append(
        '%s batches: moving mean %.2f, moving variance %.4f'
        % (title, mean[0], variance[0])
      )
      for batch, feed in zip(batches, feeds):
        trained, tested = (
          ' '.join(
            '%g' % x
            for x in sorted({round(float(x), 1) + 0.0 for x in y[:, 0]})
          )
          for y in session.run([normalised, evaluated], feed)
        )
        told.append(
          '  %s  training %s  evaluation %s'
          % (' '.join(map(str, batch)), trained, tested)
        )
  told.append(
    '  (2 - 1.5) / sqrt(0 + epsilon), epsilon %g: %.1f'
    % (layer.epsilon, 0.5 / layer.epsilon**0.5)
  )
  return told
