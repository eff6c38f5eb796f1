"""Picture files to images: sizes, kinds of PNG and JPEG, hostile ones."""

import itertools
import os
import pathlib
import resource
import struct
import subprocess
import time
from unittest import mock
import zlib

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from graph_resnet9 import files
from graph_resnet9.errors import UserError
from graph_resnet9.inputs import picture_files
from graph_resnet9.inputs import png_chunks

GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
NOISE = np.random.RandomState(0).randint(256, size=[40, 40, 3]).astype(np.uint8)
# What the first row and the first column of a file are of the picture, by
# Exif's orientation: Exif 2.3, 4.6.4.
SIDES = {
  1: ('top', 'left'),
  2: ('top', 'right'),
  3: ('bottom', 'right'),
  4: ('bottom', 'left'),
  5: ('left', 'top'),
  6: ('right', 'top'),
  7: ('right', 'bottom'),
  8: ('left', 'bottom'),
}


def chunk(kind, content):
  return (
    struct.pack('>I', len(content))
    + kind
    + content
    + struct.pack('>I', zlib.crc32(kind + content))
  )


def png(width, height, depth, colour, row, *chunks):
  """A PNG file, all rows of which are the bytes `row`."""
  return (
    b'\x89PNG\r\n\x1a\n'
    + chunk(
      b'IHDR', struct.pack('>IIBBBBB', width, height, depth, colour, 0, 0, 0)
    )
    + b''.join(chunks)
    + chunk(b'IDAT', zlib.compress((b'\0' + row) * min(height, 32)))
    + chunk(b'IEND', b'')
  )


def exif(value, order):
  """An APP1 segment with an orientation behind another tag."""
  tiff = {'<': b'II*\0', '>': b'MM\0*'}[order] + struct.pack(
    order + 'IHHHIIHHIHHI', 8, 2, 0x010F, 2, 4, 0, 0x0112, 3, 1, value, 0, 0
  )
  return b'\xff\xe1' + struct.pack('>H', len(tiff) + 8) + b'Exif\0\0' + tiff


def triangle(size, square):
  """[32, size]: the weights of a square's rows in those of the image."""
  reach = max(square / 32, 1)
  at = (np.arange(32)[:, None] + 0.5) * square / 32 - 0.5
  weights = np.maximum(0, 1 - np.abs(np.arange(square) - at) / reach)
  weights /= weights.sum(1, keepdims=True)
  return np.pad(
    weights,
    [(0, 0), ((size - square) // 2, size - square - (size - square) // 2)],
  )


# First column and row of a pass, and the steps between them.
ADAM7 = (
  (0, 0, 8, 8),
  (4, 0, 8, 8),
  (0, 4, 4, 8),
  (2, 0, 4, 4),
  (0, 2, 2, 4),
  (1, 0, 2, 2),
  (0, 1, 1, 2),
)


class PicturesTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.reader = picture_files.Reader()
    cls.addClassCleanup(cls.reader.__exit__)

  def setUp(self):
    super().setUp()
    self.path = pathlib.Path(self.create_tempdir().full_path) / 'picture'

  def read(self, contents):
    self.path.write_bytes(contents)
    image = self.reader.read(str(self.path))
    self.assertEqual((image.shape, image.dtype), ((32, 32, 3), np.uint8))
    return image

  def refuses(self, contents, expected):
    self.path.write_bytes(contents)
    with self.assertRaisesRegex(UserError, expected) as caught:
      self.reader.read(str(self.path))
    self.assertIn(str(self.path), str(caught.exception))
    self.assertLen(str(caught.exception).splitlines(), 1)

  def test_png_that_unpacks_to_more_than_its_pixels_is_refused(self):
    """At 1000 to 1, so that a file of 268 MB would take ten minutes."""
    bomb = zlib.compress(bytes(8 << 20))
    good = tf.io.encode_png(NOISE[:32, :32]).numpy()
    head, tail = good[:33], good[-12:]
    self.refuses(head + chunk(b'IDAT', bomb) + tail, 'far more is in it')
    self.refuses(
      head + chunk(b'tEXt', b'a\0b') * 10**6 + good[33:], 'far more is in it'
    )

  @parameterized.parameters(
    (GREY, 1), (RGB, 3), (GREY_ALPHA, 2), (RGB_ALPHA, 4)
  )
  def test_twice_the_bytes_of_the_pixels_are_read(self, colour, channels):
    """And a filter byte and a started one a row, and a kibibyte."""
    most = 2 * 32 * (32 * channels + 2) + 1024
    good = png(32, 32, 8, colour, bytes(32 * channels))
    contents = lambda count: (
      good[:33] + chunk(b'IDAT', zlib.compress(bytes(count))) + good[-12:]
    )
    self.assertEqual(self.read(contents(most)).shape, (32, 32, 3))
    self.refuses(contents(most + 1), 'far more is in it')

  def test_text_that_speaks_of_transparency_makes_nothing_transparent(self):
    row = bytes([0b10100101] * 4)
    np.testing.assert_array_equal(
      self.read(png(32, 32, 1, GREY, row, chunk(b'tEXt', b'a\0tRNS'))),
      self.read(png(32, 32, 1, GREY, row)),
    )

  def test_texts_and_profiles_of_a_png_are_not_unpacked(self):
    bomb = zlib.compress(bytes(8 << 20))
    image = NOISE[:32, :32]
    good = tf.io.encode_png(image).numpy()
    extra = chunk(b'iCCP', b'x\0\0' + bomb)
    extra += chunk(b'zTXt', b'x\0\0' + bomb) * 500
    extra += chunk(b'iTXt', b'x\0\1\0\0\0' + bomb) * 490
    begin = time.process_time()
    np.testing.assert_array_equal(
      self.read(good[:33] + extra + good[33:]), image
    )
    self.assertLess(time.process_time() - begin, 2)  # Without the limit 18 s.

  @parameterized.parameters(*itertools.product((0, 2, 4, 6), (0, 1)))
  def test_limit_leaves_room_for_every_png(self, colour_type, interlaced):
    """The bytes of a picture's rows, as the format counts them."""
    for bits in (8, 16):
      for width, height in ((1, 1), (1, 3000), (3000, 1), (7, 5), (64, 64)):
        header = struct.pack(
          '>IIBBBBB', width, height, bits, colour_type, 0, 0, interlaced
        )
        values = {0: 1, 2: 3, 4: 2, 6: 4}[colour_type]
        count = 0
        for x, y, dx, dy in ADAM7 if interlaced else [(0, 0, 1, 1)]:
          columns, rows = -(-(width - x) // dx), -(-(height - y) // dy)
          if columns > 0 and rows > 0:
            count += rows * (1 + columns * values * bits // 8)
        contents = (
          b'\x89PNG\r\n\x1a\n'
          + chunk(b'IHDR', header)
          + chunk(b'IDAT', zlib.compress(bytes(count)))
          + chunk(b'IEND', b'')
        )
        self.assertEqual(png_chunks.picture(contents), contents)

  def test_image_of_the_data_set_stays_as_it_is(self):
    image = NOISE[:32, :32]
    np.testing.assert_array_equal(
      self.read(tf.io.encode_png(image).numpy()), image
    )

  def test_what_shines_through_is_white(self):
    """Rounded to the nearest, for every opacity."""
    opacity, colour = np.meshgrid(
      np.linspace(0, 255, 32).astype(int), NOISE[0, :32, 0]
    )
    picture = np.stack([colour, 255 - colour, 0 * colour, opacity], -1)
    share = opacity[..., None] / 255
    np.testing.assert_array_equal(
      self.read(tf.io.encode_png(picture.astype(np.uint8)).numpy()),
      np.rint(picture[..., :3] * share + 255 * (1 - share)),
    )

  @parameterized.parameters(
    (96, 96), (33, 57), (100, 45), (20, 20), (1, 1), (7, 200)
  )
  def test_square_in_the_middle_by_triangles(self, height, width):
    picture = np.random.RandomState(1).randint(256, size=[height, width, 3])
    side = min(height, width)
    expected = np.einsum(
      'ri,sj,ijc->rsc', triangle(height, side), triangle(width, side), picture
    )
    got = self.read(tf.io.encode_png(picture.astype(np.uint8)).numpy())
    np.testing.assert_allclose(got, expected, atol=0.51)

  def test_jpeg_is_the_picture_but_for_its_losses(self):
    y, x = np.mgrid[:64, :64]
    picture = np.stack([2 * x, 255 - 2 * y, x + y], -1).astype(np.uint8)
    expected = np.einsum(
      'ri,sj,ijc->rsc', triangle(64, 64), triangle(64, 64), picture
    )
    for how in (dict(), dict(progressive=True)):
      got = self.read(tf.io.encode_jpeg(picture, quality=98, **how).numpy())
      np.testing.assert_allclose(got, expected, atol=4)

  def test_grey_jpeg(self):
    got = self.read(
      tf.io.encode_jpeg(
        np.full([50, 50, 1], 77, np.uint8), format='grayscale'
      ).numpy()
    )
    np.testing.assert_array_equal(got, 77)

  @parameterized.parameters(
    (1, GREY, b'\xff' * 4, 255),
    (1, GREY, b'\0' * 4, 0),
    (2, GREY, b'\x55' * 8, 85),
    (4, GREY, b'\x22' * 16, 34),
    (8, GREY, b'\x99' * 32, 153),
    (16, GREY, b'\x99\x01' * 32, 153),
    (8, RGB, b'\x99' * 96, 153),
    (16, RGB, b'\x99\x01' * 96, 153),
    (8, GREY_ALPHA, b'\x99\xff' * 32, 153),
    (8, GREY_ALPHA, b'\0\0' * 32, 255),
    (8, RGB_ALPHA, b'\0\0\0\0' * 32, 255),
    (8, RGB_ALPHA, b'\x0a\x0a\x0a\x33' * 32, round(0.2 * 10 + 0.8 * 255)),
    (8, RGB_ALPHA, b'\x0a\x0a\x0a\x64' * 32, round(255 - 245 * 100 / 255)),
    (8, RGB_ALPHA, b'\x0a\x0a\x0a\x1b' * 32, round(255 - 245 * 27 / 255)),
    (16, RGB_ALPHA, b'\x0a\0\x0a\0\x0a\0\x33\x33' * 32, 206),
  )
  def test_kinds_of_png(self, depth, colour, row, expected):
    np.testing.assert_array_equal(
      self.read(png(32, 32, depth, colour, row)), expected
    )

  @parameterized.parameters(1, 4, 8)
  def test_palette_with_and_without_a_transparent_colour(self, depth):
    row = {1: b'\xff' * 4, 4: b'\x11' * 16, 8: b'\1' * 32}[depth]
    palette = chunk(b'PLTE', bytes([1, 2, 3, 40, 50, 60]))
    np.testing.assert_array_equal(
      self.read(png(32, 32, depth, PALETTE, row, palette))[5, 5], [40, 50, 60]
    )
    np.testing.assert_array_equal(
      self.read(
        png(32, 32, depth, PALETTE, row, palette, chunk(b'tRNS', b'\xff\0'))
      )[5, 5],
      255,
    )

  @parameterized.product(value=list(SIDES), order=['<', '>'])
  def test_turned_by_exif(self, value, order):
    picture = np.zeros([64, 64, 3], np.uint8)
    picture[:32, :32] = 255  # Upper left: white, upper right: red.
    picture[:32, 32:, 0] = 255
    picture[32:, :32, 2] = 255
    row, column = SIDES[value]
    stored = picture.swapaxes(0, 1) if row in ('left', 'right') else picture
    stored = stored[::-1] if row in ('bottom', 'right') else stored
    stored = stored[:, ::-1] if column in ('bottom', 'right') else stored
    jpeg = tf.io.encode_jpeg(stored, quality=95).numpy()
    got = self.read(jpeg[:2] + exif(value, order) + jpeg[2:])
    np.testing.assert_allclose(
      got[8::16, 8::16], picture[16::32, 16::32], atol=8
    )

  def test_exif_that_is_damaged_turns_nothing(self):
    jpeg = tf.io.encode_jpeg(NOISE, quality=95).numpy()
    plain = self.read(jpeg)
    whole = exif(6, '<')
    for body in (
      whole[4:-20],
      whole[4:12],
      b'Exif\0\0',
      whole[4:14] + b'\xff' * 8,
      exif(9, '<')[4:],
    ):
      segment = b'\xff\xe1' + struct.pack('>H', len(body) + 2) + body
      np.testing.assert_array_equal(
        self.read(jpeg[:2] + segment + jpeg[2:]), plain
      )

  def test_truncated_or_damaged_files(self):
    for contents in (
      tf.io.encode_png(NOISE).numpy(),
      tf.io.encode_jpeg(NOISE, quality=95).numpy(),
    ):
      for size in (8, 9, 20, 30, 100, len(contents) // 2):
        self.refuses(contents[:size], 'damaged or truncated (PNG|JPEG)')
    contents = bytearray(tf.io.encode_png(NOISE).numpy())
    contents[200] ^= 1
    self.refuses(bytes(contents), 'damaged or truncated PNG')

  def test_bombs_are_refused_by_their_headers(self):
    row = bytes(96)
    self.refuses(png(60000, 60000, 8, RGB, row), 'too large, more than 50 mega')
    self.refuses(png(2**31 - 1, 2**31 - 1, 8, RGB, row), 'too large')
    self.refuses(png(0, 5, 8, RGB, row), 'damaged')
    jpeg = tf.io.encode_jpeg(NOISE).numpy()
    at = jpeg.index(b'\xff\xc0') + 5
    self.refuses(
      jpeg[:at] + struct.pack('>HH', 65000, 65000) + jpeg[at + 4 :], 'too large'
    )
    late = png(60000, 60000, 8, RGB, row)
    self.refuses(
      late[:8] + chunk(b'abCd', struct.pack('>II', 1, 1)) + late[8:], 'damaged'
    )

  def test_file_that_is_too_large_is_not_read_on(self):
    with open(self.path, 'wb') as f:
      f.write(b'\x89PNG\r\n\x1a\n')
      f.truncate(2**33)
    with self.assertRaisesRegex(UserError, 'too large, more than 268 MB'):
      self.reader.read(str(self.path))

  def test_what_is_no_picture(self):
    self.refuses(b'', 'an empty file')
    for contents in (b'text\n' * 9, b'GIF89a' + bytes(99), b'\x89PNG\r\n\x1a'):
      self.refuses(contents, 'neither PNG nor JPEG')
    for path, expected in (
      (str(self.path.parent), 'a folder without PNG or JPEG files'),
      (str(self.path) + '/x', 'Not a directory'),
      ('/no/such.png', 'No such file'),
      ('a\0b', 'null'),
      ('/dev/zero', 'a device'),
    ):
      with self.assertRaisesRegex(UserError, expected):
        self.reader.read(path)

  def test_pipe_is_read_like_a_file(self):
    contents = tf.io.encode_png(NOISE).numpy()
    self.path.write_bytes(contents)
    read_end, write_end = os.pipe()
    os.write(write_end, contents)
    os.close(write_end)
    np.testing.assert_array_equal(
      self.reader.read('/dev/fd/%d' % read_end),
      self.reader.read(str(self.path)),
    )
    os.close(read_end)

  def test_pipe_with_a_name_is_read_and_without_a_writer_refused(self):
    contents = tf.io.encode_png(NOISE).numpy()
    self.path.write_bytes(contents)
    pipe = str(self.path) + '.pipe'
    os.mkfifo(pipe)
    writer = subprocess.Popen(
      ['sh', '-c', 'cat "$1" > "$2"', '', str(self.path), pipe]
    )
    np.testing.assert_array_equal(
      self.reader.read(pipe), self.reader.read(str(self.path))
    )
    self.assertEqual(writer.wait(), 0)
    with mock.patch.object(files, 'PIPE_SECS', 0.2):
      with self.assertRaisesRegex(UserError, 'a pipe that does not end'):
        self.reader.read(pipe)

  def test_jpeg_of_many_scans_is_refused_and_one_of_some_is_read(self):
    """Each scan goes over all of the picture, and takes 75 bytes here."""
    jpeg = tf.io.encode_jpeg(NOISE, progressive=True).numpy()
    last = jpeg.rindex(b'\xff\xda')
    scan = jpeg[last:-2]
    plain = self.read(jpeg)
    some = picture_files.MAX_SCANS - jpeg.count(b'\xff\xda')
    self.assertGreater(some, 80)
    self.assertEqual(
      self.read(jpeg[:-2] + 9 * scan + jpeg[-2:]).shape, plain.shape
    )
    self.refuses(jpeg[:-2] + (some + 1) * scan + jpeg[-2:], 'over 100 scans')

  def test_png_that_unpacks_to_more_than_its_pixels(self):
    """64 MB of zeros behind the rows, as a profile, as a text."""
    zeros = zlib.compressobj(1)
    block = bytes(1 << 20)
    packed = b''.join(zeros.compress(block) for _ in range(64))
    packed += zeros.flush()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    head = b'\x89PNG\r\n\x1a\n' + chunk(
      b'IHDR', struct.pack('>IIBBBBB', 32, 32, 8, RGB, 0, 0, 0)
    )
    for more in (
      b'',
      chunk(b'iCCP', b'p\0\0' + packed),
      chunk(b'zTXt', b'p\0\0' + packed),
    ):
      self.path.write_bytes(
        head + more + chunk(b'IDAT', packed) + chunk(b'IEND', b'')
      )
      try:
        self.reader.read(str(self.path))
      except UserError as e:
        self.assertIn(str(self.path), str(e))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    self.assertLess(after - before, 48 << 10)


if __name__ == '__main__':
  absltest.main()
