"""Tests of graph_resnet9.inputs.download against a server of our own."""

import concurrent.futures
import contextlib
import errno
import fcntl
import hashlib
import http.server
import itertools
import os
import resource
import socket
import ssl
import struct
import tempfile
import threading
import time
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized

from graph_resnet9.errors import UserError
from graph_resnet9.inputs import download

BODY = bytes(range(256)) * 4000  # 1,024,000 bytes: several blocks.
SHA256 = hashlib.sha256(BODY).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
  """Serves BODY, as well or badly as the server's `mode` says.

  Modes: 'range' and 'plain' (ignores Range) are sound. 'short' closes half-way,
  'reset' half-way too, with a TCP reset, 'chunked' in the middle of a chunk. A
  number: that HTTP status, always.
  """

  def do_GET(self):
    mode, asked = self.server.mode, self.headers.get('Range')
    self.server.ranges.append(asked)
    if isinstance(mode, int):
      self.send_error(mode)
      return
    begin = 0
    if asked and mode != 'plain':
      begin = int(asked[len('bytes=') :].rstrip('-'))
      if begin >= len(BODY):
        self.send_error(416)
        return
    self.send_response(206 if begin else 200)
    if begin:
      self.send_header(
        'Content-Range', 'bytes %d-%d/%d' % (begin, len(BODY) - 1, len(BODY))
      )
    if mode == 'chunked':
      self.send_header('Transfer-Encoding', 'chunked')
    else:
      self.send_header('Content-Length', str(len(BODY) - begin))
    self.end_headers()
    self.send_body(BODY[begin:], mode)

  def send_body(self, data, mode):
    half = data[: len(data) // 2]
    if mode == 'chunked':
      half = b'%x\r\n' % len(data) + half
    part = data if mode in ('range', 'plain') else half
    self.server.sent.append(len(part))
    self.wfile.write(part)
    if mode == 'reset':  # To close a socket that lingers for 0 seconds resets.
      self.connection.setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)
      )
      os.close(self.connection.detach())

  def log_message(self, *args):
    pass


class DownloadTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = self.enter_context(tempfile.TemporaryDirectory())
    self.path = os.path.join(self.folder, 'cache', 'a.tar.gz')
    self.part = self.path + '.part'
    self.enter_context(mock.patch.dict(os.environ, no_proxy='*'))
    self.server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    self.server.mode, self.server.ranges, self.server.sent = 'range', [], []
    self.url = 'http://127.0.0.1:%d/a.tar.gz' % self.server.server_port
    thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
    thread.start()
    self.addCleanup(thread.join)
    self.addCleanup(self.server.server_close)
    self.addCleanup(self.server.shutdown)

  def fetch(self, mode='range', sha256=SHA256):
    self.server.mode = mode
    download.fetch(self.path, self.url, sha256)

  def write(self, path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'wb') as f:
      f.write(data)

  def files(self):
    """Name -> content of what lies in the cache folder."""
    files = {}
    folder = os.path.dirname(self.path)
    for name in os.listdir(folder):
      with open(os.path.join(folder, name), 'rb') as f:
        files[name] = f.read()
    return files

  def assert_whole(self):
    """The file is there, byte for byte, and nothing else is."""
    self.assertEqual(list(self.files()), ['a.tar.gz'])
    self.assertEqual(self.files()['a.tar.gz'], BODY)

  @parameterized.parameters('range', 'plain')
  def test_fresh_file_is_moved_into_place(self, mode):
    self.fetch(mode)
    self.assert_whole()
    self.assertEqual(self.server.ranges, [None])

  @parameterized.parameters(1, 1000, len(BODY) - 1)
  def test_only_the_rest_of_a_part_is_fetched(self, have):
    self.write(self.part, BODY[:have])
    self.fetch()
    self.assert_whole()
    self.assertEqual(self.server.ranges, ['bytes=%d-' % have])
    self.assertEqual(self.server.sent, [len(BODY) - have])

  def test_several_at_once_share_one_download(self):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
      for done in [pool.submit(self.fetch) for _ in range(4)]:
        done.result()
    self.assert_whole()
    self.assertEqual(sum(self.server.sent), len(BODY))

  def test_empty_part_is_fetched_whole(self):
    self.write(self.part, b'')
    self.fetch()
    self.assert_whole()

  def test_server_without_range_starts_again(self):
    self.write(self.part, b'x' * 1000)
    self.fetch('plain')
    self.assert_whole()

  def test_complete_part_needs_no_bytes(self):
    self.write(self.part, BODY)
    self.fetch()
    self.assert_whole()
    self.assertEqual(self.server.sent, [])

  def test_part_longer_than_the_file_is_deleted_and_fetched_next_time(self):
    self.write(self.part, BODY + b'x')
    with self.assertRaises(UserError):
      self.fetch()
    self.assertEqual(self.files(), {})
    self.fetch()
    self.assert_whole()

  def test_wrong_checksum_leaves_no_file(self):
    with self.assertRaises(UserError) as caught:
      self.fetch(sha256='0' * 64)
    self.assertEqual(self.files(), {})
    text = str(caught.exception)
    self.assertIn(self.url, text)
    self.assertIn(SHA256, text)
    self.assertLen(text.splitlines(), 1)

  def test_damaged_part_fails_the_checksum(self):
    self.write(self.part, b'x' * 1000)
    with self.assertRaises(UserError):
      self.fetch()
    self.assertEqual(self.files(), {})

  def test_broken_connection_keeps_the_part_and_the_next_call_finishes(self):
    with self.assertRaises(download.Unreachable):
      self.fetch('short')
    half = len(BODY) // 2
    self.assertEqual(self.files(), {'a.tar.gz.part': BODY[:half]})
    self.fetch()
    self.assert_whole()
    self.assertEqual(self.server.ranges, [None, 'bytes=%d-' % half])

  def test_part_grows_from_one_broken_connection_to_the_next(self):
    for _ in range(3):
      with self.assertRaises(download.Unreachable):
        self.fetch('short')
    have = len(BODY) - len(BODY) // 8
    self.assertEqual(self.files(), {'a.tar.gz.part': BODY[:have]})

  @parameterized.parameters('reset', 'chunked')
  def test_other_ways_to_break_keep_the_beginning(self, mode):
    with self.assertRaises(download.Unreachable):
      self.fetch(mode)
    self.assertEqual(list(self.files()), ['a.tar.gz.part'])
    self.assertStartsWith(BODY, self.files()['a.tar.gz.part'])
    self.fetch()
    self.assert_whole()

  @parameterized.parameters(403, 404, 500, 503)
  def test_http_error_is_unreachable(self, status):
    self.write(self.part, BODY[:1000])
    with self.assertRaises(download.Unreachable) as caught:
      self.fetch(status)
    self.assertIn(self.url, str(caught.exception))
    self.assertEqual(self.files(), {'a.tar.gz.part': BODY[:1000]})

  def test_range_error_for_a_part_that_is_not_whole_is_a_wrong_checksum(self):
    self.write(self.part, BODY[:1000])
    with self.assertRaises(UserError):
      self.fetch(416)
    self.assertEqual(self.files(), {})

  def test_existing_file_is_not_fetched(self):
    self.write(self.path, b'what was there')
    self.fetch()
    self.assertEqual(self.files(), {'a.tar.gz': b'what was there'})
    self.assertEqual(self.server.ranges, [])

  def test_port_that_nobody_listens_on_is_unreachable(self):
    with socket.socket() as bound:  # Not listening, and nobody takes it.
      bound.bind(('127.0.0.1', 0))
      url = 'http://127.0.0.1:%d/a' % bound.getsockname()[1]
      with self.assertRaises(download.Unreachable) as caught:
        download.fetch(self.path, url, SHA256)
    self.assertIn(url, str(caught.exception))
    self.assertFalse(os.path.exists(self.path))

  @parameterized.named_parameters(
    ('no_route', OSError(errno.EHOSTUNREACH, 'No route to host')),
    ('tls', ssl.SSLError(1, 'decryption failed or bad record mac')),
    ('timeout', TimeoutError('The read operation timed out')),
  )
  def test_network_error_while_reading_is_unreachable(self, error):
    response = mock.MagicMock(status=200, headers={})
    response.read1.side_effect = [BODY[:1000], error]
    with mock.patch('urllib.request.urlopen', return_value=response):
      with self.assertRaises(download.Unreachable):
        self.fetch()
    self.assertEqual(self.files(), {'a.tar.gz.part': BODY[:1000]})

  def test_folder_that_cannot_be_made_is_named(self):
    self.write(os.path.join(self.folder, 'cache'), b'a file')
    with self.assertRaises(UserError) as caught:
      self.fetch()
    self.assertIn(self.path, str(caught.exception))
    self.assertLen(str(caught.exception).splitlines(), 1)
    self.assertEqual(self.server.ranges, [])

  def test_full_disk_is_an_error_of_the_user(self):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    self.addCleanup(resource.setrlimit, resource.RLIMIT_FSIZE, before)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20000, before[1]))
    with self.assertRaises(UserError) as caught:
      self.fetch()
    self.assertIn('%s: cannot be written: ' % self.part, str(caught.exception))
    self.assertFalse(os.path.exists(self.path))

  def test_planted_link_is_not_followed(self):
    victim = os.path.join(self.folder, 'victim')
    self.write(victim, b'mine')
    os.mkdir(os.path.dirname(self.path))
    os.symlink(victim, self.part)
    with self.assertRaisesRegex(UserError, 'part: .*a symbolic link'):
      self.fetch()
    with open(victim, 'rb') as f:
      self.assertEqual(f.read(), b'mine')

  @parameterized.parameters(
    b'HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\nx',
    b'HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nxxxxx',
    b'HTTP/1.1 200 OK\r\nContent-Length: ' + b'9' * 5000 + b'\r\n\r\nx',
    b'HTTP/1.1 302 Found\r\nLocation: http://[bad/x\r\n\r\n',
    'HTTP/1.1 302 Found\r\nLocation: http://x.invalid/ä\r\n\r\n'.encode(),
    b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nxxxxx',
    b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nxxxxx',
    b'HTTP/1.1 999999 OK\r\n\r\n',
    b'SSH-2.0-OpenSSH\r\n',
    b'',
  )
  def test_answer_that_makes_no_sense_is_unreachable_in_one_line(self, answer):
    with self.server_of([answer]) as url:
      with self.assertRaises(download.Unreachable) as caught:
        download.fetch(self.path, url, SHA256)
    self.assertIn(url, str(caught.exception))
    self.assertLen(str(caught.exception).splitlines(), 1)
    self.assertFalse(os.path.exists(self.path))

  def test_endless_body_ends(self):
    head = b'HTTP/1.1 200 OK\r\n\r\n'
    with (
      mock.patch.object(download, 'MAX_BYTES', 1 << 20),
      self.server_of(itertools.chain([head], itertools.repeat(BODY))) as url,
    ):
      with self.assertRaisesRegex(download.Unreachable, 'more than 1048576'):
        download.fetch(self.path, url, SHA256)
    self.assertLess(os.path.getsize(self.part), 2 << 20)

  @parameterized.parameters(
    (b'HTTP/1.1 200 OK\r\n\r\n', 'bytes in'),
    (b'HTTP/1.1 200 OK\r\nX: ', 'no answer for'),
    (b'', 'no answer for'),
  )
  def test_dripping_answer_ends(self, head, text):
    drip = self.dripping(head)
    with (
      mock.patch.object(download, '_PATIENCE_SECS', 0.5),
      self.server_of(drip) as url,
    ):
      with self.assertRaisesRegex(download.Unreachable, text):
        download.fetch(self.path, url, SHA256)

  def dripping(self, head):
    yield head
    while True:
      time.sleep(0.05)
      yield b'x'

  @contextlib.contextmanager
  def server_of(self, pieces):
    """The URL of a server that answers with these bytes, whatever is asked."""
    over = threading.Event()
    listening = socket.create_server(('127.0.0.1', 0))

    def serve():
      connection, _ = listening.accept()
      with connection, contextlib.suppress(OSError):
        connection.recv(1 << 16)
        for piece in pieces:
          connection.sendall(piece)
          if over.is_set():
            break

    thread = threading.Thread(target=serve)
    thread.start()
    try:
      with listening:
        yield 'http://127.0.0.1:%d/a' % listening.getsockname()[1]
        over.set()
    finally:
      over.set()
      thread.join()

  def test_waiting_for_another_process_is_said(self):
    os.mkdir(os.path.dirname(self.path))
    with (
      open(self.part, 'wb') as f,
      concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
      fcntl.flock(f, fcntl.LOCK_EX)
      with self.assertLogs('absl', 'WARNING') as logs:
        waiting = pool.submit(self.fetch)
        while not logs.output:
          time.sleep(0.01)
      fcntl.flock(f, fcntl.LOCK_UN)
      waiting.result()
    self.assertIn('%s: waiting for another' % self.part, logs.output[0])
    self.assert_whole()

  def test_path_without_a_folder_is_in_the_current_one(self):
    self.addCleanup(os.chdir, os.getcwd())
    os.chdir(self.folder)
    download.fetch('a.tar.gz', self.url, SHA256)
    self.assertEqual(os.listdir(self.folder), ['a.tar.gz'])


if __name__ == '__main__':
  absltest.main()
