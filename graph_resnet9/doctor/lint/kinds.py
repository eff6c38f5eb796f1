"""What each code of the static check means: severity and words. A table."""

from typing import NamedTuple

ERROR = 'error'
WARNING = 'warning'


class Kind(NamedTuple):
  """What a code means.

  severity: ERROR, what is trained or evaluated is wrong; or WARNING, it may be.
  title: what is wrong. effect: what the user sees. mend: the line that helps.
  """

  severity: str
  title: str
  effect: str
  mend: str


# Of both codes for updates that no step runs.
_UPDATE_OPS = (
  'with tf.control_dependencies(tf.get_collection(tf.GraphKeys.'
  'UPDATE_OPS)): train_op = optimizer.minimize(loss, global_step)'
)

KINDS = {
  'updates-not-run': Kind(
    ERROR,
    'the train op runs none of the updates of moving statistics',
    'they stay at their initial values, and evaluation with them is near '
    'chance however well training goes',
    _UPDATE_OPS
    + '  # minimize() inside, after all layers are built. The updates of '
    'tf.keras layers and of trainable=False are in no collection: '
    'layer.updates, or training=False to freeze. If session.run fetches the '
    'updates beside the train op, say so: --train_op=NAME,NAME',
  ),
  'updates-partly-run': Kind(
    ERROR,
    'the train op leaves out updates of some moving statistics',
    'those stay at their initial values, and spoil evaluation from their '
    'layer on',
    _UPDATE_OPS
    + '  # read the collection after all layers are built, without a scope',
  ),
  'updates-by-fetch': Kind(
    WARNING,
    'updates of moving statistics run only with the loss, not in the train op',
    'a gradient does not need the value of its loss: a session.run of the '
    'train op alone leaves the statistics as they are',
    _UPDATE_OPS,
  ),
  'updates-in-cond': Kind(
    ERROR,
    'the train op depends on update ops inside a branch of tf.cond',
    'a step in which the branch is not taken silently trains nothing',
    'y = tf.layers.batch_normalization(x, training=is_training)'
    '  # a bool tensor, instead of a tf.cond around the network',
  ),
  'no-updates': Kind(
    ERROR,
    'normalised by batch statistics, of which nothing in the graph '
    'keeps a moving average',
    'evaluation has no statistics to use but initial or old ones',
    'tf.layers.batch_normalization(x, training=True, trainable=True) and '
    'its update ops; training=False if the layer is to stay frozen',
  ),
  'frozen-or-forgotten': Kind(
    WARNING,
    'gamma and beta are trained, and no step normalises by the batch',
    'unless the statistics come from another training, nothing is ever '
    'normalised: the stored mean 0 and variance 1 stay as they are',
    'tf.layers.batch_normalization(x, training=True) and its update ops '
    '(training=False is the default); if the layer is frozen on purpose, '
    'give the checkpoint, too: it tells one from the other',
  ),
  'frozen-by-batch': Kind(
    WARNING,
    'frozen layers normalise by the batch where a phase is fed',
    'gamma and beta are not trained and no step runs the updates, but training '
    'goes by the batch and evaluation by what is stored: Keras feeds its phase '
    'in fit(), whatever `trainable` says',
    'layer(x, training=False)  # or tf.layers.batch_normalization(x, training='
    'False); trainable=False alone does not freeze statistics in TensorFlow 1',
  ),
  'training-flag-unused': Kind(
    WARNING,
    'a bool placeholder beside batch normalisation is used by nothing',
    'feeding it changes nothing: training and evaluation normalise alike, as '
    'a Python `if` decided when the graph was built',
    'tf.layers.batch_normalization(x, training=is_training), or '
    'tf.cond(is_training, ...)  # not if is_training:',
  ),
  'updates-in-evaluation': Kind(
    ERROR,
    'moving statistics are updated in evaluation, too',
    'what is evaluated leaks into the statistics, and results depend on the '
    'order of evaluations: a control dependency in a branch of tf.cond runs '
    'an op outside of it whichever branch is taken',
    'make the update inside the branch: tf.cond(is_training, lambda: '
    '(update ops made here, then the mean and variance), ...)',
  ),
  'statistics-shared-by-steps': Kind(
    WARNING,
    'a layer in a loop has one set of moving statistics for all iterations',
    'where iterations (time steps) differ, as those after the first of a '
    'recurrent network do, no input was ever normalised like that in training',
    'a set of statistics for each of the first time steps (Cooijmans 2016, '
    'arXiv 1603.09025, section 3), or layer normalisation',
  ),
  'several-updates-a-step': Kind(
    WARNING,
    'a shared layer updates its moving statistics at every call',
    'they mix the inputs of all calls (and ref variables lose updates to '
    'each other): if the calls get different kinds of inputs, no input was '
    'ever normalised like that in training',
    'update_ops = tf.get_collection(tf.GraphKeys.UPDATE_OPS)'
    '  # after the first call only; or call once on tf.concat(inputs, 0)',
  ),
  'statistics-not-saved': Kind(
    ERROR,
    'the saver does not save the moving statistics',
    'who restores the checkpoint evaluates with initial ones',
    'saver = tf.train.Saver()  # all variables, not tf.trainable_variables()',
  ),
  'checkpoint-lacks-statistics': Kind(
    ERROR,
    'the checkpoint has no moving statistics for these layers',
    'restoring fails, or leaves them at their initial values',
    'save with tf.train.Saver() of all variables, or compute them: '
    'python -m graph_resnet9.recalibrate',
  ),
  'statistics-still-initial': Kind(
    ERROR,
    'the moving statistics in the checkpoint are exactly 0 and 1',
    'evaluation with them is near chance',
    'python -m graph_resnet9.recalibrate  # and look at how the checkpoint '
    'came about: this graph does update them',
  ),
  'statistics-not-finite': Kind(
    ERROR,
    'moving statistics in the checkpoint are not finite, or a variance is '
    'negative',
    'every answer by them is not a number, or a wild one',
    'find the first step whose batch was not finite, or of one value (or '
    'ref variables whose updates race), and go on from a checkpoint before '
    'it; python -m graph_resnet9.recalibrate where only the statistics are hit',
  ),
  'never-by-batch': Kind(
    ERROR,
    'every step normalises by moving statistics that are still 0 and 1',
    'gamma and beta are trained, and nothing is ever normalised; '
    'recalibrating would feed the network what it has never seen',
    'tf.layers.batch_normalization(x, training=True), or feed or set the '
    'phase to True in training; run the update ops, and train again',
  ),
  'evaluation-by-batch-statistics': Kind(
    ERROR,
    'a graph that does not train normalises by batch statistics',
    'an answer depends on the other examples of its batch, and a batch of '
    'one has none',
    'tf.layers.batch_normalization(x, training=False)  # or restore the '
    'checkpoint into a graph built so',
  ),
  'single-example': Kind(
    ERROR,
    'batch statistics of a single example',
    'in training every example is normalised to itself; evaluation with '
    'moving statistics is another function',
    'use a larger batch; or normalise by what one example has, as group '
    'normalisation does, in training and evaluation alike',
  ),
  'few-values': Kind(
    WARNING,
    'batch statistics of very few values',
    'they are noise, which training learns to live with and evaluation '
    'does not have',
    'use a larger batch',
  ),
  'gamma-not-channels': Kind(
    ERROR,
    'the normalised axis is not that of the channels',
    'rows or columns of the image are normalised instead, each with a '
    'gamma of its own',
    'tf.layers.batch_normalization(x, axis=-1)  # 1 is for NCHW only',
  ),
  'decay-like-pytorch': Kind(
    WARNING,
    "a decay that looks like PyTorch's momentum",
    'the moving statistics are little more than those of the last batch: '
    "PyTorch's momentum is the weight of the new batch, TensorFlow's that "
    'of the past',
    'momentum=0.9  # instead of 0.1',
  ),
  'decay-too-slow': Kind(
    WARNING,
    'the decay is too slow for the steps taken',
    'the moving statistics are still partly their initial values',
    'momentum=0.9  # or more steps; or python -m graph_resnet9.recalibrate',
  ),
  'softmax-twice': Kind(
    ERROR,
    'a loss that expects logits gets probabilities',
    'the loss is squeezed into a small range (for softmax of ten classes '
    '1.46 to 2.46) and hardly trains',
    'loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)'
    '  # before the softmax or sigmoid',
  ),
  'logits-as-probabilities': Kind(
    ERROR,
    'a logarithm that expects probabilities gets logits',
    'the loss is not a number, or stuck where logits are clipped',
    'loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)'
    '  # or softmax or sigmoid first',
  ),
  'no-train-op': Kind(
    WARNING,
    'there are gradients, but no op that applies them',
    'whether a step runs the updates of moving statistics cannot be told',
    "--train_op=NAME  # or tf.add_to_collection('train_op', train_op)",
  ),
}
