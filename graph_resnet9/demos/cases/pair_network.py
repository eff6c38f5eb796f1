"""The network of image_pairs, in six towers or in one, and its loss."""

import tensorflow.compat.v1 as tf


def embedding(images, training, decay):
  """[batch, 32] embedding of [batch, 32, 32, 3] images, by a small ResNet.

  Every call shares the variables of the first one.
  """

  def conv(x, filters, name):
    with tf.variable_scope(name):
      x = tf.layers.conv2d(
        x, filters, 3, padding='same', use_bias=False, name='conv'
      )
      x = tf.layers.batch_normalization(
        x, momentum=decay, training=training, name='bn'
      )
      return tf.nn.relu(x)

  with tf.variable_scope('resnet', reuse=tf.AUTO_REUSE):
    x = tf.nn.max_pool2d(conv(images, 8, 'prep'), 2, 2, 'VALID')
    x = tf.nn.max_pool2d(conv(x, 16, 'layer1'), 2, 2, 'VALID')
    x = x + conv(conv(x, 16, 'res1'), 16, 'res2')
    x = tf.nn.max_pool2d(conv(x, 32, 'layer2'), 2, 2, 'VALID')
    x = x + conv(conv(x, 32, 'res3'), 32, 'res4')
    return tf.reduce_max(x, [1, 2])


def outputs(batch, training, one_tower, decay):
  """What the network says of each pair: [3 n] float32, near its label.

  Args:
    batch: pair_records.Pairs.
    training: Python bool.
    one_tower: Python bool; True: one tower over all images, so that A and B
      share a batch; False: six towers, each over images of A or of B alone.
    decay: float, of the moving averages.
  """
  images = tf.concat([batch.first, batch.second], 0)
  if one_tower:
    # [fixed: one tower for A and B]
    embedded = embedding(images, training, decay)
    # [end]
  else:
    # [broken: six towers, each of A or of B alone]
    embedded = tf.concat(
      [embedding(part, training, decay) for part in tf.split(images, 6)], 0
    )
    # [end]
  both = tf.concat(tf.split(embedded, 2), 1)
  with tf.variable_scope('compare', reuse=tf.AUTO_REUSE):
    hidden = tf.layers.dense(both, 32, tf.nn.relu, name='hidden')
    return tf.layers.dense(hidden, 1, name='output')[:, 0]


def loss(values, labels):
  """L2 over the pairs A-A, and a hinge over B-B and another over A-B."""
  squared, *hinges = zip(tf.split(values, 3), tf.split(labels, 3))
  return tf.add_n(
    [tf.reduce_mean(tf.square(squared[0] - squared[1]))]
    + [tf.reduce_mean(tf.nn.relu(1 - v * label)) for v, label in hinges]
  )
