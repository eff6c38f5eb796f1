"""The embedded data set: ten shapes, drawn. No TensorFlow, nothing to fetch.

32 x 32 RGB images in CIFAR-10's dtypes, so that everything runs on a machine
without a network. Every image is one shape of CLASS_NAMES under a random
position, scale, rotation and slant, in a random colour on a background of two
other colours, with a bar of a third one in the way, and pixel noise. Colour
tells nothing and no pixel tells much: a linear classifier stays low, a
convolutional one does not.

Image i is a function of (seed, i) alone: the first 100 of 1,000 images are the
100 of a set of that size.
"""

import numpy as np

from graph_resnet9.inputs import formats

CLASS_NAMES = (
  'disk',
  'ring',
  'square',
  'frame',
  'triangle',
  'star',
  'cross',
  'crescent',
  'bars',
  'dots',
)
# Examples and seed of the splits that --dataset=synthetic uses.
SPLITS = {'train': (10000, 20180), 'test': (2000, 20190)}
_SIDE = formats.IMAGE_SHAPE[0]
_CHUNK = 1000  # Images drawn at a time: bounds the memory.
_UNIFORMS = 24  # Random numbers an image takes, apart from its noise.
_NOISE = 12.0  # Standard deviation of the pixel noise, of 255.


def split(examples, seed):
  """Draws `examples` images, each of a class drawn at random.

  Args:
    examples: int, how many.
    seed: int in 0 .. 2**32 - 2; other seeds give other images.
  Returns:
    formats.Split.
  """
  draw, grain = np.random.RandomState(seed), np.random.RandomState(seed + 1)
  images = np.empty((examples,) + formats.IMAGE_SHAPE, np.uint8)
  labels = np.empty(examples, np.int32)
  for begin in range(0, examples, _CHUNK):
    end = min(begin + _CHUNK, examples)
    uniforms = draw.uniform(size=(end - begin, _UNIFORMS))
    noise = grain.normal(size=(end - begin,) + formats.IMAGE_SHAPE)
    labels[begin:end] = uniforms[:, 0] * len(CLASS_NAMES)
    images[begin:end] = _draw(labels[begin:end], uniforms, noise)
  return formats.Split(images, labels)


def _draw(labels, uniforms, noise):
  """uint8 [n, 32, 32, 3] images of the classes, from their random numbers."""
  u = iter(uniforms.T[1:, :, None, None])
  span = lambda low, high: low + (high - low) * next(u)
  row, column = np.mgrid[:_SIDE, :_SIDE] - (_SIDE - 1) / 2
  # The shape's own coordinates, in which it fills about the unit disk.
  size = span(6.5, 11)
  down = (row - span(-4.5, 4.5)) / size
  right = (column - span(-4.5, 4.5)) / size
  angle = span(0, 2 * np.pi)
  x = np.cos(angle) * right + np.sin(angle) * down
  y = np.cos(angle) * down - np.sin(angle) * right
  x = x + span(-0.2, 0.2) * y
  edge = 1 / size  # One pixel.
  inside = np.empty(labels.shape + (_SIDE, _SIDE))
  for k, distance in enumerate(_DISTANCES):
    at = labels == k
    inside[at] = _coverage(distance(x[at], y[at]), edge[at])

  shape_colour, colour_0, colour_1, bar_colour = (
    np.stack([next(u) for _ in range(3)], -1) for _ in range(4)
  )
  # A shape that has nearly the colour of its background cannot be seen: move
  # its colour to the other end of the scale where they are close.
  mean = (colour_0 + colour_1) / 2
  near = np.abs(shape_colour - mean).max(-1, keepdims=True) < 0.35
  shape_colour = np.where(near, (mean + 0.5) % 1, shape_colour)
  angle = span(0, 2 * np.pi)
  ramp = 0.5 + (np.cos(angle) * row + np.sin(angle) * column) / 45
  scene = colour_0 + (colour_1 - colour_0) * ramp[..., None]
  scene = scene + inside[..., None] * (shape_colour - scene)
  angle = span(0, np.pi)
  across = np.cos(angle) * row + np.sin(angle) * column - span(-14, 14)
  bar = _coverage(np.abs(across) - 1, 1.0)
  scene = scene + bar[..., None] * (bar_colour - scene)
  return np.clip(255 * scene + _NOISE * noise + 0.5, 0, 255).astype(np.uint8)


def _coverage(distance, edge):
  """How much of a pixel is inside: 1 to 0 across one pixel of the outline."""
  return np.clip(0.5 - distance / edge, 0, 1)


# The outlines: about the distance to the outline, below 0 inside.


def _disk(x, y, radius=0.9):
  return np.hypot(x, y) - radius


def _box(x, y, half_x, half_y):
  return np.maximum(np.abs(x) - half_x, np.abs(y) - half_y)


def _polygon(x, y, sides, inner):
  """A regular polygon, its edges through radius `inner`."""
  sector = 2 * np.pi / sides
  off = (np.arctan2(y, x) + sector / 2) % sector - sector / 2
  return np.hypot(x, y) * np.cos(off) - inner


def _star(x, y):
  """Five points: the radius falls from 1.1 to .45 and back in each sector."""
  sector = 2 * np.pi / 5
  off = np.abs((np.arctan2(y, x) + sector / 2) % sector - sector / 2)
  return (np.hypot(x, y) - (1.15 - 0.7 * off / (sector / 2))) * 0.6


_DISTANCES = (
  _disk,
  lambda x, y: np.abs(np.hypot(x, y) - 0.75) - 0.2,
  lambda x, y: _box(x, y, 0.8, 0.8),
  lambda x, y: np.abs(_box(x, y, 0.65, 0.65)) - 0.19,
  lambda x, y: _polygon(x, y, 3, 0.55),
  _star,
  lambda x, y: np.minimum(_box(x, y, 1, 0.28), _box(x, y, 0.28, 1)),
  lambda x, y: np.maximum(_disk(x, y, 0.95), -_disk(x - 0.5, y, 0.7)),
  lambda x, y: np.maximum(np.abs(np.abs(y) - 0.55) - 0.22, np.abs(x) - 0.9),
  lambda x, y: np.hypot(np.abs(x) - 0.6, y) - 0.36,
)
