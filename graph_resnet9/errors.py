"""The one exception that a command turns into one line and exit code 1."""


class UserError(Exception):
  """Something the user can mend: the message names the file or flag and how.

  Everything else that escapes a command is a defect of ours and keeps its
  traceback.
  """
