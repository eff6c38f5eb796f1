"""What Ctrl-C, SIGTERM and SIGHUP do to a training: before, in, after one."""

from collections.abc import Iterator
import contextlib
import os
import signal
import sys
import threading
import time
from typing import Any

import tensorflow.compat.v1 as tf
import tqdm

# SIGHUP: the terminal is gone, as when a connection breaks.
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def name(number: int) -> str:
  """What to call a signal: as one has sent it."""
  return 'Ctrl-C' if number == signal.SIGINT else signal.Signals(number).name


@contextlib.contextmanager
def end_the_process() -> Iterator[None]:
  """SIGINT ends the process at once, as SIGTERM does: no KeyboardInterrupt.

  Until StopOnSignal acts there is nothing to save. And what a handler raises
  while TensorFlow's C++ code calls Python is printed and swallowed there: the
  training would go on. Handlers are as before afterwards.
  """
  before = {number: signal.getsignal(number) for number in _SIGNALS}
  wakeup_before = signal.set_wakeup_fd(-1)
  if before[signal.SIGINT] == signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
  try:
    yield
  finally:
    signal.set_wakeup_fd(wakeup_before)
    for number, handler in before.items():
      signal.signal(number, handler)


class StopOnSignal(tf.train.SessionRunHook):
  """Ends the session after the current step on SIGTERM, SIGINT and SIGHUP.

  The hooks' end() then runs, which saves. A line on stderr says so at once, as
  a step may take long. A second signal of the same kind acts as if this hook
  were not there, and so does one that was ignored before, as nohup ignores
  SIGHUP. In a session it belongs behind the hooks that evaluate and save.

  answer: what the line says of the end.
  signal: number of the signal that came, or None.
  heard: (that number, time.monotonic() when it came), known while a step still
    goes on; or None.
  """

  def __init__(self, answer: str = 'stopping after this step') -> None:
    self._says = answer
    self.signal: int | None = None
    self.heard: tuple[int, float] | None = None
    self._coord: tf.train.Coordinator | None = None
    self._error: Exception | None = None
    self._before: dict[int, Any] = {}
    self._pipe: int | None = None

  def interrupted(self) -> bool:
    return self.signal is not None or self._error is not None

  def fail(self, error: Exception) -> None:
    """Ends the session as a signal does; raises the error when all is saved."""
    self._error = self._error or error

  def cut(self) -> None:
    """Ends a step that waits in a queue, for other processes; for any thread.

    The session closes its queues, the step ends as at the end of the data, and
    the hooks' end() runs.
    """
    if self._coord:
      self._coord.request_stop()

  def listen(self) -> None:
    """Takes the signals from now on; a session calls it by itself."""
    for number in _SIGNALS:
      if signal.getsignal(number) != signal.SIG_IGN:
        self._before.setdefault(number, signal.signal(number, self._note))
    if self._pipe is None:
      reading, self._pipe = os.pipe()
      os.set_blocking(self._pipe, False)
      signal.set_wakeup_fd(self._pipe, warn_on_full_buffer=False)
      threading.Thread(
        target=self._answer, args=(reading,), daemon=True
      ).start()

  def _answer(self, reading):
    """Answers signals in a thread: _note waits until session.run returns."""
    heard = set()
    with open(reading, 'rb', buffering=0) as pipe:
      while byte := pipe.read(1):  # Until end() closes the other side.
        number = byte[0]
        if number not in _SIGNALS:
          continue
        if number not in heard:
          heard.add(number)
          self.heard = self.heard or (number, time.monotonic())
          with contextlib.suppress(OSError):  # The terminal may be gone.
            tqdm.tqdm.write(
              '%s: %s; again to stop now' % (name(number), self._says),
              file=sys.stderr,
            )
            sys.stderr.flush()
        elif self._before[number] == signal.SIG_DFL:
          os._exit(128 + number)

  def _note(self, number, frame):
    del frame
    self.signal = number
    signal.signal(number, self._before[number])

  def after_create_session(self, session, coord):
    del session
    self._coord = coord
    self.listen()

  def after_run(self, run_context, run_values):
    del run_values
    if self.interrupted():
      run_context.request_stop()

  def end(self, session):
    del session
    for number, handler in self._before.items():
      signal.signal(number, handler)
    if self._pipe is not None:
      signal.set_wakeup_fd(-1)
      os.close(self._pipe)
      self._pipe = None
    if self._error and self.signal is None:
      raise self._error
