"""What the bits of a step depend on besides its flags, on a CPU."""

import os
import pathlib

import tensorflow.compat.v1 as tf

from graph_resnet9 import files

_MARK = '# bits: '
_MAX_BYTES = 1 << 20


def here() -> str:
  """The conditions of this process, in one line.

  Sums are taken in as many parts as there are threads, which is the number of
  CPUs that the process may use; TF_NUM_INTRAOP_THREADS states another one.
  Then the same number gives the same bits on one CPU and on two.
  """
  threads = os.environ.get('TF_NUM_INTRAOP_THREADS') or len(
    os.sched_getaffinity(0)
    if hasattr(os, 'sched_getaffinity')
    else range(os.cpu_count() or 1)
  )
  try:
    info = pathlib.Path('/proc/cpuinfo').read_text().split()
    vectors = [name for name in ('avx512f', 'avx2') if name in info][:1]
  except OSError:
    vectors = []
  return 'TF_NUM_INTRAOP_THREADS=%s, TF_ENABLE_ONEDNN_OPTS=%s, %s, %s' % (
    threads,
    os.environ.get('TF_ENABLE_ONEDNN_OPTS', ''),
    ''.join(vectors) or 'neither avx512f nor avx2',
    'TensorFlow ' + tf.__version__,
  )


def line() -> str:
  """The conditions as a comment of a flagfile."""
  return '%s%s\n' % (_MARK, here())


def saved(flagfile: str) -> str | None:
  """The conditions of the last session of a run, if its flags.txt says them."""
  with files.open_regular(flagfile) as f:
    text = f.read(_MAX_BYTES).decode(errors='replace')
  for each in text.splitlines():
    if each.startswith(_MARK):
      return each[len(_MARK) :]
  return None
