"""What commands need but the doctor's, which run on TensorFlow 1.15, too."""

import sys

_PYTHON = (3, 10)


def check() -> None:
  """Ends the process with one line where the network's commands cannot run."""
  if sys.version_info < _PYTHON:
    sys.exit(
      'graph_resnet9: this command needs Python 3.10 and TensorFlow 2.18 or '
      'later, and this is Python %d.%d; lint, diagnose and recalibrate run here'
      % sys.version_info[:2]
    )
