"""Picture files of any size to images as the network knows them."""

import contextlib
import os
import struct
import sys

import numpy as np
import tensorflow.compat.v1 as tf

from graph_resnet9 import files
from graph_resnet9.errors import UserError
from graph_resnet9.inputs import augment
from graph_resnet9.inputs import png_chunks

# Larger files and pictures are refused before they are decoded: a PNG file of
# a megabyte can stand for gigabytes of pixels. As many as cameras have take
# 1.1 GB on the way where they are transparent, and 0.3 GB otherwise.
MAX_BYTES = 2**28
MAX_PIXELS = 3 * 2**24
# A progressive JPEG has about ten, and each goes over all of the picture: 200
# of 75 bytes make a file of 200 KB take 29 times as long.
MAX_SCANS = 100
_PNG = b'\x89PNG\r\n\x1a\n'
_JPEG = b'\xff\xd8\xff'
_SCAN = b'\xff\xda'  # Nothing else is these two bytes, but for a thumbnail.
_SUFFIXES = ('.png', '.jpg', '.jpeg')
# Exif's orientations 1 .. 8: is the picture mirrored, and how many quarter
# turns to the left bring it upright after that.
_UPRIGHT = (
  (False, 0),
  (True, 0),
  (False, 2),
  (True, 2),
  (True, 1),
  (False, 3),
  (True, 3),
  (False, 1),
)


def listed(arguments, lines):
  """The files that arguments of a command stand for, one after the other.

  Args:
    arguments: names of files; of folders, which stand for the PNG and JPEG
      files in and below them, by suffix, in the order of their names; or '-'.
    lines: iterable of names of files and folders, each with its line end; read
      where the argument is '-'.
  Yields:
    Names of files, and of each folder in which there is none.
  """
  for argument in arguments:
    names = [argument]
    if argument == '-':
      names = (line.rstrip('\n') for line in lines if line != '\n')
    for name in names:
      below = _pictures_below(name) if os.path.isdir(name) else ()
      yield from below or [name]


def _pictures_below(folder):
  try:
    entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
  except OSError:
    return []
  paths = []
  for entry in entries:
    if entry.is_dir(follow_symlinks=False):  # Links may lead in a circle.
      paths += _pictures_below(entry.path)
    elif entry.name.lower().endswith(_SUFFIXES):
      paths.append(entry.path)
  return paths


class Reader:
  """Reads PNG and JPEG files with TensorFlow's decoders, in a session.

  The largest square in the middle of the picture is scaled to 32x32 pixels. GIF
  is left out: its decoder unpacks all frames first, whatever their size.
  """

  def __init__(self):
    with tf.Graph().as_default() as graph, tf.device('/cpu:0'):
      self._contents = tf.placeholder(tf.string, [], 'contents')
      # 16 bits a channel come as 8, grey and palettes as RGB.
      self._png = _scaled(tf.io.decode_png(self._contents, 3))
      self._alpha_png = _scaled(_on_white(tf.io.decode_png(self._contents, 4)))
      self._jpeg = _scaled(
        tf.io.decode_jpeg(self._contents, 3, dct_method='INTEGER_ACCURATE')
      )
      self._jpeg_shape = tf.io.extract_jpeg_shape(self._contents)
    self._session = tf.Session(graph=graph)

  def __enter__(self):
    return self

  def __exit__(self, *unused):
    self._session.close()

  def read(self, path):
    """The image in a file.

    Returns:
      [32, 32, 3] uint8 array.
    Raises:
      UserError: it cannot be read, is no PNG or JPEG, damaged or too large.
    """
    contents = _contents(path)
    kind = 'PNG' if contents.startswith(_PNG) else 'JPEG'
    try:
      if kind == 'PNG':
        sizes = png_chunks.size(contents)
      else:
        if contents.count(_SCAN) > MAX_SCANS:
          raise UserError(
            '%s: refused, it draws the picture in over %d scans'
            % (path, MAX_SCANS)
          )
        sizes = self._run(self._jpeg_shape, contents)[:2]
      if int(sizes[0]) * int(sizes[1]) > MAX_PIXELS:
        raise UserError(
          '%s: too large, more than %d megapixels' % (path, MAX_PIXELS / 1e6)
        )
      image = self._jpeg
      if kind == 'PNG':
        contents = png_chunks.picture(contents)
        alpha = png_chunks.has_alpha(contents)
        image = self._alpha_png if alpha else self._png
      pixels = self._run(image, contents)
    except png_chunks.TooMuch:
      raise UserError(
        '%s: refused, far more is in it than its pixels' % path
      ) from None
    except (struct.error, tf.errors.InvalidArgumentError):
      raise UserError('%s: a damaged or truncated %s' % (path, kind)) from None
    return pixels if kind == 'PNG' else upright(pixels, orientation(contents))

  def _run(self, fetch, contents):
    with _silent():
      return self._session.run(fetch, {self._contents: contents})


@contextlib.contextmanager
def _silent():
  """Nothing reaches stderr: libjpeg has remarks of its own on damaged files."""
  sys.stderr.flush()
  stderr = os.dup(2)
  with open(os.devnull, 'w') as nowhere:
    os.dup2(nowhere.fileno(), 2)
  try:
    yield
  finally:
    os.dup2(stderr, 2)
    os.close(stderr)


def _contents(path):
  """The bytes of a PNG or JPEG file; raises UserError."""
  try:
    with files.open_input(path, MAX_BYTES + 1) as f:
      contents = f.read(len(_PNG))
      if not contents.startswith((_PNG, _JPEG)):
        raise UserError(
          '%s: %s'
          % (path, 'neither PNG nor JPEG' if contents else 'an empty file')
        )
      contents += f.read(MAX_BYTES)
  except IsADirectoryError:
    raise UserError(
      '%s: a folder without PNG or JPEG files that can be read' % path
    ) from None
  except OSError as e:
    raise UserError('%s: %s' % (path, e.strerror)) from None
  except ValueError as e:  # A name that no file can have.
    raise UserError('%s: %s' % (path, e)) from None
  if len(contents) > MAX_BYTES:
    raise UserError('%s: too large, more than %d MB' % (path, MAX_BYTES / 1e6))
  return contents


def _on_white(picture):
  """[height, width, 4] uint8 on a white ground: [height, width, 3] uint8."""
  # uint16 holds 255 * 255, in half of the memory of float32.
  picture = tf.cast(picture, tf.uint16)
  colour, alpha = picture[..., :3], picture[..., 3:]
  white = tf.constant(255, tf.uint16)
  return tf.cast(
    (colour * alpha + white * (white - alpha) + 127) // white, tf.uint8
  )


def _scaled(picture):
  """The square in the middle of a picture, scaled without aliasing.

  Each pixel is a mean with weights that fall off linearly over the distance of
  two pixels of the result; in a picture that has to grow, bilinear. One of
  32x32 pixels stays as it is.

  Args:
    picture: [height, width, 3] uint8 Tensor.
  Returns:
    [32, 32, 3] uint8 Tensor.
  """
  height, width = tf.unstack(tf.shape(picture)[:2])
  side = tf.minimum(height, width)
  top, left = (height - side) // 2, (width - side) // 2
  square = picture[top : top + side, left : left + side]
  scale = augment.SIDE / tf.cast(side, tf.float32)
  scaled = tf.raw_ops.ScaleAndTranslate(
    images=square[None],
    size=[augment.SIDE] * 2,
    scale=tf.stack([scale] * 2),
    translation=[0.0, 0.0],
    kernel_type='triangle',
    antialias=True,
  )[0]
  return tf.saturate_cast(tf.round(scaled), tf.uint8)


def orientation(contents):
  """Exif's orientation of a JPEG, 1 .. 8; 1 if it says none.

  Source: Exif 2.3, CIPA DC-008, 4.5 and 4.6.4; the tag is 0x0112 of IFD 0.
  """
  at = 2
  try:
    while contents[at] == 0xFF and contents[at + 1] != 0xDA:
      (size,) = struct.unpack_from('>H', contents, at + 2)
      if contents[at + 1] == 0xE1 and contents[at + 4 : at + 10] == b'Exif\0\0':
        return _orientation_in(contents[at + 10 : at + 2 + size])
      at += 2 + size
  except (IndexError, struct.error):
    pass
  return 1


def _orientation_in(tiff):
  order = '<' if tiff[:2] == b'II' else '>'
  (first,) = struct.unpack_from(order + 'I', tiff, 4)
  (count,) = struct.unpack_from(order + 'H', tiff, first)
  for k in range(count):
    tag, kind, _, value = struct.unpack_from(
      order + 'HHIH', tiff, first + 2 + 12 * k
    )
    if (tag, kind) == (0x0112, 3) and 1 <= value <= 8:
      return value
  return 1


def upright(image, value):
  """The image turned as Exif's orientation says."""
  mirrored, turns = _UPRIGHT[value - 1]
  return np.rot90(image[:, ::-1] if mirrored else image, turns)
