"""Which images a run gets: --dataset and --data_dir, found and loaded."""

from collections.abc import Iterator
import contextlib
import functools
import os
import tempfile
from typing import NamedTuple

from absl import logging
import numpy as np

from graph_resnet9 import files
from graph_resnet9.errors import UserError
from graph_resnet9.inputs import cifar
from graph_resnet9.inputs import download
from graph_resnet9.inputs import formats
from graph_resnet9.inputs import synthetic

_FALLBACK = """
********************************************************************************
* NOT CIFAR-10: the data set could not be fetched, so this run uses the        *
* embedded SYNTHETIC images. Its accuracy says nothing about CIFAR-10.         *
* For CIFAR-10: --data_dir=DIR, with a copy from                               *
* https://www.cs.toronto.edu/~kriz/cifar.html in DIR; another --train_dir too. *
********************************************************************************
(%s)"""


class Source(NamedTuple):
  """Where the images of a run come from.

  name: of --dataset, never 'auto'.
  path: a folder or an archive, as of cifar.Kind.path; '' for the synthetic set.
  class_names: one a label.
  kind: cifar.Kind, None for the synthetic set.
  """

  name: str
  path: str
  class_names: tuple[str, ...]
  kind: cifar.Kind | None = None


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
    self._read: set[str] = set()  # Splits of which records are read from files.

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
    """As record_files below, of a split; files of its own for each call."""
    self._read.add(split)
    folder = tempfile.mkdtemp(dir=self._folder)
    return record_files(
      self.source, split, folder, self._examples[split], order, share
    )

  def check(self) -> None:
    """Raises UserError if a file that records are read from is damaged now."""
    for split in self._read:
      check(self.source, split)


@contextlib.contextmanager
def opened(
  dataset: str,
  data_dir: str = '',
  classes: str = '',
  train_examples: int = 0,
  test_examples: int = 0,
) -> Iterator[Data]:
  """Yields the Data that --dataset and --data_dir mean; see find.

  With --input=records, files are read while others may write into them. Where
  an error of TensorFlow's ends what is done inside, one that a file explains
  becomes a UserError which names it.

  Args:
    dataset, data_dir, classes: as of find.
    train_examples, test_examples: use that many, the first ones; 0: all.
  Raises:
    UserError: as find; also later, where a split is damaged.
  """
  with files.scratch_dir() as folder:
    data = Data(
      find(dataset, data_dir, classes),
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


def cache_dir() -> str:
  """Where a download is kept: $XDG_CACHE_HOME, or ~/.cache, /graph_resnet9."""
  cache = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
  return os.path.join(cache, 'graph_resnet9')


def class_names(dataset: str, classes: str = '') -> tuple[str, ...]:
  """The names of the classes of a data set that is not at hand.

  Args:
    dataset, classes: as of find, and as flags.txt has them.
  """
  if dataset == 'folder':
    return cifar.class_names(classes)
  if dataset == 'synthetic':
    return synthetic.CLASS_NAMES
  return cifar.KINDS.get(dataset, cifar.CIFAR10).class_names


def find(dataset: str, data_dir: str = '', classes: str = '') -> Source:
  """Decides where the images come from; downloads CIFAR-10 if it must.

  'cifar10' looks into `data_dir` if that is given, else into the cache folder,
  else downloads the official archive into it. 'auto' does the same, and takes
  the synthetic set with a loud warning where the network cannot be reached. The
  other data sets are never downloaded.

  Args:
    dataset: 'auto', 'cifar10', 'cifar100', 'cifar100_coarse', 'folder' or
      'synthetic'.
    data_dir: what holds the data set, or is it; or ''.
    classes: of 'folder', as of cifar.own.
  Returns:
    Source.
  Raises:
    UserError: `data_dir` holds no such data set, or the download failed.
  """
  if classes and dataset != 'folder':
    raise UserError('--classes: is for --dataset=folder')
  if dataset == 'synthetic':
    return Source('synthetic', '', synthetic.CLASS_NAMES)
  if dataset == 'folder':
    _check_exists(data_dir or '', dataset)
    kind = cifar.own(data_dir, classes)
    return Source(dataset, data_dir, kind.class_names, kind)
  kind = cifar.KINDS.get(dataset, cifar.CIFAR10)
  if data_dir or kind is not cifar.CIFAR10:
    _check_exists(data_dir, dataset)
    path = kind.path(data_dir) or _refuse(kind, data_dir)
  else:
    try:
      path = _cached_or_downloaded()
    except download.Unreachable as e:
      if dataset == 'cifar10':
        raise UserError(
          '%s; put a copy into a folder and name it with --data_dir' % e
        ) from None
      logging.warning(_FALLBACK, e)
      return Source('synthetic', '', synthetic.CLASS_NAMES)
  name = 'cifar10' if dataset == 'auto' else dataset
  return Source(name, path, kind.class_names, kind)


def refuse_early(
  batch_size,
  dataset,
  data_dir='',
  classes='',
  train_examples=0,
  test_examples=0,
):
  """Refuses what can be refused without reading or downloading anything.

  Args:
    batch_size: int, of training.
    dataset, data_dir, classes: as of find.
    train_examples, test_examples: use that many, the first ones; 0: all.
  Raises:
    UserError: as find; or the training images are fewer than a batch.
  """
  del test_examples
  kind = cifar.CIFAR10
  if data_dir or dataset not in ('auto', 'cifar10'):
    kind = find(dataset, data_dir, classes).kind
  sizes = [synthetic.SPLITS['train'][0]]
  if kind:
    sizes = [kind.records.get(stem) for stem in kind.stems['train']]
  if None in sizes:
    return  # The files say.
  examples = sum(sizes)
  examples = min(examples, train_examples or examples)
  if batch_size > examples:
    raise UserError(
      '--batch_size=%d: the data set has %d examples' % (batch_size, examples)
    )


def _check_exists(data_dir, dataset):
  if not data_dir:
    raise UserError(
      '--dataset=%s: where is it? Give --data_dir=DIR; only CIFAR-10 is '
      'downloaded' % dataset
    )
  if not os.path.exists(data_dir):
    raise UserError('--data_dir=%s: no such directory' % data_dir)


def _refuse(kind, data_dir):
  """Raises UserError: a data set is not there; says what is, if it can."""
  for name, other in cifar.KINDS.items():
    if other.title != kind.title and other.path(data_dir):
      raise UserError(
        '--data_dir=%s: this is %s; --dataset=%s takes it'
        % (data_dir, other.title, name)
      )
  layouts = ', '.join(kind.layouts)
  if not os.path.isdir(data_dir):
    raise UserError(
      '--data_dir=%s: a file, and not of the name of an archive of %s; give '
      'one of %s, or the folder that holds it' % (data_dir, kind.title, layouts)
    )
  raise UserError(
    '--data_dir=%s: holds none of %s, and no %s.bin'
    % (data_dir, layouts, kind.stems['train'][0])
  )


def _cached_or_downloaded():
  """The path of CIFAR-10 in the cache."""
  folder = cache_dir()
  path = cifar.CIFAR10.path(folder)
  if not path:
    path = os.path.join(folder, formats.BINARY_ARCHIVE)
    download.fetch(path)
  return path


def load(
  source: Source,
  split: str,
  examples: int = 0,
  order: str = 'file',
  share: tuple[int, int] = (0, 1),
) -> formats.Split:
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
    stems = source.kind.stems[split]
    parts = dict(formats.read_layout(source.path, stems, source.kind))
    data = formats.Split(
      *(
        np.concatenate(arrays)
        for arrays in zip(*(parts[stem] for stem in stems))
      )
    ).first(examples)
  return ordered(data, order).share(*share)


def ordered(data: formats.Split, order: str) -> formats.Split:
  """A split in the order of --order; see load."""
  if order == 'file':
    return data
  rank = np.argsort(data.labels, kind='stable')
  return formats.Split(data.images[rank], data.labels[rank])


def check(source: Source, split: str) -> None:
  """Raises UserError if a file of a split is missing or damaged now."""
  if source.path:
    for _ in formats.read_layout(
      source.path, source.kind.stems[split], source.kind
    ):
      pass


def record_files(
  source: Source,
  split: str,
  folder: str,
  examples: int = 0,
  order: str = 'file',
  share: tuple[int, int] = (0, 1),
) -> tuple[list[str], int]:
  """Files in the binary layout, for a reader that does not load the split.

  The files of a folder in CIFAR-10's binary layout are checked one at a time
  and used as they are. Every other source, and a choice of examples, order or
  share, is written into `folder` first.

  Args:
    source, split, examples, order, share: as of load.
    folder: an existing directory, for files that have to be written.
  Returns:
    (list of paths, number of examples in them).
  """
  kind = source.kind
  if (
    kind
    and kind.label_bytes == 1
    and os.path.isdir(source.path)
    and kind.is_binary(source.path)
    and not examples
    and order == 'file'
    and share == (0, 1)
  ):
    stems = kind.stems[split]
    count = sum(
      len(part.labels)
      for _, part in formats.read_layout(source.path, stems, kind)
    )
    return [os.path.join(source.path, stem + '.bin') for stem in stems], count
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
