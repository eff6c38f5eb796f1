"""Unpickles NumPy arrays and plain containers, and nothing else.

A pickle names the functions that rebuild its arrays. The ones here stand in for
NumPy's, so that a file never calls into NumPy or anything else, and a file that
any version of Python and NumPy wrote, Python 2 with numpy.core.multiarray
included, is read by any other.
"""

import io
import pickle
import struct

import numpy as np

from graph_resnet9.errors import UserError

# A canonical pickle takes 31,000 opcodes; one that Python 3 wrote in protocol
# 2, eight for each file name.
MAX_OPCODES = 1 << 20
_MAX_REASON = 200


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
    return _Unpickler(data).load()
  # Hostile bytes can raise anything, MemoryError included.
  except Exception as e:  # pylint: disable=broad-except
    reason = str(e).strip() or type(e).__name__
    raise UserError(
      '%s: refused, not a plain CIFAR-10 pickle: %s'
      % (name, reason.splitlines()[0][:_MAX_REASON])
    ) from None


def array_of(value):
  """The ndarray behind an unpickled value, or None."""
  value = value.array if isinstance(value, _Array) else value
  return value if isinstance(value, np.ndarray) else None


def _text(value):
  """A str also where Python 2 wrote it, which comes as bytes."""
  value = value.decode('ascii') if isinstance(value, bytes) else value
  if not isinstance(value, str):  # And not into a message: it may be endless.
    raise pickle.UnpicklingError('a %s as a name' % type(value).__name__)
  if len(value) > _MAX_REASON:
    raise pickle.UnpicklingError('a name of over %d characters' % _MAX_REASON)
  return value


class _Dtype:
  """Stands for numpy.dtype: kind and size, and the byte order set later."""

  def __init__(self, code, align=False, copy=False):
    del align, copy
    code = _text(code)
    if code not in (
      'b1',
      'i1',
      'i2',
      'i4',
      'i8',
      'u1',
      'u2',
      'u4',
      'u8',
      'f2',
      'f4',
      'f8',
    ):
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
  result = _Array()
  result.array = _array(data, dtype, shape, order)
  return result


def _encode(text, encoding):
  """How Python 3 writes bytes in protocols 0 to 2."""
  if _text(encoding) != 'latin1':
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


class _Opcodes(dict):
  """The opcodes of one unpickling, which end after MAX_OPCODES."""

  def __init__(self):
    super().__init__(_PLAIN)
    self._left = MAX_OPCODES

  def __getitem__(self, opcode):
    self._left -= 1
    if self._left < 0:
      raise pickle.UnpicklingError('more than %d opcodes' % MAX_OPCODES)
    return super().__getitem__(opcode)

  def __missing__(self, opcode):
    raise pickle.UnpicklingError('opcode %#04x' % opcode)


class _Unpickler(pickle._Unpickler):  # pylint: disable=protected-access
  """Python's unpickler in Python, with less of what a pickle may ask for.

  The one in C believes a memo index of 2**32 and allocates that, and hashes
  whatever is a key: for a tuple of a tuple twice, 30 deep, that takes seconds,
  50 deep weeks, and a million deep it overflows the stack.
  """

  def __init__(self, data):
    super().__init__(io.BytesIO(data), encoding='bytes')
    self.dispatch = _Opcodes()
    self._left_to_encode = len(data)

  def find_class(self, module, name):
    try:
      found = _STAND_INS[module, name]
    except KeyError:
      raise pickle.UnpicklingError(
        'it asks for %s.%s' % (module, name)
      ) from None
    if found is _encode:
      return self.encode
    # A new function each time: a pickle can set attributes of what it gets.
    return (lambda *args: found(*args)) if callable(found) else found

  def encode(self, text, encoding):
    """No more than the file holds: the memo gives one text time and again."""
    self._left_to_encode -= len(text)
    if self._left_to_encode < 0:
      raise pickle.UnpicklingError('it makes more bytes than it has')
    return _encode(text, encoding)

  def plain_put(self):
    # An index is the key of a dict, and 100,000 multiples of 2**61 - 1 are as
    # many keys with one hash.
    index = int(self.readline()[:-1])
    if not 0 <= index < 2**32:
      raise pickle.UnpicklingError('a memo index that is out of range')
    self.memo[index] = self.stack[-1]

  def plain_setitem(self):
    _check_keys(self.stack[-2:-1])
    self.load_setitem()

  def plain_setitems(self):
    _check_keys(self.stack[::2])
    self.load_setitems()

  def plain_dict(self):
    _check_keys(self.stack[::2])
    self.load_dict()

  def plain_bytearray8(self):
    (size,) = struct.unpack('<Q', self.read(8))
    self.append(bytearray(self.read(size)))  # Not more than there is.

  def plain_build(self):
    state = self.stack.pop()
    if not isinstance(self.stack[-1], (_Array, _Dtype)):
      raise pickle.UnpicklingError('it sets attributes')
    self.stack[-1].__setstate__(state)


def _check_keys(keys):
  """Strings only: their hashes are kept, and no file can foresee them."""
  for key in keys:
    if not isinstance(key, (str, bytes)):
      raise pickle.UnpicklingError('a %s as a key' % type(key).__name__)


_PLAIN = {
  getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]]  # pylint: disable=protected-access
  for name in (
    'PROTO FRAME MARK STOP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 '
    'LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING '
    'UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES '
    'SHORT_BINBYTES BINBYTES8 EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 '
    'EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT GLOBAL STACK_GLOBAL REDUCE '
    'BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET'
  ).split()
}
_PLAIN.update(
  {
    pickle.PUT[0]: _Unpickler.plain_put,
    pickle.SETITEM[0]: _Unpickler.plain_setitem,
    pickle.SETITEMS[0]: _Unpickler.plain_setitems,
    pickle.DICT[0]: _Unpickler.plain_dict,
    pickle.BYTEARRAY8[0]: _Unpickler.plain_bytearray8,
    pickle.BUILD[0]: _Unpickler.plain_build,
  }
)
