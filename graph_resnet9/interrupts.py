"""What signals do to a training that has no session yet."""

import contextlib
import signal


@contextlib.contextmanager
def end_the_process():
  """SIGINT ends the process at once, as SIGTERM does: no KeyboardInterrupt.

  Until hooks.StopOnSignal acts there is nothing to save. And what a handler
  raises while TensorFlow's C++ code calls Python is printed and swallowed
  there: the training would go on. Handlers are as before afterwards.
  """
  numbers = (signal.SIGTERM, signal.SIGINT)
  before = {number: signal.getsignal(number) for number in numbers}
  if before[signal.SIGINT] == signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
  try:
    yield
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
