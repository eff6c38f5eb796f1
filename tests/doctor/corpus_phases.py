"""More graphs of corpus.py's kind: layers that never see a batch, updates in
the wrong place or at the wrong time, and healthy graphs that look like them.

The threads named are public issues of GitHub repositories.
"""

import functools
import itertools

import numpy as np
import tensorflow.compat.v1 as tf

from tests.doctor import corpus
from tests.doctor import corpus_layers as parts
from tests.doctor.corpus import Built
from tests.doctor.corpus import case
from tests.doctor.corpus import train
from tests.doctor.corpus import train_and


def cases():
  """All of them; names are unique, also beside those of corpus.py."""
  return list(
    itertools.chain.from_iterable(
      group()
      for group in (
        _never,
        _never_with_checkpoint,
        _in_evaluation,
        _made_in_branches,
        _not_finite,
        _unused_flags,
        _time_steps,
        _towers_of_one_batch,
        _mixtures,
        _unsaved,
      )
    )
  )


def _fed(codes, name, norm, **kwargs):
  """Case of a training whose phase is fed; layers see to their own updates."""
  return case(
    codes,
    name,
    train,
    norm=norm,
    way=parts.alone,
    training='placeholder',
    **kwargs,
  )


# Layers that never see a batch.

_MAYBE = 'frozen-or-forgotten'
_NEVER = 'never-by-batch'


def _never():
  """training=False is the default of tf.layers; or the phase is never fed."""
  for name, norm, resource in corpus.styles(True, False, keras=False):
    yield case(
      _MAYBE,
      'flag_forgotten/%s' % name,
      train,
      norm=norm,
      way=parts.around_minimize,
      training='false',
      resource=resource,
      widths=(4, 6),
    )
    # A saver of all restores this training and no other.
    yield case(
      _NEVER,
      'flag_forgotten/%s' % name,
      train_and,
      norm=norm,
      training='false',
      resource=resource,
      saver=tf.train.Saver,
    )
    # What another training has left comes by a saver without the optimizer's
    # variables, or by values that are fed.
    for how, restore in (('saver', _backbone_saver), ('fed', _fed_values)):
      yield case(
        _MAYBE,
        'restored_by_%s/%s' % (how, name),
        train_and,
        norm=norm,
        training='false',
        resource=resource,
        saver=restore,
      )
  yield case(_MAYBE, 'restored_by_initializer', _initialised_from_checkpoint)
  yield case(_MAYBE, 'generator_only', _half_forgotten)
  # Keras' learning phase is False by default, and its updates are in no
  # collection: neither is fed or run by a train op of TensorFlow's.
  yield case(
    _MAYBE,
    'phase_by_default/keras_old',
    train,
    norm=parts.KERAS_OLD,
    way=parts.alone,
    training='default_false',
  )
  # A phase by default, which training feeds: the step runs the updates.
  for name in ('layers_fused', 'slim_plain'):
    yield case(
      '',
      'phase_by_default/' + name,
      train,
      norm=parts.NORMS[name],
      way=parts.around_minimize,
      training='default_false',
    )


def _backbone_saver():
  tf.train.Saver(
    [v for v in tf.global_variables('net') if 'Momentum' not in v.name]
  )
  return tf.train.Saver()


def _fed_values():
  for variable in tf.global_variables('net'):
    tf.assign(variable, tf.placeholder(tf.float32, variable.shape))
  return tf.train.Saver()


def _initialised_from_checkpoint():
  """As tf.train.init_from_checkpoint writes it: read by the initializer."""
  x, labels = parts.images()
  initial = tf.raw_ops.RestoreV2(
    prefix='/no/such/checkpoint',
    tensor_names=['mean', 'variance'],
    shape_and_slices=['', ''],
    dtypes=[tf.float32, tf.float32],
  )
  mean, variance = [
    tf.Variable(tf.reshape(v, [3]), trainable=False) for v in initial
  ]
  gamma, beta = tf.Variable(tf.ones([3])), tf.Variable(tf.zeros([3]))
  x = tf.nn.batch_normalization(x, mean, variance, beta, gamma, parts.EPSILON)
  logits = tf.layers.dense(tf.reduce_mean(x, [1, 2]), parts.CLASSES)
  parts.alone(
    parts.cross_entropy(logits, labels), [], parts.OPTIMIZERS['momentum']()
  )
  return Built(saver=tf.train.Saver())


def _half_forgotten():
  """A discriminator as it should be; the generator's flag is forgotten."""
  real, _ = parts.images()
  with tf.variable_scope('generator'):
    x, _ = parts.body(
      parts.LAYERS_FUSED, tf.random.normal([parts.BATCH, 4, 4, 4]), False
    )
    made = tf.layers.conv2d_transpose(x, 3, 3, 2, padding='same')
  with tf.variable_scope('discriminator'):
    logits, updates = parts.network(
      parts.LAYERS_FUSED, tf.concat([real, made], 0), True
    )
  loss = parts.cross_entropy(logits, tf.zeros([2 * parts.BATCH], tf.int32))
  parts.around_minimize(loss, updates, parts.OPTIMIZERS['adam']())
  parts.OPTIMIZERS['adam']().minimize(
    -loss, var_list=tf.trainable_variables('generator')
  )


def _never_with_checkpoint():
  """A checkpoint tells a forgotten flag from statistics that were restored."""
  code = _NEVER
  for name, norm, resource in corpus.styles(False, True, keras=False):
    for codes, initial in ((code, ('',)), ('', ())):
      yield case(
        codes,
        'frozen_with_checkpoint/%s' % name,
        train_and,
        norm=norm,
        way=parts.around_minimize,
        training='false',
        resource=resource,
        saver=tf.train.Saver,
        checkpoint=functools.partial(parts.checkpoint, 2000, initial=initial),
      )
  # tflearn: a variable says whether it is training, and nobody sets it.
  for codes, initial in ((code, ('',)), ('', ())):
    yield case(
      codes,
      'phase_variable/ema',
      _phase_variable,
      checkpoint=functools.partial(parts.checkpoint, 2000, initial=initial),
    )
    yield case(
      codes,
      'phase_placeholder/layers_fused',
      train_and,
      norm=parts.LAYERS_FUSED,
      training='placeholder',
      saver=tf.train.Saver,
      checkpoint=functools.partial(parts.checkpoint, 2000, initial=initial),
    )


def _phase_variable(checkpoint):
  x, labels = parts.images()
  phase = tf.get_variable('is_training', initializer=False, trainable=False)
  logits, updates = parts.network(parts.ema_norm, x, phase, 0.9)
  parts.alone(
    parts.cross_entropy(logits, labels), updates, parts.OPTIMIZERS['adam']()
  )
  return Built(saver=tf.train.Saver(), checkpoint=checkpoint())


# Updates that run in evaluation.


def _in_evaluation():
  """tensorflow #1724, OlavHN/bnlstm #13: control dependencies do not branch."""
  code = 'updates-in-evaluation'
  for resource in (True, False):
    for name, make in (('ema', _ema_outside), ('assign', _assign_outside)):
      for functional in (False, True):
        yield _fed(
          code,
          '%s/%s/%s'
          % (
            name,
            'resource' if resource else 'ref',
            'if' if functional else 'cond',
          ),
          make,
          resource=resource,
          functional=functional,
        )
  yield _fed(
    code,
    'on_the_output/hand',
    functools.partial(_assign_outside, on_output=True),
  )
  # DeepFM's layer: both are made, with updates in place, and one is chosen.
  for functional, fused in itertools.product((False, True), repeat=2):
    yield _fed(
      code,
      'both_made/%s/%s'
      % ('fused' if fused else 'plain', 'if' if functional else 'cond'),
      functools.partial(_both_made, fused=fused),
      resource=fused,
      functional=functional,
    )
  # A summary looks on, and chooses nothing.
  yield _fed(
    code, 'both_made/watched', functools.partial(_both_made, watched=True)
  )
  # A flag of another kind: the layer is left out, not its batches.
  yield _fed(
    '', 'left_out_by_a_flag', functools.partial(_both_made, stored=False)
  )
  # The same place, and a decay that is 1 where it is not training.
  yield _fed('', 'updates_on_the_output/layers_fused', _layers_on_the_output)


def _ema_outside(x, training, decay):
  """Stack Overflow's recipe with apply() outside of tf.cond."""
  with tf.variable_scope('bn'):
    channels = x.shape[-1]
    beta = tf.get_variable('beta', channels)
    gamma = tf.get_variable('gamma', channels)
    mean, variance = tf.nn.moments(x, [0, 1, 2])
    average = tf.train.ExponentialMovingAverage(decay)
    apply_op = average.apply([mean, variance])

    def of_batch():
      with tf.control_dependencies([apply_op]):
        return tf.identity(mean), tf.identity(variance)

    used = tf.cond(
      training,
      of_batch,
      lambda: (
        tf.identity(average.average(mean)),
        tf.identity(average.average(variance)),
      ),
    )
    return tf.nn.batch_normalization(
      x, used[0], used[1], beta, gamma, parts.EPSILON
    ), []


def _assign_outside(x, training, decay, on_output=False):
  """tf.assign outside of tf.cond, as a dependency in it or of the result."""
  with tf.variable_scope('bn'):
    channels = x.shape[-1]
    stored = [
      tf.get_variable(name, channels, trainable=False, initializer=start())
      for name, start in (
        ('pop_mean', tf.zeros_initializer),
        ('pop_var', tf.ones_initializer),
      )
    ]
    beta = tf.get_variable('beta', channels)
    gamma = tf.get_variable('gamma', channels)
    batch = tf.nn.moments(x, [0, 1, 2])
    updates = [
      tf.assign(v, v * decay + b * (1 - decay)) for v, b in zip(stored, batch)
    ]

    def of_batch():
      with tf.control_dependencies([] if on_output else updates):
        return [tf.identity(b) for b in batch]

    used = tf.cond(training, of_batch, lambda: [tf.identity(v) for v in stored])
    with tf.control_dependencies(updates if on_output else []):
      return tf.nn.batch_normalization(
        x, used[0], used[1], beta, gamma, parts.EPSILON
      ), []


def _layers_on_the_output(x, training, decay):
  y, updates = parts.layers_norm(x, training, decay)
  with tf.control_dependencies(updates):
    return tf.identity(y), []


def _both_made(x, training, decay, fused=True, stored=True, watched=False):
  """One layer by the batch and one by what is stored, outside of tf.cond."""
  y, updates = parts.layers_norm(x, True, decay, fused=fused)
  with tf.control_dependencies(updates):
    y = tf.identity(y)
  if watched:
    tf.summary.histogram('normalised', y)
    tf.summary.scalar('sparsity', tf.nn.zero_fraction(y))
  other = x
  if stored:
    other, _ = parts.layers_norm(x, False, decay, fused=fused, reuse=True)
  return tf.cond(training, lambda: y, lambda: other), []


def _made_in_branches():
  """improved_wgan: moments and updates in one branch, all stored in the other.

  In training and in a graph that only evaluates.
  """
  for functional in (False, True):
    kind = 'if' if functional else 'cond'
    # An If takes no ref variables.
    for resource in (True,) if functional else (True, False):
      yield _fed(
        '',
        'in_branches/training/%s/%s'
        % (kind, 'resource' if resource else 'ref'),
        _hand_in_branches,
        resource=resource,
        functional=functional,
      )
    yield case(
      '', 'in_branches/evaluation/' + kind, _evaluated, functional=functional
    )


def _evaluated():
  x, _ = parts.images()
  logits, _ = parts.network(
    _hand_in_branches, x, parts.training_switch('placeholder'), widths=(4,)
  )
  tf.nn.softmax(logits)


def _hand_in_branches(x, training, decay):
  with tf.variable_scope('bn'):
    channels = x.shape[-1]
    beta, gamma = (tf.get_variable(n, channels) for n in ('beta', 'gamma'))
    stored = [
      tf.get_variable(name, channels, trainable=False)
      for name in ('pop_mean', 'pop_var')
    ]
    norm = lambda mean, variance: tf.nn.batch_normalization(
      x, mean, variance, beta, gamma, parts.EPSILON
    )

    def of_batch():
      batch = tf.nn.moments(x, [0, 1, 2])
      updates = [
        tf.assign(v, v * decay + b * (1 - decay)) for v, b in zip(stored, batch)
      ]
      with tf.control_dependencies(updates):
        return norm(*batch)

    return tf.cond(training, of_batch, lambda: norm(*stored)), []


# Checkpoints that are no numbers.


def _not_finite():
  """tensorflow/models #5066, tensorflow #14353: NaN, and negative variances."""

  def broken(part, value, initial=()):
    def make():
      values = parts.checkpoint(2000, initial=initial)
      name = min(n for n in values if 'block0' in n and n.endswith(part))
      values[name] = values[name].copy()
      values[name][1] = value
      return values

    return make

  code = 'statistics-not-finite'
  for codes, part, value in (
    (code, 'moving_variance', np.nan),
    (code, 'moving_variance', -1e-3),
    (code, 'moving_mean', np.inf),
    (code, 'moving_mean', np.nan),
    ('', 'moving_mean', -1e30),
    ('', 'moving_variance', 1e30),
    ('', 'moving_variance', 0.0),
    ('', 'kernel', np.nan),  # Its business are the statistics.
  ):
    yield case(
      codes,
      'values/%s/%g' % (part, value),
      train_and,
      norm=parts.LAYERS_FUSED,
      saver=tf.train.Saver,
      checkpoint=broken(part, value),
    )
  yield case(
    code,
    'frozen',
    train_and,
    norm=parts.LAYERS_FUSED,
    training='false',
    saver=tf.train.Saver,
    checkpoint=broken('moving_variance', np.nan),
  )


# Placeholders for the phase that nothing uses.


def _unused_flags():
  """rinuboney/ladder #3: a Python `if` on a placeholder."""
  code = 'training-flag-unused'
  for name in ('layers_fused', 'slim_plain', 'hand'):
    yield case(code, 'if/' + name, _with_flag, norm=parts.NORMS[name])
  yield _fed(code, 'tf_cond_that_nobody_reads', _chosen_for_nothing)
  yield case('', 'flag_for_dropout', _with_flag, use=True)
  yield case('', 'unused_rate', _with_flag, dtype=tf.float32)
  yield case('', 'unused_mask', _with_flag, shape=[parts.BATCH])


def _chosen_for_nothing(x, training, decay):
  y, updates = parts.layers_norm(x, True, decay)
  tf.cond(training, lambda: y, lambda: x)
  with tf.control_dependencies(updates):
    return tf.identity(y), []


def _with_flag(norm=parts.LAYERS_FUSED, use=False, dtype=tf.bool, shape=()):
  flag = tf.placeholder(dtype, shape, 'is_training')
  x, labels = parts.images()
  # What `if flag == True:` comes to.
  logits, updates = parts.network(norm, x, True, widths=(4,))
  if use:
    logits = tf.layers.dropout(logits, 0.5, training=flag)
  parts.around_minimize(
    parts.cross_entropy(logits, labels), updates, parts.OPTIMIZERS['sgd']()
  )


# Loops over time.


def _time_steps():
  """OlavHN/bnlstm #7: the statistics of all time steps in one variable."""
  code = 'statistics-shared-by-steps'
  for name in ('layers_plain', 'hand'):
    yield case(
      code, 'in_cell/' + name, _recurrent, norm=parts.NORMS[name], run=True
    )
  yield case(
    'updates-not-run',
    'in_cell/layers_plain',
    _recurrent,
    norm=parts.NORMS['layers_plain'],
    run=False,
  )
  yield case('', 'rnn/outside_of_the_cell', _recurrent, norm=None)


def _recurrent(norm, run=False):
  """A recurrent network by tf.while_loop, batch norm in its cell or after."""
  x = tf.placeholder(tf.float32, [7, parts.BATCH, 5])
  labels = tf.placeholder(tf.int32, [parts.BATCH])
  kernel = tf.get_variable('kernel', [5 + 6, 6])

  def cell(t, state):
    z = tf.matmul(tf.concat([x[t], state], 1), kernel)
    if norm:
      with tf.variable_scope('cell', reuse=tf.AUTO_REUSE):
        z, updates = norm(z, True, 0.9)
      with tf.control_dependencies(parts.flat([updates]) if run else []):
        z = tf.identity(z)
    return t + 1, tf.tanh(z)

  _, state = tf.while_loop(
    lambda t, _: t < 7, cell, (0, tf.zeros([parts.BATCH, 6]))
  )
  updates = []
  if not norm:
    state, updates = parts.LAYERS_PLAIN(state, True, 0.9)
  loss = parts.cross_entropy(tf.layers.dense(state, parts.CLASSES), labels)
  parts.around_minimize(loss, [updates], parts.OPTIMIZERS['adam']())


# One batch in parts.


def _towers_of_one_batch():
  """Towers whose updates all run: of parts of one batch it does no harm."""
  yield case('', 'towers/split', _towers, cut=lambda x: tf.split(x, 2))
  yield case(
    '',
    'towers/slices',
    _towers,
    cut=lambda x: [x[: parts.BATCH // 2], x[parts.BATCH // 2 :]],
  )
  # Two kinds of images are not two parts of one batch.
  yield case(
    'several-updates-a-step',
    'towers/with_noise',
    _towers,
    cut=lambda x: [x, x + tf.random.normal(x.shape)],
  )


def _towers(cut):
  x, labels = parts.images()
  optimizer = parts.OPTIMIZERS['momentum']()
  gradients, updates = [], []
  for k, part in enumerate(cut(x)):
    logits, ops = parts.network(parts.LAYERS_FUSED, part, True, reuse=k > 0)
    updates += ops
    gradients.append(
      optimizer.compute_gradients(
        parts.cross_entropy(logits, labels[: part.shape[0]])
      )
    )
  pairs = [
    (tf.add_n([g for g, _ in column]) / 2, column[0][1])
    for column in zip(*gradients)
  ]
  with tf.control_dependencies(parts.flat(updates)):
    optimizer.apply_gradients(pairs, tf.train.get_or_create_global_step())


# Losses.


def _mixtures():
  """An average of probabilities is one; what a layer makes of them is not."""
  yield case('', 'loss/attention_of_probabilities', _mixture, weights=False)
  yield case(
    'logits-as-probabilities', 'layer_of_probabilities', _mixture, weights=True
  )


def _mixture(weights):
  x = tf.placeholder(tf.float32, [parts.BATCH, 7, 12])
  labels = tf.placeholder(tf.float32, [parts.BATCH, 4])
  h = tf.layers.batch_normalization(tf.layers.dense(x, 8), training=True)
  each = tf.nn.softmax(tf.layers.dense(tf.nn.relu(h), 4))
  if weights:
    mixed = tf.layers.dense(tf.reduce_mean(each, 1), 4, use_bias=False)
  else:
    attention = tf.nn.softmax(tf.layers.dense(h, 1), 1)
    mixed = tf.squeeze(tf.matmul(attention, each, transpose_a=True), 1)
  loss = -tf.reduce_mean(tf.reduce_sum(labels * tf.log(mixed), 1))
  parts.around_minimize(
    loss,
    [tf.get_collection(tf.GraphKeys.UPDATE_OPS)],
    parts.OPTIMIZERS['adam'](),
  )


# Savers.


def _unsaved():
  """That a saver leaves out what nothing changes does no harm."""
  for name, norm, resource in corpus.styles(True, False, keras=False):
    yield case(
      _NEVER,
      'saver_of_trainable/' + name,
      train_and,
      norm=norm,
      training='false',
      resource=resource,
      saver=lambda: tf.train.Saver(tf.trainable_variables()),
    )
