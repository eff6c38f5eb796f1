"""Parts of other people's TensorFlow 1 training graphs, for doctor_corpus.py.

Nothing here uses this project's own layers. A batch norm is a function

  norm(x, training, decay) -> (normalised x, [update of mean, of variance])

with `training` True, False or a bool Tensor. What runs the updates is a
function (loss, updates of all calls, optimizer) -> train op.
"""

import contextlib
import functools

import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.python.training import moving_averages
import tf_keras
from tf_keras.src.layers.normalization import batch_normalization_v1

BATCH = 16
CLASSES = 3
EPSILON = 1e-3
OPTIMIZERS = {
  'momentum': lambda: tf.train.MomentumOptimizer(0.1, 0.9),
  'adam': lambda: tf.train.AdamOptimizer(1e-3),
  'sgd': lambda: tf.train.GradientDescentOptimizer(0.1),
  'nesterov': lambda: tf.train.MomentumOptimizer(0.1, 0.9, use_nesterov=True),
  'rmsprop': lambda: tf.train.RMSPropOptimizer(1e-3),
}


@contextlib.contextmanager
def switches(resource, functional):
  """Kind of variables, and of tf.cond and tf.while_loop, of what is built."""
  before = tf.resource_variables_enabled(), tf.control_flow_v2_enabled()
  _switch(resource, functional)
  try:
    yield
  finally:
    _switch(*before)


def _switch(resource, functional):
  (
    tf.enable_resource_variables if resource else tf.disable_resource_variables
  )()
  (tf.enable_control_flow_v2 if functional else tf.disable_control_flow_v2)()


# Inputs.


def images(batch=BATCH, source='placeholder', dtype=tf.float32):
  """([batch, 8, 8, 3] images, [batch] int32 labels)."""
  if source == 'placeholder':
    return (
      tf.placeholder(dtype, [batch, 8, 8, 3], name='images'),
      tf.placeholder(tf.int32, [batch], name='labels'),
    )
  if source == 'random':
    return (
      tf.random.uniform([batch, 8, 8, 3], dtype=dtype),
      tf.random.uniform([batch], maxval=CLASSES, dtype=tf.int32),
    )
  if source == 'dataset':
    data = tf.data.Dataset.from_tensors(
      (np.ones([8, 8, 3], np.float32), np.int32(1))
    ).repeat()
    data = data.batch(batch, drop_remainder=True)
    return tf.data.make_one_shot_iterator(data).get_next()
  queue = tf.FIFOQueue(100, [dtype, tf.int32], shapes=[[8, 8, 3], []])
  tf.train.add_queue_runner(
    tf.train.QueueRunner(
      queue, [queue.enqueue_many(images(batch, 'random', dtype))]
    )
  )
  return queue.dequeue_many(batch)


def training_switch(kind):
  """What is given to the layers as `training`."""
  if kind == 'placeholder':
    return tf.placeholder(tf.bool, [], name='training')
  if kind in ('default_false', 'default_true'):
    return tf.placeholder_with_default(kind == 'default_true', [], 'training')
  return {'true': True, 'false': False}[kind]


# Batch norms.


def _either(training, true_fn, false_fn):
  """tf.cond that is none where `training` is a Python bool."""
  if isinstance(training, bool):
    return true_fn() if training else false_fn()
  return tf.cond(training, true_fn, false_fn)


def layers_norm(x, training, decay, name='bn', **kwargs):
  """tf.layers.batch_normalization."""
  before = len(tf.get_collection(tf.GraphKeys.UPDATE_OPS))
  y = tf.layers.batch_normalization(
    x, training=training, momentum=decay, name=name, **kwargs
  )
  return y, tf.get_collection(tf.GraphKeys.UPDATE_OPS)[before:]


def _beta_and_gamma(channels):
  """What every layer by hand scales and shifts by."""
  return (
    tf.get_variable('beta', channels, initializer=tf.zeros_initializer()),
    tf.get_variable('gamma', channels, initializer=tf.ones_initializer()),
  )


def slim_norm(
  x, training, decay, fused=True, in_place=False, data_format='NHWC'
):
  """What slim.batch_norm builds; in_place: updates_collections=None.

  With a Tensor for `training` the updates are in a branch of their own cond,
  whose output is what UPDATE_OPS holds.
  """
  if x.shape.ndims != 4:
    fused = False
  channels = x.shape[-1 if data_format == 'NHWC' else 1]
  with tf.variable_scope('BatchNorm'):
    beta, gamma = _beta_and_gamma(channels)
    moving_mean = tf.get_variable(
      'moving_mean',
      channels,
      initializer=tf.zeros_initializer(),
      trainable=False,
    )
    moving_variance = tf.get_variable(
      'moving_variance',
      channels,
      initializer=tf.ones_initializer(),
      trainable=False,
    )
    if fused:
      outputs, mean, variance = _either(
        training,
        lambda: tf.nn.fused_batch_norm(
          x, gamma, beta, epsilon=EPSILON, data_format=data_format
        )[:3],
        lambda: tf.nn.fused_batch_norm(
          x,
          gamma,
          beta,
          moving_mean,
          moving_variance,
          EPSILON,
          data_format,
          is_training=False,
        )[:3],
      )
    elif training is False:
      mean, variance = moving_mean, moving_variance
    else:
      mean, variance = tf.nn.moments(x, list(range(x.shape.ndims - 1)))

    def update():
      return [
        tf.identity(
          moving_averages.assign_moving_average(
            variable, batch, decay, zero_debias=False
          )
        )
        for variable, batch in (
          (moving_mean, mean),
          (moving_variance, variance),
        )
      ]

    updates = []
    if training is True:
      updates = [
        moving_averages.assign_moving_average(
          variable, batch, decay, zero_debias=False
        )
        for variable, batch in (
          (moving_mean, mean),
          (moving_variance, variance),
        )
      ]
    elif training is not False:
      updates = tf.cond(
        training,
        update,
        lambda: [tf.identity(moving_mean), tf.identity(moving_variance)],
      )
    if not fused:
      if not isinstance(training, bool):
        mean, variance = tf.cond(
          training,
          lambda: (mean, variance),
          lambda: (tf.identity(moving_mean), tf.identity(moving_variance)),
        )
      with tf.control_dependencies(updates if in_place else []):
        outputs = tf.nn.batch_normalization(
          x, mean, variance, beta, gamma, EPSILON
        )
    elif in_place:
      with tf.control_dependencies(updates):
        outputs = tf.identity(outputs)
    if not in_place:
      for op in updates:
        tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, op)
    return outputs, updates


def keras_norm(x, training, decay, old=False, **kwargs):
  """A Keras layer in a TF1 graph: updates only in layer.updates.

  old: the class of tf.compat.v1.keras, else that of tf.keras of TensorFlow 2.
  """
  layer = (
    batch_normalization_v1.BatchNormalization
    if old
    else tf_keras.layers.BatchNormalization
  )(momentum=decay, **kwargs)
  y = layer(x, training=training)
  return y, list(layer.updates)


def _stored(channels, names):
  """Variables of a mean and a variance, at 0 and 1, in the current scope."""
  return [
    tf.get_variable(name, channels, initializer=initializer(), trainable=False)
    for name, initializer in zip(
      names, (tf.zeros_initializer, tf.ones_initializer)
    )
  ]


def hand_norm(
  x, training, decay, names=('pop_mean', 'pop_var'), form='sum', in_place=False
):
  """tf.nn.moments and tf.assign; nothing goes into UPDATE_OPS.

  form: how the update is written. 'pytorch' is 'sum' with the two factors
    the way PyTorch documents them, rate 1 - decay.
  """
  with tf.variable_scope('bn'):
    channels = x.shape[-1]
    beta, gamma = _beta_and_gamma(channels)
    stored = _stored(channels, names)
    if training is False:
      return tf.nn.batch_normalization(
        x, stored[0], stored[1], beta, gamma, EPSILON
      ), []
    batch = tf.nn.moments(x, list(range(x.shape.ndims - 1)))

    def update(variable, value):
      if form == 'sum':
        return tf.assign(variable, variable * decay + value * (1 - decay))
      if form == 'pytorch':
        momentum = 1 - decay
        return tf.assign(variable, (1 - momentum) * variable + momentum * value)
      if form == 'sub':
        return tf.assign_sub(variable, (1 - decay) * (variable - value))
      return tf.assign_add(variable, (value - variable) * (1 - decay))

    if training is True:
      updates = [update(*pair) for pair in zip(stored, batch)]
      used = batch
    else:
      updates = [
        tf.cond(
          training,
          lambda v=v, b=b: tf.identity(update(v, b)),
          lambda v=v: tf.identity(v),
        )
        for v, b in zip(stored, batch)
      ]
      used = tf.cond(
        training, lambda: list(batch), lambda: [tf.identity(v) for v in stored]
      )
    with tf.control_dependencies(updates if in_place else []):
      return tf.nn.batch_normalization(
        x, used[0], used[1], beta, gamma, EPSILON
      ), updates


def ema_norm(x, training, decay, apply_in_cond=True, num_updates=False):
  """The answer copied most: ExponentialMovingAverage of the two moments.

  The shadow variables start at 0 and 0. With apply_in_cond the average is
  applied in the training branch of the cond and needs no care; else by an op
  beside it, which is the update returned.
  """
  with tf.variable_scope('bn'):
    beta, gamma = _beta_and_gamma(x.shape[-1])
    mean, variance = tf.nn.moments(x, list(range(x.shape.ndims - 1)))
    average = tf.train.ExponentialMovingAverage(
      decay, tf.train.get_or_create_global_step() if num_updates else None
    )
    updates = [] if apply_in_cond else [average.apply([mean, variance])]

    def batch():
      ops = [average.apply([mean, variance])] if apply_in_cond else []
      with tf.control_dependencies(ops):
        return tf.identity(mean), tf.identity(variance)

    used = tf.cond(
      training,
      batch,
      lambda: (
        tf.identity(average.average(mean)),
        tf.identity(average.average(variance)),
      ),
    )
    return tf.nn.batch_normalization(
      x, used[0], used[1], beta, gamma, EPSILON
    ), updates


def copies_norm(x, training, decay):
  """Averages of variables that hold the moments of the last batch.

  As in ladder networks; the updates are the averages' alone, as the copies are
  made on the way.
  """
  with tf.variable_scope('bn'):
    beta, gamma = _beta_and_gamma(x.shape[-1])
    moments = tf.nn.moments(x, list(range(x.shape.ndims - 1)))
    last = [
      tf.get_variable(name, x.shape[-1:], trainable=False)
      for name in ('mean', 'variance')
    ]
    average = tf.train.ExponentialMovingAverage(decay)

    def batch():
      with tf.control_dependencies(
        [tf.assign(v, m) for v, m in zip(last, moments)]
      ):
        return tuple(tf.identity(m) for m in moments)

    updates = [average.apply(last)]
    mean, variance = tf.cond(
      training,
      batch,
      lambda: tuple(tf.identity(average.average(v)) for v in last),
    )
    y = tf.nn.batch_normalization(x, mean, variance, beta, gamma, EPSILON)
    return y, updates


def thrown_away_norm(x, training, decay):
  """Keras 2.2 in evaluation: the batch's for updates that nobody runs."""
  del training
  with tf.variable_scope('bn'):
    channels = x.shape[-1]
    beta, gamma = _beta_and_gamma(channels)
    stored = _stored(channels, ('moving_mean', 'moving_variance'))
    _, *batch = tf.nn.fused_batch_norm(x, gamma, beta, epsilon=EPSILON)
    for variable, statistic in zip(stored, batch):
      tf.assign_sub(variable, (variable - statistic) * (1 - decay))
    return tf.nn.fused_batch_norm(
      x, gamma, beta, *stored, epsilon=EPSILON, is_training=False
    )[0], []


def moments_norm(x, training, decay):
  """Batch statistics always, nothing stored."""
  del training, decay
  with tf.variable_scope('bn'):
    beta, gamma = _beta_and_gamma(x.shape[-1])
    mean, variance = tf.nn.moments(x, list(range(x.shape.ndims - 1)))
    return tf.nn.batch_normalization(
      x, mean, variance, beta, gamma, EPSILON
    ), []


def arithmetic_norm(x, training, decay):
  """moments_norm without the help of tf.nn, gamma and beta."""
  del training, decay
  axes = list(range(x.shape.ndims - 1))
  mean = tf.reduce_mean(x, axes, keepdims=True)
  variance = tf.reduce_mean(tf.square(x - mean), axes, keepdims=True)
  return (x - mean) * tf.rsqrt(variance + EPSILON), []


def fused_norm(x, training, decay):
  """The fused op by hand, its batch statistics thrown away."""
  del training, decay
  with tf.variable_scope('bn'):
    beta, gamma = _beta_and_gamma(x.shape[-1])
    return tf.nn.fused_batch_norm(x, gamma, beta, epsilon=EPSILON)[0], []


def in_branch(norm):
  """The user's own tf.cond around the whole layer (tensorflow #14699)."""

  def wrapped(x, training, decay):
    updates = []

    def train():
      y, ops = norm(x, True, decay)
      updates.extend(ops)
      return y

    def evaluate():
      with tf.variable_scope(tf.get_variable_scope(), reuse=True):
        return norm(x, False, decay)[0]

    return tf.cond(training, train, evaluate), updates

  return wrapped


LAYERS_FUSED = functools.partial(layers_norm, fused=True)
LAYERS_PLAIN = functools.partial(layers_norm, fused=False)
SLIM_FUSED = functools.partial(slim_norm, fused=True)
SLIM_PLAIN = functools.partial(slim_norm, fused=False)
KERAS_FUSED = functools.partial(keras_norm, fused=True)
KERAS_PLAIN = functools.partial(keras_norm, fused=False)
KERAS_OLD = functools.partial(keras_norm, old=True)
# Styles that can be called again under reuse, all with deferred updates.
NORMS = {
  'layers_fused': LAYERS_FUSED,
  'layers_plain': LAYERS_PLAIN,
  'slim_fused': SLIM_FUSED,
  'slim_plain': SLIM_PLAIN,
  'hand': hand_norm,
}
KERAS_NORMS = {
  'keras_fused': KERAS_FUSED,
  'keras_plain': KERAS_PLAIN,
  'keras_old': KERAS_OLD,
}
IN_PLACE = {
  'slim_fused': functools.partial(slim_norm, fused=True, in_place=True),
  'slim_plain': functools.partial(slim_norm, fused=False, in_place=True),
  'hand': functools.partial(hand_norm, in_place=True),
}


# Networks; each returns (output, updates of every call of a layer).


def body(norm, x, training, decay=0.99, scope='net', reuse=None, widths=(4, 6)):
  """Convolution, batch norm, ReLU for each width; [N, 8, 8, last] out."""
  updates = []
  with tf.variable_scope(scope, reuse=reuse):
    for i, width in enumerate(widths):
      with tf.variable_scope('block%d' % i):
        x = tf.layers.conv2d(
          x, width, 3, padding='same', use_bias=False, name='conv'
        )
        x, ops = norm(x, training, decay)
        updates.append(ops)
        x = tf.nn.relu(x)
  return x, updates


def network(
  norm, x, training, decay=0.99, scope='net', reuse=None, widths=(4, 6)
):
  """body, mean over the image, dense layer."""
  x, updates = body(norm, x, training, decay, scope, reuse, widths)
  with tf.variable_scope(scope, reuse=reuse):
    x = tf.layers.dense(tf.reduce_mean(x, [1, 2]), CLASSES, name='logits')
  return tf.cast(x, tf.float32), updates


def dense_network(
  norm, x, training, decay=0.99, scope='net', reuse=None, widths=(5,)
):
  """The same on flattened images."""
  updates = []
  x = tf.reshape(x, [-1 if x.shape[0] is None else x.shape[0], 8 * 8 * 3])
  with tf.variable_scope(scope, reuse=reuse):
    for i, width in enumerate(widths):
      with tf.variable_scope('block%d' % i):
        x = tf.layers.dense(x, width, use_bias=False, name='dense')
        x, ops = norm(x, training, decay)
        updates.append(ops)
        x = tf.nn.relu(x)
    return tf.layers.dense(x, CLASSES, name='logits'), updates


def cross_entropy(logits, labels):
  return tf.reduce_mean(
    tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
  )


# Ways to run the updates.


def flat(updates):
  return [getattr(op, 'op', op) for ops in updates for op in ops]


def alone(loss, updates, optimizer):
  """minimize and nothing else."""
  del updates
  return optimizer.minimize(loss, tf.train.get_or_create_global_step())


def around_minimize(loss, updates, optimizer):
  with tf.control_dependencies(flat(updates)):
    return alone(loss, updates, optimizer)


def around_gradients(loss, updates, optimizer):
  """Behind the gradients, outside of the optimizer."""
  pairs = [
    (g, v) for g, v in optimizer.compute_gradients(loss) if g is not None
  ]
  with tf.control_dependencies(flat(updates)):
    pairs = [(tf.identity(g), v) for g, v in pairs]
  return optimizer.apply_gradients(pairs, tf.train.get_or_create_global_step())


def grouped(loss, updates, optimizer):
  return tf.group(alone(loss, updates, optimizer), *flat(updates))


def create_train_op(loss, updates, optimizer):
  """What slim.learning.create_train_op does.

  The gradients do not wait for the updates: only the loss does, which the
  train op returns.
  """
  with tf.control_dependencies(flat(updates)):
    barrier = tf.no_op(name='update_barrier')
  with tf.control_dependencies([barrier]):
    loss = tf.identity(loss)
  apply_op = optimizer.apply_gradients(
    optimizer.compute_gradients(loss), tf.train.get_or_create_global_step()
  )
  with tf.name_scope('train_op'):
    with tf.control_dependencies([apply_op]):
      train_op = tf.identity(loss, 'control_dependency')
  tf.add_to_collection(tf.GraphKeys.TRAIN_OP, train_op)
  return train_op


def by_hook(loss, updates, optimizer):
  """tensorpack: a session hook fetches the group of updates each step."""
  tf.group(*flat(updates), name='update_ops')
  return alone(loss, updates, optimizer)


def constructed_inside(loss, updates, optimizer):
  """Only the constructor is under the dependencies (conGAN #1)."""
  kind = type(optimizer)
  with tf.control_dependencies(flat(updates)):
    optimizer = (
      kind(0.1, 0.9) if kind is tf.train.MomentumOptimizer else kind(0.1)
    )
  return alone(loss, updates, optimizer)


def wrong_scope(loss, updates, optimizer):
  """get_collection with a scope that is not that of the network."""
  del updates
  return around_minimize(
    loss,
    [tf.get_collection(tf.GraphKeys.UPDATE_OPS, scope='resnet_v1')],
    optimizer,
  )


def first_layer(loss, updates, optimizer):
  """The list was read before the last layer was there."""
  return around_minimize(loss, updates[:1], optimizer)


def scope_of_one(loss, updates, optimizer):
  """get_collection with the scope of one block."""
  del updates
  return around_minimize(
    loss,
    [tf.get_collection(tf.GraphKeys.UPDATE_OPS, scope='net/block1')],
    optimizer,
  )


def only_means(loss, updates, optimizer):
  return around_minimize(loss, [ops[:1] for ops in updates], optimizer)


def by_hand(loss, updates, optimizer):
  """Gradient descent by tf.assign_sub."""
  del optimizer
  variables = tf.trainable_variables()
  step = tf.train.get_or_create_global_step()
  with tf.control_dependencies(flat(updates)):
    ops = [
      tf.assign_sub(v, 0.1 * g)
      for v, g in zip(variables, tf.gradients(loss, variables))
    ]
  return tf.group(tf.assign_add(step, 1), *ops, name='sgd')


# What a checkpoint holds.

_MEANS = (
  'moving_mean',
  'pop_mean',
  'first',
  'Squeeze/ExponentialMovingAverage',
)
_VARIANCES = (
  'moving_variance',
  'pop_var',
  'second',
  'Squeeze_1/ExponentialMovingAverage',
)


def is_statistic(name):
  return name.endswith(_MEANS + _VARIANCES)


def checkpoint(steps, initial=(), without=()):
  """The tensors of a checkpoint of the default graph after `steps` steps.

  Args:
    steps: value of global_step; None: it is not there.
    initial: parts of names; statistics with one of them are still 0 and 1.
    without: parts of names; statistics with one of them are not there.
  Returns:
    {name: array}.
  """
  random = np.random.RandomState(0)
  tensors = {}
  for variable in tf.global_variables():
    name = variable.op.name
    shape = variable.shape.as_list()
    statistic = is_statistic(name)
    if statistic and any(part in name for part in without):
      continue
    value = np.zeros(shape, variable.dtype.base_dtype.as_numpy_dtype)
    if name == 'global_step':
      if steps is None:
        continue
      value += steps
    elif statistic and any(part in name for part in initial):
      value += name.endswith(_VARIANCES)
    elif name.endswith(_MEANS):
      value += 0.3 * random.standard_normal(shape)
    elif name.endswith(_VARIANCES):
      value += random.uniform(0.5, 2, shape)
    elif name.endswith('kernel'):
      value += 0.1 * random.standard_normal(shape)
    elif name.endswith('gamma'):
      value += 1
    tensors[name] = value
  return tensors
