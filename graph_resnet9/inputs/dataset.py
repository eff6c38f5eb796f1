"""Which images a run gets: --dataset and --data_dir, found and loaded."""

from collections.abc import Iterator
import contextlib
import functools
import os
from typing import NamedTuple

from absl import logging
import numpy as np

from graph_resnet9 import files
from graph_resnet9.errors import UserError
from graph_resnet9.inputs import download
from graph_resnet9.inputs import formats
from graph_resnet9.inputs import synthetic

_STEMS = {'train': formats.TRAIN_STEMS, 'test': formats.TEST_STEMS}
_FALLBACK = """
********************************************************************************
* NOT CIFAR-10: the data set could not be fetched, so this run uses the        *
* embedded SYNTHETIC images. Its accuracy says nothing about CIFAR-10.         *
* For CIFAR-10: --data_dir=DIR, with a copy from                               *
* https://www.cs.toronto.edu/~kriz/cifar.html in DIR.                          *
********************************************************************************
(%s)"""


class Source(NamedTuple):
  """Where the images of a run come from.

  name: 'cifar10' or 'synthetic', never 'auto'.
  path: of one of formats.LAYOUTS; '' for the synthetic set.
  class_names: ten strings.
  """

  name: str
  path: str
  class_names: tuple[str, ...]


class Data:
  """A data set; each split is loaded when it is first asked for, and once.

  source: Source.
  """

  def __init__(self, source: Source, examples: dict[str, int], folder: str):
    """Makes it; see opened.

    Args:
      source: Source.
      examples: {split: use the first so many, or 0}.
      folder: existing directory for record files, if they have to be written.
    """
    self.source = source
    self._examples = examples
    self._folder = folder
    self._read = set()  # Splits of which records are read from files.

  @functools.cached_property
  def train(self) -> formats.Split:
    return self._load('train')

  @functools.cached_property
  def test(self) -> formats.Split:
    return self._load('test')

  def _load(self, split):
    return load(self.source, split, self._examples[split])

  def record_files(
    self, split: str, order: str = 'file', share: tuple[int, int] = (0, 1)
  ) -> tuple[list[str], int]:
    """As record_files below, of a split of this data set."""
    self._read.add(split)
    return record_files(
      self.source, split, self._folder, self._examples[split], order, share
    )

  def check(self) -> None:
    """Raises UserError if a file that records are read from is damaged now."""
    for split in self._read:
      check(self.source, split)


@contextlib.contextmanager
def opened(
  dataset: str, data_dir: str = '', train_examples: int = 0, test_examples=0
) -> Iterator[Data]:
  """Yields the Data that --dataset and --data_dir mean; see find.

  With --input=records, files are read while others may write into them. Where
  an error of TensorFlow's ends what is done inside, one that a file explains
  becomes a UserError which names it.

  Args:
    dataset, data_dir: as of find.
    train_examples, test_examples: use that many, the first ones; 0: all.
  Raises:
    UserError: as find; also later, where a split is damaged.
  """
  with files.scratch_dir() as folder:
    data = Data(
      find(dataset, data_dir),
      {'train': train_examples, 'test': test_examples},
      folder,
    )
    try:
      yield data
    except UserError:
      raise
    except Exception:
      data.check()
      raise


def cache_dir():
  """Where a download is kept: $XDG_CACHE_HOME, or ~/.cache, /graph_resnet9."""
  cache = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
  return os.path.join(cache, 'graph_resnet9')


def find(dataset, data_dir=''):
  """Decides where the images come from; downloads them if it must.

  'cifar10' looks into `data_dir` if that is given, else into the cache folder,
  else downloads the official archive into it. 'auto' does the same, and takes
  the synthetic set with a loud warning where the network cannot be reached.

  Args:
    dataset: 'auto', 'cifar10' or 'synthetic'.
    data_dir: a folder that holds one of formats.LAYOUTS, or ''.
  Returns:
    Source.
  Raises:
    UserError: `data_dir` holds no data set, or the download failed.
  """
  if dataset != 'synthetic':
    try:
      return Source('cifar10', _path(data_dir), formats.CLASS_NAMES)
    except download.Unreachable as e:
      if dataset == 'cifar10':
        raise UserError(
          '%s; put a copy into a folder and name it with --data_dir' % e
        ) from None
      logging.warning(_FALLBACK, e)
  return Source('synthetic', '', synthetic.CLASS_NAMES)


def _path(data_dir):
  """The path of a layout: in data_dir, or else in the cache, or downloaded."""
  if data_dir and not os.path.isdir(data_dir):
    raise UserError(
      '--data_dir=%s: %s'
      % (
        data_dir,
        'a file, not a directory'
        if os.path.exists(data_dir)
        else 'no such directory',
      )
    )
  folder = data_dir or cache_dir()
  for layout in formats.LAYOUTS:
    if os.path.exists(os.path.join(folder, layout)):
      return os.path.join(folder, layout)
  if data_dir:
    raise UserError(
      '--data_dir=%s: holds none of %s' % (data_dir, ', '.join(formats.LAYOUTS))
    )
  path = os.path.join(folder, formats.BINARY_ARCHIVE)
  download.fetch(path)
  return path


def load(source, split, examples=0, order='file', share=(0, 1)):
  """Loads one split into memory.

  Args:
    source: Source.
    split: 'train' or 'test'.
    examples: use that many, the first ones; 0: all.
    order: 'file', or 'class_sorted': all of class 0, then all of class 1, ...
    share: (index, count), as of formats.Split.share.
  Returns:
    formats.Split.
  Raises:
    UserError: a file is missing or damaged.
  """
  if source.name == 'synthetic':
    count, seed = synthetic.SPLITS[split]
    data = synthetic.split(min(examples or count, count), seed)
  else:
    parts = dict(formats.read_layout(source.path, _STEMS[split]))
    data = formats.Split(
      *(
        np.concatenate(arrays)
        for arrays in zip(*(parts[stem] for stem in _STEMS[split]))
      )
    ).first(examples)
  return ordered(data, order).share(*share)


def ordered(data: formats.Split, order: str) -> formats.Split:
  """A split in the order of --order; see load."""
  if order == 'file':
    return data
  rank = np.argsort(data.labels, kind='stable')
  return formats.Split(data.images[rank], data.labels[rank])


def check(source, split):
  """Raises UserError if a file of a split is missing or damaged now."""
  if source.path:
    for _ in formats.read_layout(source.path, _STEMS[split]):
      pass


def record_files(source, split, folder, examples=0, order='file', share=(0, 1)):
  """Files in the binary layout, for a reader that does not load the split.

  The files of a cifar-10-batches-bin folder are checked one at a time and used
  as they are. Every other source, and a choice of examples, order or share, is
  written into `folder` first.

  Args:
    source, split, examples, order, share: as of load.
    folder: an existing directory, for files that have to be written.
  Returns:
    (list of paths, number of examples in them).
  """
  if (
    os.path.basename(os.path.normpath(source.path)) == formats.BINARY_FOLDER
    and not examples
    and order == 'file'
    and share == (0, 1)
  ):
    count = sum(
      len(part.labels)
      for _, part in formats.read_layout(source.path, _STEMS[split])
    )
    return [
      os.path.join(source.path, stem + '.bin') for stem in _STEMS[split]
    ], count
  data = load(source, split, examples, order, share)
  path = os.path.join(folder, split + '.bin')
  try:
    with open(path, 'xb') as f:
      f.write(formats.encode_records(data))
  except OSError as e:
    raise UserError(
      '%s: cannot be written: %s; --input=records writes %d MB here, unless '
      'the files of %s can be read as they are. Name a folder with room in the '
      'variable TMPDIR'
      % (
        path,
        e.strerror,
        len(data.labels) * formats.RECORD_BYTES / 1e6 + 1,
        formats.BINARY_FOLDER,
      )
    ) from None
  return [path], len(data.labels)
