"""flags.txt: the flags of a run, beside its checkpoints."""

import io
import os

from absl import flags

from graph_resnet9 import files
from graph_resnet9.cli import settings
from graph_resnet9.cli import train_flags
from graph_resnet9.errors import UserError

NAME = 'flags.txt'
_MAX_BYTES = 1 << 20


def text(train_settings: train_flags.Train) -> str:
  """A flagfile of these settings, to run them again elsewhere.

  `read` gives back exactly the values, and so does absl's own --flagfile.
  """
  lines = ['# python -m graph_resnet9.train --flagfile=THIS --train_dir=NEW']
  for name, value in train_settings.flat().items():
    if value is not None and name not in train_flags.PROCESS_FLAGS:
      lines.append('--%s=%s' % (name, settings.flag_text(value)))
  return '\n'.join(lines) + '\n'


def read(folder: str) -> train_flags.Train | None:
  """The settings of the run in `folder`, or None if it has no flags.txt.

  Raises:
    UserError: flags.txt cannot be read or parsed.
  """
  path = os.path.join(folder, NAME)
  if not os.path.lexists(path):
    return None
  flag_values = flags.FlagValues()
  train_flags.Train.define(flag_values)
  try:
    with files.open_regular(path) as f:
      text_lines = io.StringIO(f.read(_MAX_BYTES).decode(), newline=None)
    lines = [line.rstrip('\n') for line in text_lines if line.startswith('--')]
    if any(line.startswith('--flagfile') for line in lines):
      raise flags.Error('it refers to another flagfile')
    flag_values(['train', '--train_dir=' + folder] + lines)
  except RecursionError:  # absl looks for flags of similar names.
    raise UserError(
      '%s: not a flagfile of graph_resnet9.train: a line of it is '
      'no flag' % path
    ) from None
  except (flags.Error, OSError, UnicodeDecodeError) as e:
    # In one line: a damaged name may hold a line end that open() knows not.
    raise UserError(
      '%s: not a flagfile of graph_resnet9.train: %s'
      % (path, ' '.join(str(e).split())[:999])
    ) from None
  return train_flags.Train.read(flag_values)
