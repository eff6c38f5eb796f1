"""flags.txt: the flags of a run, beside its checkpoints."""

from collections.abc import Iterable
from collections.abc import Iterator
import io
import os

from absl import flags

from graph_resnet9 import files
from graph_resnet9.cli import settings
from graph_resnet9.cli import train_flags
from graph_resnet9.errors import UserError

NAME = 'flags.txt'
_MAX_BYTES = 1 << 20


def text(
  train_settings: train_flags.Train,
  but: Iterable[str] = train_flags.PROCESS_FLAGS,
) -> str:
  """A flagfile of these settings, to run them again elsewhere.

  `read` gives back exactly the values, and so does absl's own --flagfile.

  Args:
    train_settings: the settings.
    but: names of flags that are left out.
  """
  lines = ['# python -m graph_resnet9.train --flagfile=THIS --train_dir=NEW']
  for name, value in train_settings.flat().items():
    if value is not None and name not in but:
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
  try:
    with files.open_regular(path) as f:
      content = f.read(_MAX_BYTES).decode()
  except (OSError, UnicodeDecodeError) as e:
    raise _no_flagfile(path, e) from None
  return parse(content, path, train_dir=folder)


def parse(content: str, where: str, train_dir: str = '-') -> train_flags.Train:
  """The settings that `text` has made a text of.

  Raises:
    UserError: it is none; names `where` it was.
  """
  flag_values = flags.FlagValues()
  train_flags.Train.define(flag_values)
  text_lines = io.StringIO(content, newline=None)
  lines = [line.rstrip('\n') for line in text_lines if line.startswith('--')]
  try:
    if not lines:
      raise flags.Error('there is no flag in it')
    if any(line.startswith('--flagfile') for line in lines):
      raise flags.Error('it refers to another flagfile')
    flag_values(['train', '--train_dir=' + train_dir] + lines)
  except RecursionError:  # absl looks for flags of similar names.
    raise _no_flagfile(where, 'a line of it is no flag') from None
  except (flags.Error, OSError) as e:
    raise _no_flagfile(where, e) from None
  return train_flags.Train.read(flag_values)


def _no_flagfile(where, error):
  # In one line: a damaged name may hold a line end that open() knows not.
  return UserError(
    '%s: not a flagfile of graph_resnet9.train: %s'
    % (where, ' '.join(str(error).split())[:999])
  )


def differing(
  saved: train_flags.Train,
  given: train_flags.Train,
  but: Iterable[str] = train_flags.SESSION_FLAGS,
) -> Iterator[tuple[str, str, str]]:
  """Yields (name of a flag, its value in `saved`, in `given`), as texts.

  Args:
    saved: the flags of a run.
    given: those that a process was given for the same run.
    but: names of flags that may differ.
  """
  old, new = saved.flat(), given.flat()
  for name in new:
    if name not in but and new[name] != old[name]:
      yield name, settings.flag_text(old[name]), settings.flag_text(new[name])
