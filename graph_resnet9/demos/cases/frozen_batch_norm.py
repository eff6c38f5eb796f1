"""frozen_batch_norm: frozen layers that still normalise by batch statistics.

Symptom: a network is pretrained on one kind of images, frozen, and gets a new
head for another kind. The head trains well. Evaluation is near chance, on the
very images it was trained on.

Cause: trainable=False freezes gamma and beta and keeps the moving statistics as
they are, but the layer still normalises by the statistics of the batch in
training. So the head learns on features of one scale, and evaluation hands it
those that the moving statistics of the old images make. Whether a frozen layer
does so depends on where it comes from, under one name:

- tf.layers.batch_normalization(trainable=False, training=True): by the batch.
- BatchNormalization of TensorFlow 1's Keras (tf.compat.v1.keras.layers, and
  what tf.keras.applications was built with in TensorFlow 2.0 and 2.1): by the
  batch.
- BatchNormalization of TensorFlow 2's Keras (tf_keras.layers): by the moving
  statistics; trainable=False means training=False there. But in a graph it
  counts when the layer is called: freezing it afterwards does nothing to the
  ops that are there, unless the layer or model is called again.

Cure: training=False for a frozen layer, or layers of the second kind, frozen
before they are called; for a network of tf.keras.applications that is
ResNet50(layers=tf_keras.layers). The argument belongs there: the answer to the
question gives it to fit_generator, which has none. If the images are of quite
another kind, let the moving statistics adapt, with training=True and the update
ops run, while weights, gamma and beta stay as they are.
"""

import functools
import os
import tempfile
from typing import Any
from typing import NamedTuple

import tensorflow.compat.v1 as tf
import tf_keras

from graph_resnet9.demos import lab
from graph_resnet9.demos import report
from graph_resnet9.demos import towers
from graph_resnet9.demos.cases import frozen_resnet50
from graph_resnet9.inputs import augment

SOURCE = (
  '"Validation and Test accuracy at random performance, whereas Train accuracy '
  'very high", a question on a frozen ResNet50 in TensorFlow 2.1, and its '
  'answer; keras-team/keras PR 9965 (87.2% in fit, 62.9% in evaluate on the '
  'same data) and #10214'
)
COMPANIONS = (frozen_resnet50,)
CAUSES = ('updates-not-run', 'no-updates')  # Codes of lint and diagnose.
SEEN = """where frozen layers take the statistics of the batch, the head trains
to {tf.layers, frozen, training=True + Keras 1, frozen + Keras 2, frozen after
the call|training} and evaluates to {tf.layers, frozen, training=True + Keras
1, frozen + Keras 2, frozen after the call|moving}; where they take the moving
ones, to {tf.layers, training=False + Keras 2, frozen|training} and {tf.layers,
training=False + Keras 2, frozen|moving}; where those adapt, to {weights
frozen, statistics adapt|training} and {weights frozen, statistics
adapt|moving}. ResNet50 with layers of Keras 1 trains to {ResNet50, layers of
Keras 1|training} and evaluates to {ResNet50, layers of Keras 1|moving}
(guessing: 50%), with those of Keras 2 to {ResNet50, layers of Keras
2|training} and {ResNet50, layers of Keras 2|moving}."""
CLASSES = 10
FILTERS = (8, 16, 32, 64)
DECAY = 0.9
# The other kind of images, of the normalised ones: paler and brighter.
CONTRAST, BRIGHTNESS = 0.5, 1.5


def tf_layers(x, index, training, frozen, layers):
  """A layer of tf.layers; `layers` keeps nothing."""
  del layers
  name = 'bn%d' % index
  if frozen and training:
    # [broken: tf.layers]
    return tf.layers.batch_normalization(
      x, momentum=DECAY, trainable=False, training=True, name=name
    )
    # [end]
  if frozen:
    # [fixed: tf.layers]
    return tf.layers.batch_normalization(
      x, momentum=DECAY, trainable=False, training=False, name=name
    )
    # [end]
  return tf.layers.batch_normalization(
    x, momentum=DECAY, training=training, name=name
  )


def keras_1(x, index, training, frozen, layers):
  """A frozen layer of TensorFlow 1's Keras, made once in `layers`."""
  del frozen
  if index not in layers:
    # [broken: Keras of TensorFlow 1]
    layer = tf.keras.layers.BatchNormalization(momentum=DECAY)
    layer.trainable = False
    # [end]
    layers[index] = layer
  return layers[index](x, training=training)


def keras_2(x, index, training, frozen, layers):
  """A frozen layer of TensorFlow 2's Keras, made once in `layers`."""
  del frozen
  if index not in layers:
    # [fixed: Keras of TensorFlow 2, frozen before the call]
    layer = tf_keras.layers.BatchNormalization(momentum=DECAY)
    layer.trainable = False
    # [end]
    layers[index] = layer
  return layers[index](x, training=training)


def keras_2_late(x, index, training, frozen, layers):
  """A layer of TensorFlow 2's Keras, frozen when it has been called."""
  del frozen
  if index not in layers:
    # [broken: Keras of TensorFlow 2, frozen after the call]
    layer = tf_keras.layers.BatchNormalization(momentum=DECAY)
    y = layer(x, training=training)
    layer.trainable = False
    # [end]
    layers[index] = layer
    return y
  return layers[index](x, training=training)


class Kind(NamedTuple):
  """What an arm differs in.

  norm: one of the functions above.
  training, frozen: bools, of the batch normalisation in training.
  """

  norm: Any
  training: bool
  frozen: bool


ARMS = (
  ('tf.layers, frozen, training=True', True, Kind(tf_layers, True, True)),
  ('Keras 1, frozen', True, Kind(keras_1, True, True)),
  ('Keras 2, frozen after the call', True, Kind(keras_2_late, True, True)),
  ('Keras 2, frozen', False, Kind(keras_2, True, True)),
  ('tf.layers, training=False', False, Kind(tf_layers, False, True)),
  ('weights frozen, statistics adapt', False, Kind(tf_layers, True, False)),
)


def features(batch, norm, training, frozen, layers, new):
  """What the backbone makes of the images: four convolutions with pooling.

  Args:
    batch: queues.Batch.
    norm: a function as above.
    training: Python bool, of the batch normalisation.
    frozen: Python bool.
    layers: dict in which the Keras layers of a graph are shared.
    new: Python bool, the other kind of images.
  Returns:
    [batch, 64] float32 Tensor.
  Variables:
    backbone/conv{k}/kernel; backbone/bn{k}/{gamma,beta,moving_mean,
    moving_variance}, or those of the Keras layers.
  Collections:
    UPDATE_OPS: + 8 if tf_layers, training and not frozen, else + 0.
  """
  x = augment.normalised(augment.crops(batch.pixels, batch.indices))
  if new:
    x = CONTRAST * x + BRIGHTNESS
  with tf.variable_scope('backbone'):
    for k, filters in enumerate(FILTERS):
      x = tf.layers.conv2d(
        x,
        filters,
        3,
        padding='same',
        use_bias=False,
        trainable=not frozen,
        name='conv%d' % k,
      )
      x = norm(x, k, training, frozen, layers)
      x = tf.nn.max_pool2d(tf.nn.relu(x), 2, 2, 'VALID')
  return tf.reduce_max(x, [1, 2])


def tower(batch, training, norm=tf_layers, frozen=False, layers=None, new=True):
  """towers.Tower: a dense head on the features, and its loss."""
  logits = tf.layers.dense(
    features(batch, norm, training, frozen, layers, new),
    CLASSES,
    name='new_head' if new else 'old_head',
  )
  return towers.scored(logits, batch.labels)


def head_op(loss, steps):
  """Trains the new head alone, after the update ops if there are any."""
  variables = tf.trainable_variables('new_head')
  with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
    return tf.train.AdamOptimizer(towers.learning_rate(steps, 0.01)).minimize(
      loss, tf.train.get_global_step(), variables
    )


def stored(layers):
  """{name in the pretrained checkpoint: variable} of a backbone."""
  names = {v.op.name: v for v in tf.global_variables('backbone/conv')}
  for index, layer in layers.items():
    for variable in ('gamma', 'beta', 'moving_mean', 'moving_variance'):
      names['backbone/bn%d/%s' % (index, variable)] = getattr(layer, variable)
  return names if layers else tf.global_variables('backbone')


def run(trainer):
  """Pretrains, then trains a head in each arm; returns a report.Outcome."""
  steps = trainer.steps(150, 120)
  with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, 'backbone')
    pretrain(trainer, 300, path)

    def build(kind):
      layers = {}
      shared = functools.partial(tower, norm=kind.norm, layers=layers)
      graph = trainer.image_graph(
        shared,
        functools.partial(head_op, steps=steps),
        functools.partial(shared, training=kind.training, frozen=kind.frozen),
      )
      saver = tf.train.Saver(stored(layers))
      return graph._replace(
        init_fn=lambda scaffold, session: saver.restore(session, path)
      )

    arms = [
      trainer.train(name, broken, functools.partial(build, kind), steps)
      for name, broken, kind in ARMS
    ]
  resnets = [] if trainer.fast else frozen_resnet50.arms(trainer)
  return report.Outcome(
    arms + resnets,
    list(claims(arms)) + list(frozen_resnet50.claims(resnets)),
    list(frozen_resnet50.beside(resnets)),
  )


def pretrain(trainer, steps, path):
  """Trains the backbone on the images as they are, and saves it."""
  with trainer.graph():
    graph = trainer.image_graph(
      functools.partial(tower, new=False),
      lambda loss: towers.train_op(loss, towers.learning_rate(steps, 0.005)),
    )
    saver = tf.train.Saver(tf.global_variables('backbone'))
    with lab.session_of(graph) as session:
      lab.fit(session, graph, steps, 'pretraining')
      lab.save(session, saver, path)


def claims(arms):
  *_, adapted = arms
  worst = max(arm.moving.accuracy for arm in arms if arm.broken)
  for arm in arms:
    if arm.broken:
      yield report.Claim(
        arm.name + ': training accuracy', arm.train.accuracy, '>=', 0.25
      )
      yield report.Claim(
        arm.name + ': training accuracy less that by moving statistics',
        arm.train.accuracy - arm.moving.accuracy,
        '>=',
        0.12,
      )
    else:
      yield report.Claim(
        arm.name + ': training accuracy less that by moving statistics',
        arm.train.accuracy - arm.moving.accuracy,
        '<=',
        0.1,
      )
      yield report.Claim(
        arm.name + ': accuracy by moving statistics over the best broken one',
        arm.moving.accuracy / worst,
        '>=',
        1.3,
      )
