"""Settings from flags, flagfiles from settings, and the recipes in flags/."""

import os
import re

from absl import flags
from absl.testing import absltest

from graph_resnet9.cli import config
from graph_resnet9.cli import doctor_flags
from graph_resnet9.cli import settings as options
from graph_resnet9.errors import UserError
from tests import helpers

RECIPES = sorted((helpers.ROOT / 'flags').glob('*.flags'))

# What both published recipes share, against the habits of ports.
MODEL = dict(
  init='pytorch', bn_decay=0.9, bn_epsilon=1e-5, bn_fused=True, conv='auto'
)
AUGMENT = dict(crop_per='image', cutout_inside=True, pad_mode='reflect')
OPTIMIZER = dict(nesterov=True, rate_in_velocity=True, lr_shift_steps=1)


def parsed(define, *args):
  values = flags.FlagValues()
  define(values)
  values(['command', *args])
  return values


class ConfigTest(absltest.TestCase):
  def test_every_field_is_a_flag_and_every_flag_a_field(self):
    for define, kind, args in (
      (config.define_train_flags, options.Train, ['--train_dir=d']),
      (config.define_eval_flags, options.Eval, ['--checkpoint=c']),
      (config.define_benchmark_flags, options.Benchmark, []),
      (config.define_demo_flags, options.Demo, []),
      (
        config.define_export_flags,
        options.Export,
        ['--checkpoint=c', '--export_dir=e'],
      ),
      (config.define_predict_flags, options.Predict, ['--export_dir=e']),
      (doctor_flags.define_lint_flags, options.Lint, ['--meta_graph=m']),
      (
        doctor_flags.define_diagnose_flags,
        options.Diagnose,
        ['--checkpoint=c'],
      ),
      (
        doctor_flags.define_recalibrate_flags,
        options.Recalibrate,
        ['--checkpoint=c', '--out=o'],
      ),
    ):
      values = parsed(define, *args)
      self.assertCountEqual(
        options.flat(config.read(kind, values)), set(values) - {'recipe'}
      )

  def test_flagfile_text_round_trips(self):
    settings = helpers.settings(
      options.Train,
      train_dir='x',
      width=3,
      flip=False,
      lr_epochs='0,1.5,3',
      capacity=7,
      data_dir='/a b',
      epochs=0.1,
      weight_decay=1e-9,
    )
    folder = self.create_tempdir()
    folder.create_file('flags.txt', config.flagfile_text(settings))
    self.assertEqual(
      config.read_flagfile(folder.full_path),
      settings._replace(train_dir=folder.full_path),
    )

  def test_damaged_flags_txt_is_named(self):
    folder = self.create_tempdir()
    for text in (
      '--width=many',
      '--no_such_flag',
      '--flagfile=/dev/zero',
      '--' + 'x' * 5000,
    ):  # absl looks for similar names, recursively.
      folder.create_file('flags.txt', text + '\n')
      with (
        self.subTest(text[:20]),
        self.assertRaisesRegex(UserError, 'flags.txt: not a flagfile'),
      ):
        config.read_flagfile(folder.full_path)
    self.assertIsNone(config.read_flagfile(os.path.join(folder.full_path, 'x')))

  def test_override_takes_what_was_not_given_from_the_saved(self):
    saved = helpers.settings(
      options.Train, train_dir='x', width=3, seed=7, shuffle='epoch'
    )
    values = parsed(config.define_eval_flags, '--checkpoint=c', '--width=64')
    got = config.override(config.read(options.Eval, values), saved, values)
    self.assertEqual(
      (got.checkpoint, got.model.width, got.seed, got.batches.shuffle),
      ('c', 64, 7, 'epoch'),
    )

  def test_every_numeric_flag_of_every_command_names_its_bounds(self):
    commands = [
      getattr(module, name)
      for module in (config, doctor_flags)
      for name in vars(module)
      if re.fullmatch(r'define_\w+_flags', name)
    ]
    self.assertGreaterEqual(len(commands), 7)
    for define in commands:
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
          with self.subTest(command=define.__name__, flag=given):
            with self.assertRaises(flags.Error) as caught:
              parsed(define, *required, given)
            text = str(caught.exception)
            self.assertIn('--' + name, text)
            self.assertRegex(
              text.replace(given, '').replace(bad, ''),
              r'\d|positive|non-negative|finite',
            )


class RecipesTest(absltest.TestCase):
  def test_every_recipe_parses_and_says_how_it_is_used(self):
    self.assertGreaterEqual(len(RECIPES), 3)
    for path in RECIPES:
      with self.subTest(path.name):
        parsed(
          config.define_train_flags, '--train_dir=d', '--flagfile=%s' % path
        )
        self.assertIn(' --recipe=' + path.stem, path.read_text())

  def test_recipe_is_its_flagfile(self):
    for path in RECIPES:
      one, other = (
        config.read(
          options.Train, parsed(config.define_train_flags, '--train_dir=d', arg)
        )
        for arg in ('--recipe=' + path.stem, '--flagfile=%s' % path)
      )
      with self.subTest(path.stem):
        # Flagfiles have precedence over what stands before them.
        self.assertEqual(one, other._replace(train_dir='d'))

  def test_flags_beside_a_recipe_have_precedence(self):
    for args in (
      ['--width=5', '--recipe=cluster_async', '--flip=false'],
      ['--recipe=cluster_async', '--noflip', '--width=5'],
    ):
      got = config.read(options.Train, parsed(config.define_train_flags, *args))
      self.assertEqual(
        (got.model.width, got.augment.flip, got.optimizer.lr_values),
        (5, False, (0, 0.1, 0)),
      )
      self.assertEqual(got.train_dir, '/tmp/graph_resnet9/cluster_async')

  def test_recipe_sets_switches_and_what_the_command_has(self):
    values = parsed(config.define_benchmark_flags, '--recipe=quickstart')
    self.assertEqual(values['width'].value, 16)
    values = parsed(config.define_benchmark_flags, '--recipe=fast10')
    self.assertIs(values['train_gamma'].value, False)
    self.assertIs(values['whitening'].value, True)
    with self.assertRaisesRegex(flags.Error, '--recipe=fast.*fast10'):
      parsed(config.define_train_flags, '--recipe=fast')

  def test_dawn24_is_the_published_recipe(self):
    """davidcpage/cifar10-fast, dawn.py; also the defaults of the flags."""
    path = helpers.ROOT / 'flags' / 'dawn24.flags'
    for args in ([], ['--flagfile=%s' % path]):
      settings = config.read(
        options.Train, parsed(config.define_train_flags, '--train_dir=d', *args)
      )
      self.assertEqual(
        settings.optimizer,
        options.Optimizer(
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
        options.Model(
          width=64,
          precision='float32',
          conv='auto',
          logit_scale=0.125,
          activation='relu',
          pool_before_bn=False,
          train_gamma=True,
          whitening=False,
          **MODEL,
        ),
      )
      self.assertEqual(settings.augment, options.Augment(4, True, 8, **AUGMENT))
      self.assertEqual(
        (settings.batches.batch_size, settings.ghost_batch, settings.mirrored),
        (512, 0, False),
      )

  def test_fast10_is_the_published_recipe(self):
    """davidcpage/cifar10-fast, new_dawn.py and bag_of_tricks.ipynb."""
    path = helpers.ROOT / 'flags' / 'fast10.flags'
    settings = config.read(
      options.Train,
      parsed(
        config.define_train_flags, '--train_dir=d', '--flagfile=%s' % path
      ),
    )
    self.assertEqual(
      settings.optimizer,
      options.Optimizer(
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
    self.assertEqual(settings.augment, options.Augment(4, True, 0, **AUGMENT))
    self.assertEqual(
      settings.model,
      options.Model(
        width=64,
        precision='float32',
        conv='auto',
        logit_scale=1 / 16,
        activation='celu',
        pool_before_bn=True,
        train_gamma=False,
        whitening=True,
        **MODEL,
      ),
    )
    self.assertEqual(
      (settings.batches.batch_size, settings.ghost_batch, settings.mirrored),
      (512, 32, True),
    )

  def test_ghost_batches_of_plain_ops_are_refused(self):
    with self.assertRaisesRegex(flags.Error, '--nobn_fused: ghost batches'):
      parsed(
        config.define_train_flags,
        '--train_dir=d',
        '--ghost_batch=32',
        '--nobn_fused',
      )

  def test_ghost_batches_must_divide_the_batch(self):
    with self.assertRaisesRegex(flags.Error, 'multiple of --ghost_batch'):
      parsed(
        config.define_train_flags,
        '--train_dir=d',
        '--batch_size=500',
        '--ghost_batch=32',
      )


if __name__ == '__main__':
  absltest.main()
