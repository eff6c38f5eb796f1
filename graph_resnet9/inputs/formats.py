"""CIFAR-10's own file layouts, from bytes to NumPy arrays. No TensorFlow here.

Binary layout, cifar-10-batches-bin/{data_batch_1..5,test_batch}.bin: 10,000
records of 3,073 bytes each, one label byte and then 3,072 pixel bytes in the
order channel, row, column. Pickled layout,
cifar-10-batches-py/{data_batch_1..5,test_batch}: a dict with b'data' (uint8
[10000, 3072], the same pixel order) and b'labels'. Both also as .tar.gz
archives of the folder.

Whatever the bytes say, no code of theirs is run and nothing is written: pickles
go through an unpickler of our own (pickles.py), archives are read member by
member into memory.

Source: https://www.cs.toronto.edu/~kriz/cifar.html, "Dataset layout".
"""

import gzip
import os
import tarfile
from typing import NamedTuple

import numpy as np

from graph_resnet9 import files
from graph_resnet9.errors import UserError
from graph_resnet9.inputs import cifar
from graph_resnet9.inputs import pickles

IMAGE_SHAPE = (32, 32, 3)
RECORD_BYTES = 1 + 32 * 32 * 3  # Of CIFAR-10.
FILE_RECORDS = 10000
CLASS_NAMES = cifar.CIFAR10.class_names
CLASSES = len(CLASS_NAMES)
TRAIN_STEMS, TEST_STEMS = (
  cifar.CIFAR10.stems[split] for split in ('train', 'test')
)
LAYOUTS = cifar.CIFAR10.layouts
BINARY_FOLDER, PICKLE_FOLDER, BINARY_ARCHIVE, PICKLE_ARCHIVE = LAYOUTS
# Of a long name or pax header: tarfile searches one in time by its square.
MAX_HEADER_BYTES = 2 << 10
# Of all members together, and behind the last; a canonical archive has 15 KB.
MAX_HEADERS_BYTES = 1 << 20
# Five times what the canonical archives unpack to, 1.5 times their own size.
MAX_ARCHIVE_BYTES = 1 << 30
MAX_PACKED_BYTES = 256 << 20
MAX_MEMBERS = 1000
# As tapes have them, to a whole block.
MAX_PADDING_BYTES = 64 << 10


class Split(NamedTuple):
  """One split: images uint8 [n, 32, 32, 3] in RGB, labels int32 [n]."""

  images: np.ndarray
  labels: np.ndarray

  def first(self, examples):
    """The first `examples` of the split; all of them if 0."""
    return Split(*(part[: examples or None] for part in self))

  def share(self, index, count):
    """Every `count`-th example from `index` on; all shares are as large."""
    size = len(self.labels) // count
    return Split(*(part[index::count][:size] for part in self))


def decode_records(data, name, records=FILE_RECORDS, kind=cifar.CIFAR10):
  """Decodes one file of the binary layout.

  Args:
    data: bytes-like, the whole file.
    name: what to call the file in an error.
    records: int, how many records the file must hold; None: any number.
    kind: cifar.Kind.
  Returns:
    Split.
  Raises:
    UserError: the size is not that of `records` records, or a label is none of
      the data set.
  """
  size = kind.label_bytes + 32 * 32 * 3
  if records is None and (len(data) % size or not data):
    raise UserError(
      '%s: %d bytes are no whole number of records of %d bytes'
      % (name, len(data), size)
    )
  if records is not None and len(data) != records * size:
    raise UserError(
      '%s: %d bytes, where %d records of %d bytes make %d: the file is cut '
      'off or not %s; fetch it again'
      % (name, len(data), records, size, records * size, kind.title)
    )
  rows = np.frombuffer(data, np.uint8).reshape(-1, size)
  return _split(rows[:, kind.label_bytes :], rows[:, kind.label], name, kind)


def encode_records(split):
  """The binary layout of a Split, as uint8 [n, 3073]."""
  pixels = split.images.transpose(0, 3, 1, 2).reshape(len(split.labels), -1)
  return np.concatenate([split.labels.astype(np.uint8)[:, None], pixels], 1)


def decode_pickle(data, name, records=FILE_RECORDS, kind=cifar.CIFAR10):
  """Decodes one file of the pickled layout; as decode_records."""
  content = pickles.load(data, name)
  if not isinstance(content, dict):
    raise UserError(
      '%s: holds a %s, not the dict of a %s batch'
      % (name, type(content).__name__, kind.title)
    )
  content = {
    k.encode('utf-8', 'replace') if isinstance(k, str) else k: v
    for k, v in content.items()
  }
  key = kind.key.decode()
  if b'data' not in content or kind.key not in content:
    raise UserError(
      "%s: no 'data' and '%s' in it; expected a batch of %s/"
      % (name, key, kind.pickled)
    )
  pixels = pickles.array_of(content[b'data'])
  if (
    pixels is None
    or pixels.dtype != np.uint8
    or pixels.shape != (records, RECORD_BYTES - 1)
  ):
    raise UserError(
      "%s: 'data' is %s, not uint8 [%d, %d]; fetch the file again"
      % (
        name,
        'no array'
        if pixels is None
        else '%s %s' % (pixels.dtype, list(pixels.shape)),
        records,
        RECORD_BYTES - 1,
      )
    )
  labels = content[kind.key]
  if not isinstance(labels, (list, tuple)):
    labels = pickles.array_of(labels)
    if labels is not None:
      # Not a list of millions, only to count it.
      labels = labels.tolist() if labels.shape == (records,) else None
  if (
    labels is None
    or len(labels) != records
    or not all(isinstance(label, int) for label in labels)
  ):
    raise UserError(
      "%s: '%s' is not a list of %d integers; fetch the file again"
      % (name, key, records)
    )
  return _split(pixels, labels, name, kind)


def _split(pixels, labels, name, kind):
  """Split from pixels [n, 3072], channel first, and labels of any int type."""
  for i, label in enumerate(labels):
    if not 0 <= label < len(kind.class_names):
      raise UserError(
        '%s: record %d has label %d, and %s has labels 0 to %d: the file is '
        'damaged or not %s; fetch it again'
        % (
          name,
          i,
          max(-(2**80), min(label, 2**80)),
          kind.title,
          len(kind.class_names) - 1,
          kind.title,
        )
      )
  images = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
  return Split(np.ascontiguousarray(images), np.array(labels, np.int32))


# Reading a folder or an archive.


def read_layout(path, stems=TRAIN_STEMS + TEST_STEMS, kind=cifar.CIFAR10):
  """Reads files of a data set, one after the other.

  Args:
    path: a folder or an archive of it, as of Kind.path.
    stems: names of files to read, without the suffix .bin.
    kind: cifar.Kind.
  Yields:
    (stem, Split), in the order of `stems` from a folder, in its own order from
    an archive.
  Raises:
    UserError: a file is missing, damaged, or hostile.
  """
  binary = kind.is_binary(path)
  suffix, decode = ('.bin', decode_records) if binary else ('', decode_pickle)
  if os.path.basename(os.path.normpath(path)) in kind.archives:
    contents = _archive_files(
      path,
      kind.binary if binary else kind.pickled,
      [stem + suffix for stem in stems],
      kind,
    )
  else:
    contents = (
      (stem + suffix, _file_bytes(os.path.join(path, stem + suffix), kind))
      for stem in stems
    )
  for name, data in contents:
    stem = name.removesuffix('.bin')
    records = kind.records.get(stem)
    yield stem, decode(data, os.path.join(path, name), records, kind)


def _file_bytes(path, kind):
  """The bytes of a file that is no larger than one of its data set can be."""
  if os.path.isdir(path):
    raise UserError('%s: a directory, where a data file belongs' % path)
  try:
    with files.open_regular(path) as f:
      data = f.read(kind.max_file_bytes + 1)
  except FileNotFoundError:
    raise UserError(
      '%s: missing; unpack the whole archive again' % path
    ) from None
  except OSError as e:
    raise UserError('%s: cannot be read: %s' % (path, e.strerror)) from None
  if len(data) > kind.max_file_bytes:
    raise UserError(
      '%s: over %d bytes, too large for a file of %s'
      % (path, kind.max_file_bytes, kind.title)
    )
  return data


class _Packed:
  """A gzip file without zeros by the megabyte behind a stream of it.

  gzip looks at them one by one: minutes, for a sparse file that takes no disk.
  """

  def __init__(self, packed):
    self._packed, self._zeros = packed, 0

  def read(self, size):
    data = self._packed.read(size)
    self._zeros = self._zeros + 1 if data == b'\0' else 0
    if self._zeros > MAX_PADDING_BYTES:
      raise tarfile.ReadError('zeros behind its end')
    return data


class _Limited:
  """A stream that ends in an error after MAX_ARCHIVE_BYTES, or at `headers`.

  10 MB of gzip can unpack to 10 GB, of which no member needs to be large: the
  map of a sparse member, for one, goes on as long as it says of itself.

  headers: how far one may read if all but the data of the members so far is
  headers.
  """

  def __init__(self, stream):
    self._stream, self._at, self.headers = stream, 0, MAX_HEADERS_BYTES

  def read(self, size):
    data = self._stream.read(size)
    self._at += len(data)
    for limit, text in (
      (MAX_ARCHIVE_BYTES, 'it unpacks to over %d bytes'),
      (self.headers, 'it unpacks to over %d bytes, more than its files are'),
    ):
      if self._at > limit:
        raise tarfile.ReadError(text % limit)
    return data


class _Member(tarfile.TarInfo):
  """A member whose own header is small: tarfile reads long names, sparse maps
  and the like whole, before anybody can look at their size."""

  @classmethod
  def frombuf(cls, buf, encoding, errors):
    member = super().frombuf(buf, encoding, errors)
    if not member.isreg() and member.size > MAX_HEADER_BYTES:
      raise tarfile.ReadError('a header of %d bytes' % member.size)
    if member.type == tarfile.XGLTYPE:  # Each later member would keep a copy.
      raise tarfile.ReadError('a header for all members')
    return member


def _open_archive(path):
  """Opens an archive that is no larger than one of CIFAR-10 can be."""
  try:
    packed = files.open_regular(path)
  except FileNotFoundError:
    raise UserError('%s: missing' % path) from None
  except OSError as e:
    raise UserError('%s: cannot be read: %s' % (path, e.strerror)) from None
  if os.fstat(packed.fileno()).st_size > MAX_PACKED_BYTES:
    packed.close()
    raise UserError(
      '%s: over %d bytes, too large for a CIFAR-10 archive'
      % (path, MAX_PACKED_BYTES)
    )
  return packed


def _archive_files(path, folder, names, kind):
  """Yields (name, bytes) of each of `names` under `folder` in a .tar.gz.

  Members are read into memory and nothing is extracted. An archive with a
  member outside `folder`, or that is neither a file nor a directory, or too
  large, is refused as a whole: no honest copy of the data set has one.
  """
  if os.path.isdir(path):
    raise UserError('%s: a directory, where an archive belongs' % path)
  missing = set(names)
  try:
    # Not tarfile's own 'r|gz', which does not verify gzip's checksum.
    with (
      _open_archive(path) as packed,
      gzip.open(_Packed(packed)) as unpacked,
      tarfile.open(
        fileobj=(stream := _Limited(unpacked)), mode='r|', tarinfo=_Member
      ) as archive,
    ):
      for count, member in enumerate(archive):
        if count >= MAX_MEMBERS:
          raise tarfile.ReadError('it has over %d members' % MAX_MEMBERS)
        stream.headers += archive.offset - member.offset_data
        parts = [p for p in member.name.split('/') if p not in ('', '.')]
        if (
          member.name.startswith('/')
          or '..' in parts
          or (parts and parts[0] != folder)
          or not (member.isfile() or member.isdir())
          or member.issparse()
        ):
          raise UserError(
            '%s: refused, its member %.999r does not belong into '
            '%s/; fetch the official archive' % (path, member.name, folder)
          )
        if member.size > kind.max_file_bytes:
          raise UserError(
            '%s: refused, its member %.999r is over %d bytes'
            % (path, member.name, kind.max_file_bytes)
          )
        name = '/'.join(parts[1:])
        if member.isfile() and name in names:
          if name not in missing:  # tar would extract the last one.
            raise UserError(
              '%s: refused, %s is in it twice' % (path, member.name)
            )
          missing.remove(name)
          yield name, archive.extractfile(member).read()
      while stream.read(1 << 20):  # To the end, where the checksum is.
        pass
  except UserError:
    raise
  # Hostile bytes make tarfile raise ValueError and RecursionError, too.
  except Exception as e:  # pylint: disable=broad-except
    raise UserError(
      '%s: not a readable .tar.gz archive (%s): it is cut off or '
      'damaged; fetch it again' % (path, str(e)[:999])
    ) from None
  if missing:
    raise UserError(
      '%s: %s/%s is not in it; fetch it again'
      % (path, folder, sorted(missing)[0])
    )
