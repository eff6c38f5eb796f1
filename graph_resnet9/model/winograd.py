"""3x3 convolutions by Winograd's F(4x4, 3x3): 36 products instead of 144.

Lavin and Gray 2015, arXiv 1509.09308, section 4; equation numbers below are
theirs. An image is cut into tiles of 4x4 outputs, each of which needs 6x6
inputs d, that overlap by two. For each pair of channels

  Y = A^T [(G g G^T) * (B^T d B)] A                                        (8)

is the convolution of a tile with the 3x3 kernel g, * by elements. Summed over
the input channels, the product by elements is a matrix product for each of the
36 positions (xi, nu) in a tile (their algorithm 1):

  U = G g G^T   V = B^T d B   M[xi, nu] = V[xi, nu] U[xi, nu]   Y = A^T M A

with rows of V for tiles and columns for channels. Every step is linear, so the
gradients are the same three matrices transposed, around the same products:

  dM = A dY A^T   dV = dM U^T   dU = V^T dM   dd = B dV B^T   dg = G^T dU G

and dM serves both. Inside, images are [height, width, batch, channels]. The
transforms are then constant matrices times long rows, [6, 6] x [6, everything
else], and the products over channels read and write blocks that lie together;
with the batch in front, each of them would have to transpose.
"""

import numpy as np
import tensorflow.compat.v1 as tf

_OUTPUTS, _TAPS = 4, 3
_INPUTS = _OUTPUTS + _TAPS - 1
# Where the polynomials are evaluated, besides infinity. The textbook's 0, +-1,
# +-2 cost twice the rounding error; the matrices are constants in any case.
_POINTS = (0, 3 / 4, -3 / 4, 3 / 2, -3 / 2)


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
  """'winograd' or 'direct': what 'auto' means on this machine, else `conv`.

  cuDNN has convolutions of this kind of its own.
  """
  if conv == 'auto':
    return 'direct' if tf.config.list_physical_devices('GPU') else 'winograd'
  return conv


def fits(images, size=3):
  """Whether conv can take the place of tf.nn.conv2d, stride 1.

  Args:
    images: [batch, height, width, channels] Tensor.
    size: int, height and width of the kernel.
  """
  sides = images.shape[1:3].as_list()
  return (
    size == _TAPS
    and images.dtype in (tf.float32, tf.float64)
    and all(side and side % _OUTPUTS == 0 for side in sides)
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
  outputs = _conv(tf.transpose(images, [1, 2, 0, 3]), kernel)
  return tf.transpose(outputs, [2, 0, 1, 3])


@tf.custom_gradient
def _conv(images, kernel):
  """conv on [height, width, batch, channels]."""
  height, width = images.shape[:2].as_list()
  v, u = _data(images), _kernel(kernel)
  y = _output(tf.matmul(v, u), height, width)

  def gradient(dy):
    dm = _output_transposed(dy)
    dx = _data_transposed(tf.matmul(dm, u, transpose_b=True), height, width)
    return dx, _kernel_transposed(tf.matmul(v, dm, transpose_a=True))

  return y, gradient


# [height, width, batch, channels] <-> [6, tile rows, 6, tile columns * batch,
# channels], row and column of a tile apart: one axis is transformed after the
# other, and the products want the last two.


def _data(images):
  """V = B^T d B of all tiles."""
  height, width, _, channels = images.shape.as_list()
  x = tf.pad(images, [[1, 1], [1, 1], [0, 0], [0, 0]])
  x = _times(_BT, _overlapping(tf.reshape(x, [1, height + 2, -1])))
  rows = _INPUTS * (height // _OUTPUTS)
  x = _times(_BT, _overlapping(tf.reshape(x, [rows, width + 2, -1])))
  return _positions(x, height, width, channels)


def _data_transposed(dv, height, width):
  """The sum of B dV B^T over the tiles that a pixel is in."""
  channels, columns = int(dv.shape[-1]), width // _OUTPUTS
  dx = tf.reshape(dv, [_INPUTS * (height // _OUTPUTS), _INPUTS, -1])
  dx = _overlapping_transposed(_times(_BT.T, dx), columns)
  dx = tf.reshape(dx, [1, _INPUTS, -1])
  dx = _overlapping_transposed(_times(_BT.T, dx), height // _OUTPUTS)
  return tf.reshape(dx, [height, width, -1, channels])


def _output(m, height, width):
  """Y = A^T M A, the tiles put together."""
  filters = int(m.shape[-1])
  y = tf.reshape(m, [_INPUTS * (height // _OUTPUTS), _INPUTS, -1])
  y = _joined(_times(_AT, y), width // _OUTPUTS)
  y = tf.reshape(y, [1, _INPUTS, -1])
  y = _joined(_times(_AT, y), height // _OUTPUTS)
  return tf.reshape(y, [height, width, -1, filters])


def _output_transposed(dy):
  """dM = A dY A^T of all tiles."""
  height, width, _, filters = dy.shape.as_list()
  dm = _times(_AT.T, _split(tf.reshape(dy, [1, height, -1])))
  rows = _INPUTS * (height // _OUTPUTS)
  dm = _times(_AT.T, _split(tf.reshape(dm, [rows, width, -1])))
  return _positions(dm, height, width, filters)


def _positions(x, height, width, channels):
  rows, columns = height // _OUTPUTS, width // _OUTPUTS
  batch = x.shape.num_elements()
  batch = (
    -1
    if batch is None
    else columns * batch // (rows * columns * _INPUTS**2 * channels)
  )
  return tf.reshape(x, [_INPUTS, rows, _INPUTS, batch, channels])


def _kernel(kernel):
  """U = G g G^T, [6, 1, 6, channels, filters]."""
  u = tf.matmul(
    tf.constant(np.kron(_G, _G), kernel.dtype),
    tf.reshape(kernel, [_TAPS**2, -1]),
  )
  return tf.reshape(u, [_INPUTS, 1, _INPUTS] + kernel.shape[2:].as_list())


def _kernel_transposed(du):
  """dg = G^T dU G, summed over the rows of tiles."""
  du = tf.reduce_sum(du, 1)
  dk = tf.matmul(
    tf.constant(np.kron(_G, _G).T, du.dtype), tf.reshape(du, [_INPUTS**2, -1])
  )
  return tf.reshape(dk, [_TAPS, _TAPS] + du.shape[2:].as_list())


# Along one axis, [outer, along the axis, inner]: tiles * 4 + border <->
# positions in a tile, with inner then tiles * inner.


def _times(matrix, x):
  """[a, b] matrix times [outer, b, inner] Tensor: [outer, a, inner]."""
  outer = int(x.shape[0])
  return tf.matmul(tf.constant(np.tile(matrix, [outer, 1, 1]), x.dtype), x)


def _overlapping(x):
  """[outer, 4 tiles + 2, inner] -> [outer, 6, tiles * inner]."""
  outer, tiles = int(x.shape[0]), int(x.shape[1]) // _OUTPUTS
  index = np.arange(_INPUTS)[:, None] + _OUTPUTS * np.arange(tiles)
  return tf.reshape(
    tf.gather(x, index.reshape(-1), axis=1), [outer, _INPUTS, -1]
  )


def _overlapping_transposed(x, tiles):
  """The sum where tiles overlap, without the border: [outer, 4 tiles, inner]."""
  outer = int(x.shape[0])
  at = tf.unstack(tf.reshape(x, [outer, _INPUTS, tiles, -1]), axis=1)
  inside = at[1:-1]
  inside[0] += tf.pad(at[-1][:, :-1], [[0, 0], [1, 0], [0, 0]])
  inside[-1] += tf.pad(at[0][:, 1:], [[0, 0], [0, 1], [0, 0]])
  return tf.reshape(tf.stack(inside, 2), [outer, _OUTPUTS * tiles, -1])


def _split(x):
  """[outer, 4 tiles, inner] -> [outer, 4, tiles * inner]."""
  outer, tiles = int(x.shape[0]), int(x.shape[1]) // _OUTPUTS
  x = tf.transpose(tf.reshape(x, [outer, tiles, _OUTPUTS, -1]), [0, 2, 1, 3])
  return tf.reshape(x, [outer, _OUTPUTS, -1])


def _joined(x, tiles):
  """The transpose of _split."""
  outer = int(x.shape[0])
  x = tf.transpose(tf.reshape(x, [outer, _OUTPUTS, tiles, -1]), [0, 2, 1, 3])
  return tf.reshape(x, [outer, _OUTPUTS * tiles, -1])
