"""The data sets that come in CIFAR's layouts. A leaf.

Source: https://www.cs.toronto.edu/~kriz/cifar.html, "Dataset layout".
"""

import os
from typing import NamedTuple

from graph_resnet9.errors import UserError


class Kind(NamedTuple):
  """What sets a data set apart from the others.

  title: as its authors call it.
  class_names: one a label.
  binary, pickled: names of the folder of either layout; '' if there is none.
  archives: names of the .tar.gz files of these folders, in the same order.
  stems: {split: names of its files, without the suffix .bin}.
  records: {stem: how many its file has}; others may have any number.
  label_bytes: int, in front of the 3,072 pixel bytes of a record.
  label: int, which of these bytes is the label.
  key: of the labels in the pickled layout.
  max_file_bytes: int, larger files are not read; twice the largest of its own.
  """

  title: str
  class_names: tuple[str, ...]
  binary: str
  pickled: str
  archives: tuple[str, ...]
  stems: dict[str, tuple[str, ...]]
  records: dict[str, int]
  label_bytes: int = 1
  label: int = 0
  key: bytes = b'labels'
  max_file_bytes: int = 64 << 20

  @property
  def layouts(self):
    """The names under which a folder may hold it."""
    return (self.binary, self.pickled, *self.archives)

  def path(self, data_dir):
    """Where the data set is: in a folder, or the folder or archive itself.

    Returns:
      The path, or None.
    """
    for layout in self.layouts:
      if os.path.exists(os.path.join(data_dir, layout)):
        return os.path.join(data_dir, layout)
    name = os.path.basename(os.path.normpath(data_dir))
    itself = (
      os.path.isfile(data_dir)
      if name in self.archives
      else os.path.isdir(data_dir)
      and (name in self.layouts or self.lies_in(data_dir))
    )
    return data_dir if itself else None

  def lies_in(self, folder):
    """Whether the files of a split lie in a folder, whatever its name is."""
    return any(
      all(os.path.isfile(os.path.join(folder, stem + end)) for stem in stems)
      for stems in self.stems.values()
      for end in ('.bin', '')
    )

  def is_binary(self, path):
    """Whether a path of `path` is of the binary layout, not the pickled one."""
    name = os.path.basename(os.path.normpath(path))
    if name in self.layouts:
      return name in (self.binary, *self.archives[:1])
    return not any(
      os.path.isfile(os.path.join(path, stem))
      for stems in self.stems.values()
      for stem in stems
    )


def _names(text):
  return tuple(text.split())


_TRAIN = tuple('data_batch_%d' % i for i in range(1, 6))
CIFAR10 = Kind(
  'CIFAR-10',
  _names('airplane automobile bird cat deer dog frog horse ship truck'),
  'cifar-10-batches-bin',
  'cifar-10-batches-py',
  ('cifar-10-binary.tar.gz', 'cifar-10-python.tar.gz'),
  {'train': _TRAIN, 'test': ('test_batch',)},
  dict.fromkeys((*_TRAIN, 'test_batch'), 10000),
)
# Its records have two labels, the superclass and the class.
CIFAR100 = Kind(
  'CIFAR-100',
  _names("""
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy
    bridge bus butterfly camel can castle caterpillar cattle chair chimpanzee
    clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower
    leopard lion lizard lobster man maple_tree motorcycle mountain mouse
    mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree
    plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea
    seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
    sunflower sweet_pepper table tank telephone television tiger tractor train
    trout tulip turtle wardrobe whale willow_tree wolf woman worm"""),
  'cifar-100-binary',
  'cifar-100-python',
  ('cifar-100-binary.tar.gz', 'cifar-100-python.tar.gz'),
  {'train': ('train',), 'test': ('test',)},
  {'train': 50000, 'test': 10000},
  label_bytes=2,
  label=1,
  key=b'fine_labels',
  max_file_bytes=320 << 20,
)
CIFAR100_COARSE = CIFAR100._replace(
  class_names=_names("""
    aquatic_mammals fish flowers food_containers fruit_and_vegetables
    household_electrical_devices household_furniture insects large_carnivores
    large_man-made_outdoor_things large_natural_outdoor_scenes
    large_omnivores_and_herbivores medium_mammals non-insect_invertebrates
    people reptiles small_mammals trees vehicles_1 vehicles_2"""),
  label=0,
  key=b'coarse_labels',
)
KINDS = {
  'cifar10': CIFAR10,
  'cifar100': CIFAR100,
  'cifar100_coarse': CIFAR100_COARSE,
}
META = 'batches.meta.txt'


def own(folder, classes):
  """The Kind of a folder of one's own in CIFAR-10's binary layout.

  Args:
    folder: with test*.bin, and other *.bin for training: records of a label
      byte and 3,072 pixel bytes, as many as there are.
    classes: how many, or their names with commas between; '' for the lines of
      batches.meta.txt.
  Raises:
    UserError: it is none, or its classes are not known.
  """
  try:
    stems = sorted(
      name.removesuffix('.bin')
      for name in os.listdir(folder)
      if name.endswith('.bin')
    )
  except OSError as e:
    raise UserError('--data_dir=%s: %s' % (folder, e.strerror)) from None
  test = tuple(stem for stem in stems if stem.startswith('test'))
  train = tuple(stem for stem in stems if stem not in test)
  if not test or not train:
    raise UserError(
      '--data_dir=%s: --dataset=folder asks for test*.bin and for other *.bin '
      'to train on' % folder
    )
  return Kind(
    'this data set',
    class_names(classes) if classes else _class_names_in(folder),
    os.path.basename(os.path.normpath(folder)),
    '',
    (),
    {'train': train, 'test': test},
    {},
    max_file_bytes=4 << 30,
  )


def class_names(classes):
  """The names that --classes means.

  Raises:
    UserError: it is no number and no list of different names.
  """
  names = tuple(name.strip() for name in classes.split(','))
  if len(names) == 1 and names[0].isdecimal():
    names = tuple(map(str, range(min(int(names[0]), 1000))))
  if not 2 <= len(names) <= 256 or len({*names} - {''}) < len(names):
    raise UserError(
      '--classes=%.99s: give a number from 2 to 256, or so many different '
      'names with commas between them' % classes
    )
  return names


def _class_names_in(folder):
  path = os.path.join(folder, META)
  try:
    with open(path, encoding='utf-8') as f:
      names = [line.strip() for line in f if line.strip()]
  except FileNotFoundError:
    raise UserError(
      '--data_dir=%s: how many classes are these? Give --classes=NUMBER, or '
      'their names, or put these into %s, a line each' % (folder, META)
    ) from None
  except (OSError, UnicodeDecodeError) as e:
    raise UserError('%s: cannot be read: %s' % (path, e)) from None
  return class_names(','.join(name.replace(',', ' ') for name in names))
