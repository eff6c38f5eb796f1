"""What the static check can find: codes, severities, words. No TensorFlow."""

import json
from typing import NamedTuple
from typing import Tuple

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
    'layer.updates, or training=False to freeze',
  ),
  'updates-partly-run': Kind(
    ERROR,
    'the train op leaves out updates of some moving statistics',
    'those stay at their initial values, and spoil evaluation from their '
    'layer on',
    _UPDATE_OPS
    + '  # read the collection after all layers are built, without a scope',
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


class Finding(NamedTuple):
  """Something that the static check found.

  code: key of KINDS. ops, variables: names concerned.
  detail: the figures of this case, or ''.
  """

  code: str
  ops: Tuple[str, ...]
  variables: Tuple[str, ...]
  detail: str = ''

  @property
  def severity(self):
    return KINDS[self.code].severity

  def __str__(self):
    """Several lines: code and title, what is concerned, effect, mend."""
    kind = KINDS[self.code]
    lines = [
      '%s %s: %s' % (kind.severity, self.code, kind.title)
      + (' (%s)' % self.detail if self.detail else '')
    ]
    for label, names in (('ops', self.ops), ('variables', self.variables)):
      if names:
        lines.append('  %s: %s' % (label, listed(names)))
    return '\n'.join(
      lines + ['  effect: ' + kind.effect, '  mend: ' + kind.mend]
    )


def names(nodes):
  """Tuple of the names of graph_view Nodes, each once, in order."""
  return tuple(dict.fromkeys(node.name for node in nodes))


def of(code, nodes, variables, detail=''):
  """Finding from graph_view Nodes."""
  return Finding(code, names(nodes), names(variables), detail)


def listed(names, most=4):
  """The first names, and how many more there are."""
  shown = ', '.join(names[:most])
  return shown + (
    ' and %d more' % (len(names) - most) if len(names) > most else ''
  )


def to_json(report):
  """One line: what was checked, and the findings."""
  return json.dumps(
    dict(
      report.summary(),
      findings=[
        dict(
          code=f.code,
          ops=f.ops,
          variables=f.variables,
          detail=f.detail,
          **KINDS[f.code]._asdict(),
        )
        for f in report.findings
      ],
    )
  )
