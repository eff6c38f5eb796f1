"""What Ctrl-C and SIGTERM do to a training, before, in and after a session."""

from collections.abc import Iterator
import contextlib
import signal

import tensorflow.compat.v1 as tf

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def end_the_process() -> Iterator[None]:
  """SIGINT ends the process at once, as SIGTERM does: no KeyboardInterrupt.

  Until StopOnSignal acts there is nothing to save. And what a handler raises
  while TensorFlow's C++ code calls Python is printed and swallowed there: the
  training would go on. Handlers are as before afterwards.
  """
  before = {number: signal.getsignal(number) for number in _SIGNALS}
  if before[signal.SIGINT] == signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
  try:
    yield
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)


class StopOnSignal(tf.train.SessionRunHook):
  """Ends the session after the current step on SIGTERM and SIGINT.

  The hooks' end() then runs, which saves. A second signal of the same kind acts
  as if this hook were not there. In a session it belongs behind the hooks that
  evaluate and save.

  signal: number of the signal that came, or None.
  """

  def __init__(self) -> None:
    self.signal: int | None = None
    self._before = {}

  def interrupted(self) -> bool:
    return self.signal is not None

  def listen(self) -> None:
    """Takes the signals from now on; a session calls it by itself."""
    for number in _SIGNALS:
      self._before.setdefault(number, signal.signal(number, self._note))

  def _note(self, number, frame):
    del frame
    self.signal = number
    signal.signal(number, self._before[number])

  def after_create_session(self, session, coord):
    del session, coord
    self.listen()

  def after_run(self, run_context, run_values):
    del run_values
    if self.signal is not None:
      run_context.request_stop()

  def end(self, session):
    del session
    for number, handler in self._before.items():
      signal.signal(number, handler)
