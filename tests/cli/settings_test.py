"""Settings from flags, flagfiles from settings, and the recipes in flags/."""

import dataclasses
import importlib
import os
import random
import re

from absl import flags
from absl.testing import absltest

from graph_resnet9.__main__ import COMMANDS
from graph_resnet9.cli import flagfile
from graph_resnet9.cli import recipe_flags
from graph_resnet9.cli import train_flags
from graph_resnet9.errors import UserError
from tests import helpers

RECIPES = sorted((helpers.ROOT / 'flags').glob('*.flags'))
# What both published recipes share, against the habits of ports.
MODEL = dict(
  init='pytorch', bn_decay=0.9, bn_epsilon=1e-5, bn_fused=True, conv='auto'
)
AUGMENT = dict(
  alternate_flip=False, crop_per='image', cutout_inside=True, pad_mode='reflect'
)
OPTIMIZER = dict(nesterov=True, rate_in_velocity=True, lr_shift_steps=1)


def definitions():
  """{command: its define_flags}; every command there is must have one."""
  return {
    name: importlib.import_module('graph_resnet9.' + name).define_flags
    for name in COMMANDS
  }


def random_value(flag, chance):
  """A value that a flag takes, as its field holds it, with many digits."""
  kind = flag.flag_type()
  if kind == 'bool':
    return chance.random() < 0.5
  if kind == 'string enum':
    return chance.choice(flag.parser.enum_values)
  if kind == 'int':
    low, high = flag.parser.lower_bound, flag.parser.upper_bound
    return chance.randint(low, high)
  if kind == 'float':
    low, high = flag.parser.lower_bound, flag.parser.upper_bound
    return chance.uniform(low, 1e9 if high is None else high)
  return ''.join(chance.choices('/ab c=-,.#"\'é', k=8)) + 'x'


def random_settings(seed):
  """train_flags.Train of random values of every flag that flags.txt keeps."""
  chance = random.Random(seed)
  flag_values = flags.FlagValues()
  train_flags.Train.define(flag_values)
  values = {
    name: random_value(flag_values[name], chance)
    for name in flag_values
    if name not in (*train_flags.PROCESS_FLAGS, 'recipe')
  }
  knots = sorted(chance.uniform(0, 30) for _ in range(chance.randint(1, 5)))
  values['lr_epochs'] = (0.0, *knots)
  values['lr_values'] = tuple(chance.random() for _ in values['lr_epochs'])
  values['batch_size'] = chance.randint(1, 99) * 7
  values['ghost_batch'] = chance.choice([0, 7]) if values['bn_fused'] else 0
  if chance.random() < 0.5:
    values['capacity'] = values['min_after_dequeue'] = None

  def filled(kind):
    return kind(
      **{
        field.name: values.get(field.name, field.default)
        if 'define' in field.metadata
        else filled(field.type)
        for field in dataclasses.fields(kind)
      }
    )

  values['train_dir'] = '-'
  return filled(train_flags.Train)


class SettingsTest(absltest.TestCase):
  def test_fields_hold_what_the_flags_say(self):
    settings = helpers.settings(
      train_dir='d',
      width=3,
      flip=False,
      lr_epochs='0,1.5,3',
      worker_hosts='a:1,b:2',
    )
    self.assertEqual(settings.train_dir, 'd')
    self.assertEqual(settings.model.width, 3)
    self.assertEqual(settings.augment.flip, False)
    self.assertEqual(settings.optimizer.lr_epochs, (0, 1.5, 3))
    self.assertEqual(settings.cluster.worker_hosts, ('a:1', 'b:2'))
    self.assertEqual(
      dict(**settings.augment), dict(pad=4, flip=False, cutout=8, **AUGMENT)
    )

  def test_defaults_of_fields_are_those_of_flags(self):
    for kind in (train_flags.Train, train_flags.Recipe, train_flags.Run):
      flag_values = flags.FlagValues()
      kind.define(flag_values)
      flat = {}

      def collect(group, flat=flat):
        for field in dataclasses.fields(group):
          if 'define' in field.metadata:
            flat[field.name] = field.default
          else:
            collect(field.type)

      collect(kind)
      self.assertCountEqual(flat, set(flag_values) - {'recipe'})
      for name, default in flat.items():
        if default is not dataclasses.MISSING:
          value = flag_values[name].default
          self.assertEqual(
            default, tuple(value) if isinstance(value, list) else value, name
          )

  def test_override_takes_what_was_not_given_from_the_saved(self):
    saved = helpers.settings(
      train_dir='x', width=3, seed=7, shuffle='epoch', precision='float16'
    )
    values = helpers.parsed(train_flags.Run.define, '--width=64')
    got = train_flags.Run.read(values).override(saved, values)
    self.assertEqual(
      (got.model.width, got.model.precision, got.seed, got.batches.shuffle),
      (64, 'float16', 7, 'epoch'),
    )

  def test_settings_do_not_change(self):
    with self.assertRaises(dataclasses.FrozenInstanceError):
      helpers.settings(train_dir='x').seed = 1

  def test_every_numeric_flag_of_every_command_names_its_bounds(self):
    for command, define in definitions().items():
      values = flags.FlagValues()
      define(values)
      required = [
        '--%s=x' % name
        for name in values
        if values[name].value is None and values[name].flag_type() == 'string'
      ]
      for name in values:
        kind = values[name].flag_type()
        for bad in {
          'int': ('-1', '1' + '0' * 30),
          'float': ('-1', 'nan', 'inf'),
        }.get(kind, ()):
          given = '--%s=%s' % (name, bad)
          with self.subTest(command=command, flag=given):
            with self.assertRaises(flags.Error) as caught:
              helpers.parsed(define, *required, given)
            text = str(caught.exception)
            self.assertIn('--' + name, text)
            self.assertRegex(
              text.replace(given, '').replace(bad, ''),
              r'\d|positive|non-negative|finite',
            )

  def test_every_command_is_known_here(self):
    modules = [
      path.stem
      for path in (helpers.ROOT / 'graph_resnet9').glob('*.py')
      if re.search(r'^def main\(', path.read_text(), re.MULTILINE)
    ]
    self.assertCountEqual(modules, [*COMMANDS, '__main__'])


class FlagfileTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.dir = self.create_tempdir()

  def test_gives_back_exactly_what_it_was_written_from(self):
    """Random values of every flag, floats with all their digits."""
    for seed in range(50):
      settings = random_settings(seed).replace(train_dir=self.dir.full_path)
      path = self.dir.create_file(
        'flags.txt', flagfile.text(settings)
      ).full_path
      with self.subTest(seed=seed):
        self.assertEqual(flagfile.read(self.dir.full_path), settings)
        by_absl = helpers.settings(flagfile=path, train_dir=self.dir.full_path)
        self.assertEqual(by_absl, settings)

  def test_knots_that_differ_in_the_eighth_digit_stay_apart(self):
    settings = helpers.settings(
      train_dir=self.dir.full_path,
      lr_epochs='0,1.0000001,1.0000002',
      lr_values='0,0.12345678,0',
    )
    self.dir.create_file('flags.txt', flagfile.text(settings))
    self.assertEqual(flagfile.read(self.dir.full_path), settings)

  def test_damaged_flags_txt_is_named(self):
    for text in (
      '--width=many',
      '--no_such_flag',
      '--flagfile=/dev/zero',
      '--' + 'x' * 5000,
      '',
      '\0' * 5000,
    ):  # absl looks for similar names, recursively.
      self.dir.create_file('flags.txt', text + '\n')
      with (
        self.subTest(text[:20]),
        self.assertRaisesRegex(UserError, 'flags.txt: not a flagfile'),
      ):
        flagfile.read(self.dir.full_path)
    self.assertIsNone(flagfile.read(os.path.join(self.dir.full_path, 'x')))


class RecipesTest(absltest.TestCase):
  def test_every_recipe_parses_and_says_how_it_is_used(self):
    self.assertGreaterEqual(len(RECIPES), 3)
    for path in RECIPES:
      with self.subTest(path.name):
        helpers.settings(train_dir='d', flagfile=path)
        self.assertIn(' --recipe=' + path.stem, path.read_text())

  def test_recipe_is_its_flagfile(self):
    for path in RECIPES:
      with self.subTest(path.stem):
        # Flagfiles have precedence over what stands before them.
        self.assertEqual(
          helpers.settings(train_dir='d', recipe=path.stem),
          helpers.settings(train_dir='d', flagfile=path).replace(train_dir='d'),
        )

  def test_flags_beside_a_recipe_have_precedence(self):
    define = train_flags.Train.define
    for args in (
      ['--width=5', '--recipe=cluster_async', '--flip=false'],
      ['--recipe=cluster_async', '--noflip', '--width=5'],
    ):
      got = train_flags.Train.read(helpers.parsed(define, *args))
      self.assertEqual(
        (got.model.width, got.augment.flip, got.optimizer.lr_values),
        (5, False, (0, 0.1, 0)),
      )
      self.assertEqual(got.train_dir, '/tmp/graph_resnet9/cluster_async')

  def test_recipe_sets_switches_and_what_the_command_has(self):
    define = train_flags.Recipe.define
    values = helpers.parsed(define, '--recipe=quickstart')
    self.assertEqual(values['width'].value, 16)
    values = helpers.parsed(define, '--recipe=fast10')
    self.assertIs(values['train_gamma'].value, False)
    self.assertIs(values['whitening'].value, True)
    with self.assertRaisesRegex(flags.Error, '--recipe=fast.*fast10'):
      helpers.parsed(define, '--recipe=fast')

  def test_dawn24_is_the_published_recipe(self):
    """davidcpage/cifar10-fast, dawn.py; also the defaults of the flags."""
    path = helpers.ROOT / 'flags' / 'dawn24.flags'
    for given in (dict(), dict(flagfile=path)):
      settings = helpers.settings(train_dir='d', **given)
      self.assertEqual(
        settings.optimizer,
        recipe_flags.Optimizer(
          label_smoothing=0,
          epochs=24,
          lr_epochs=(0, 5, 24),
          lr_values=(0, 0.4, 0),
          momentum=0.9,
          weight_decay=5e-4,
          bias_lr_scale=1,
          ema_decay=0,
          ema_steps=5,
          update_ops='control_dependencies',
          **OPTIMIZER,
        ),
      )
      self.assertEqual(
        settings.model,
        recipe_flags.Model(
          width=64,
          precision='float32',
          logit_scale=0.125,
          activation='relu',
          pool_before_bn=False,
          train_gamma=True,
          whitening=False,
          **MODEL,
        ),
      )
      self.assertEqual(
        settings.augment,
        recipe_flags.Augment(pad=4, flip=True, cutout=8, **AUGMENT),
      )
      self.assertEqual(
        (settings.batches.batch_size, settings.ghost_batch, settings.views),
        (512, 0, recipe_flags.Views(mirrored=False, shifted=False)),
      )

  def test_fast10_is_the_published_recipe(self):
    """davidcpage/cifar10-fast, new_dawn.py and bag_of_tricks.ipynb."""
    settings = helpers.settings(
      train_dir='d', flagfile=helpers.ROOT / 'flags' / 'fast10.flags'
    )
    self.assertEqual(
      settings.optimizer,
      recipe_flags.Optimizer(
        label_smoothing=0.2,
        epochs=10,
        lr_epochs=(0, 2, 8, 10),
        lr_values=(0, 1, 0.1, 0.1),
        momentum=0.9,
        weight_decay=5e-4,
        bias_lr_scale=64,
        ema_decay=0.99,
        ema_steps=5,
        update_ops='control_dependencies',
        **OPTIMIZER,
      ),
    )
    self.assertEqual(
      settings.augment,
      recipe_flags.Augment(pad=4, flip=True, cutout=0, **AUGMENT),
    )
    self.assertEqual(
      settings.model,
      recipe_flags.Model(
        width=64,
        precision='float32',
        logit_scale=1 / 16,
        activation='celu',
        pool_before_bn=True,
        train_gamma=False,
        whitening=True,
        **MODEL,
      ),
    )
    self.assertEqual(
      (settings.batches.batch_size, settings.ghost_batch, settings.views),
      (512, 32, recipe_flags.Views(mirrored=True, shifted=False)),
    )

  def test_fast8_is_fast10_but_for_these(self):
    ten, eight = (
      dataclasses.asdict(
        helpers.settings(train_dir='d', flagfile=helpers.ROOT / 'flags' / name)
      )
      for name in ('fast10.flags', 'fast8.flags')
    )
    changed = {}
    for part, values in eight.items():
      if not isinstance(values, dict):
        self.assertEqual(values, ten[part], part)
        continue
      for name, value in values.items():
        if value != ten[part][name]:
          changed[part, name] = value
    self.assertEqual(
      changed,
      {
        ('optimizer', 'epochs'): 8,
        ('optimizer', 'lr_values'): (0, 1, 0.1, 0),
        ('optimizer', 'ema_decay'): 0,
        ('model', 'init'): 'dirac',
        ('augment', 'alternate_flip'): True,
        ('views', 'shifted'): True,
      },
    )

  def test_ghost_batches_must_divide_the_batch(self):
    with self.assertRaisesRegex(flags.Error, 'multiple of --ghost_batch'):
      helpers.settings(train_dir='d', batch_size=500, ghost_batch=32)


if __name__ == '__main__':
  absltest.main()
