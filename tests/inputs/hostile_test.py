"""Small hostile files that cost time or memory, where damage alone does not.

Without the limits each of them takes minutes to years, or gigabytes; the first
ones that come to mind, code in pickles and paths that lead out of an archive,
are in tests/inputs/formats_test.py.
"""

import gzip
import os
import struct
import subprocess
import sys
import tarfile

from absl.testing import absltest
from absl.testing import parameterized

from tests.inputs import formats_test as layouts

# A 61-bit prime: in CPython all its multiples have the hash 0.
HASH_MODULUS = 2**61 - 1
FOLDER = 'cifar-10-batches-bin'
# Twenty times what each of these takes; without the limit all take longer.
DEADLINE_SECS = 60
MEMORY_BYTES = 256 << 20
# Ends by SIGALRM where it takes too long, by itself otherwise.
PROGRAM = (
  """
import signal, sys
from graph_resnet9.errors import UserError
from graph_resnet9.inputs import formats
def peak():
  with open('/proc/self/status') as f:
    return next(int(line.split()[1]) for line in f if line.startswith('VmHWM'))
path = sys.argv[1]
if path.endswith('.gz'):
  read = lambda: list(formats.read_layout(path))
else:
  with open(path, 'rb') as f:
    data = f.read()
  read = lambda: formats.decode_pickle(data, path, 3)
before = peak()
signal.alarm(%d)
try:
  read()
  print('read')
except UserError as e:
  print(e)
print(peak() - before)
"""
  % DEADLINE_SECS
)


def long1(value):
  """LONG1: an int of up to 255 bytes."""
  data = value.to_bytes(value.bit_length() // 8 + 1, 'little')
  return b'\x8a' + bytes([len(data)]) + data


class HostileTestCase(parameterized.TestCase):
  def refused(self, name, data, memory_bytes=MEMORY_BYTES, length=None):
    """Reads a file in a process of its own; what the UserError says."""
    path = self.create_tempdir().create_file(name, data, 'wb').full_path
    os.truncate(path, length or len(data))
    done = subprocess.run(
      [sys.executable, '-c', PROGRAM, path],
      cwd=layouts.REPO,
      capture_output=True,
      text=True,
      check=False,
    )
    self.assertEqual(done.returncode, 0, done.stderr)
    text, kilobytes = done.stdout.splitlines()
    self.assertIn(path, text)
    self.assertLess(len(text), 2000)
    self.assertLess(int(kilobytes) << 10, memory_bytes)
    return text


class PickleTest(HostileTestCase):
  def refused_pickle(self, data, **kwargs):
    return self.refused('test_batch', data, **kwargs)

  def test_huge_number_as_the_key_time_and_again(self):
    """An int's hash is computed anew each time: 20 ms for 20 MB."""
    size = 20 << 20
    huge = b'\x8b' + struct.pack('<i', size) + b'\1' * size + b'q\0'
    self.assertIn(
      'int as a key',
      self.refused_pickle(
        b'\x80\x02' + huge + b'}(' + b'h\0N' * 100000 + b'u.'
      ),
    )

  def test_keys_of_one_hash(self):
    keys = b''.join(long1(i * HASH_MODULUS) + b'N' for i in range(1, 200001))
    self.assertIn(
      'int as a key', self.refused_pickle(b'\x80\x02}(' + keys + b'u.')
    )

  def test_a_key_alone(self):
    for key, kind in ((b'K\1', 'int'), (b'N', 'NoneType'), (b')', 'tuple')):
      self.assertIn(
        kind + ' as a key', self.refused_pickle(b'\x80\x02}' + key + b'Ns.')
      )

  def test_memo_indices_of_one_hash(self):
    puts = b''.join(b'p%d\n' % (i * HASH_MODULUS) for i in range(1, 200001))
    self.assertIn('memo index', self.refused_pickle(b'\x80\x02N' + puts + b'.'))

  def test_memo_index_below_zero(self):
    self.assertIn('memo index', self.refused_pickle(b'\x80\x02Np-1\n.'))

  def test_memo_of_the_text_protocol_still_serves(self):
    data = layouts.batch(
      extra=(
        layouts.short_string(b'x')
        + b'Np4294967295\n'
        + layouts.short_string(b'y')
        + b'g4294967295\n'
      )
    )
    split = layouts.formats.decode_pickle(data, 'batch', layouts.RECORDS)
    self.assertEqual(split.labels.tolist(), layouts.LABELS)

  def test_text_that_is_encoded_time_and_again(self):
    """4 MB of text, 1,000 times from the memo: 4 GB of bytes."""
    encode = (
      layouts.text(b'x' * (4 << 20))
      + b'q\0'
      + layouts.text(b'latin1')
      + b'q\1c_codecs\nencode\nq\2'
    )
    self.assertIn(
      'more bytes than it has',
      self.refused_pickle(
        b'\x80\x02' + encode + b'](' + b'h\2h\0h\1\x86R' * 1000 + b'e.'
      ),
    )

  @parameterized.parameters((b'u1', 1), (b'i8', 8), (b'f8', 8))
  def test_labels_by_the_million(self, code, size):
    """As a list of Python's numbers they take eight times the bytes."""
    count = (48 << 20) // size
    labels = layouts.array((count,), code, b'\x7f' * (size * count))
    self.assertIn(
      "'labels' is not", self.refused_pickle(layouts.batch(labels=labels))
    )

  @parameterized.parameters(
    (b'cnumpy\ndtype\n(', b'K\0K\1tR'),
    (b'c_codecs\nencode\n(' + layouts.text(b'x'), b'tR'),
  )
  def test_name_of_megabytes(self, before, after):
    """It would come into the message four times as long."""
    name = layouts.string(bytes(48 << 20))
    self.assertIn(
      'a name of over',
      self.refused_pickle(b'\x80\x02' + before + name + after + b'.'),
    )

  def test_list_in_a_list_a_million_times(self):
    self.assertIn(
      'holds a list',
      self.refused_pickle(b'\x80\x02' + b']' * 400000 + b'a' * 399999 + b'.'),
    )

  def test_labels_that_hold_themselves(self):
    self.assertIn(
      "'labels' is not",
      self.refused_pickle(layouts.batch(labels=b']q\0(h\0h\0h\0e')),
    )

  def test_pairs_that_double_sixty_times(self):
    """Each holds the one before twice: printed, they would fill the earth."""
    doubled = b']' + b''.join(b'q%ch%c\x86' % (i, i) for i in range(60))
    self.assertIn(
      "'labels' is not", self.refused_pickle(layouts.batch(labels=doubled))
    )


def packed(*parts):
  """The gzip file of (bytes, how often)."""
  return b''.join(gzip.compress(data) * times for data, times in parts)


def blocks(record):
  """1 MB of a record of 512 bytes, or of a part of that."""
  return record * ((1 << 20) // len(record))


def sparse_header():
  """An old GNU sparse member whose map goes on behind the header."""
  header = bytearray(layouts.member(FOLDER + '/x', kind=tarfile.GNUTYPE_SPARSE))
  header[386:482] = b'00000000001\0' * 8
  header[482] = 1
  header[483:495] = b'00000000001\0'
  header[148:156] = b' ' * 8
  header[148:156] = b'%06o\0 ' % sum(header)
  return bytes(header)


def pax(body, kind=tarfile.XHDTYPE):
  """A pax header and the empty member that it is for."""
  return layouts.member('././@PaxHeader', body, kind=kind) + layouts.member(
    FOLDER + '/x'
  )


def pax_record(key):
  """9 bytes for a key of 4 letters and a value of none."""
  return b'8 %s=\n' % key


class ArchiveTest(HostileTestCase):
  def refused_archive(self, data, **kwargs):
    self.assertLess(len(data), 5 << 20)
    return self.refused('cifar-10-binary.tar.gz', data, **kwargs)

  def test_gigabytes_of_nothing(self):
    """4 MB that unpack to 4 GB, behind the end of the tar file."""
    self.assertIn(
      'more than its files',
      self.refused_archive(
        packed(
          (layouts.tar(layouts.member(FOLDER + '/x')), 1),
          (bytes(1 << 20), 4000),
        )
      ),
    )

  def test_zeros_behind_the_end_of_the_stream(self):
    """200 MB that take no disk, which gzip skips one by one: half a minute."""
    data = packed((layouts.tar(layouts.member(FOLDER + '/x')), 1))
    for size, expected in (
      (200 << 20, 'zeros behind'),
      (60000, 'is not in it'),
    ):
      with self.subTest(size):
        self.assertIn(
          expected, self.refused_archive(data, length=len(data) + size)
        )

  def test_many_files_of_nothing(self):
    """200 KB that unpack to 1.2 GB, of which no file is too large."""
    self.assertIn(
      'unpacks to over',
      self.refused_archive(
        packed((layouts.member(FOLDER + '/x', bytes(60 << 20)), 20))
      ),
    )

  def test_map_of_a_sparse_member_that_goes_on(self):
    more = b'00000000001\0' * 42 + b'\1' + bytes(7)
    self.assertIn(
      'more than its files',
      self.refused_archive(packed((sparse_header(), 1), (blocks(more), 700))),
    )

  def test_map_of_a_pax_sparse_member_that_goes_on(self):
    header = layouts.member(
      FOLDER + '/x', pax={'GNU.sparse.major': '1', 'GNU.sparse.minor': '0'}
    )
    self.assertIn(
      'more than its files',
      self.refused_archive(
        packed(
          (header + b'900000000\n' + b'0\n' * 251, 1), (blocks(b'0\n'), 700)
        )
      ),
    )

  def test_sparse_member(self):
    """64 MB of zeros for 512 bytes of an archive."""
    header = layouts.member(
      FOLDER + '/x',
      bytes(512),
      pax={'GNU.sparse.map': '0,1', 'GNU.sparse.size': str(60 << 20)},
    )
    self.assertIn(
      'does not belong', self.refused_archive(packed((layouts.tar(header), 1)))
    )

  @parameterized.parameters(b'1' * 60000, b'9' * 60000 + b' hdrcharse')
  def test_pax_header_that_is_searched_by_the_square(self, body):
    self.assertIn(
      'a header of 600',
      self.refused_archive(packed((pax(body) * 50, 10), (bytes(1024), 1))),
    )

  @parameterized.parameters(b'1' * 2000, b'9' * 2000 + b' hdrcharse')
  def test_many_small_pax_headers_that_are_searched_by_the_square(self, body):
    # tarfile of Python 3.13 does not search, and refuses them itself.
    self.assertRegex(
      self.refused_archive(packed((pax(body) * 50, 10), (bytes(1024), 1))),
      'more than its files|invalid header',
    )

  def test_header_for_all_members_that_each_would_copy(self):
    """250 keys for all, then 250 more, ...: 100 GB of copies."""
    members = b''.join(
      pax(
        b''.join(pax_record(b'%04x' % (250 * i + k)) for k in range(250)),
        tarfile.XGLTYPE,
      )
      + pax(pax_record(b'path'))
      for i in range(200)
    )
    self.assertIn(
      'for all members', self.refused_archive(packed((layouts.tar(members), 1)))
    )

  def test_pax_headers_of_many_keys(self):
    body = b''.join(pax_record(b'%04x' % i) for i in range(3500))
    self.refused_archive(packed((pax(body) * 30, 30), (bytes(1024), 1)))

  @parameterized.parameters('-1', str(1 << 70), '1e9', '\u0663')
  def test_size_in_a_pax_header(self, size):
    self.refused_archive(
      packed(
        (
          layouts.tar(
            layouts.member(
              FOLDER + '/test_batch.bin', b'x' * 512, pax={'size': size}
            )
          ),
          1,
        )
      )
    )

  def test_negative_size(self):
    """In base 256, as GNU tar writes large numbers: it leads back to itself."""
    header = bytearray(layouts.member(FOLDER + '/x'))
    header[124:136] = b'\xff' * 10 + b'\xfc\x00'
    header[148:156] = b' ' * 8
    header[148:156] = b'%06o\0 ' % sum(header)
    self.refused_archive(packed((bytes(header), 1), (bytes(1024), 1)))

  def test_file_that_is_mostly_a_hole(self):
    """gzip allows zeros behind its end, and reads them one by one."""
    data = gzip.compress(layouts.tar(layouts.member(FOLDER + '/x')))
    path = (
      self.create_tempdir()
      .create_file('cifar-10-binary.tar.gz', data, 'wb')
      .full_path
    )
    os.truncate(path, 1 << 40)
    with self.assertRaisesRegex(layouts.UserError, '%s: over' % path):
      list(layouts.formats.read_layout(path))


class RepeatedNameTest(layouts.ArchiveTestCase):
  """tar extracts the last of them: which one is meant?"""

  def test_file_that_is_in_it_twice_is_refused(self):
    self.write(
      gzip.compress(
        layouts.tar(
          *[
            layouts.member(
              FOLDER + '/test_batch.bin', layouts.binary_file(label)
            )
            for label in (3, 4)
          ]
        ),
        1,
      )
    )
    self.assertIn('twice', self.refused())

  def test_other_way_to_write_the_name_is_the_same_file(self):
    self.write(
      gzip.compress(
        layouts.tar(
          *[
            layouts.member(name, layouts.binary_file(3))
            for name in (
              FOLDER + '/test_batch.bin',
              './%s//test_batch.bin' % FOLDER,
            )
          ]
        ),
        1,
      )
    )
    self.assertIn('twice', self.refused())


if __name__ == '__main__':
  absltest.main()
