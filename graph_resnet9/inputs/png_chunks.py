"""What of a PNG file makes its picture, before a decoder unpacks the rest.

libpng unpacks compressed texts and colour profiles whatever they come to, and
the pixels to the end of their stream, however many the picture has.
"""

import struct
import zlib

MAX_CHUNKS = 10**6
_SIGNATURE_BYTES = 8
_PIECE_BYTES = 1 << 20
# Values of a pixel, by the colour type.
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


class TooMuch(Exception):
  """It unpacks to more than its pixels, or has chunks by the million."""


def size(contents):
  """(width, height) of a PNG file.

  Raises:
    struct.error: the header is not in front.
  """
  kind, width, height = struct.unpack_from('>4sII5x', contents, 12)
  if kind != b'IHDR':
    raise struct.error
  return width, height


def has_alpha(contents):
  """Whether a PNG file has an alpha channel or transparent colours.

  Asked for the alpha of a file without it TensorFlow gives 1, 3 or 15 instead
  of 255 where a pixel has less than 8 bits.
  """
  colour_type = contents[25]
  return colour_type & 4 or b'tRNS' in contents[: contents.find(b'IDAT')]


def picture(contents):
  """The PNG file without what is no part of the picture: texts, profiles.

  Args:
    contents: bytes of a file, which may be damaged.
  Returns:
    bytes.
  Raises:
    TooMuch, struct.error.
  """
  limit = _most_bytes(contents)
  stream, unpacked = zlib.decompressobj(), 0
  parts, at = [contents[:_SIGNATURE_BYTES]], _SIGNATURE_BYTES
  for _ in range(MAX_CHUNKS):
    if at + 8 > len(contents):
      return b''.join([*parts, contents[at:]])
    length, kind = struct.unpack_from('>I4s', contents, at)
    chunk = contents[at : at + length + 12]
    at += length + 12
    if not kind[0] & 32 or kind == b'tRNS':  # A small letter: may be left out.
      parts.append(chunk)
    if kind == b'IDAT':
      for piece in _unpacked(stream, chunk[8:-4]):
        unpacked += piece
        if unpacked > limit:
          raise TooMuch
    if kind == b'IEND':
      return b''.join(parts)
  raise TooMuch


def _most_bytes(contents):
  """Twice what the pixels come to, for those that are sent in seven passes."""
  width, height = size(contents)
  bits, colour_type = contents[24:26]
  row_bits = width * bits * _CHANNELS.get(colour_type, 4)
  return 2 * height * (row_bits // 8 + 2) + 1024


def _unpacked(stream, data):
  """Yields how many bytes each piece of compressed data comes to."""
  try:
    while data and not stream.eof:
      yield len(stream.decompress(data, _PIECE_BYTES))
      data = stream.unconsumed_tail
  except zlib.error:
    return  # The decoder says so.
