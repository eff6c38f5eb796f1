"""Unpickles NumPy arrays and plain containers, and nothing else.

A pickle names the functions that rebuild its arrays. The ones here stand in for
NumPy's, so that a file never calls into NumPy or anything else, and a file that
any version of Python and NumPy wrote, Python 2 with numpy.core.multiarray
included, is read by any other.
"""

import io
import pickle
import pickletools

import numpy as np

from graph_resnet9.errors import UserError

# A canonical pickle has a few dozen memo entries; one that Python 3 wrote has
# three a file name, and a tuple for each.
MAX_MEMO, MAX_TUPLES = 1 << 20, 50000


def load(data, name):
  """Loads a pickle.

  Args:
    data: bytes.
    name: what to call the file in an error.
  Returns:
    The object; look at its arrays with array_of. Strings of Python 2 are bytes.
  Raises:
    UserError: the bytes are damaged, or ask for more than plain data.
  """
  try:
    _check_opcodes(data)
    return _Unpickler(io.BytesIO(data), encoding='bytes').load()
  # Hostile bytes can raise anything, MemoryError included.
  except Exception as e:  # pylint: disable=broad-except
    raise UserError('%s: refused, not a plain CIFAR-10 pickle: %s' % (
        name, str(e).splitlines()[0] if str(e) else type(e).__name__)) from None


def array_of(value):
  """The ndarray behind an unpickled value, or None."""
  value = value.array if isinstance(value, _Array) else value
  return value if isinstance(value, np.ndarray) else None


def _text(value):
  """A str also where Python 2 wrote it, which comes as bytes."""
  return value.decode('ascii') if isinstance(value, bytes) else value


class _Dtype:
  """Stands for numpy.dtype: kind and size, and the byte order set later."""

  def __init__(self, code, align=False, copy=False):
    del align, copy
    code = _text(code)
    if code not in ('b1', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8',
                    'f2', 'f4', 'f8'):
      raise pickle.UnpicklingError('an array of dtype %r' % (code,))
    self.code, self.order = code, '|'

  def __setstate__(self, state):
    order = _text(state[1])
    if order not in ('<', '>', '|', '='):
      raise pickle.UnpicklingError('byte order %r' % (order,))
    self.order = order


class _Array:
  """Stands for numpy.ndarray while its state arrives."""
  array = None

  def __setstate__(self, state):
    _, shape, dtype, fortran, data = state
    self.array = _array(data, dtype, shape, 'F' if fortran else 'C')


def _array(data, dtype, shape, order):
  """The array that the bytes hold; raises if the sizes do not fit."""
  if not isinstance(dtype, _Dtype) or not isinstance(data, (bytes, bytearray)):
    raise pickle.UnpicklingError('an array that is not plain numbers')
  flat = np.frombuffer(data, np.dtype(dtype.code).newbyteorder(dtype.order))
  return flat.reshape(shape, order=order)


def _reconstruct(kind, shape, code):
  del kind, shape, code  # Of an empty array that _Array.__setstate__ replaces.
  return _Array()


def _frombuffer(data, dtype, shape, order):
  return _array(data, dtype, shape, order)


def _encode(text, encoding):
  """How Python 3 writes bytes in protocols 0 to 2."""
  if encoding != 'latin1':
    raise pickle.UnpicklingError('encoding %r' % (encoding,))
  return text.encode('latin1')


_STAND_INS = {
    ('numpy', 'ndarray'): 'numpy.ndarray',  # An argument only: not callable.
    ('numpy', 'dtype'): _Dtype,
    ('numpy.core.multiarray', '_reconstruct'): _reconstruct,
    ('numpy._core.multiarray', '_reconstruct'): _reconstruct,
    ('numpy.core.numeric', '_frombuffer'): _frombuffer,
    ('numpy._core.numeric', '_frombuffer'): _frombuffer,
    ('_codecs', 'encode'): _encode,
}


class _Unpickler(pickle.Unpickler):

  def find_class(self, module, name):
    try:
      found = _STAND_INS[module, name]
    except KeyError:
      raise pickle.UnpicklingError(
          'it asks for %s.%s' % (module, name)) from None
    # A new function each time: a pickle can set attributes of what it gets.
    return (lambda *args: found(*args)) if callable(found) else found


def _check_opcodes(data):
  """Raises for what would harm before find_class is asked.

  A memo index allocates that many entries, and hashing a tuple in a tuple in a
  tuple, as a dict key, overflows the C stack.
  """
  tuples = 0
  for opcode, argument, _ in pickletools.genops(data):
    if opcode.name in ('PUT', 'BINPUT', 'LONG_BINPUT') and argument > MAX_MEMO:
      raise pickle.UnpicklingError('a memo of %d entries' % argument)
    tuples += opcode.name.startswith(('TUPLE', 'FROZENSET'))
    if tuples > MAX_TUPLES:
      raise pickle.UnpicklingError('more than %d tuples' % MAX_TUPLES)
