"""TCP and HTTP/2 without TensorFlow: who answers, and who may call."""

from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import ipaddress
import os
import socket
import stat

from graph_resnet9.errors import UserError

_TIMEOUT_SECS = 2


# A client of HTTP/2, which gRPC speaks, begins so: fixed lines and a frame of
# its settings, here none. The server answers with its own.
_HELLO = b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n' + b'\0\0\0\4\0\0\0\0\0'
_HEAD_BYTES, _SETTINGS = 9, 4


def answers(host: str) -> bool:
  """Whether a gRPC server at HOST:PORT takes calls.

  Of a process that is frozen the kernel goes on to accept connections, so that
  a connection alone tells nothing.
  """
  name, port = host.rsplit(':', 1)
  try:
    with socket.create_connection((name, int(port)), _TIMEOUT_SECS) as server:
      server.sendall(_HELLO)
      head = b''
      while len(head) < _HEAD_BYTES:
        part = server.recv(_HEAD_BYTES - len(head))
        if not part:
          return False
        head += part
  except (OSError, UnicodeError):  # A name that DNS cannot hold.
    return False
  return head[3] == _SETTINGS  # The kind of the frame.


def twins(hosts: Iterable[str]) -> tuple[str, str] | None:
  """Two of HOST:PORT, ... that are one address, if there are any."""
  seen: dict[tuple, str] = {}
  for host in hosts:
    name, port = host.rsplit(':', 1)
    try:
      found = {
        address[:2]
        for *_, address in socket.getaddrinfo(
          name, int(port), type=socket.SOCK_STREAM
        )
      }
    except (OSError, UnicodeError):
      continue  # Nobody knows it yet.
    for address in found:
      if address in seen:
        return seen[address], host
    seen.update(dict.fromkeys(found, host))
  return None


def silent(host: str, secs: float) -> str:
  """What to say of a host that has not answered for too long."""
  return (
    '%s: has not answered for %g s (--wait_secs); is it running, and not '
    'stopped, and is its address the same for every process?' % (host, secs)
  )


def is_loopback(name: str) -> bool:
  """Whether a host name means this machine and no network."""
  try:
    addresses = socket.getaddrinfo(name, None)
  except (OSError, UnicodeError):
    return False
  return all(
    ipaddress.ip_address(str(address[0]).split('%')[0]).is_loopback
    for *_, address in addresses
  )


def keep_to_loopback(port: int) -> None:
  """Makes the sockets that listen on a port of this process deaf to networks.

  A tf.train.Server listens on all interfaces, whatever its address says. Bound
  to the device lo, its socket gets nothing that comes in through another one.

  Raises:
    UserError: the system cannot do that (it takes Linux 5.7).
  """
  try:
    count = 0
    for each in listening(port):
      each.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'lo\0')
      count += 1
    if not count:
      raise OSError('no socket found')
  except (OSError, AttributeError) as e:
    raise UserError(
      'port %d: this system cannot keep it to the loopback interface (%s); '
      'close it with a firewall and give --bind=all' % (port, e)
    ) from None


def listening(port: int) -> Iterator[socket.socket]:
  """Yields the sockets of this process that listen on a TCP port."""
  for name in os.listdir('/proc/self/fd'):
    with contextlib.suppress(FileNotFoundError):
      if not stat.S_ISSOCK(os.stat('/proc/self/fd/' + name).st_mode):
        continue
      with socket.socket(fileno=os.dup(int(name))) as each:
        if each.family in (socket.AF_INET, socket.AF_INET6) and (
          each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
          and each.getsockname()[1] == port
        ):
          yield each
