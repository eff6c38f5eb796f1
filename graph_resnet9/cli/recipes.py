"""--recipe=NAME: the flagfiles that come with the package, anywhere."""

import os

from absl import flags

flags.disclaim_key_flags()  # They are the command's: its --help lists them.

FOLDER = os.path.join(os.path.dirname(os.path.dirname(__file__)), 'recipes')
_SUFFIX = '.flags'


def names():
  """The names of all recipes, sorted."""
  return sorted(
    name.removesuffix(_SUFFIX)
    for name in os.listdir(FOLDER)
    if name.endswith(_SUFFIX)
  )


def lines(name):
  """The flags of a recipe, [(flag, value as text, or None), ...] in order."""
  with open(os.path.join(FOLDER, name + _SUFFIX)) as f:
    parts = [line.strip()[2:].partition('=') for line in f if line[:2] == '--']
  return [(flag, value if equals else None) for flag, equals, value in parts]


class _Recipe(flags.EnumFlag):
  """Sets other flags when it is parsed."""

  def __init__(self, flag_values):
    super().__init__(
      'recipe',
      None,
      'Take the flags of this recipe. Flags that are given besides, before or '
      'behind it, have precedence.',
      enum_values=names(),
    )
    self._flag_values = flag_values

  def parse(self, argument):
    super().parse(argument)
    given = {
      name for name in self._flag_values if self._flag_values[name].present
    }
    self._take(argument, given)

  def _take(self, recipe, given):
    """Sets the flags of a recipe that this command has, but for `given`."""
    for name, value in lines(recipe):
      if value is None:  # --flip, --noflip
        value = 'true' if name in self._flag_values else 'false'
        name = name if value == 'true' else name.removeprefix('no')
      if name == self.name:
        self._take(value, given)
      elif name in self._flag_values and name not in given:
        self._flag_values[name].parse(value)
        self._flag_values[name].using_default_value = False


def define(flag_values):
  """Defines --recipe, for a command that has all flags of the recipes."""
  flags.DEFINE_flag(_Recipe(flag_values), flag_values)
