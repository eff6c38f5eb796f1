"""The one exception that a command turns into one line, and one line of others.

A command ends with exit code 1 after it; the commands in which 1 means that
something was found end with 2.
"""

import re

# Of an op, TensorFlow first tells where it was defined and where it ran.
_PREAMBLE = re.compile(
  r"\s*(Graph execution error|Detected at|File \"|Node: '|From /job:|"
  r'\d+ root error|$)'
)


class UserError(Exception):
  """Something the user can mend: the message names the file or flag and how.

  Everything else that escapes a command is a defect of ours and keeps its
  traceback.
  """


def line(error: BaseException) -> str:
  """The line of an exception's text that says what happened."""
  text = (
    getattr(error, 'strerror', None)
    or getattr(error, 'message', None)
    or str(error)
  ).strip() or type(error).__name__
  lines = [each.strip() for each in text.splitlines()]
  return next((each for each in lines if not _PREAMBLE.match(each)), lines[0])
