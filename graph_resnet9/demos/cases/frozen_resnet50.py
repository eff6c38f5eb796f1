"""The ResNet50 of the question, frozen, with its head, in a graph.

Without a network there are no ImageNet weights: the weights are random, and the
stored statistics are those of preprocessed images, as ImageNet's would be; the
head is then trained on images / 255, as in the question. What random weights
can tell, too: whether an image is brighter than most.
"""

import functools

import numpy as np
import tensorflow.compat.v1 as tf
import tf_keras

from graph_resnet9.demos import lab
from graph_resnet9.demos import report
from graph_resnet9.demos import towers
from graph_resnet9.inputs import formats
from graph_resnet9.inputs import queues

CLASSES = 2
EXAMPLES, TEST_EXAMPLES = 256, 128  # One a multiple of the other.
BATCH_SIZE = 32
STEPS = 40
GUESSING = 0.5
SEEN = 'training images'


def resnet50(keras_layers):
  """The model of the question, with 53 layers of batch normalisation."""
  return tf_keras.applications.ResNet50(
    weights=None,
    input_shape=(32, 32, 3),
    pooling='avg',
    include_top=False,
    layers=keras_layers,
  )


def keras_1_model():
  # [broken: ResNet50 as TensorFlow 2.1 built it]
  model = resnet50(tf.keras.layers)
  for layer in model.layers:
    layer.trainable = False
  # [end]
  return model


def keras_2_model():
  # [fixed: ResNet50 with layers of TensorFlow 2's Keras]
  model = resnet50(tf_keras.layers)
  for layer in model.layers:
    layer.trainable = False
  # [end]
  return model


def by_brightness(split, count):
  """formats.Split of the first images; label 1 if brighter than most."""
  images = split.images[:count]
  brightness = images.mean((1, 2, 3))
  labels = (brightness > np.median(brightness)).astype(np.int32)
  return formats.Split(images, labels)


def pretrained(trainer):
  """Values of all variables of the model, in order.

  The moving statistics are those of one batch of preprocessed images.
  """
  images = trainer.data('train').images[-BATCH_SIZE * 4 :].astype(np.float32)
  with trainer.graph(), tf.Session() as session:
    model = resnet50(tf_keras.layers)
    for layer in model.layers:
      if isinstance(layer, tf_keras.layers.BatchNormalization):
        layer.momentum = 0.0
    inputs = tf.constant(tf_keras.applications.resnet.preprocess_input(images))
    model(inputs, training=True)
    session.run(tf.global_variables_initializer())
    session.run(model.get_updates_for(inputs) or model.updates)
    return session.run(model.weights)


def arms(trainer):
  """Trains the head on either model; returns two report.Arm."""
  values = pretrained(trainer)
  train = by_brightness(trainer.data('train'), EXAMPLES)
  test = by_brightness(trainer.data('test'), TEST_EXAMPLES)

  def build(make_model):
    model = make_model()

    def tower(batch, training, dropout=0.0):
      pixels = tf.gather(
        tf.reshape(batch.pixels, [-1, 32, 32, 3]), batch.indices
      )
      x = model(tf.cast(pixels, tf.float32) / 255, training=training)
      with tf.variable_scope('head'):
        x = tf.layers.dense(x, 256, tf.nn.relu, name='hidden')
        x = tf.layers.dropout(x, dropout, training=True)
        return towers.scored(
          tf.layers.dense(x, CLASSES, name='output'), batch.labels
        )

    data = queues.table(train, 'train')
    loss = tower(
      towers.shuffled_batch(data, trainer.seed, BATCH_SIZE), True, dropout=0.4
    )
    train_op = tf.train.AdamOptimizer(0.001).minimize(
      loss.loss, tf.train.get_global_step(), tf.trainable_variables('head')
    )
    # The test images, then those of the training.
    both = formats.Split(*map(np.concatenate, zip(test, train)))
    more = queues.table(both, 'both')
    first = tf.placeholder(tf.int32, [])
    batch = queues.table_batch(more, tf.range(first, first + TEST_EXAMPLES))
    evaluation = towers.both_towers(
      functools.partial(tower, batch), [{first: 0}]
    )
    begins = range(TEST_EXAMPLES, TEST_EXAMPLES + EXAMPLES, TEST_EXAMPLES)

    def init_fn(scaffold, session):
      del scaffold
      # In one run: each takes a while in a graph of this size.
      session.run(
        [v.initializer for v in model.weights],
        {v.initializer.inputs[1]: x for v, x in zip(model.weights, values)},
      )

    return lab.Graph(
      loss,
      train_op,
      evaluation,
      {**data.feed, **more.feed},
      init_fn,
      others={SEEN: evaluation._replace(feeds=[{first: k} for k in begins])},
      guessing=GUESSING,
    )

  return [
    trainer.train(
      name, broken, functools.partial(build, make_model), STEPS, batches=4
    )
    for name, broken, make_model in (
      ('ResNet50, layers of Keras 1', True, keras_1_model),
      ('ResNet50, layers of Keras 2', False, keras_2_model),
    )
  ]


def beside(trained):
  """report.Beside of the question's figures."""
  for arm, sources in zip(
    trained,
    (
      ('0.66 (epoch 1) to 0.74 (7)', '0.10, guessing 0.10', '-'),
      ('-', '"increased as expected"', '-'),
    ),
  ):
    moving, _ = arm.others[SEEN]
    for what, source, here in zip(
      (
        'training accuracy',
        'validation accuracy',
        'evaluated on training images',
      ),
      sources,
      (arm.train.accuracy, arm.moving.accuracy, moving.accuracy),
    ):
      yield report.Beside(
        '%s: %s' % (arm.name, what), source, here, report.PERCENT
      )


def claims(trained):
  """report.Claim of both arms; none where they were not trained."""
  if not trained:
    return
  first, second = trained
  yield report.Claim(
    first.name + ': accuracy by moving statistics, guessing being 0.5',
    first.moving.accuracy,
    '<=',
    0.65,
  )
  yield report.Claim(
    second.name + ': accuracy by moving statistics less that of the other',
    second.moving.accuracy - first.moving.accuracy,
    '>=',
    0.15,
  )
