"""Writes graphs as the TensorFlow that runs it writes them: an era's corpus.

  python tests/doctor/eras/make.py OUT_DIR [CASE ...]

Run it with TensorFlow 1.1 to 2.1 and Python 3.6 or 3.7; it needs nothing but
that TensorFlow, and Keras where there is one. It leaves
OUT_DIR/tensorflow-VERSION.tar.xz with a file a case: NAME.meta as
tf.train.Saver writes it, NAME.saved_model.pb, NAME.frozen.pb, NAME.pbtxt, and
of the cases that are trained NAME.ckpt.*. What the static check must say of
each stands beside the case: see codes().
"""

import io
import os
import sys
import tarfile
import tempfile

CASES = []
BATCH = 16


class Case(object):  # noqa: UP004
  """One graph.

  name: str. codes: of the findings that it deserves, a tuple.
  build: function of the tensorflow module that fills the default graph and
    returns the Saver, or None.
  first, last: versions that can build it, as tuples. kind: 'meta',
    'saved_model', 'frozen', 'pbtxt' or 'checkpoint'. keras: whether it needs
    Keras.
  """

  def __init__(self, name, codes, build, first, last, kind, keras):
    self.name = name
    self.codes = tuple(codes.split())
    self.build = build
    self.first = first
    self.last = last
    self.kind = kind
    self.keras = keras


def case(codes='', first=(1, 0), last=(9, 0), kind='meta', keras=False):
  """Adds a function to the CASES."""

  def add(build):
    CASES.append(Case(build.__name__, codes, build, first, last, kind, keras))
    return build

  return add


def codes(name):
  """The codes that a file of an archive deserves."""
  (found,) = [c for c in CASES if c.name == name]
  return set(found.codes)


# Parts.


def images(tf, batch=BATCH):
  x = tf.placeholder(tf.float32, [batch, 8, 8, 3], 'images')
  return x, tf.placeholder(tf.int32, [batch], 'labels')


def conv(tf, x, name, filters=4):
  with tf.variable_scope(name):
    kernel = tf.get_variable('kernel', [3, 3, int(x.get_shape()[-1]), filters])
    return tf.nn.conv2d(x, kernel, [1, 1, 1, 1], 'VALID')


def loss_of(tf, h, labels, name='head'):
  with tf.variable_scope(name):
    size = int(h.get_shape()[1] * h.get_shape()[2] * h.get_shape()[3])
    flat = tf.reshape(h, [-1, size])
    logits = tf.matmul(flat, tf.get_variable('w', [size, 3]))
  return tf.reduce_mean(
    tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
  )


def optimizer(tf):
  return tf.train.MomentumOptimizer(0.01, 0.9)


def step(tf):
  global_step = tf.Variable(0, trainable=False, name='global_step')
  tf.add_to_collection(tf.GraphKeys.GLOBAL_STEP, global_step)
  return global_step


def trained(tf, norm, run_updates=True, phase=True):
  """Two layers, a step with or without UPDATE_OPS, a Saver."""
  x, labels = images(tf)
  h = x
  for k in range(2):
    h = tf.nn.relu(norm(tf, conv(tf, h, 'conv%d' % k), phase, 'bn%d' % k))
  loss = loss_of(tf, h, labels)
  updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS) if run_updates else []
  with tf.control_dependencies(updates):
    optimizer(tf).minimize(loss, step(tf))
  return tf.train.Saver()


def exported(tf, norm, phase=False):
  """Two layers and an output."""
  h, _ = images(tf, None)
  for k in range(2):
    h = tf.nn.relu(norm(tf, conv(tf, h, 'conv%d' % k), phase, 'bn%d' % k))
  tf.identity(h, name='output')
  return tf.train.Saver()


def fed(tf):
  return tf.placeholder(tf.bool, [], 'phase')


def by_default(tf):
  return tf.placeholder_with_default(False, [], 'phase')


def constant(tf):
  return tf.constant(True)


def layers(tf, x, phase, name, **kwargs):
  return tf.layers.batch_normalization(
    x, training=phase, momentum=0.9, name=name, **kwargs
  )


def layers_plain(tf, x, phase, name):
  return layers(tf, x, phase, name, fused=False)


def contrib(tf, x, phase, name, **kwargs):
  return tf.contrib.layers.batch_norm(
    x, decay=0.9, scale=True, is_training=phase, scope=name, **kwargs
  )


def contrib_fused(tf, x, phase, name):
  return contrib(tf, x, phase, name, fused=True)


def contrib_in_place(tf, x, phase, name):
  return contrib(tf, x, phase, name, updates_collections=None)


def contrib_fused_in_place(tf, x, phase, name):
  return contrib(tf, x, phase, name, fused=True, updates_collections=None)


def contrib_debiased(tf, x, phase, name):
  return contrib(tf, x, phase, name, zero_debias_moving_mean=True)


def variables_by_hand(tf, x, name):
  channels = int(x.get_shape()[-1])
  with tf.variable_scope(name):
    beta = tf.get_variable(
      'beta', [channels], initializer=tf.constant_initializer(0.0)
    )
    gamma = tf.get_variable(
      'gamma', [channels], initializer=tf.constant_initializer(1.0)
    )
    stored = [
      tf.get_variable(
        n, [channels], initializer=tf.constant_initializer(v), trainable=False
      )
      for n, v in (('mean', 0.0), ('variance', 1.0))
    ]
  return beta, gamma, stored


def axes_of(x):
  return list(range(len(x.get_shape()) - 1))


def by_hand(tf, x, phase, name):
  """tf.nn.moments, tf.assign, tf.cond with the updates in its branch."""
  beta, gamma, stored = variables_by_hand(tf, x, name)

  def by_batch():
    batch = tf.nn.moments(x, axes_of(x))
    moved = [tf.assign(v, v * 0.9 + b * 0.1) for v, b in zip(stored, batch)]
    with tf.control_dependencies(moved):
      return [tf.identity(b) for b in batch]

  if phase is True:
    mean, variance = by_batch()
  elif phase is False:
    mean, variance = stored
  else:
    mean, variance = tf.cond(
      phase, by_batch, lambda: [tf.identity(v) for v in stored]
    )
  return tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-3)


def by_average(tf, x, phase, name, inside=True):
  """tf.train.ExponentialMovingAverage of the moments, inside tf.cond or not."""
  beta, gamma, _ = variables_by_hand(tf, x, name)
  mean, variance = tf.nn.moments(x, axes_of(x))
  average = tf.train.ExponentialMovingAverage(0.9)
  applied = None if inside else average.apply([mean, variance])

  def by_batch():
    waits = applied or average.apply([mean, variance])
    with tf.control_dependencies([waits]):
      return tf.identity(mean), tf.identity(variance)

  used = tf.cond(
    phase,
    by_batch,
    lambda: (
      tf.identity(average.average(mean)),
      tf.identity(average.average(variance)),
    ),
  )
  return tf.nn.batch_normalization(x, used[0], used[1], beta, gamma, 1e-3)


def by_average_outside(tf, x, phase, name):
  return by_average(tf, x, phase, name, inside=False)


def sums_by_hand(tf, x, phase, name):
  """Sums divided by a number; always by the batch."""
  beta, gamma, stored = variables_by_hand(tf, x, name)
  count = 1.0
  for k in axes_of(x):
    count *= int(x.get_shape()[k])
  mean = tf.reduce_sum(x, axes_of(x)) / count
  variance = tf.reduce_sum(tf.square(x - mean), axes_of(x)) / count
  for v, b in zip(stored, (mean, variance)):
    tf.add_to_collection(
      tf.GraphKeys.UPDATE_OPS, tf.assign_sub(v, (v - b) * 0.1)
    )
  return (x - mean) / tf.sqrt(variance + 1e-3) * gamma + beta


# Training as everybody does, and without the update ops.


def _trainings():
  norms = (
    (layers, (1, 3)),
    (layers_plain, (1, 3)),
    (contrib, (1, 0)),
    (contrib_fused, (1, 3)),
    (contrib_debiased, (1, 0)),
    (sums_by_hand, (1, 0)),
  )
  phases = (('true', lambda tf: True), ('fed', fed), ('constant', constant))
  for norm, first in norms:
    last = (1, 99) if norm.__name__.startswith('contrib') else (9, 0)
    for phase_name, phase in phases:
      if norm is sums_by_hand and phase_name != 'true':
        continue
      for run in (True, False):

        def build(tf, norm=norm, phase=phase, run=run):
          return trained(tf, norm, run, phase(tf))

        build.__name__ = '%s_%s_%s' % (
          norm.__name__, phase_name, 'run' if run else 'not_run'
        )  # fmt: skip
        case('' if run else 'updates-not-run', first, last)(build)


_trainings()


@case(last=(1, 99))
def in_place_true(tf):
  return trained(tf, contrib_in_place, False)


@case(last=(1, 99))
def in_place_fed(tf):
  return trained(tf, contrib_in_place, False, fed(tf))


@case(first=(1, 3), last=(1, 99))
def in_place_fused_fed(tf):
  return trained(tf, contrib_fused_in_place, False, fed(tf))


@case()
def by_hand_fed(tf):
  return trained(tf, by_hand, False, fed(tf))


@case()
def average_in_cond(tf):
  return trained(tf, by_average, False, fed(tf))


@case('updates-in-evaluation')
def average_outside_of_cond(tf):
  return trained(tf, by_average_outside, False, fed(tf))


@case('never-by-batch', first=(1, 3))
def flag_forgotten(tf):
  return trained(tf, layers, True, False)


@case('never-by-batch', last=(1, 99))
def flag_forgotten_contrib(tf):
  return trained(tf, contrib, True, False)


@case('updates-not-run', first=(1, 3))
def phase_by_default_false(tf):
  """Whoever feeds it misses the updates; and who does not, all of it."""
  return trained(tf, layers, False, by_default(tf))


@case(first=(1, 3))
def phase_by_default_false_updated(tf):
  return trained(tf, layers, True, by_default(tf))


@case(first=(1, 3))
def phase_of_a_variable(tf):
  phase = tf.get_variable(
    'phase', [], tf.bool, tf.constant_initializer(True), trainable=False
  )
  return trained(tf, layers, True, phase)


@case('statistics-not-saved', first=(1, 3))
def saver_of_trainable(tf):
  trained(tf, layers)
  return tf.train.Saver(tf.trainable_variables())


@case('frozen-or-forgotten', first=(1, 3))
def frozen_beneath(tf):
  """Fine-tuning: the lower layer restored and frozen, gamma trained."""
  x, labels = images(tf)
  h = tf.nn.relu(layers_plain(tf, conv(tf, x, 'conv0'), False, 'bn0'))
  restored = tf.train.Saver(tf.global_variables(), name='restored')
  h = tf.nn.relu(layers_plain(tf, conv(tf, h, 'conv1'), True, 'bn1'))
  loss = loss_of(tf, h, labels)
  with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
    optimizer(tf).minimize(loss, step(tf))
  del restored
  return tf.train.Saver()


@case('decay-like-pytorch', first=(1, 3))
def decay_of_pytorch(tf):
  return trained(
    tf,
    lambda tf, x, phase, name: tf.layers.batch_normalization(
      x, training=phase, momentum=0.1, name=name
    ),
  )


@case('several-updates-a-step', first=(1, 3))
def discriminator_twice(tf):
  """Real and generated images through one network, apart."""
  x, _ = images(tf)
  fake = tf.sigmoid(
    conv(tf, tf.random_normal([BATCH, 10, 10, 3]), 'generator', 3)
  )
  losses = []
  for inputs, label, reuse in ((x, 1, None), (fake, 0, True)):
    with tf.variable_scope('discriminator', reuse=reuse):
      h = tf.nn.relu(layers(tf, conv(tf, inputs, 'conv'), True, 'bn'))
      losses.append(loss_of(tf, h, tf.constant([label] * BATCH)))
  with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
    optimizer(tf).minimize(tf.add_n(losses), step(tf))
  return tf.train.Saver()


def towers(tf, norm, which):
  """Two towers of one batch, as for two GPUs; updates of `which`."""
  x, labels = images(tf, 2 * BATCH)
  parts = zip(tf.split(x, 2, 0), tf.split(labels, 2, 0))
  gradients, opt = [], optimizer(tf)
  for k, (part, part_labels) in enumerate(parts):
    with tf.variable_scope('net', reuse=k > 0 or None):
      h = tf.nn.relu(norm(tf, conv(tf, part, 'conv'), True, 'bn'))
      loss = loss_of(tf, h, part_labels)
    gradients.append(opt.compute_gradients(loss))
    if k == 0:
      first = list(tf.get_collection(tf.GraphKeys.UPDATE_OPS))
  mean = [
    (tf.add_n([g for g, _ in pair]) / 2.0, pair[0][1])
    for pair in zip(*gradients)
  ]
  updates = first if which == 'first' else tf.get_collection(
    tf.GraphKeys.UPDATE_OPS
  )  # fmt: skip
  with tf.control_dependencies(updates if which else []):
    opt.apply_gradients(mean, step(tf))
  return tf.train.Saver()


@case(first=(1, 3))
def towers_first_updates(tf):
  return towers(tf, layers, 'first')


@case(first=(1, 3))
def towers_all_update(tf):
  return towers(tf, layers, 'all')


@case('updates-not-run', first=(1, 3))
def towers_without_updates(tf):
  return towers(tf, layers, '')


@case(first=(1, 3))
def domains_with_their_own(tf):
  """Shared gamma and beta, statistics of each domain, all updated."""
  x, labels = images(tf)
  beta, gamma, _ = variables_by_hand(tf, conv(tf, x, 'probe'), 'shared')
  losses = []
  for domain in ('photo', 'sketch'):
    inputs = tf.placeholder(tf.float32, [BATCH, 8, 8, 3], domain)
    with tf.variable_scope('net', reuse=domain == 'sketch' or None):
      h = conv(tf, inputs, 'conv')
    batch = tf.nn.moments(h, axes_of(h))
    _, _, stored = variables_by_hand(tf, h, domain)
    for v, b in zip(stored, batch):
      tf.add_to_collection(
        tf.GraphKeys.UPDATE_OPS, tf.assign(v, v * 0.9 + b * 0.1)
      )
    y = tf.nn.batch_normalization(h, batch[0], batch[1], beta, gamma, 1e-3)
    with tf.variable_scope('top', reuse=domain == 'sketch' or None):
      losses.append(loss_of(tf, tf.nn.relu(y), labels))
  with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
    optimizer(tf).minimize(tf.add_n(losses), step(tf))
  return tf.train.Saver()


# Slim, as its users write it.


def slim_network(tf, x, phase, collections):
  slim = tf.contrib.slim
  settings = {'is_training': phase, 'decay': 0.9}
  if collections is None:
    settings['updates_collections'] = None
  with slim.arg_scope(
    [slim.conv2d],
    normalizer_fn=slim.batch_norm,
    normalizer_params=settings,
    weights_regularizer=slim.l2_regularizer(1e-4),
  ):
    h = slim.conv2d(x, 4, [3, 3], padding='VALID', scope='conv0')
    return slim.conv2d(h, 4, [3, 3], padding='VALID', scope='conv1')


@case(last=(1, 99))
def slim_create_train_op(tf):
  x, labels = images(tf)
  loss = loss_of(tf, slim_network(tf, x, True, 'default'), labels)
  step(tf)
  tf.contrib.slim.learning.create_train_op(loss, optimizer(tf))
  return tf.train.Saver()


@case('updates-not-run', last=(1, 99))
def slim_minimize(tf):
  x, labels = images(tf)
  loss = loss_of(tf, slim_network(tf, x, True, 'default'), labels)
  optimizer(tf).minimize(loss, step(tf))
  return tf.train.Saver()


@case(last=(1, 99))
def slim_in_place(tf):
  x, labels = images(tf)
  loss = loss_of(tf, slim_network(tf, x, fed(tf), None), labels)
  optimizer(tf).minimize(loss, step(tf))
  return tf.train.Saver()


@case(last=(1, 99))
def slim_average_of_weights(tf):
  """Averages of all trained variables beside, as Inception's training has."""
  x, labels = images(tf)
  loss = loss_of(tf, slim_network(tf, x, True, 'default'), labels)
  global_step = step(tf)
  with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
    apply_op = optimizer(tf).minimize(loss, global_step)
  average = tf.train.ExponentialMovingAverage(0.999, global_step)
  averaged = average.apply(tf.trainable_variables())
  with tf.control_dependencies([apply_op, averaged]):
    tf.no_op(name='train')
  return tf.train.Saver()


@case(last=(1, 99), first=(1, 8))
def fake_quantisation(tf):
  """contrib.quantize: layers folded into the convolutions before them."""
  x, labels = images(tf)
  h = tf.contrib.layers.conv2d(
    x, 4, 3, normalizer_fn=tf.contrib.layers.batch_norm,
    normalizer_params={'is_training': True, 'fused': True, 'decay': 0.9},
    activation_fn=tf.nn.relu6,
  )  # fmt: skip
  loss = loss_of(tf, h, labels)
  tf.contrib.quantize.create_training_graph(quant_delay=0)
  with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
    optimizer(tf).minimize(loss, step(tf))
  return tf.train.Saver()


# Recurrent cells.


def recurrent(tf, normalise, run_updates=True, share=True):
  """Three time steps of a cell with a layer in it, unrolled."""
  x = tf.placeholder(tf.float32, [BATCH, 3, 6], 'sequence')
  labels = tf.placeholder(tf.int32, [BATCH], 'labels')
  state = tf.zeros([BATCH, 5])
  for k in range(3):
    scope = 'cell' if share else 'cell%d' % k
    with tf.variable_scope('weights', reuse=k > 0 or None):
      w = tf.get_variable('w', [6, 5])
      u = tf.get_variable('u', [5, 5])
    with tf.variable_scope('norms', reuse=(k > 0 and share) or None):
      inputs = normalise(tf, tf.matmul(x[:, k], w), True, scope)
    state = tf.tanh(inputs + tf.matmul(state, u))
  loss = loss_of(tf, tf.reshape(state, [BATCH, 1, 1, 5]), labels)
  updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS) if run_updates else []
  with tf.control_dependencies(updates):
    optimizer(tf).minimize(loss, step(tf))
  return tf.train.Saver()


@case('several-updates-a-step', first=(1, 3))
def cell_with_shared_statistics(tf):
  return recurrent(tf, layers)


@case(first=(1, 3))
def cell_with_statistics_a_step(tf):
  return recurrent(tf, layers, share=False)


# Without a step: evaluation and export.


@case(first=(1, 3))
def export_by_stored(tf):
  return exported(tf, layers, False)


@case(first=(1, 3))
def export_by_stored_plain(tf):
  return exported(tf, layers_plain, False)


@case('evaluation-by-batch-statistics', first=(1, 3))
def export_by_batch(tf):
  return exported(tf, layers, True)


@case('evaluation-by-batch-statistics', first=(1, 3))
def export_by_batch_plain(tf):
  return exported(tf, layers_plain, True)


@case('evaluation-by-batch-statistics')
def export_by_batch_by_hand(tf):
  return exported(tf, by_hand, True)


@case(first=(1, 3))
def export_with_a_phase(tf):
  return exported(tf, layers, by_default(tf))


@case(first=(1, 3), kind='saved_model')
def saved_by_stored(tf):
  return exported(tf, layers, False)


@case('evaluation-by-batch-statistics', first=(1, 3), kind='saved_model')
def saved_by_batch(tf):
  return exported(tf, layers, True)


@case(first=(1, 3), kind='frozen')
def frozen_by_stored(tf):
  return exported(tf, layers, False)


@case('evaluation-by-batch-statistics', first=(1, 3), kind='frozen')
def frozen_by_batch(tf):
  return exported(tf, layers_plain, True)


@case('evaluation-by-batch-statistics', kind='frozen')
def frozen_by_batch_by_hand(tf):
  return exported(tf, by_hand, True)


@case('evaluation-by-batch-statistics', first=(1, 3), kind='pbtxt')
def text_by_batch(tf):
  return exported(tf, layers, True)


@case(first=(1, 3), kind='pbtxt')
def text_by_stored(tf):
  return exported(tf, layers_plain, False)


def decoder(tf, phase):
  z = tf.placeholder(tf.float32, [None, 5], 'z')
  with tf.variable_scope('decoder'):
    h = tf.matmul(z, tf.get_variable('w', [5, 64]))
    h = tf.reshape(h, [-1, 4, 4, 4])
    h = tf.nn.relu(layers(tf, h, phase, 'bn'))
    kernel = tf.get_variable('kernel', [3, 3, 3, 4])
    size = tf.stack([tf.shape(h)[0], 8, 8, 3])
    tf.tanh(tf.nn.conv2d_transpose(h, kernel, size, [1, 2, 2, 1]))
  return tf.train.Saver()


@case(first=(1, 3))
def decoder_by_stored(tf):
  return decoder(tf, False)


@case('evaluation-by-batch-statistics', first=(1, 3))
def decoder_by_batch(tf):
  return decoder(tf, True)


@case('evaluation-by-batch-statistics', first=(1, 3))
def attack(tf):
  """The gradient of the images, by layers in training mode."""
  x, labels = images(tf)
  h = tf.nn.relu(layers(tf, conv(tf, x, 'conv'), True, 'bn'))
  loss = loss_of(tf, h, labels)
  x + 0.1 * tf.sign(tf.gradients(loss, x)[0])
  return tf.train.Saver()


# tf.keras and Keras.


@case('updates-not-run', first=(1, 4))
def tf_keras_layer(tf):
  """Updates are in layer.updates alone, which nobody runs."""
  x, labels = images(tf)
  layer = tf.keras.layers.BatchNormalization(momentum=0.9)
  h = tf.nn.relu(layer(conv(tf, x, 'conv'), training=True))
  optimizer(tf).minimize(loss_of(tf, h, labels), step(tf))
  return tf.train.Saver()


@case(first=(1, 4))
def tf_keras_layer_updated(tf):
  x, labels = images(tf)
  layer = tf.keras.layers.BatchNormalization(momentum=0.9)
  h = tf.nn.relu(layer(conv(tf, x, 'conv'), training=True))
  loss = loss_of(tf, h, labels)
  with tf.control_dependencies(layer.updates):
    optimizer(tf).minimize(loss, step(tf))
  return tf.train.Saver()


def keras_model(keras, compiled=True):
  model = keras.models.Sequential([
    keras.layers.Conv2D(4, 3, input_shape=(8, 8, 3)),
    keras.layers.BatchNormalization(momentum=0.9),
    keras.layers.Activation('relu'),
    keras.layers.Flatten(),
    keras.layers.Dense(3, activation='softmax'),
  ])  # fmt: skip
  if compiled:
    model.compile('sgd', 'categorical_crossentropy')
    maker = getattr(model, '_make_train_function', None)
    if maker is None:
      model.model._make_train_function()
    else:
      maker()
  return model


@case(first=(1, 8), last=(1, 99))
def tf_keras_compiled(tf):
  keras_model(tf.keras)
  return tf.train.Saver()


@case(first=(1, 4))
def tf_keras_export(tf):
  keras_model(tf.keras, compiled=False)
  return tf.train.Saver()


@case(keras=True)
def keras_compiled(tf):
  import keras

  keras_model(keras)
  return tf.train.Saver()


@case(keras=True)
def keras_export(tf):
  import keras

  keras_model(keras, compiled=False)
  return tf.train.Saver()


@case(keras=True)
def keras_phase_one(tf):
  """K.set_learning_phase(1) before the model is built."""
  import keras

  keras.backend.set_learning_phase(1)
  keras_model(keras)
  return tf.train.Saver()


@case('evaluation-by-batch-statistics', keras=True)
def keras_export_phase_one(tf):
  import keras

  keras.backend.set_learning_phase(1)
  keras_model(keras, compiled=False)
  return tf.train.Saver()


# Trained for some steps, with their checkpoint.


@case(first=(1, 3), kind='checkpoint')
def trained_well(tf):
  return trained(tf, layers)


@case('updates-not-run', first=(1, 3), kind='checkpoint')
def trained_without_updates(tf):
  return trained(tf, layers, run_updates=False)


@case('never-by-batch', first=(1, 3), kind='checkpoint')
def trained_flag_forgotten(tf):
  return trained(tf, layers, True, False)


# Writing.


def write(tf, found, folder):
  """The files of a case; {name: bytes}."""
  graph = tf.get_default_graph()
  saver = found.build(tf)
  if found.kind == 'meta':
    path = os.path.join(folder, found.name + '.meta')
    tf.train.export_meta_graph(path, saver_def=saver.as_saver_def())
    return [path]
  if found.kind == 'pbtxt':
    tf.train.write_graph(graph.as_graph_def(), folder, found.name + '.pbtxt')
    return [os.path.join(folder, found.name + '.pbtxt')]
  with tf.Session() as session:
    session.run(tf.global_variables_initializer())
    if found.kind == 'frozen':
      frozen = tf.graph_util.convert_variables_to_constants(
        session, graph.as_graph_def(), ['output']
      )
      tf.train.write_graph(frozen, folder, found.name + '.frozen.pb', False)
      return [os.path.join(folder, found.name + '.frozen.pb')]
    if found.kind == 'saved_model':
      out = os.path.join(folder, found.name)
      builder = tf.saved_model.builder.SavedModelBuilder(out)
      builder.add_meta_graph_and_variables(
        session, [tf.saved_model.tag_constants.SERVING]
      )
      builder.save()
      path = os.path.join(folder, found.name + '.saved_model.pb')
      os.rename(os.path.join(out, 'saved_model.pb'), path)
      return [path]
    train_op = tf.get_collection(tf.GraphKeys.TRAIN_OP)[0]
    for k in range(60):
      session.run(train_op, batch_of(graph, k))
    prefix = saver.save(
      session, os.path.join(folder, found.name + '.ckpt'), write_state=False
    )
    return [
      os.path.join(folder, name)
      for name in sorted(os.listdir(folder))
      if name.startswith(os.path.basename(prefix))
    ]


def batch_of(graph, seed):
  import numpy

  random = numpy.random.RandomState(seed)
  return {
    graph.get_tensor_by_name('images:0'): random.normal(2, 3, (BATCH, 8, 8, 3)),
    graph.get_tensor_by_name('labels:0'): random.randint(0, 3, BATCH),
  }


def module():
  """TensorFlow as its version 1."""
  import tensorflow as tf

  if tf.__version__.startswith('2'):
    tf = tf.compat.v1
    tf.disable_v2_behavior()
  return tf


def main():
  import warnings

  warnings.simplefilter('ignore')
  out, wanted = sys.argv[1], sys.argv[2:]
  tf = module()
  tf.logging.set_verbosity(tf.logging.ERROR)
  version = tuple(int(n) for n in tf.__version__.split('.')[:2])
  try:
    import keras  # noqa: F401

    has_keras = True
  except ImportError:
    has_keras = False
  with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(out, 'tensorflow-%s.tar.xz' % tf.__version__)
    with tarfile.open(path, 'w:xz') as archive:
      for found in CASES:
        if not found.first <= version <= found.last:
          continue
        if (
          found.keras and not has_keras or wanted and (found.name not in wanted)
        ):
          continue
        print(found.name)
        sys.stdout.flush()
        with tf.Graph().as_default():
          tf.set_random_seed(1)
          paths = write(tf, found, folder)
        for one in paths:
          with open(one, 'rb') as f:
            data = f.read()
          info = tarfile.TarInfo(os.path.basename(one))
          info.size = len(data)
          archive.addfile(info, io.BytesIO(data))


if __name__ == '__main__':
  main()
