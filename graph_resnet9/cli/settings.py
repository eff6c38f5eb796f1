"""Settings: classes whose fields are flags, each declared once.

  @dataclasses.dataclass(frozen=True, kw_only=True)
  class Augment(settings.Settings):
    pad: int = settings.integer(4, 'Reflect-pad by so many pixels.', 0, 31)

is the flag --pad, with its default, its help and its bounds, and the field
`pad` of what `Augment.read(flags.FLAGS)` returns. A field may be another such
class: its flags are then defined and read along. What is below the commands
takes settings, or plain arguments; it reads no flags.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import dataclasses
import math
from typing import Any
from typing import TypeVar

from absl import flags

from graph_resnet9.cli import requirements

requirements.check()  # Before classes that Python 3.7 cannot make.

# What TensorFlow's integers hold; a bound for numbers that need no other one.
MAX_INT = 2**31 - 1

flags.disclaim_key_flags()  # They are the command's: its --help lists them.

_Self = TypeVar('_Self', bound='Settings')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """A group of settings. `**settings` are its fields as keyword arguments."""

  @classmethod
  def define(cls, flag_values: flags.FlagValues) -> None:
    """Defines the flags of all fields."""
    for field in dataclasses.fields(cls):
      if 'define' in field.metadata:
        field.metadata['define'](field.name, flag_values)
      else:
        _group(field).define(flag_values)
    cls.check(flag_values)

  @classmethod
  def check(cls, flag_values: flags.FlagValues) -> None:
    """Registers what flags must fulfil together; for classes to override."""

  @classmethod
  def read(cls: type[_Self], flag_values: flags.FlagValues) -> _Self:
    """The settings that parsed flags give."""
    return cls(
      **{
        field.name: _value(flag_values[field.name].value)
        if 'define' in field.metadata
        else _group(field).read(flag_values)
        for field in dataclasses.fields(cls)
      }
    )

  def replace(self: _Self, **changes: Any) -> _Self:
    """The same settings but for some fields."""
    return dataclasses.replace(self, **changes)

  def override(
    self: _Self, saved: 'Settings', flag_values: flags.FlagValues
  ) -> _Self:
    """These settings with every flag that was not given taken from others.

    Args:
      saved: settings of the same or of another class, which share flags.
      flag_values: tells which flags were given.
    """
    values = saved.flat()
    return self.replace(
      **{
        name: value.override(saved, flag_values)
        if isinstance(value, Settings)
        else values[name]
        for name, value in ((name, self[name]) for name in self.keys())
        if isinstance(value, Settings)
        or name in values
        and not flag_values[name].present
      }
    )

  def flat(self) -> dict[str, Any]:
    """{flag name: value}, groups resolved, in order."""
    values = {}
    for name in self.keys():
      value = self[name]
      values.update(
        value.flat() if isinstance(value, Settings) else {name: value}
      )
    return values

  def keys(self) -> Iterator[str]:
    return (field.name for field in dataclasses.fields(self))

  def __getitem__(self, name: str) -> Any:
    return getattr(self, name)


def _group(field: dataclasses.Field) -> type[Settings]:
  """The class of a field that is no flag."""
  assert isinstance(field.type, type) and issubclass(field.type, Settings)
  return field.type


def _value(value: Any) -> Any:
  return tuple(value) if isinstance(value, list) else value


# What declares a field. All of them: the default, then the help of the flag.


def _flag(default: Any, define: Callable[[str, flags.FlagValues], Any]) -> Any:
  return dataclasses.field(default=_value(default), metadata={'define': define})


def integer(default: int | None, help_text: str, low: int, high: int) -> Any:
  """An integer in low .. high, both included."""
  return _flag(
    default,
    lambda name, flag_values: flags.DEFINE_integer(
      name, default, help_text, low, high, flag_values=flag_values
    ),
  )


def number(
  default: float, help_text: str, low: float, high: float | None = None
) -> Any:
  """A finite float in low .. high; absl's own bounds let NaN pass."""

  def define(name: str, flag_values: flags.FlagValues) -> None:
    flags.DEFINE_float(
      name, default, help_text, low, high, flag_values=flag_values
    )
    flags.register_validator(
      name, math.isfinite, 'must be a finite number', flag_values=flag_values
    )

  return _flag(float(default), define)


def numbers(default: tuple[float, ...], help_text: str) -> Any:
  """Finite floats with commas between them."""
  return _flag(
    default,
    lambda name, flag_values: flags.DEFINE(
      _NumbersParser(),
      name,
      default,
      help_text,
      serializer=_NumbersSerializer(),
      flag_values=flag_values,
    ),
  )


def boolean(default: bool, help_text: str) -> Any:
  return _flag(
    default,
    lambda name, flag_values: flags.DEFINE_bool(
      name, default, help_text, flag_values=flag_values
    ),
  )


def choice(default: str, help_text: str, choices: list[str]) -> Any:
  return _flag(
    default,
    lambda name, flag_values: flags.DEFINE_enum(
      name, default, choices, help_text, flag_values=flag_values
    ),
  )


def text(default: str, help_text: str) -> Any:
  return _flag(
    default,
    lambda name, flag_values: flags.DEFINE_string(
      name, default, help_text, flag_values=flag_values
    ),
  )


def required_text(help_text: str) -> Any:
  """A string without which the command does not start."""
  return dataclasses.field(
    metadata={
      'define': lambda name, flag_values: flags.DEFINE_string(
        name, None, help_text, flag_values=flag_values, required=True
      )
    }
  )


def texts(
  help_text: str, check: Callable[[Iterable[str]], bool], message: str
) -> Any:
  """Strings with commas between them, by default none; `check` holds."""

  def define(name: str, flag_values: flags.FlagValues) -> None:
    flags.DEFINE_list(name, [], help_text, flag_values=flag_values)
    flags.register_validator(name, check, message, flag_values=flag_values)

  return _flag((), define)


class _NumbersParser(flags.ArgumentParser):
  """Numbers with commas between them, as a tuple of floats."""

  def parse(self, argument: Any) -> tuple[float, ...]:
    if isinstance(argument, (list, tuple)):
      return tuple(argument)
    try:
      parsed = tuple(float(part) for part in argument.split(','))
    except ValueError:
      parsed = (math.nan,)
    if not all(map(math.isfinite, parsed)):
      raise ValueError('give finite numbers with commas between them')
    return parsed

  def flag_type(self) -> str:
    return 'comma separated list of numbers'


class _NumbersSerializer(flags.ArgumentSerializer):
  def serialize(self, value: tuple[float, ...]) -> str:
    return flag_text(value)


def flag_text(value: Any) -> str:
  """A value as one gives it to its flag, with all its digits."""
  if isinstance(value, tuple):
    return ','.join(map(str, value))  # str(float) is exact.
  return str(value)
