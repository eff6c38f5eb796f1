"""Ends a process of a cluster that TensorFlow would let wait without end."""

from collections.abc import Iterator
import contextlib
import os
import signal
import socket
import sys
import threading
import time

from graph_resnet9.cluster import sockets
from graph_resnet9.cluster import tasks

_POLL_SECS = 0.5
# How long a signal may remain without effect.
_SIGNAL_GRACE_SECS = 30


@contextlib.contextmanager
def watch(task: tasks.Task) -> Iterator[None]:
  """Ends the process where TensorFlow would wait without end.

  A session waits inside C++ for a parameter server that has gone, or for the
  gradients of workers, and meanwhile Python handles no signal. A thread looks
  after both: when a host that this worker needs has not answered for wait_secs,
  and when a signal has had no effect for 30 seconds, it says so and exits.
  """
  read, write = socket.socketpair()
  for end in (read, write):
    end.setblocking(False)
  before = signal.set_wakeup_fd(write.fileno(), warn_on_full_buffer=False)
  over = threading.Event()
  thread = threading.Thread(
    target=_look_after, args=(task, over, read), daemon=True
  )
  thread.start()
  try:
    yield
  finally:
    over.set()
    thread.join()
    signal.set_wakeup_fd(before)
    read.close()
    write.close()


def _look_after(task, over, signals):
  heard = {host: time.monotonic() for host in task.needed}
  signalled = None
  while not over.wait(_POLL_SECS):
    now = time.monotonic()
    with contextlib.suppress(BlockingIOError):
      number = signals.recv(1)[0]
      signalled = signalled or (number, now)
    if signalled and now - signalled[1] > _SIGNAL_GRACE_SECS:
      _exit(
        'signal %d: the session did not stop' % signalled[0], 128 + signalled[0]
      )
    for host in heard:
      if sockets.answers(host):
        heard[host] = now
      elif now - heard[host] > task.wait_secs:
        _exit(sockets.silent(host, task.wait_secs), 1)


def _exit(why, code):
  print('train: %s' % why, file=sys.stderr, flush=True)
  sys.stdout.flush()
  os._exit(code)
