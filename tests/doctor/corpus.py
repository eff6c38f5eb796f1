"""Small TensorFlow 1 graphs of other people's making: faulty ones and healthy.

Each case builds one training, evaluation or export graph, and says which
findings a static check of batch norm must come to; for the healthy ones, many
of which look like a fault, there are none. Each faulty graph has one fault. The
threads named are public issues of GitHub repositories.
"""

from collections.abc import Callable
import functools
import itertools
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf
import tf_keras

from tests.doctor import corpus_layers as parts


class Built(NamedTuple):
  """What comes with a graph.

  train_ops: names of the ops that one step runs, where the graph cannot tell.
  saver: the Saver of the meta graph; None: it has none.
  checkpoint: tensors of a checkpoint by name; None: there is none.
  """

  train_ops: tuple[str, ...] = ()
  saver: tf.train.Saver | None = None
  checkpoint: dict[str, np.ndarray] | None = None


class Case(NamedTuple):
  """build builds into the default graph, an empty one; codes: the findings."""

  name: str
  build: Callable[[], Built]
  codes: frozenset[str]


def cases() -> list[Case]:
  """All of them; names are unique."""
  return list(
    itertools.chain.from_iterable(
      group()
      for group in (
        _not_run,
        _partly_run,
        _in_cond,
        _no_updates,
        _several,
        _saved,
        _checkpoints,
        _evaluation,
        _batch_sizes,
        _axes,
        _decays,
        _losses,
        _no_train_op,
        _ways_of_running,
        _optimizers,
        _several_networks,
        _several_calls,
        _freezing,
        _other_statistics,
        _steady_losses,
        _serving,
        _unusual_layers,
      )
    )
  )


def case(codes, name, build, *, resource=True, functional=False, **kwargs):
  """A Case; codes: one string, '' if healthy, that also begins the name."""

  def run():
    with parts.switches(resource, functional):
      return build(**kwargs) or Built()

  return Case(
    '%s/%s' % (codes.replace('-', '_') or 'healthy', name),
    run,
    frozenset(codes.split()),
  )


def _kind(resource):
  return 'resource' if resource else 'ref'


def train(
  norm,
  way,
  training='true',
  optimizer='momentum',
  source='placeholder',
  decay=0.99,
  batch=parts.BATCH,
  dtype=tf.float32,
  network=parts.network,
  loss=parts.cross_entropy,
  widths=(4,),
):
  """A training graph of one network, a layer for each of widths."""
  x, labels = parts.images(batch, source, dtype)
  logits, updates = network(
    norm, x, parts.training_switch(training), decay, widths=widths
  )
  way(loss(logits, labels), updates, parts.OPTIMIZERS[optimizer]())


def train_and(
  norm, way=parts.around_minimize, saver=None, checkpoint=None, **kwargs
):
  """train, then saver() and checkpoint() of the finished graph."""
  train(norm, way, **kwargs)
  return Built(saver=saver and saver(), checkpoint=checkpoint and checkpoint())


def styles(*kinds, keras=True, norms=None):
  """(name, norm, resource) of every style.

  Args:
    *kinds: of variables, True for resource: each style takes the next one,
      and Keras is one style. None given: every style with both.
    keras: with Keras layers, which know resource variables only.
    norms: {name: norm} in place of all.
  """
  turn = itertools.cycle(kinds)
  for name, norm in (norms or parts.NORMS).items():
    for resource in [next(turn)] if kinds else (True, False):
      yield name, norm, resource
  if keras and not norms:
    for name, norm in list(parts.KERAS_NORMS.items())[: 1 if kinds else None]:
      yield name, norm, True


# Updates that are not run, or not all of them.


def _not_run():
  """tensorflow #1122, #7469, #11965, #19643: nobody runs the update ops."""
  optimizers = itertools.cycle(parts.OPTIMIZERS)
  code = 'updates-not-run'
  sources = itertools.cycle(('placeholder', 'random', 'queue'))
  for training, kinds in (('true', ()), ('placeholder', (True, False))):
    for name, norm, resource in styles(*kinds):
      yield case(
        code,
        'alone/%s/%s/%s' % (name, _kind(resource), training),
        train,
        norm=norm,
        way=parts.alone,
        training=training,
        resource=resource,
        optimizer=next(optimizers),
        source=next(sources),
        widths=(4, 6),
      )
  for resource in (True, False):
    kind = _kind(resource)
    # The average of the moments is applied by an op that nobody runs.
    yield case(
      code,
      'alone/ema/' + kind,
      train,
      resource=resource,
      norm=functools.partial(parts.ema_norm, apply_in_cond=False),
      way=parts.alone,
      training='placeholder',
    )
    for name in ('layers_fused', 'slim_plain'):
      # By default nothing is trained by batches, and who feeds it updates none.
      yield case(
        code,
        'phase_by_default/%s/%s' % (name, kind),
        train,
        norm=parts.NORMS[name],
        way=parts.alone,
        training='default_false',
        resource=resource,
      )
      # The loss waits for the updates, and its gradient does not need it.
      yield case(
        'updates-by-fetch',
        '%s/%s' % (name, kind),
        train,
        norm=parts.NORMS[name],
        way=_loss_waits,
        resource=resource,
      )
    yield case(
      code,
      'accumulated/' + kind,
      _accumulated_gradients,
      runs_updates=False,
      told=False,
      resource=resource,
    )
    for found, way in ((code, parts.alone), ('', parts.around_minimize)):
      yield case(
        found,
        'average_of_copies/' + kind,
        train,
        norm=parts.copies_norm,
        way=way,
        training='placeholder',
        resource=resource,
      )
    # Statistics under names that say nothing.
    yield case(
      code,
      'alone/hand_names/' + kind,
      train,
      resource=resource,
      norm=functools.partial(
        parts.hand_norm, names=('first', 'second'), form='add'
      ),
      way=parts.alone,
    )
    for name in ('layers_fused', 'slim_plain'):
      # get_collection with the scope of another network: an empty list.
      yield case(
        code,
        'wrong_scope/%s/%s' % (name, kind),
        train,
        norm=parts.NORMS[name],
        way=parts.wrong_scope,
        resource=resource,
      )
      # yd8534976/conGAN #1.
      yield case(
        code,
        'constructed_inside/%s/%s' % (name, kind),
        train,
        norm=parts.NORMS[name],
        way=parts.constructed_inside,
        resource=resource,
        optimizer='sgd' if resource else 'momentum',
      )
    yield case(
      code,
      'read_too_early/layers_fused/' + kind,
      _read_too_early,
      resource=resource,
    )
    yield case(
      code,
      'in_branch/layers_fused/' + kind,
      train,
      norm=parts.in_branch(parts.LAYERS_FUSED),
      way=parts.alone,
      training='placeholder',
      resource=resource,
    )
    yield case(
      code,
      'sgd_by_hand/layers_plain/' + kind,
      _sgd_without_updates,
      resource=resource,
    )
    # keras-team/keras PR 9965: frozen, yet it uses the batch; UPDATE_OPS has
    # nothing though the update ops are in the graph.
    yield case(
      code,
      'not_trainable/layers_fused/' + kind,
      train,
      norm=functools.partial(parts.LAYERS_FUSED, trainable=False),
      way=parts.around_minimize,
      resource=resource,
    )
  yield case(
    code,
    'not_trainable/keras_old',
    train,
    norm=functools.partial(parts.KERAS_OLD, trainable=False),
    way=parts.around_minimize,
  )
  yield case(code, 'model/keras', _keras_model, way=parts.alone)
  for name in ('layers_fused', 'layers_plain', 'slim_plain', 'hand'):
    yield case(
      code,
      'functional_if/' + name,
      train,
      norm=parts.NORMS[name],
      way=parts.alone,
      training='placeholder',
      functional=True,
    )
  yield case(
    code,
    'float16/layers_fused',
    train,
    norm=parts.LAYERS_FUSED,
    way=parts.alone,
    dtype=tf.float16,
  )
  yield case(
    code,
    'dense/layers_plain',
    train,
    norm=parts.LAYERS_PLAIN,
    way=parts.alone,
    network=parts.dense_network,
  )
  yield case(
    code,
    'dense/hand',
    train,
    norm=parts.hand_norm,
    way=parts.alone,
    network=parts.dense_network,
  )
  yield case(
    code,
    'default_true/layers_fused',
    train,
    norm=parts.LAYERS_FUSED,
    way=parts.alone,
    training='default_true',
  )
  yield case(code, 'while_loop/layers_fused', _loop_training, run=False)
  # The average of the weights runs; that of the statistics is another matter.
  yield case(
    code, 'weight_average/layers_fused', _weight_average, way=parts.alone
  )
  # The cause is reported, not the statistics that follow from it.
  yield case(
    code,
    'checkpoint/layers_fused',
    train_and,
    norm=parts.LAYERS_FUSED,
    way=parts.alone,
    saver=tf.train.Saver,
    checkpoint=lambda: parts.checkpoint(2000, initial=('',)),
  )


def _loss_waits(loss, updates, optimizer):
  with tf.control_dependencies(parts.flat(updates)):
    loss = tf.identity(loss)
  optimizer.minimize(loss, tf.train.get_or_create_global_step())


def _read_too_early():
  """UPDATE_OPS read before there is a layer."""
  updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
  train(
    parts.LAYERS_FUSED,
    lambda loss, _, opt: parts.around_minimize(loss, [updates], opt),
  )


def _sgd_without_updates():
  """The train op subtracts from variables, as updates do."""
  train(parts.LAYERS_PLAIN, lambda loss, _, opt: parts.by_hand(loss, [], opt))


def _keras_model(way, training=True, layer=tf_keras.layers.BatchNormalization):
  """tf_keras.Sequential in a graph with a TF1 optimizer."""
  x, labels = parts.images()
  model = tf_keras.Sequential(
    [
      tf_keras.layers.Conv2D(4, 3, padding='same', use_bias=False),
      layer(),
      tf_keras.layers.ReLU(),
      tf_keras.layers.Conv2D(6, 3, padding='same'),
      layer(),
      tf_keras.layers.ReLU(),
      tf_keras.layers.GlobalAveragePooling2D(),
      tf_keras.layers.Dense(parts.CLASSES),
    ]
  )
  loss = parts.cross_entropy(model(x, training=training), labels)
  way(loss, [model.updates], parts.OPTIMIZERS['adam']())


def _loop_training(run):
  """Three training steps in one tf.while_loop, the updates in its body."""
  optimizer = parts.OPTIMIZERS['sgd']()
  tf.train.get_or_create_global_step()

  def step(i):
    x, labels = parts.images(source='random')
    logits, updates = parts.network(parts.LAYERS_FUSED, x, True)
    train_op = parts.around_minimize(
      parts.cross_entropy(logits, labels), updates if run else [], optimizer
    )
    with tf.control_dependencies([getattr(train_op, 'op', train_op)]):
      return i + 1

  tf.while_loop(
    lambda i: i < 3,
    step,
    [tf.constant(0)],
    parallel_iterations=1,
    back_prop=False,
  )


def _weight_average(way):
  """An average of the weights after each step, decay 0.9999."""

  def averaged(loss, updates, optimizer):
    train_op = way(loss, updates, optimizer)
    average = tf.train.ExponentialMovingAverage(0.9999)
    with tf.control_dependencies([train_op]):
      return average.apply(tf.trainable_variables())

  return train_and(
    parts.LAYERS_FUSED,
    averaged,
    saver=tf.train.Saver,
    checkpoint=lambda: parts.checkpoint(2000),
  )


def _partly_run():
  """Collected before the last layer was built, or with a scope filter."""
  optimizers = itertools.cycle(parts.OPTIMIZERS)
  code = 'updates-partly-run'
  for i, way in enumerate((parts.first_layer, parts.only_means)):
    for name, norm, resource in styles(i == 0, i == 1):
      yield case(
        code,
        '%s/%s/%s' % (way.__name__, name, _kind(resource)),
        train,
        norm=norm,
        way=way,
        resource=resource,
        widths=(4, 6),
        optimizer=next(optimizers),
      )
  for name in ('layers_fused', 'layers_plain', 'slim_fused', 'slim_plain'):
    yield case(
      code,
      'scope_of_one/' + name,
      train,
      norm=parts.NORMS[name],
      way=parts.scope_of_one,
      resource=name.startswith('slim'),
      widths=(4, 6),
      training='placeholder',
    )
  for name in ('layers_fused', 'layers_plain', 'hand'):
    yield case(
      code,
      'functional_if/' + name,
      train,
      norm=parts.NORMS[name],
      way=parts.first_layer,
      training='placeholder',
      functional=True,
      widths=(4, 6),
    )
  # One layer is frozen the wrong way: it still uses the batch.
  yield case(
    code,
    'one_not_trainable/layers_fused',
    _mixed,
    norm=functools.partial(parts.LAYERS_FUSED, trainable=False),
  )
  # Only the discriminator's updates were wired.
  yield case(
    code, 'gan/generator_forgotten', _gan, shared=False, generator_updates=False
  )


def _in_cond():
  """tensorflow #14699: not taken, the branch takes the train op with it."""
  optimizers = itertools.cycle(parts.OPTIMIZERS)
  norms = {**parts.NORMS}
  del norms['slim_plain']
  for name, norm, resource in styles(norms=norms):
    yield case(
      'updates-in-cond',
      'minimize/%s/%s' % (name, _kind(resource)),
      train,
      norm=parts.in_branch(norm),
      way=parts.around_minimize,
      training='placeholder',
      resource=resource,
      optimizer=next(optimizers),
    )
  yield case(
    'updates-in-cond',
    'gradients/layers_fused',
    train,
    norm=parts.in_branch(parts.LAYERS_FUSED),
    way=parts.around_gradients,
    training='placeholder',
  )
  yield case(
    'updates-in-cond',
    'default_true/layers_fused',
    train,
    norm=parts.in_branch(parts.LAYERS_FUSED),
    way=parts.around_minimize,
    training='default_true',
  )
  for resource in (True, False):
    yield case(
      'updates-in-cond',
      'whole_network/' + _kind(resource),
      _network_in_cond,
      resource=resource,
    )
  # In-place updates within the branch do no harm.
  for name, norm in parts.IN_PLACE.items():
    yield case(
      '',
      'in_branch_in_place/' + name,
      train,
      norm=parts.in_branch(norm),
      way=parts.alone,
      training='placeholder',
    )


def _network_in_cond():
  """tf.cond of two towers, UPDATE_OPS from the inside of one."""
  x, labels = parts.images()
  training = parts.training_switch('placeholder')
  logits = tf.cond(
    training,
    lambda: parts.network(parts.LAYERS_PLAIN, x, True)[0],
    lambda: parts.network(parts.LAYERS_PLAIN, x, False, reuse=True)[0],
  )
  parts.around_minimize(
    parts.cross_entropy(logits, labels),
    [tf.get_collection(tf.GraphKeys.UPDATE_OPS)],
    parts.OPTIMIZERS['momentum'](),
  )


def _no_updates():
  """Batch statistics that nothing in the graph would ever store."""
  optimizers = itertools.cycle(parts.OPTIMIZERS)
  code = 'no-updates'
  norms = {
    'moments': parts.moments_norm,
    'fused': parts.fused_norm,
    'arithmetic': parts.arithmetic_norm,
  }
  for name, norm, resource in styles(norms=norms):
    yield case(
      code,
      '%s/%s' % (name, _kind(resource)),
      train,
      norm=norm,
      way=parts.alone,
      resource=resource,
      optimizer=next(optimizers),
    )
    yield case(
      code,
      'beside_layers/%s/%s' % (name, _kind(resource)),
      _mixed,
      norm=norm,
      resource=resource,
    )
  yield case(
    code,
    'dense/moments',
    train,
    norm=parts.moments_norm,
    way=parts.alone,
    network=parts.dense_network,
  )
  yield case(
    code,
    'variables_only',
    train,
    norm=_never_assigned,
    way=parts.alone,
    training='placeholder',
  )


def _mixed(norm):
  """`norm` in the second block, a healthy tf.layers one in the first."""
  x, labels = parts.images()
  x, first = parts.body(parts.LAYERS_FUSED, x, True, scope='healthy')
  logits, _ = parts.network(norm, x, True, scope='other', widths=(4,))
  parts.around_minimize(
    parts.cross_entropy(logits, labels), first, parts.OPTIMIZERS['adam']()
  )


def _never_assigned(x, training, decay):
  """Statistics for evaluation exist, and nothing assigns them."""
  del decay
  channels = x.shape[-1]
  stored = [
    tf.get_variable(name, channels, initializer=initializer(), trainable=False)
    for name, initializer in (
      ('pop_mean', tf.zeros_initializer),
      ('pop_var', tf.ones_initializer),
    )
  ]
  batch = tf.nn.moments(x, [0, 1, 2])
  mean, variance = tf.cond(
    training, lambda: list(batch), lambda: [tf.identity(v) for v in stored]
  )
  return tf.nn.batch_normalization(
    x, mean, variance, None, None, parts.EPSILON
  ), []


def _several():
  """keras-team/keras #8794: each call of a shared layer updates it."""
  code = 'several-updates-a-step'
  for name, norm, resource in styles(False, True, keras=False):
    yield case(
      code,
      'siamese/%s/%s' % (name, _kind(resource)),
      _siamese,
      norm=norm,
      resource=resource,
      way=parts.around_minimize,
    )
  for name, norm in parts.IN_PLACE.items():
    yield case(
      code, 'siamese_in_place/' + name, _siamese, norm=norm, way=parts.alone
    )
  yield case(
    code, 'siamese/group', _siamese, norm=parts.LAYERS_FUSED, way=parts.grouped
  )
  yield case(
    code, 'siamese/keras', _shared_keras_layer, way=parts.around_minimize
  )
  yield case(code, 'towers', _towers, all_updates=True)


def _siamese(norm, way, first_only=False):
  """One network for two batches, both in the loss."""
  x, labels = parts.images()
  other, _ = parts.images(source='random')
  logits, updates = parts.network(norm, x, True, widths=(4,))
  logits_2, updates_2 = parts.network(
    norm, other, True, reuse=True, widths=(4,)
  )
  loss = parts.cross_entropy(logits, labels) + tf.reduce_mean(
    tf.square(logits - logits_2)
  )
  way(
    loss,
    updates if first_only else updates + updates_2,
    parts.OPTIMIZERS['momentum'](),
  )


def _shared_keras_layer(way):
  """One Keras layer object for two batches; its updates are of both."""
  x, labels = parts.images()
  other, _ = parts.images(source='random')
  conv = tf_keras.layers.Conv2D(4, 3, padding='same')
  norm = tf_keras.layers.BatchNormalization()
  dense = tf_keras.layers.Dense(parts.CLASSES)
  one, two = (
    dense(tf.reduce_mean(tf.nn.relu(norm(conv(y), training=True)), [1, 2]))
    for y in (x, other)
  )
  loss = parts.cross_entropy(one, labels) + tf.reduce_mean(tf.square(one - two))
  way(loss, [norm.updates], parts.OPTIMIZERS['sgd']())


def _towers(all_updates):
  """Two towers with shared variables and averaged gradients."""
  optimizer = parts.OPTIMIZERS['momentum']()
  gradients, updates = [], []
  for i in range(2):
    with tf.name_scope('tower_%d' % i), tf.device('/cpu:0'):
      x, labels = parts.images(source='random')
      logits, ops = parts.network(parts.LAYERS_FUSED, x, True, reuse=i > 0)
      gradients.append(
        optimizer.compute_gradients(parts.cross_entropy(logits, labels))
      )
      updates += ops if all_updates or i == 0 else []
  pairs = [
    (tf.reduce_mean(tf.stack([g for g, _ in column]), 0), column[0][1])
    for column in zip(*gradients)
  ]
  train_op = optimizer.apply_gradients(
    pairs, tf.train.get_or_create_global_step()
  )
  tf.group(train_op, *parts.flat(updates), name='train')


# What savers save and checkpoints hold.


def _trainable_saver():
  return tf.train.Saver(tf.trainable_variables())


def _saved():
  """tinghuiz/SfMLearner #17, zhengyang-wang/Unet_3D #5."""
  code = 'statistics-not-saved'
  for name, norm, resource in styles(True, False):
    yield case(
      code,
      'trainable/%s/%s' % (name, _kind(resource)),
      train_and,
      norm=norm,
      saver=_trainable_saver,
      resource=resource,
    )
  yield case(
    code,
    'trainable/ema',
    train_and,
    norm=parts.ema_norm,
    way=parts.alone,
    training='placeholder',
    saver=_trainable_saver,
  )
  yield case(
    code,
    'trainable/placeholder',
    train_and,
    norm=parts.LAYERS_PLAIN,
    training='placeholder',
    saver=_trainable_saver,
  )
  yield case(
    code,
    'trainable_and_step',
    train_and,
    norm=parts.LAYERS_FUSED,
    saver=lambda: tf.train.Saver(
      tf.trainable_variables() + [tf.train.get_global_step()]
    ),
  )
  yield case(
    code,
    'without_moving',
    train_and,
    norm=parts.LAYERS_FUSED,
    saver=lambda: tf.train.Saver(
      [v for v in tf.global_variables() if 'moving' not in v.name]
    ),
  )
  yield case(
    code,
    'without_variances',
    train_and,
    norm=parts.LAYERS_FUSED,
    saver=lambda: tf.train.Saver(
      [v for v in tf.global_variables() if 'moving_variance' not in v.name]
    ),
  )
  # The full saver is an older one; the one in use is not.
  yield case(
    code,
    'second_saver',
    train_and,
    norm=parts.LAYERS_FUSED,
    saver=lambda: (tf.train.Saver(), _trainable_saver())[1],
  )
  for name in ('layers_fused', 'keras_fused', 'hand'):
    norm = {**parts.NORMS, **parts.KERAS_NORMS}[name]
    yield case(
      '', 'saver/full/' + name, train_and, norm=norm, saver=tf.train.Saver
    )
  # A saver of pretrained weights beside the full one.
  yield case(
    '',
    'saver/pretrained_subset',
    train_and,
    norm=parts.LAYERS_FUSED,
    saver=lambda: (_trainable_saver(), tf.train.Saver())[1],
  )
  yield case(
    '',
    'saver/weights_and_statistics',
    train_and,
    norm=parts.LAYERS_FUSED,
    saver=lambda: tf.train.Saver(
      tf.trainable_variables()
      + [v for v in tf.global_variables() if 'moving_' in v.name]
    ),
  )
  yield case(
    '',
    'saver/sharded',
    train_and,
    norm=parts.LAYERS_FUSED,
    saver=lambda: tf.train.Saver(sharded=True),
  )
  yield case(
    '',
    'saver/renames',
    train_and,
    norm=parts.LAYERS_FUSED,
    saver=_renaming_saver,
  )
  yield case(
    '',
    'saver/renames/with_checkpoint',
    train_and,
    norm=parts.LAYERS_FUSED,
    saver=_renaming_saver,
    checkpoint=lambda: {
      'model/' + name: value for name, value in parts.checkpoint(2000).items()
    },
  )


def _renaming_saver():
  """Every variable under another name."""
  return tf.train.Saver(
    {'model/' + v.op.name: v for v in tf.global_variables()}
  )


def _checkpoints():
  """Statistics missing from a checkpoint, or not moved, or not far enough."""
  for name, norm, resource in styles(False, True):
    kind = _kind(resource)
    yield case(
      'checkpoint-lacks-statistics',
      '%s/%s' % (name, kind),
      train_and,
      norm=norm,
      saver=tf.train.Saver,
      resource=resource,
      checkpoint=lambda: parts.checkpoint(2000, without=('',)),
    )
    # ritheshkumar95/im2latex-tensorflow #6.
    yield case(
      'statistics-still-initial',
      '%s/%s' % (name, kind),
      train_and,
      norm=norm,
      saver=tf.train.Saver,
      resource=resource,
      checkpoint=lambda: parts.checkpoint(2000, initial=('',)),
    )
    yield case(
      '',
      'checkpoint/2000_steps/%s/%s' % (name, kind),
      train_and,
      norm=norm,
      saver=tf.train.Saver,
      resource=resource,
      checkpoint=lambda: parts.checkpoint(2000),
    )
  yield case(
    'checkpoint-lacks-statistics',
    'one_layer',
    train_and,
    norm=parts.LAYERS_FUSED,
    saver=tf.train.Saver,
    widths=(4, 6),
    checkpoint=lambda: parts.checkpoint(2000, without=('block1',)),
  )
  yield case(
    'checkpoint-lacks-statistics',
    'variances',
    train_and,
    norm=parts.LAYERS_FUSED,
    saver=tf.train.Saver,
    checkpoint=lambda: parts.checkpoint(2000, without=('moving_variance',)),
  )
  yield case(
    'checkpoint-lacks-statistics',
    'evaluation',
    _evaluate,
    norm=parts.LAYERS_FUSED,
    training='false',
    saver=tf.train.Saver,
    checkpoint=lambda: parts.checkpoint(2000, without=('',)),
  )
  yield case(
    'statistics-still-initial',
    'in_place/slim_fused',
    train_and,
    norm=parts.IN_PLACE['slim_fused'],
    way=parts.alone,
    saver=tf.train.Saver,
    checkpoint=lambda: parts.checkpoint(2000, initial=('',)),
  )
  yield case(
    'statistics-still-initial',
    'one_layer',
    train_and,
    norm=parts.LAYERS_FUSED,
    saver=tf.train.Saver,
    widths=(4, 6),
    checkpoint=lambda: parts.checkpoint(2000, initial=('block1',)),
  )
  for name in ('layers_fused', 'slim_plain', 'keras_fused', 'hand'):
    norm = {**parts.NORMS, **parts.KERAS_NORMS}[name]
    rows = ((0.999, 500, 5000), (0.99, 100, 500), (0.9, 10, 50))
    rows = rows if name == 'layers_fused' else rows[:1]
    # tensorflow #7469, #21572: too few steps for the decay.
    for decay, steps, _ in rows:
      yield case(
        'decay-too-slow',
        '%s/%s/%d_steps' % (name, decay, steps),
        train_and,
        norm=norm,
        decay=decay,
        saver=tf.train.Saver,
        checkpoint=functools.partial(parts.checkpoint, steps),
      )
    for decay, _, steps in rows:
      yield case(
        '',
        'checkpoint/%s/%s/%d_steps' % (name, decay, steps),
        train_and,
        norm=norm,
        decay=decay,
        saver=tf.train.Saver,
        checkpoint=functools.partial(parts.checkpoint, steps),
      )
    # Before the first step there is nothing else to hold.
    yield case(
      '',
      'checkpoint/step_0/' + name,
      train_and,
      norm=norm,
      saver=tf.train.Saver,
      checkpoint=lambda: parts.checkpoint(0, initial=('',)),
    )
  ema = dict(way=parts.alone, training='placeholder', saver=tf.train.Saver)
  yield case(
    'decay-too-slow',
    'ema',
    train_and,
    norm=parts.ema_norm,
    decay=0.999,
    checkpoint=lambda: parts.checkpoint(500),
    **ema,
  )
  yield case(
    'decay-too-slow',
    'layers_plain/placeholder',
    train_and,
    norm=parts.LAYERS_PLAIN,
    decay=0.999,
    training='placeholder',
    saver=tf.train.Saver,
    checkpoint=lambda: parts.checkpoint(500),
  )
  # num_updates: the decay is (1 + n) / (10 + n) while that is the smaller.
  yield case(
    '',
    'checkpoint/ema_with_num_updates',
    train_and,
    norm=functools.partial(parts.ema_norm, num_updates=True),
    decay=0.999,
    checkpoint=lambda: parts.checkpoint(500),
    **ema,
  )
  yield case(
    '',
    'checkpoint/without_global_step',
    train_and,
    norm=parts.LAYERS_FUSED,
    saver=tf.train.Saver,
    checkpoint=lambda: parts.checkpoint(None),
  )
  yield case(
    '', 'checkpoint/weight_average', _weight_average, way=parts.around_minimize
  )


# Evaluation and export.


def _evaluate(norm, training, saver=None, checkpoint=None, metrics=True):
  """A graph without gradients; metrics: loss and accuracy, else softmax."""
  x, labels = parts.images(source='placeholder')
  logits, _ = parts.network(
    norm, x, parts.training_switch(training), widths=(4,)
  )
  if metrics:
    parts.cross_entropy(logits, labels)
    tf.metrics.accuracy(labels, tf.argmax(logits, -1))
  else:
    tf.nn.softmax(logits, name='probabilities')
  return Built(saver=saver and saver(), checkpoint=checkpoint and checkpoint())


def _evaluation():
  """tensorflow #6478: evaluation that takes the batch's statistics."""
  code = 'evaluation-by-batch-statistics'
  metrics = itertools.cycle((True, False))
  for name, norm, resource in styles(True, False):
    yield case(
      code,
      '%s/%s' % (name, _kind(resource)),
      _evaluate,
      norm=norm,
      training='true',
      resource=resource,
      metrics=next(metrics),
    )
  yield case(
    code,
    'in_place/slim_fused',
    _evaluate,
    training='true',
    norm=parts.IN_PLACE['slim_fused'],
  )
  yield case(
    code, 'moments', _evaluate, norm=parts.moments_norm, training='true'
  )
  yield case(
    code,
    'fused',
    _evaluate,
    norm=parts.fused_norm,
    training='true',
    metrics=False,
  )
  yield case(
    code,
    'with_saver',
    _evaluate,
    norm=parts.LAYERS_FUSED,
    training='true',
    saver=tf.train.Saver,
  )
  yield case(code, 'one_layer', _evaluate_one_layer)
  for resource in (True, False):
    yield case(
      '',
      'evaluation/thrown_away/' + _kind(resource),
      _evaluate,
      norm=parts.thrown_away_norm,
      training='false',
      resource=resource,
    )


def _evaluate_one_layer():
  """training=False was passed to all layers but one."""
  x, _ = parts.images()
  x, _ = parts.body(parts.LAYERS_FUSED, x, False, scope='one')
  parts.network(parts.LAYERS_FUSED, x, True, scope='two', widths=(4,))


def _serving():
  """Evaluation and export graphs as they should be."""
  for name, norm, resource in styles(False, True):
    yield case(
      '',
      'evaluation/%s/%s' % (name, _kind(resource)),
      _evaluate,
      norm=norm,
      training='false',
      resource=resource,
    )
  for name in ('layers_fused', 'layers_plain', 'slim_fused', 'keras_fused'):
    norm = {**parts.NORMS, **parts.KERAS_NORMS}[name]
    yield case(
      '',
      'serving/placeholder/' + name,
      _evaluate,
      norm=norm,
      training='placeholder',
      metrics=False,
    )
    yield case(
      '',
      'serving/default_false/' + name,
      _evaluate,
      norm=norm,
      training='default_false',
      metrics=False,
    )
  yield case(
    '',
    'serving/functional_if/layers_plain',
    _evaluate,
    norm=parts.LAYERS_PLAIN,
    training='placeholder',
    metrics=False,
    functional=True,
  )
  yield case(
    '', 'serving/ema', _evaluate, norm=parts.ema_norm, training='placeholder'
  )
  yield case(
    '',
    'evaluation/weight_average',
    _evaluate,
    norm=parts.LAYERS_FUSED,
    training='false',
    saver=lambda: tf.train.Saver(
      tf.train.ExponentialMovingAverage(0.99).variables_to_restore()
    ),
  )
  yield case(
    '',
    'evaluation/checkpoint',
    _evaluate,
    norm=parts.LAYERS_FUSED,
    training='false',
    saver=tf.train.Saver,
    checkpoint=lambda: parts.checkpoint(2000),
  )
  yield case('', 'evaluation/one_image', _evaluate_one_image)
  yield case('', 'evaluation/saliency', _saliency)


def _evaluate_one_image():
  x, _ = parts.images(batch=1)
  parts.network(parts.LAYERS_FUSED, x, False)


def _saliency():
  """Gradient by the image, which no op is to apply."""
  x, _ = parts.images()
  logits, _ = parts.network(parts.LAYERS_FUSED, x, False)
  tf.identity(tf.gradients(tf.reduce_max(logits, -1), x)[0], 'saliency')


# Batches.


def _batch_sizes():
  """tensorflow #9796: one example, and other sorts of too few values."""
  dense = dict(network=parts.dense_network)
  for name, norm, resource in styles(True, False):
    yield case(
      'single-example',
      '%s/%s' % (name, _kind(resource)),
      train,
      norm=norm,
      way=parts.around_minimize,
      batch=1,
      resource=resource,
    )
  yield case(
    'single-example',
    'queue',
    train,
    norm=parts.LAYERS_FUSED,
    way=parts.around_minimize,
    batch=1,
    source='queue',
  )
  yield case(
    'single-example',
    'placeholder',
    train,
    norm=parts.LAYERS_PLAIN,
    way=parts.around_minimize,
    batch=1,
    training='placeholder',
  )
  plain = {
    name: norm
    for name, norm in {**parts.NORMS, **parts.KERAS_NORMS}.items()
    if name not in ('layers_fused', 'keras_fused', 'slim_fused')
  }
  for name, norm in plain.items():
    yield case(
      'single-example',
      'dense/' + name,
      train,
      norm=norm,
      way=parts.around_minimize,
      batch=1,
      **dense,
    )
    yield case(
      'few-values',
      'dense_8/' + name,
      train,
      norm=norm,
      way=parts.around_minimize,
      batch=8,
      **dense,
    )
    yield case(
      '',
      'dense_64/' + name,
      train,
      norm=norm,
      way=parts.around_minimize,
      batch=64,
      **dense,
    )
  for batch in (2, 15):
    yield case(
      'few-values',
      'dense_%d/layers_plain' % batch,
      train,
      norm=parts.LAYERS_PLAIN,
      way=parts.around_minimize,
      batch=batch,
      **dense,
    )
  for batch in (16, None):
    yield case(
      '',
      'dense_%s/layers_plain' % batch,
      train,
      norm=parts.LAYERS_PLAIN,
      way=parts.around_minimize,
      batch=batch,
      **dense,
    )
  for resource in (True, False):
    for name in ('layers_fused', 'layers_plain', 'slim_fused'):
      yield case(
        'few-values',
        'pooled/%s/%s' % (name, _kind(resource)),
        _pooled,
        norm=parts.NORMS[name],
        batch=8,
        resource=resource,
      )
  yield case('few-values', 'sequence', _sequence, batch=2, length=4)
  yield case('', 'sequence', _sequence, batch=4, length=8)
  # 64 rows, but in groups of 4.
  yield case(
    'few-values',
    'ghost',
    train,
    batch=64,
    norm=functools.partial(parts.layers_norm, virtual_batch_size=4),
    way=parts.around_minimize,
    **dense,
  )
  yield case(
    '',
    'ghost',
    train,
    norm=functools.partial(parts.layers_norm, virtual_batch_size=4),
    way=parts.around_minimize,
  )
  # Two images of 8 x 8 have 128 values.
  yield case(
    '',
    'two_images',
    train,
    norm=parts.LAYERS_FUSED,
    way=parts.around_minimize,
    batch=2,
  )
  for training in ('true', 'placeholder'):
    yield case(
      '',
      'unknown_batch/' + training,
      train,
      norm=parts.LAYERS_FUSED,
      way=parts.around_minimize,
      batch=None,
      training=training,
    )
  yield case('', 'clip_of_16_frames', _clip)


def _pooled(norm, batch):
  """Batch norm of [batch, 1, 1, 6] after one of healthy size."""
  x, labels = parts.images(batch)
  x, updates = parts.body(norm, x, True, widths=(6,))
  x = tf.reduce_mean(x, [1, 2], keepdims=True)
  logits, ops = parts.network(norm, x, True, scope='head', widths=(4,))
  parts.around_minimize(
    parts.cross_entropy(logits, labels),
    updates + ops,
    parts.OPTIMIZERS['sgd'](),
  )


def _sequence(batch, length):
  """tf.layers on [batch, length, channels]."""
  x = tf.placeholder(tf.float32, [batch, length, 3])
  x = tf.layers.conv1d(x, 5, 3, padding='same', use_bias=False)
  x, ops = parts.LAYERS_PLAIN(x, True, 0.99)
  logits = tf.layers.dense(tf.reduce_mean(tf.nn.relu(x), 1), parts.CLASSES)
  parts.around_minimize(
    parts.cross_entropy(logits, tf.zeros([batch], tf.int32)),
    [ops],
    parts.OPTIMIZERS['adam'](),
  )


def _clip():
  """A batch of one video whose frames are the batch of the layers."""
  x = tf.placeholder(tf.float32, [1, 16, 8, 8, 3])
  logits, updates = parts.network(
    parts.LAYERS_FUSED, tf.reshape(x, [16, 8, 8, 3]), True
  )
  logits = tf.reduce_mean(tf.reshape(logits, [1, 16, parts.CLASSES]), 1)
  parts.around_minimize(
    parts.cross_entropy(logits, tf.zeros([1], tf.int32)),
    updates,
    parts.OPTIMIZERS['sgd'](),
  )


# Axes.


def _axes():
  """Statistics of rows of the image in place of channels."""
  code = 'gamma-not-channels'
  for resource, fused in itertools.product((True, False), (True, False)):
    kind = '%s/%s' % ('fused' if fused else 'plain', _kind(resource))
    norm = functools.partial(parts.layers_norm, fused=fused)
    for training in ('true', 'placeholder')[: 1 + resource]:
      yield case(
        code,
        'axis_1_nhwc/%s/%s' % (kind, training),
        train,
        norm=functools.partial(norm, axis=1),
        training=training,
        way=parts.around_minimize,
        resource=resource,
      )
    yield case(
      code,
      'axis_last_nchw/' + kind,
      _nchw,
      norm=functools.partial(norm, axis=-1),
      resource=resource,
    )
    yield case(
      '',
      'axis_1_nchw/' + kind,
      _nchw,
      norm=functools.partial(norm, axis=1),
      resource=resource,
    )
    yield case(
      '',
      'axis_3_nhwc/' + kind,
      train,
      norm=functools.partial(norm, axis=3),
      way=parts.around_minimize,
      resource=resource,
    )
    yield case(
      '',
      'axis_1_transposed/' + kind,
      train,
      norm=functools.partial(_transposed, norm),
      way=parts.around_minimize,
      resource=resource,
    )
  yield case(
    code,
    'axis_1_nhwc/keras',
    train,
    way=parts.around_minimize,
    norm=functools.partial(parts.KERAS_PLAIN, axis=1),
  )
  yield case(
    code,
    'nchw_of_nhwc/slim_fused',
    train,
    norm=functools.partial(parts.SLIM_FUSED, data_format='NCHW'),
    way=parts.around_minimize,
  )
  # As many rows as channels: nothing but the convolution tells.
  yield case(
    code,
    'axis_1_nhwc/square',
    train,
    norm=functools.partial(parts.LAYERS_PLAIN, axis=1),
    way=parts.around_minimize,
    widths=(8, 8),
  )
  yield case(
    '',
    'slim_nchw',
    _nchw,
    norm=functools.partial(parts.SLIM_FUSED, data_format='NCHW'),
  )
  yield case(
    '',
    'axis_1_dense',
    train,
    way=parts.around_minimize,
    norm=functools.partial(parts.LAYERS_PLAIN, axis=1),
    network=parts.dense_network,
  )


def _nchw(norm):
  """Convolutions on [N, C, H, W], which a CPU cannot run."""
  x = tf.placeholder(tf.float32, [16, 3, 8, 8])
  updates = []
  for i, width in enumerate((4, 6)):
    with tf.variable_scope('block%d' % i):
      x = tf.layers.conv2d(
        x,
        width,
        3,
        padding='same',
        use_bias=False,
        data_format='channels_first',
      )
      x, ops = norm(x, True, 0.99)
      updates.append(ops)
      x = tf.nn.relu(x)
  logits = tf.layers.dense(tf.reduce_mean(x, [2, 3]), parts.CLASSES)
  parts.around_minimize(
    parts.cross_entropy(logits, tf.zeros([16], tf.int32)),
    updates,
    parts.OPTIMIZERS['momentum'](),
  )


def _transposed(norm, x, training, decay):
  """NHWC to NCHW and back, around a layer for NCHW."""
  y, updates = norm(tf.transpose(x, [0, 3, 1, 2]), training, decay, axis=1)
  return tf.transpose(y, [0, 2, 3, 1]), updates


# Decays.


def _decays():
  """affinelayer/pix2pix-tensorflow #126: momentum=0.1 means another thing."""
  optimizers = itertools.cycle(parts.OPTIMIZERS)
  code = 'decay-like-pytorch'
  for name, norm, resource in styles(True, False):
    for training in ('true', 'placeholder'):
      yield case(
        code,
        '%s/%s/%s' % (name, _kind(resource), training),
        train,
        norm=norm,
        way=parts.around_minimize,
        decay=0.1,
        training=training,
        resource=resource,
        optimizer=next(optimizers),
      )
  for form in ('sub', 'add'):
    yield case(
      code,
      'hand_' + form,
      train,
      way=parts.around_minimize,
      norm=functools.partial(parts.hand_norm, form=form),
      decay=0.1,
    )
  yield case(
    code,
    'ema',
    train,
    norm=parts.ema_norm,
    way=parts.alone,
    decay=0.1,
    training='placeholder',
  )
  yield case(
    code,
    'in_place/slim_fused',
    train,
    decay=0.1,
    way=parts.alone,
    norm=parts.IN_PLACE['slim_fused'],
  )
  for name in ('layers_fused', 'layers_plain'):
    yield case(
      code,
      'functional_if/' + name,
      train,
      norm=parts.NORMS[name],
      way=parts.around_minimize,
      decay=0.2,
      training='placeholder',
      functional=True,
    )
  for decay in (0.6, 0.9, 0.999):
    yield case(
      '',
      'decay/%s' % decay,
      train,
      norm=parts.LAYERS_FUSED,
      way=parts.around_minimize,
      decay=decay,
    )
  # 0.1 here is the rate, as PyTorch has it: a decay of 0.9.
  for form in ('pytorch', 'sub', 'add'):
    yield case(
      '',
      'decay/hand_' + form,
      train,
      way=parts.around_minimize,
      norm=functools.partial(parts.hand_norm, form=form),
      decay=0.9,
    )
  yield case('', 'decay/of_the_loss', _average_of_loss)


def _average_of_loss():
  """A fast average of the loss for the progress bar, decay 0.1."""

  def averaged(loss, updates, optimizer):
    average = tf.train.ExponentialMovingAverage(0.1)
    train_op = parts.around_minimize(loss, updates, optimizer)
    with tf.control_dependencies([train_op]):
      return average.apply([loss])

  train(parts.LAYERS_FUSED, averaged)


# Losses.


def _loss_case(codes, name, loss, **kwargs):
  """A loss of (logits, integer labels) behind a healthy network."""
  return case(
    codes,
    name,
    train,
    norm=parts.LAYERS_FUSED,
    way=parts.around_minimize,
    loss=loss,
    **kwargs,
  )


def _one_hot(labels):
  return tf.one_hot(labels, parts.CLASSES)


def _losses():
  """Probabilities for logits, and logits for probabilities."""
  nn = tf.nn
  code = 'softmax-twice'
  yield _loss_case(
    code, 'sparse', lambda z, y: parts.cross_entropy(nn.softmax(z), y)
  )
  yield _loss_case(
    code,
    'sparse/ref',
    lambda z, y: parts.cross_entropy(nn.softmax(z), y),
    resource=False,
  )
  yield _loss_case(
    code,
    'v1',
    lambda z, y: tf.reduce_mean(
      nn.softmax_cross_entropy_with_logits(
        labels=_one_hot(y), logits=nn.softmax(z)
      )
    ),
  )
  yield _loss_case(
    code,
    'v2',
    lambda z, y: tf.reduce_mean(
      nn.softmax_cross_entropy_with_logits_v2(
        labels=_one_hot(y), logits=nn.softmax(z)
      )
    ),
  )
  yield _loss_case(
    code,
    'losses',
    lambda z, y: tf.losses.softmax_cross_entropy(_one_hot(y), nn.softmax(z)),
  )
  yield _loss_case(
    code,
    'losses_sparse',
    lambda z, y: tf.losses.sparse_softmax_cross_entropy(y, nn.softmax(z)),
  )
  yield _loss_case(
    code,
    'through_identity',
    lambda z, y: parts.cross_entropy(
      tf.reshape(
        tf.identity(nn.softmax(z), 'probabilities'), [-1, parts.CLASSES]
      ),
      y,
    ),
  )
  yield _loss_case(
    code,
    'activation',
    lambda z, y: parts.cross_entropy(
      tf.layers.dense(z, parts.CLASSES, activation=nn.softmax), y
    ),
  )
  yield _loss_case(
    code,
    'sigmoid',
    lambda z, y: tf.reduce_mean(
      nn.sigmoid_cross_entropy_with_logits(
        labels=_one_hot(y), logits=nn.sigmoid(z)
      )
    ),
  )
  yield _loss_case(
    code,
    'losses_sigmoid',
    lambda z, y: tf.losses.sigmoid_cross_entropy(_one_hot(y), nn.sigmoid(z)),
  )
  yield _loss_case(
    code,
    'sigmoid_into_softmax',
    lambda z, y: parts.cross_entropy(nn.sigmoid(z), y),
  )

  code = 'logits-as-probabilities'
  yield _loss_case(
    code, 'dense', lambda z, y: -tf.reduce_sum(_one_hot(y) * tf.log(z))
  )
  yield _loss_case(
    code,
    'dense/ref',
    lambda z, y: -tf.reduce_sum(_one_hot(y) * tf.log(z)),
    resource=False,
  )
  yield _loss_case(
    code,
    'epsilon',
    lambda z, y: tf.reduce_mean(
      -tf.reduce_sum(_one_hot(y) * tf.log(z + 1e-8), 1)
    ),
  )
  yield _loss_case(
    code,
    'clipped',
    lambda z, y: (
      -tf.reduce_sum(_one_hot(y) * tf.log(tf.clip_by_value(z, 1e-10, 1.0)))
    ),
  )
  yield _loss_case(
    code,
    'matmul',
    lambda z, y: -tf.reduce_sum(_one_hot(y) * tf.log(_matmul(z))),
  )
  yield _loss_case(
    code,
    'convolution',
    lambda z, y: -tf.reduce_sum(_one_hot(y) * tf.log(_convolution(z))),
  )
  yield _loss_case(
    code, 'log_loss', lambda z, y: tf.losses.log_loss(_one_hot(y), z)
  )
  keras = tf_keras.losses
  yield _loss_case(
    code,
    'keras_categorical',
    lambda z, y: tf.reduce_mean(keras.categorical_crossentropy(_one_hot(y), z)),
  )
  yield _loss_case(
    code,
    'keras_sparse',
    lambda z, y: tf.reduce_mean(keras.sparse_categorical_crossentropy(y, z)),
  )
  yield _loss_case(
    code,
    'keras_binary',
    lambda z, y: tf.reduce_mean(keras.binary_crossentropy(_one_hot(y), z)),
  )


def _matmul(x):
  weights = tf.get_variable('weights', [parts.CLASSES, parts.CLASSES])
  biases = tf.get_variable('biases', [parts.CLASSES])
  return tf.matmul(x, weights) + biases


def _convolution(x):
  """Logits of a 1 x 1 convolution."""
  x = tf.layers.conv2d(x[:, None, None, :], parts.CLASSES, 1)
  return tf.squeeze(x, [1, 2])


def _steady_losses():
  """Losses that are right, some of which look wrong."""
  nn = tf.nn
  keras = tf_keras.losses
  yield _loss_case(
    '',
    'loss/log_softmax',
    lambda z, y: -tf.reduce_sum(_one_hot(y) * nn.log_softmax(z)),
  )
  yield _loss_case(
    '',
    'loss/log_of_softmax',
    lambda z, y: -tf.reduce_sum(_one_hot(y) * tf.log(nn.softmax(z))),
  )
  yield _loss_case(
    '',
    'loss/log_of_softmax_epsilon',
    lambda z, y: -tf.reduce_sum(_one_hot(y) * tf.log(nn.softmax(z) + 1e-8)),
  )
  yield _loss_case(
    '',
    'loss/log_of_softmax_clipped',
    lambda z, y: (
      -tf.reduce_sum(
        _one_hot(y) * tf.log(tf.clip_by_value(nn.softmax(z), 1e-10, 1.0))
      )
    ),
  )
  yield _loss_case(
    '',
    'loss/softmax_by_hand',
    lambda z, y: (
      -tf.reduce_sum(
        _one_hot(y)
        * tf.log(tf.exp(z) / tf.reduce_sum(tf.exp(z), 1, keepdims=True))
      )
    ),
  )
  yield _loss_case(
    '',
    'loss/logsumexp_by_hand',
    lambda z, y: tf.reduce_mean(
      tf.log(tf.reduce_sum(tf.exp(z), 1)) - tf.reduce_sum(_one_hot(y) * z, 1)
    ),
  )
  # softmax of log p is p: nothing is done twice.
  yield _loss_case(
    '',
    'loss/log_softmax_as_logits',
    lambda z, y: parts.cross_entropy(nn.log_softmax(z), y),
  )
  yield _loss_case(
    '',
    'loss/log_loss_of_sigmoid',
    lambda z, y: tf.losses.log_loss(_one_hot(y), nn.sigmoid(z)),
  )
  yield _loss_case(
    '',
    'loss/sigmoid_cross_entropy',
    lambda z, y: tf.losses.sigmoid_cross_entropy(_one_hot(y), z),
  )
  yield _loss_case(
    '',
    'loss/log_of_softplus',
    lambda z, y: tf.reduce_mean(
      tf.log(nn.softplus(z)) + tf.square(_one_hot(y) - z) / nn.softplus(z)
    ),
  )
  yield _loss_case(
    '',
    'loss/squares_of_softmax',
    lambda z, y: tf.reduce_mean(tf.square(_one_hot(y) - nn.softmax(z))),
  )
  # Keras goes back to the logits when it sees the softmax, from_logits=True
  # or not: its loss is right either way.
  yield _loss_case(
    '',
    'loss/keras_softmax',
    lambda z, y: tf.reduce_mean(
      keras.categorical_crossentropy(_one_hot(y), nn.softmax(z))
    ),
  )
  yield _loss_case(
    '',
    'loss/keras_softmax_from_logits',
    lambda z, y: tf.reduce_mean(
      keras.categorical_crossentropy(
        _one_hot(y), nn.softmax(z), from_logits=True
      )
    ),
  )
  yield _loss_case(
    '',
    'loss/keras_sigmoid',
    lambda z, y: tf.reduce_mean(
      keras.binary_crossentropy(_one_hot(y), nn.sigmoid(z))
    ),
  )
  yield _loss_case(
    '',
    'loss/keras_from_logits',
    lambda z, y: tf.reduce_mean(
      keras.sparse_categorical_crossentropy(y, z, from_logits=True)
    ),
  )
  yield _loss_case('', 'loss/predictions_beside', _predictions_beside)
  yield _loss_case(
    '',
    'loss/softmax_then_dense',
    lambda z, y: parts.cross_entropy(
      tf.layers.dense(nn.softmax(z), parts.CLASSES), y
    ),
  )
  yield case('', 'loss/attention', _attention)
  yield case('', 'loss/gates', _gates)
  yield case('', 'loss/distillation', _distillation)
  yield case('', 'loss/log_of_the_input', _log_input)


def _predictions_beside(logits, labels):
  """Softmax, accuracy and a streaming metric next to the loss."""
  probabilities = tf.nn.softmax(logits)
  tf.summary.histogram('probabilities', probabilities)
  right = tf.equal(tf.argmax(probabilities, 1, output_type=tf.int32), labels)
  tf.metrics.mean(tf.cast(right, tf.float32))
  return parts.cross_entropy(logits, labels)


def _attention():
  """Softmax over the places of the image inside the network."""
  x, labels = parts.images()
  x, updates = parts.body(parts.LAYERS_FUSED, x, True)
  places = tf.reshape(x, [-1, 64, 6])
  weights = tf.nn.softmax(tf.layers.dense(places, 1), axis=1)
  logits = tf.layers.dense(tf.reduce_sum(weights * places, 1), parts.CLASSES)
  parts.around_minimize(
    parts.cross_entropy(logits, labels), updates, parts.OPTIMIZERS['adam']()
  )


def _gates():
  """Squeeze and excitation: channels times a sigmoid."""
  x, labels = parts.images()
  x, updates = parts.body(parts.LAYERS_FUSED, x, True)
  gates = tf.layers.dense(
    tf.reduce_mean(x, [1, 2], keepdims=True), 6, activation=tf.nn.sigmoid
  )
  logits = tf.layers.dense(tf.reduce_mean(x * gates, [1, 2]), parts.CLASSES)
  parts.around_minimize(
    parts.cross_entropy(logits, labels), updates, parts.OPTIMIZERS['adam']()
  )


def _distillation():
  """A teacher's softmax as labels; the teacher is evaluated, not trained."""
  x, _ = parts.images()
  teacher, _ = parts.network(parts.LAYERS_FUSED, x, False, scope='teacher')
  logits, updates = parts.network(parts.LAYERS_FUSED, x, True)
  loss = tf.reduce_mean(
    tf.nn.softmax_cross_entropy_with_logits_v2(
      labels=tf.stop_gradient(tf.nn.softmax(teacher / 4)), logits=logits / 4
    )
  )
  with tf.control_dependencies(parts.flat(updates)):
    parts.OPTIMIZERS['sgd']().minimize(
      loss, tf.train.get_or_create_global_step(), tf.trainable_variables('net')
    )


def _log_input():
  """Logarithm of a spectrogram on its way into the network."""
  x, labels = parts.images()
  logits, updates = parts.network(parts.LAYERS_FUSED, tf.log(x + 1e-3), True)
  parts.around_minimize(
    parts.cross_entropy(logits, labels), updates, parts.OPTIMIZERS['sgd']()
  )


def _no_train_op():
  """Gradients that no op applies."""
  for name, norm, resource in styles(
    True, False, norms={**parts.NORMS, 'in_place': parts.IN_PLACE['slim_fused']}
  ):
    yield case(
      'no-train-op',
      '%s/%s' % (name, _kind(resource)),
      train,
      norm=norm,
      resource=resource,
      way=lambda loss, _, opt: opt.compute_gradients(loss),
    )
  yield case(
    'no-train-op',
    'keras',
    train,
    norm=parts.KERAS_FUSED,
    way=lambda loss, _, opt: opt.compute_gradients(loss),
  )
  yield case(
    'no-train-op',
    'clipped',
    train,
    norm=parts.LAYERS_FUSED,
    way=lambda loss, updates, _: tf.clip_by_global_norm(
      tf.gradients(loss, tf.trainable_variables()), 1.0
    ),
  )


# Healthy training.


def _ways_of_running():
  """Every right way to run the updates."""
  optimizers = itertools.cycle(parts.OPTIMIZERS)
  ways = (
    parts.around_minimize,
    parts.around_gradients,
    parts.grouped,
    parts.create_train_op,
    parts.by_hook,
  )
  for i, way in enumerate(ways):
    for name, norm, resource in styles(i % 2 == 0, i % 2 == 1):
      yield case(
        '',
        '%s/%s/%s' % (way.__name__, name, _kind(resource)),
        train,
        norm=norm,
        way=way,
        resource=resource,
        widths=(4, 6),
        optimizer=next(optimizers),
      )
  for name, norm, resource in styles(False, True):
    yield case(
      '',
      'placeholder/%s/%s' % (name, _kind(resource)),
      train,
      norm=norm,
      way=parts.around_minimize,
      training='placeholder',
      resource=resource,
    )
  for i, training in enumerate(('true', 'placeholder')):
    for name, norm, resource in styles(i == 0, i == 1, norms=parts.IN_PLACE):
      yield case(
        '',
        'in_place/%s/%s/%s' % (name, _kind(resource), training),
        train,
        norm=norm,
        way=parts.alone,
        resource=resource,
        training=training,
      )
  for resource in (True, False):
    yield case(
      '',
      'ema/in_cond/' + _kind(resource),
      train,
      norm=parts.ema_norm,
      way=parts.alone,
      training='placeholder',
      resource=resource,
    )
    yield case(
      '',
      'ema/outside/' + _kind(resource),
      train,
      norm=functools.partial(parts.ema_norm, apply_in_cond=False),
      way=parts.around_minimize,
      training='placeholder',
      resource=resource,
    )
    yield case(
      '',
      'hand_names/' + _kind(resource),
      train,
      norm=functools.partial(
        parts.hand_norm, names=('first', 'second'), form='sub'
      ),
      way=parts.around_minimize,
      resource=resource,
    )
  for name in ('layers_fused', 'layers_plain', 'slim_plain', 'hand'):
    yield case(
      '',
      'functional_if/' + name,
      train,
      norm=parts.NORMS[name],
      way=parts.around_minimize,
      training='placeholder',
      functional=True,
    )
  yield case(
    '',
    'functional_if/ema',
    train,
    norm=parts.ema_norm,
    way=parts.alone,
    training='placeholder',
    functional=True,
  )
  for default in ('default_false', 'default_true'):
    yield case(
      '',
      default,
      train,
      norm=parts.LAYERS_PLAIN,
      way=parts.around_minimize,
      training=default,
    )
  yield case('', 'model/keras', _keras_model, way=parts.around_minimize)
  yield case('', 'model/keras_group', _keras_model, way=parts.grouped)
  yield case('', 'while_loop', _loop_training, run=True)
  yield case(
    '', 'while_loop/functional', _loop_training, run=True, functional=True
  )
  for name in ('layers_fused', 'layers_plain'):
    yield case(
      '',
      'float16/' + name,
      train,
      norm=parts.NORMS[name],
      way=parts.around_minimize,
      dtype=tf.float16,
    )
  for source in ('random', 'queue', 'dataset'):
    yield case(
      '',
      'input/' + source,
      train,
      norm=parts.LAYERS_FUSED,
      way=parts.around_minimize,
      source=source,
    )
  yield case('', 'fetched_together', _fetched_together)
  for told in (True, False):
    yield case(
      '',
      'accumulated_gradients/' + ('told' if told else 'found'),
      _accumulated_gradients,
      told=told,
    )


def _fetched_together():
  """session.run([train_op] + updates): only the caller can tell."""
  x, labels = parts.images()
  logits, updates = parts.network(parts.LAYERS_FUSED, x, True)
  train_op = parts.alone(
    parts.cross_entropy(logits, labels), [], parts.OPTIMIZERS['sgd']()
  )
  ops = [getattr(train_op, 'op', train_op)] + parts.flat(updates)
  return Built(train_ops=tuple(op.name for op in ops))


def _accumulated_gradients(runs_updates=True, told=True):
  """One op, run for each part of a batch, adds up gradients and updates.

  The other applies the sum. The caller runs both, and may say so.
  """
  x, labels = parts.images()
  logits, updates = parts.network(parts.LAYERS_FUSED, x, True)
  loss = parts.cross_entropy(logits, labels)
  optimizer = parts.OPTIMIZERS['momentum']()
  sums, pairs = [], []
  for gradient, variable in optimizer.compute_gradients(loss):
    total = tf.Variable(
      tf.zeros_like(variable.initial_value), trainable=False, name='sum'
    )
    sums.append(tf.assign_add(total, gradient))
    pairs.append((total / 4, variable))
  gathered = sums + parts.flat(updates) if runs_updates else sums
  accumulate = tf.group(*gathered, name='accumulate')
  train_op = optimizer.apply_gradients(
    pairs, tf.train.get_or_create_global_step()
  )
  both = (accumulate.name, getattr(train_op, 'op', train_op).name)
  return Built(train_ops=both if told else ())


def _optimizers():
  """Optimizers whose train op looks unlike the others."""
  for name in parts.OPTIMIZERS:
    yield case(
      '',
      'optimizer/' + name,
      train,
      norm=parts.LAYERS_FUSED,
      way=parts.around_minimize,
      optimizer=name,
    )
  for resource in (True, False):
    kind = _kind(resource)
    for name in ('layers_fused', 'layers_plain'):
      yield case(
        '',
        'optimizer/by_hand/%s/%s' % (name, kind),
        train,
        norm=parts.NORMS[name],
        way=parts.by_hand,
        resource=resource,
      )
    yield case(
      '',
      'optimizer/sync_replicas/' + kind,
      train,
      norm=parts.LAYERS_FUSED,
      way=_sync,
      resource=resource,
    )
    yield case(
      '',
      'optimizer/clipped/' + kind,
      train,
      norm=parts.LAYERS_FUSED,
      way=_clipped,
      resource=resource,
    )


def _sync(loss, updates, optimizer):
  """SyncReplicasOptimizer: the inner optimizer sees only averages."""
  return parts.around_gradients(
    loss,
    updates,
    tf.train.SyncReplicasOptimizer(
      optimizer, replicas_to_aggregate=1, total_num_replicas=1
    ),
  )


def _clipped(loss, updates, optimizer):
  variables = tf.trainable_variables()
  gradients, _ = tf.clip_by_global_norm(tf.gradients(loss, variables), 1.0)
  with tf.control_dependencies(parts.flat(updates)):
    return optimizer.apply_gradients(
      zip(gradients, variables), tf.train.get_or_create_global_step()
    )


def _several_networks():
  """GANs: each train op owns the updates of its own network."""
  for resource in (True, False):
    yield case(
      '', 'gan/' + _kind(resource), _gan, shared=False, resource=resource
    )
    # The discriminator's second call leaves its statistics alone.
    yield case(
      '',
      'gan/first_call_only/' + _kind(resource),
      _gan,
      shared=True,
      resource=resource,
    )


def _gan(shared, generator_updates=True):
  """Generator and discriminator with batch norm and a train op each.

  shared: the discriminator is called for real and for made images, and the
    updates of the first call run; else once for both together.
  """
  real, _ = parts.images()
  with tf.variable_scope('generator'):
    x = tf.random.normal([parts.BATCH, 4, 4, 4])
    x, g_updates = parts.body(parts.LAYERS_FUSED, x, True, scope='body')
    made = tf.layers.conv2d_transpose(
      x, 3, 3, 2, padding='same', activation=tf.nn.tanh
    )
  with tf.variable_scope('discriminator'):
    if shared:
      on_real, d_updates = parts.network(parts.LAYERS_FUSED, real, True)
      on_made, _ = parts.network(parts.LAYERS_FUSED, made, True, reuse=True)
    else:
      both, d_updates = parts.network(
        parts.LAYERS_FUSED, tf.concat([real, made], 0), True
      )
      on_real, on_made = tf.split(both, 2)
  entropy = tf.nn.sigmoid_cross_entropy_with_logits
  d_loss = tf.reduce_mean(
    entropy(labels=tf.ones_like(on_real), logits=on_real)
  ) + tf.reduce_mean(entropy(labels=tf.zeros_like(on_made), logits=on_made))
  g_loss = -tf.reduce_mean(tf.log(tf.sigmoid(on_made) + 1e-8))
  for loss, updates, scope, step in (
    (d_loss, d_updates, 'discriminator', tf.train.get_or_create_global_step()),
    (g_loss, g_updates if generator_updates else [], 'generator', None),
  ):
    with tf.control_dependencies(parts.flat(updates)):
      tf.train.AdamOptimizer(1e-4, beta1=0.5).minimize(
        loss, step, tf.trainable_variables(scope)
      )


def _several_calls():
  """Towers that share layers, of which one owns the updates."""
  for name, norm, resource in styles(True, False, keras=False):
    yield case(
      '',
      'evaluation_tower/%s/%s' % (name, _kind(resource)),
      _evaluation_tower,
      norm=norm,
      resource=resource,
    )
    yield case(
      '',
      'first_call_only/%s/%s' % (name, _kind(resource)),
      _siamese,
      norm=norm,
      way=parts.around_minimize,
      first_only=True,
      resource=resource,
    )
  yield case('', 'extra_tower', _extra_tower)
  yield case('', 'towers/first_only', _towers, all_updates=False)


def _evaluation_tower(norm):
  """The same network beside it with training=False."""
  x, labels = parts.images()
  test, test_labels = parts.images(source='random')
  logits, updates = parts.network(norm, x, True, widths=(4,))
  test_logits, _ = parts.network(norm, test, False, reuse=True, widths=(4,))
  tf.summary.scalar('test_loss', parts.cross_entropy(test_logits, test_labels))
  parts.around_minimize(
    parts.cross_entropy(logits, labels), updates, parts.OPTIMIZERS['momentum']()
  )


def _extra_tower():
  """Unlabelled images go through in training mode, without updates."""
  x, labels = parts.images()
  logits, updates = parts.network(parts.LAYERS_FUSED, x, True)
  other, _ = parts.images(source='random')
  extra, _ = parts.network(parts.LAYERS_FUSED, other, True, reuse=True)
  tf.summary.histogram('extra', extra)
  parts.grouped(
    parts.cross_entropy(logits, labels), updates, parts.OPTIMIZERS['adam']()
  )


def _freezing():
  """A pretrained network whose statistics are to stay."""
  for name, norm, resource in styles(False, True, keras=False):
    yield case(
      '',
      'frozen/%s/%s' % (name, _kind(resource)),
      _frozen,
      norm=norm,
      resource=resource,
    )
  yield case('', 'frozen/keras', _frozen, norm=parts.KERAS_FUSED)
  # The Keras layer of TensorFlow 2 takes trainable=False for training=False.
  yield case(
    '',
    'frozen/keras_not_trainable',
    train_and,
    way=parts.alone,
    norm=functools.partial(parts.KERAS_FUSED, trainable=False),
    checkpoint=lambda: parts.checkpoint(2000),
  )
  # keras #10214: trainable=False, and fit() feeds the phase all the same.
  yield case(
    'frozen-by-batch',
    'keras_old',
    _frozen,
    norm=parts.KERAS_OLD,
    training='default_false',
  )
  # The checkpoint tells it from a flag that was forgotten.
  yield case(
    '',
    'frozen/fine_tuned',
    train_and,
    norm=parts.LAYERS_FUSED,
    way=parts.alone,
    training='false',
    checkpoint=lambda: parts.checkpoint(2000),
  )
  yield case(
    '',
    'frozen/one_image',
    train_and,
    norm=parts.LAYERS_FUSED,
    way=parts.alone,
    training='false',
    batch=1,
    checkpoint=lambda: parts.checkpoint(2000),
  )
  yield case('', 'frozen/head_with_batch_norm', _frozen_with_head)


def _frozen(norm, training='false'):
  """training=False below; only the dense layer is trained."""
  x, labels = parts.images()
  logits, _ = parts.network(norm, x, parts.training_switch(training))
  head = [
    v
    for v in tf.trainable_variables()
    if 'logits' in v.name or 'dense' in v.name
  ]
  parts.OPTIMIZERS['momentum']().minimize(
    parts.cross_entropy(logits, labels),
    tf.train.get_or_create_global_step(),
    head,
  )


def _frozen_with_head():
  """Frozen batch norm below, batch norm with updates above."""
  x, labels = parts.images()
  x, _ = parts.body(parts.LAYERS_FUSED, x, False, scope='backbone')
  logits, updates = parts.network(
    parts.LAYERS_FUSED, tf.stop_gradient(x), True, scope='head'
  )
  parts.around_minimize(
    parts.cross_entropy(logits, labels), updates, parts.OPTIMIZERS['sgd']()
  )


def _other_statistics():
  """Means that are none of batch norm's, beside a healthy batch norm."""
  norms = {
    'layer_norm': _layer_norm,
    'instance_norm': _instance_norm,
    'group_norm': _group_norm,
  }
  for name, norm, resource in styles(False, True, norms=norms):
    yield case(
      '',
      '%s/%s' % (name, _kind(resource)),
      _mixed,
      norm=norm,
      resource=resource,
    )
  yield case('', 'layer_norm/one_image', _layer_norm_of_one_image)
  yield case('', 'weight_standardisation', _mixed, norm=_standardised_kernel)
  yield case('', 'minibatch_deviation', _mixed, norm=_batch_deviation)
  yield case('', 'moments_in_summary', _mixed, norm=_moments_in_summary)
  yield case('', 'reward_baseline', _reward_baseline)


def _layer_norm_of_one_image():
  """Layer norm is trained on a batch of 1, above frozen batch norm."""
  x, labels = parts.images(batch=1)
  x, _ = parts.body(parts.LAYERS_FUSED, x, False, scope='backbone')
  logits, _ = parts.network(_layer_norm, x, True, scope='head', widths=(4,))
  parts.alone(
    parts.cross_entropy(logits, labels), [], parts.OPTIMIZERS['sgd']()
  )
  # Without it, a flag that was forgotten.
  return Built(checkpoint=parts.checkpoint(2000))


def _layer_norm(x, training, decay):
  del training, decay
  mean, variance = tf.nn.moments(x, [1, 2, 3], keepdims=True)
  return tf.nn.batch_normalization(
    x, mean, variance, None, None, parts.EPSILON
  ), []


def _instance_norm(x, training, decay):
  """gamma and beta a channel, statistics an image and channel."""
  del training, decay
  mean, variance = tf.nn.moments(x, [1, 2], keepdims=True)
  beta = tf.get_variable(
    'beta', x.shape[-1], initializer=tf.zeros_initializer()
  )
  gamma = tf.get_variable(
    'gamma', x.shape[-1], initializer=tf.ones_initializer()
  )
  return tf.nn.batch_normalization(
    x, mean, variance, beta, gamma, parts.EPSILON
  ), []


def _group_norm(x, training, decay):
  """Two groups of channels."""
  del training, decay
  shape = x.shape.as_list()
  groups = tf.reshape(x, shape[:3] + [2, shape[3] // 2])
  mean, variance = tf.nn.moments(groups, [1, 2, 4], keepdims=True)
  groups = (groups - mean) * tf.rsqrt(variance + parts.EPSILON)
  return tf.reshape(groups, shape), []


def _standardised_kernel(x, training, decay):
  """Moments over [0, 1, 2] of a kernel, not of a batch."""
  del training, decay
  kernel = tf.get_variable('standardised', [3, 3, x.shape[-1], 4])
  mean, variance = tf.nn.moments(kernel, [0, 1, 2], keepdims=True)
  kernel = (kernel - mean) * tf.rsqrt(variance + parts.EPSILON)
  return tf.nn.conv2d(x, kernel, [1, 1, 1, 1], 'SAME'), []


def _batch_deviation(x, training, decay):
  """Progressive GANs: the deviation in the batch as one more channel."""
  del training, decay
  mean = tf.reduce_mean(x, 0, keepdims=True)
  deviation = tf.sqrt(
    tf.reduce_mean(tf.square(x - mean), 0, keepdims=True) + 1e-8
  )
  channel = tf.fill(x.shape[:3] + [1], 1.0) * tf.reduce_mean(deviation)
  return tf.concat([x, channel], -1), []


def _moments_in_summary(x, training, decay):
  del training, decay
  mean, variance = tf.nn.moments(x, [0, 1, 2])
  tf.summary.histogram('mean', mean)
  tf.summary.histogram('variance', variance)
  return x, []


def _reward_baseline():
  """A scalar called moving_mean that the caller sets."""
  baseline = tf.get_variable(
    'moving_mean', [], trainable=False, initializer=tf.zeros_initializer()
  )
  tf.assign(baseline, baseline * 0.9 + 0.1 * tf.placeholder(tf.float32, []))
  train(
    parts.LAYERS_FUSED,
    parts.around_minimize,
    loss=lambda z, y: parts.cross_entropy(z, y) * (1.0 - baseline),
  )


def _unusual_layers():
  """Options of tf.layers.batch_normalization."""
  for fused in (True, False):
    yield case(
      '',
      'renorm/%s' % ('fused' if fused else 'plain'),
      train,
      way=parts.around_minimize,
      norm=functools.partial(
        parts.layers_norm,
        fused=fused,
        renorm=True,
        renorm_clipping={'rmax': 3.0, 'rmin': 0.3, 'dmax': 5.0},
      ),
    )
  yield case(
    '',
    'ghost/groups_of_8',
    train,
    way=parts.around_minimize,
    norm=functools.partial(parts.layers_norm, virtual_batch_size=8),
  )
  yield case(
    '',
    'no_gamma',
    train,
    way=parts.around_minimize,
    norm=functools.partial(parts.LAYERS_FUSED, scale=False),
  )
  yield case(
    '',
    'no_gamma_and_beta/plain',
    train,
    way=parts.around_minimize,
    norm=functools.partial(parts.LAYERS_PLAIN, scale=False, center=False),
  )
