"""Ends a process of a cluster that TensorFlow would let wait without end."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import os
import sys
import threading
import time

from graph_resnet9 import interrupts
from graph_resnet9.cluster import sockets
from graph_resnet9.cluster import tasks
from graph_resnet9.errors import UserError

_POLL_SECS = 0.5
# How long a signal may remain without effect: until the step is cut off, and
# until the process ends. The parameter servers wait 8 s after one.
_CUT_SECS, _GRACE_SECS = 3, 30


@contextlib.contextmanager
def watch(
  task: tasks.Task,
  stop: interrupts.StopOnSignal,
  last_words: Callable[[], str] = str,
) -> Iterator[None]:
  """Ends the process where TensorFlow would wait without end.

  A session waits inside C++ for a parameter server that has gone, or for the
  gradients of workers, and meanwhile Python handles no signal. A thread looks
  after both. When a host that this worker needs has not answered for wait_secs,
  or a signal has had no effect for a few seconds, it cuts the step off; the
  chief then saves. When that has had no effect for 30 seconds, or nothing can
  be saved, it says so and exits.

  Args:
    task: this process.
    stop: the hook of its session that hears signals.
    last_words: what to say besides where the process ends without saving.
  """
  over = threading.Event()
  thread = threading.Thread(
    target=_look_after, args=(task, stop, last_words, over), daemon=True
  )
  thread.start()
  try:
    yield
  finally:
    over.set()
    thread.join()


def _look_after(task, stop, last_words, over):
  heard = {host: time.monotonic() for host in task.needed}
  lost = None  # (what to say, since when).
  while not over.wait(_POLL_SECS):
    if stop.heard:
      number, since = stop.heard
      if time.monotonic() - since > _GRACE_SECS:
        text = 'signal %d: the session did not stop for %d s'
        _exit(text % (number, _GRACE_SECS) + last_words(), 128 + number)
      if time.monotonic() - since > _CUT_SECS:
        stop.cut()
    if lost:
      if time.monotonic() - lost[1] > _GRACE_SECS:
        _exit(lost[0] + last_words(), 1)
      continue
    for host in heard:
      now = time.monotonic()
      if sockets.answers(host):
        heard[host] = now
      elif now - heard[host] > task.wait_secs:
        lost = sockets.silent(host, task.wait_secs), now
        if not task.chief or host in task.ps:  # Nothing can be saved.
          _exit(lost[0] + last_words(), 1)
        stop.fail(UserError(lost[0]))
        stop.cut()
        break


def _exit(why, code):
  print('train: %s' % why, file=sys.stderr, flush=True)
  sys.stdout.flush()
  os._exit(code)
