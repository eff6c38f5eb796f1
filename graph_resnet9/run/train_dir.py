"""The directory of a run: whose it is, and where the run goes on."""

from graph_resnet9 import config
from graph_resnet9 import options
from graph_resnet9.errors import UserError
from graph_resnet9.run import checkpoints
from graph_resnet9.run import files


def opened(settings):
  """Makes train_dir, or checks that it holds this run.

  Returns:
    The prefix of the checkpoint to resume from, or None.
  """
  train_dir = settings.train_dir
  files.make_dir('--train_dir', train_dir)
  resume_from = checkpoints.newest(train_dir)
  saved = config.read_flagfile(train_dir)
  if resume_from and saved:
    old, new = options.flat(saved), options.flat(settings)
    for name in new:
      if name not in options.SESSION_FLAGS and new[name] != old[name]:
        raise UserError(
            '--train_dir=%s: holds a run with --%s=%s, not %s; give the same '
            'flags to resume it, or another --train_dir' %
            (train_dir, name, old[name], new[name]))
  return resume_from
