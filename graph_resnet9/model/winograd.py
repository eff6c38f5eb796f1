"""3x3 convolutions by Winograd's F(4x4, 3x3): 36 products instead of 144.

Lavin and Gray 2015, arXiv 1509.09308, section 4. An image is cut into tiles of
4x4 outputs; each needs 6x6 inputs d, which overlap by two. For one channel in
and one out, the convolution of a tile with the 3x3 kernel g is

  Y = A^T [(G g G^T) * (B^T d B)] A         (* by elements; their equation 8)

Summed over the channels, the product by elements becomes a product of matrices
at each of the 36 positions p of a tile (their algorithm 1), one row of V[p] for
each tile of each image and one column for each channel:

  U = G g G^T    V = B^T d B    M[p] = V[p] U[p]    Y = A^T M A

Every step is linear. So the gradients are the same steps transposed, in reverse
order, and both begin with the same dM:

  dM = A dY A^T   dV[p] = dM[p] U[p]^T   dd = B dV B^T
                  dU[p] = V[p]^T dM[p]   dg = G^T dU G

B^T d B is linear in d, too: with the 6x6 elements of d in one column, it is the
Kronecker product of B^T with itself, a 36x36 matrix, times that column. All
tiles, images and channels stand side by side, so that a transform is one matrix
product, [36, 36] x [36, tiles * batch * channels]. It multiplies three times as
often as one axis after the other would, and is faster: memory is what takes the
time, and this reads and writes it once.
"""

import contextlib
import pathlib

import numpy as np
import tensorflow.compat.v1 as tf

_OUTPUTS, _TAPS = 4, 3
_INPUTS = _OUTPUTS + _TAPS - 1
# Where the polynomials are evaluated, besides infinity. The textbook's 0, +-1,
# +-2 cost twice the rounding error; the matrices are constants in any case.
_POINTS = (0, 3 / 4, -3 / 4, 3 / 2, -3 / 2)

# The least channels in where the products that are saved outweigh transforming
# the tiles. AVX-512 makes products faster, but not the memory.
CHANNELS = {'winograd': 32, 'winograd64': 64}

# Rows of a matrix that begin so many float32 apart, 4 KiB, or a multiple of it,
# fall into the same lines of a cache, which holds eight of the 36.
_ALIAS = 1024


def matrices():
  """A^T [4, 6], G [6, 3] and B^T [6, 6], float64 arrays.

  By Toom and Cook: a correlation is the transpose of a product of polynomials,
  and that of degrees 3 and 2 is known from its values at five points and its
  leading coefficient, the "value at infinity". A and G evaluate the two factors
  there. B interpolates by Lagrange's polynomials, whose denominators are moved
  into G.
  """
  a = np.zeros([_INPUTS, _OUTPUTS])
  g = np.zeros([_INPUTS, _TAPS])
  b = np.zeros([_INPUTS, _INPUTS])
  for row, point in enumerate(_POINTS):
    others = [other for other in _POINTS if other != point]
    a[row] = np.power(point, np.arange(_OUTPUTS))
    g[row] = np.power(point, np.arange(_TAPS)) / np.prod(
      np.subtract(point, others)
    )
    b[:-1, row] = np.poly(others)[::-1]  # np.poly: highest power first.
  a[-1, -1] = g[-1, -1] = 1
  b[:, -1] = np.poly(_POINTS)[::-1]
  return a.T, g, b.T


_AT, _G, _BT = matrices()


def chosen(conv):
  """What 'auto' means on this machine, by what it has, not by a timing.

  Args:
    conv: 'auto', 'direct' or one of CHANNELS.
  Returns:
    `conv`, if not 'auto'; with a GPU 'direct', since cuDNN chooses among such
    algorithms itself; on a CPU with AVX-512 'winograd64', else 'winograd'.
  """
  if conv != 'auto':
    return conv
  if tf.config.list_physical_devices('GPU'):
    return 'direct'
  with contextlib.suppress(OSError):  # Linux has it.
    if 'avx512f' in pathlib.Path('/proc/cpuinfo').read_text().split():
      return 'winograd64'
  return 'winograd'


def pays(images, size, algorithm):
  """Whether conv can take the place of tf.nn.conv2d, stride 1, and is faster.

  Args:
    images: [batch, height, width, channels] Tensor.
    size: int, height and width of the kernel.
    algorithm: 'direct' or one of CHANNELS.
  """
  _, height, width, channels = images.shape.as_list()
  return (
    algorithm in CHANNELS
    and channels >= CHANNELS[algorithm]
    and size == _TAPS
    and images.dtype == tf.float32
    and all(side and side % _OUTPUTS == 0 for side in (height, width))
  )


def conv(images, kernel):
  """A 3x3 convolution, stride 1, SAME padding.

  What tf.nn.conv2d(images, kernel, 1, 'SAME') gives but for the rounding, which
  in float32 is about twice that of the direct sum.

  Args:
    images: [batch, height, width, channels] float32 or float64 Tensor; height
      and width static multiples of 4, channels static.
    kernel: [3, 3, channels, filters] Tensor of the dtype of `images`.
  Returns:
    [batch, height, width, filters] Tensor of the dtype of `images`.
  Source: Lavin and Gray 2015, arXiv 1509.09308; Winograd 1980.
  """
  batch, height, width, channels = images.shape.as_list()
  filters = int(kernel.shape[-1])
  grid = height // _OUTPUTS, width // _OUTPUTS  # Of tiles.
  row = grid[0] * grid[1] * channels  # Of V, an example's part.
  # A transform takes up to twice as long where rows share lines; an example of
  # zeros behind the others parts them.
  spare = int(bool(batch) and batch * row % _ALIAS == 0 and row % _ALIAS != 0)
  padding = [[0, spare], [0, 0], [0, 0], [0, 0]]
  alone = grid == (1, 1)  # All that lies around the tile is zero.
  bt = _BT[:, 1:-1] if alone else _BT

  @tf.custom_gradient
  def convolved(images, kernel):
    images = tf.pad(images, padding)
    u = _transformed(_G, kernel, [channels, filters])
    tiles = _tiles_of(images) if alone else _input_tiles(images)
    v = _transformed(bt, tiles, [-1, channels])
    m = tf.matmul(v, u)
    y = _transformed(_AT, m, [*grid, -1, filters])

    def gradients(dy):
      dy = tf.pad(dy, padding)
      dm = _transformed(_AT.T, _tiles_of(dy), [-1, filters])
      dv = tf.matmul(dm, u, transpose_b=True)
      dd = _transformed(bt.T, dv, [*grid, -1])
      if not alone:
        dd = _overlaps_added(dd)
      du = tf.matmul(v, dm, transpose_a=True)
      dg = _transformed(_G.T, du, [channels, filters])
      images_gradient = _joined(
        tf.reshape(dd, [_OUTPUTS**2, *grid, -1, channels])
      )
      return images_gradient[:batch], tf.reshape(dg, kernel.shape)

    return _joined(y)[:batch], gradients

  return convolved(images, kernel)


def _transformed(matrix, x, shape):
  """matrix X matrix^T of many X at once.

  Args:
    matrix: [a, b] array.
    x: Tensor that begins with the b*b elements of each X, by rows: [b * b, ...]
      or [b, b, ...].
    shape: list, of the rest of the result.
  Returns:
    [a * a] + shape Tensor.
  """
  after, before = matrix.shape
  both = tf.constant(np.kron(matrix, matrix), x.dtype)
  x = tf.matmul(both, tf.reshape(x, [before**2, -1]))
  return tf.reshape(x, [after**2, *shape])


# Tiles lie as [position in a tile, row of tiles, column of tiles, batch,
# channels], so that what is gathered or moved are long blocks.


def _input_tiles(images):
  """The overlapping 6x6 tiles, zero around the images.

  [batch, height, width, channels] -> [36 * tiles, batch * channels].
  """
  _, height, width, _ = images.shape.as_list()
  x = tf.pad(
    tf.transpose(images, [1, 2, 0, 3]), [[1, 1], [1, 1], [0, 0], [0, 0]]
  )
  first_row = np.arange(0, height, _OUTPUTS)[:, None]
  first_column = np.arange(0, width, _OUTPUTS)
  index = [
    (first_row + i) * (width + 2) + first_column + j
    for i in range(_INPUTS)
    for j in range(_INPUTS)
  ]
  return tf.gather(
    tf.reshape(x, [(height + 2) * (width + 2), -1]), np.reshape(index, [-1])
  )


def _overlaps_added(tiles):
  """The transpose of cutting out overlapping tiles: their 4x4 middles.

  [36, rows, columns, inner] -> [16, rows, columns, inner]. A tile begins one
  pixel before its middle and ends one after it: those belong to the neighbours.
  """

  def shifted(x, by):
    """Along the second axis, with zeros from outside."""
    if by > 0:
      return tf.pad(x[:, :-1], [[0, 0], [1, 0]] + [[0, 0]] * (x.shape.rank - 2))
    return tf.pad(x[:, 1:], [[0, 0], [0, 1]] + [[0, 0]] * (x.shape.rank - 2))

  def middles(x):
    """A list of four along the first axis, from [6, ...]."""
    return [x[1] + shifted(x[5], 1), x[2], x[3], x[4] + shifted(x[0], -1)]

  _, rows, columns, _ = tiles.shape.as_list()
  by_row = tf.reshape(tiles, [_INPUTS, _INPUTS, rows, columns, -1])
  return tf.stack([pixel for row in middles(by_row) for pixel in middles(row)])


def _joined(tiles):
  """The images of 4x4 tiles.

  [16, rows, columns, batch, channels] -> [batch, height, width, channels].
  """
  _, rows, columns, _, channels = tiles.shape.as_list()
  tiles = tf.reshape(tiles, [_OUTPUTS, _OUTPUTS, rows, columns, -1, channels])
  return tf.reshape(
    tf.transpose(tiles, [4, 2, 0, 3, 1, 5]),
    [-1, rows * _OUTPUTS, columns * _OUTPUTS, channels],
  )


def _tiles_of(images):
  """The 4x4 tiles of images: the transpose of _joined, [4, 4, rows, ...]."""
  _, height, width, channels = images.shape.as_list()
  tiles = tf.reshape(
    images,
    [-1, height // _OUTPUTS, _OUTPUTS, width // _OUTPUTS, _OUTPUTS, channels],
  )
  return tf.transpose(tiles, [2, 4, 1, 3, 0, 5])
