"""Flags that several commands have besides those of a training."""

from absl import flags

flags.disclaim_key_flags()  # They are the command's: its --help lists them.


def define_weights(flag_values: flags.FlagValues) -> None:
  """For eval and export."""
  flags.DEFINE_enum(
    'weights',
    'auto',
    ['auto', 'average', 'trained'],
    'The averages of --ema_decay, or the weights as trained; auto: the '
    'averages where the checkpoint has them.',
    flag_values=flag_values,
  )


def define_json(flag_values: flags.FlagValues) -> None:
  """For commands that print a table."""
  flags.DEFINE_bool(
    'json',
    False,
    'Print one line of JSON instead of the table.',
    flag_values=flag_values,
  )


def define_graph(flag_values: flags.FlagValues) -> None:
  """For lint, diagnose and recalibrate: what they look at."""
  flags.DEFINE_string(
    'meta_graph',
    None,
    'The graph: a .meta file of tf.train.Saver, a SavedModel (its directory or '
    'saved_model.pb in it), graph.pbtxt, a frozen .pb or an event file; by '
    'default what the argument names, or what lies beside the checkpoint.',
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    'checkpoint',
    None,
    'A checkpoint of the graph: its prefix, its .index file, or a directory '
    'with the newest one; by default what the argument names.',
    flag_values=flag_values,
  )


def define_training_graph(flag_values: flags.FlagValues, batches: int) -> None:
  """For diagnose and recalibrate: whose graph they run, on what, how often."""
  define_graph(flag_values)
  flags.DEFINE_integer(
    'batches',
    batches,
    'Batches to run, if the input has so many.',
    2,
    10**6,
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
    'Folder with CIFAR-10, for checkpoints of graph_resnet9.train; by default '
    'that of the training.',
    flag_values=flag_values,
  )
