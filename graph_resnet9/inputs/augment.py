"""From a table of uint8 pixels to a normalised, augmented batch, in the graph.

Every function works on the whole batch at once and runs on the device that
trains. The random numbers are functions of (seed, step) alone, so a resumed run
draws what an unbroken one would have drawn.
"""

from typing import NamedTuple

import tensorflow.compat.v1 as tf

SIDE = 32
# Per channel, of the CIFAR-10 training images: cifar10-fast, dawn.py.
MEAN = (125.31, 122.95, 113.87)
STD = (62.99, 62.09, 66.70)
# Which numbers of a step's stream are whose.
_CROP, _FLIP, _CUTOUT = range(3)


class Draws(NamedTuple):
  """The random choices for one batch, [batch] Tensors.

  down, right: int32, shift of the crop, -pad .. pad.
  mirrored: bool, left-right.
  hole_row, hole_column: int32, upper left corner of the hole of cutout.
  """

  down: tf.Tensor
  right: tf.Tensor
  mirrored: tf.Tensor
  hole_row: tf.Tensor
  hole_column: tf.Tensor


def draws(
  batch_size,
  seed,
  step,
  pad,
  flip,
  cutout,
  crop_per='image',
  cutout_inside=True,
):
  """The random choices for the batch of `step`.

  Args:
    batch_size: int or int32 scalar Tensor.
    seed: int.
    step: integer scalar Tensor, the step that the batch is for.
    pad: int, the largest shift of the crop in pixels.
    flip: Python bool, mirror half of the images.
    cutout: int, side of the hole in pixels.
    crop_per: 'image', or 'batch': one shift for all images of it, as ports have
      that crop a batch with tf.random_crop.
    cutout_inside: Python bool; False: the middle of the hole may be any pixel,
      so that part of the hole may lie outside of the image.
  Returns:
    Draws.
  Source: davidcpage/cifar10-fast, core.py, Crop, FlipLR and Cutout; DeVries and
    Taylor 2017, arXiv 1708.04552, for holes over the border.
  """

  def integers(stream, count, low, high):
    """[count, batch] int32 in low .. high, both included."""
    key = tf.stack(
      [tf.constant(seed, tf.int64) * 3 + stream, tf.cast(step, tf.int64)]
    )
    return tf.random.stateless_uniform(
      [count, batch_size], key, low, high + 1, tf.int32
    )

  with tf.name_scope('draws'):
    shifts = integers(_CROP, 2, -pad, pad)
    if crop_per == 'batch':
      shifts = tf.tile(shifts[:, :1], [1, batch_size])
    down, right = tf.unstack(shifts)
    mirrored = integers(_FLIP, 1, 0, 1 if flip else 0)[0] > 0
    lowest, highest = 0, SIDE - cutout
    if not cutout_inside:
      lowest, highest = -(cutout // 2), SIDE - 1 - cutout // 2
    hole_row, hole_column = tf.unstack(integers(_CUTOUT, 2, lowest, highest))
  return Draws(down, right, mirrored, hole_row, hole_column)


def augmented(
  pixels,
  indices,
  batch_size,
  seed,
  step,
  steps_per_epoch,
  pad_mode='reflect',
  alternate_flip=False,
  **choices,
):
  """Training images: cropped, mirrored, normalised, with holes.

  Args:
    pixels, indices: as of crops.
    batch_size: int, the length of `indices`.
    seed, step, **choices: as of draws.
    steps_per_epoch: int.
    pad_mode: 'reflect', or 'zero': see zero_border.
    alternate_flip: Python bool; mirror an image as alternating says, not at
      random.
  Returns:
    [batch_size, 32, 32, 3] float32 Tensor.
  """
  chosen = draws(batch_size, seed, step, **choices)
  if alternate_flip:
    mirrored = alternating(
      crops(pixels, indices), seed, step // steps_per_epoch
    )
    chosen = chosen._replace(mirrored=mirrored)
  images = normalised(crops(pixels, indices, chosen))
  if pad_mode == 'zero':
    images = zero_border(images, chosen)
  return cut_out(images, chosen, choices['cutout'])


def alternating(images, seed, epoch):
  """Which images to mirror, so that each is in every other epoch.

  About half of the images begin with it: those that have an odd sum over half
  of their pixels, drawn by `seed`. So an image is known by what it is, wherever
  it comes from; where a queue mixes epochs, at their borders some come the same
  way twice.

  Args:
    images: [batch, 32, 32, 3] uint8 Tensor, as they are in the data set.
    seed: int.
    epoch: integer scalar Tensor, from 0.
  Returns:
    [batch] bool Tensor.
  Source: Jordan 2024, arXiv 2404.00498, section 3.6.
  """
  with tf.name_scope('alternating'):
    # Steps, which have the other keys of draws, are never negative.
    key = tf.constant([seed * 3 + _FLIP, -1], tf.int64)
    half = tf.random.stateless_uniform(images.shape[1:], key, 0, 2, tf.int32)
    odd = tf.reduce_sum(tf.cast(images, tf.int32) * half, [1, 2, 3])
    return (odd + tf.cast(epoch, tf.int32)) % 2 > 0


def crops(pixels, indices, chosen=None):
  """Images of a table, shifted and mirrored: one gather for all of it.

  Pixel (r, c) of output b is pixel (r + down, c + right) of image indices[b],
  reflected at the border without repeating the edge, as if the image had been
  reflect-padded and then cropped.

  Args:
    pixels: [images * 1024, 3] uint8 Tensor or resource variable, row by row.
    indices: [batch] integer Tensor, which images.
    chosen: Draws, or None for the images as they are.
  Returns:
    [batch, 32, 32, 3] uint8 Tensor.
  """
  with tf.name_scope('crops'):
    if chosen is None:
      rows = columns = tf.range(SIDE, dtype=tf.int32)[None]
    else:
      rows, columns = map(_reflect, _positions(chosen))
    first = tf.cast(indices, tf.int32)[:, None, None] * (SIDE * SIDE)
    return tf.gather(
      pixels, first + rows[:, :, None] * SIDE + columns[:, None, :]
    )


def _positions(chosen):
  """Where the crop has its rows and columns from, beyond the border too.

  Args:
    chosen: Draws.
  Returns:
    Two [batch, 32] int32 Tensors, -pad .. 31 + pad.
  """
  at = tf.range(SIDE, dtype=tf.int32)[None]
  columns = tf.where_v2(chosen.mirrored[:, None], SIDE - 1 - at, at)
  return at + chosen.down[:, None], columns + chosen.right[:, None]


def _reflect(position):
  """Positions outside 0 .. 31 mirrored at 0 and at 31."""
  return SIDE - 1 - tf.abs(SIDE - 1 - tf.abs(position))


def normalised(images):
  """(images - MEAN) / STD per channel.

  Args:
    images: [batch, 32, 32, 3] uint8 Tensor.
  Returns:
    [batch, 32, 32, 3] float32 Tensor.
  """
  with tf.name_scope('normalised'):
    # Whole rows, since an inner dimension of 3 is slow on the CPU.
    flat = tf.cast(tf.reshape(images, [-1, SIDE, SIDE * 3]), tf.float32)
    flat = (flat - tf.constant(MEAN * SIDE)) / tf.constant(STD * SIDE)
    return tf.reshape(flat, [-1, SIDE, SIDE, 3])


def zero_border(images, chosen):
  """The images with zeros where a crop reaches over the border.

  What zero padding of normalised images leaves there, in the place of the
  reflected pixels of `crops`.

  Args:
    images: [batch, 32, 32, 3] float32 Tensor, normalised: 0 is the mean colour.
    chosen: Draws, those that the images were cropped by.
  Returns:
    A Tensor like `images`.
  """
  with tf.name_scope('zero_border'):
    rows, columns = _positions(chosen)
    inside = lambda position: (position >= 0) & (position < SIDE)
    kept = inside(rows)[:, :, None] & inside(columns)[:, None, :]
    return images * tf.cast(kept, images.dtype)[..., None]


def cut_out(images, chosen, cutout):
  """The images with a hole of zeros, cutout x cutout pixels, at chosen.hole_*.

  Args:
    images: [batch, 32, 32, 3] float32 Tensor, normalised: 0 is the mean colour.
    chosen: Draws for this batch.
    cutout: int, side of the hole; 0 leaves the images alone.
  Returns:
    A Tensor like `images`.
  Source: DeVries and Taylor 2017, arXiv 1708.04552; the hole never leaves the
    image, as in davidcpage/cifar10-fast, unless it was drawn so.
  """
  if not cutout:
    return images
  with tf.name_scope('cut_out'):
    at = tf.range(SIDE, dtype=tf.int32)[None]
    inside = lambda begin: (
      (at >= begin[:, None]) & (at < begin[:, None] + cutout)
    )
    hole = (
      inside(chosen.hole_row)[:, :, None]
      & inside(chosen.hole_column)[:, None, :]
    )
    return images * tf.cast(~hole, images.dtype)[..., None]
