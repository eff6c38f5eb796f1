"""The flags of lint, diagnose and recalibrate; config.py reads them."""

from absl import flags

flags.disclaim_key_flags()  # They are the command's: its --help lists them.


def define_lint_flags(flag_values=flags.FLAGS):
  """The flags of graph_resnet9.lint."""
  flags.DEFINE_string(
    'meta_graph',
    None,
    'The .meta file of a graph, as tf.train.Saver writes '
    'it beside a checkpoint; or a SavedModel, its directory or the file '
    'saved_model.pb in it.',
    flag_values=flag_values,
    required=True,
  )
  flags.DEFINE_list(
    'train_op',
    [],
    'Names of the ops that a step runs, all of them, with '
    'commas between them; by default the ops that change trained variables, '
    'and what depends on them.',
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    'checkpoint',
    '',
    'Prefix of a checkpoint of this graph: are the moving '
    'statistics in it, and are they still 0 and 1?',
    flag_values=flag_values,
  )
  flags.DEFINE_enum(
    'format',
    'text',
    ['text', 'json'],
    'How to print the findings; json: one line.',
    flag_values=flag_values,
  )


def define_diagnose_flags(flag_values=flags.FLAGS):
  """The flags of graph_resnet9.diagnose."""
  _define_session_flags(flag_values, 50)
  flags.DEFINE_string(
    'png', '', 'Draw the layers into this file.', flag_values=flag_values
  )
  flags.DEFINE_bool(
    'json',
    False,
    'Print one line of JSON instead of the table.',
    flag_values=flag_values,
  )


def define_recalibrate_flags(flag_values=flags.FLAGS):
  """The flags of graph_resnet9.recalibrate."""
  _define_session_flags(flag_values, 200)
  flags.DEFINE_string(
    'out',
    None,
    'Prefix of the checkpoint to write; it must not exist yet.',
    flag_values=flag_values,
    required=True,
  )


def _define_session_flags(flag_values, batches):
  flags.DEFINE_string(
    'meta_graph',
    None,
    'The .meta file of a training graph, as '
    'tf.train.Saver writes it beside a checkpoint; by default '
    'CHECKPOINT.meta.',
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    'checkpoint',
    None,
    'Prefix of a checkpoint of the graph; or a train_dir '
    'of graph_resnet9.train.',
    flag_values=flag_values,
    required=True,
  )
  flags.DEFINE_integer(
    'batches',
    batches,
    'Batches to run, if the input has so many.',
    2,
    2**31 - 1,
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    'feed',
    '',
    'module:function that yields a feed dict a batch, {name of a '
    "placeholder: value}; by default the graph's queue runners are started, "
    'or, for a checkpoint of graph_resnet9.train without --meta_graph, its '
    'training is built again.',
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    'data_dir',
    '',
    'Folder with CIFAR-10, for checkpoints of '
    'graph_resnet9.train; by default that of the training.',
    flag_values=flag_values,
  )
