"""docs/porting.md: its flags exist, and its figures can be computed again."""

import re

from absl import flags
from absl.testing import absltest
import numpy as np

from graph_resnet9.cli import train_flags
from tests import helpers

PAGE = helpers.ROOT / 'docs' / 'porting.md'


def paths(rates, momentum=0.9):
  """Nesterov on w**2 / 2 from 1: the rate inside, and outside the velocity."""
  inside, outside = [1.0], [1.0]
  v = accumulated = 0.0
  for rate in rates:
    d = -rate * inside[-1]
    v = momentum * v + d
    inside.append(inside[-1] + d + momentum * v)
    gradient = outside[-1]
    accumulated = momentum * accumulated + gradient
    outside.append(outside[-1] - rate * (gradient + momentum * accumulated))
  return np.array(inside), np.array(outside)


class PortingTest(absltest.TestCase):
  def test_its_flags_are_those_of_train(self):
    values = flags.FlagValues()
    train_flags.Train.define(values)
    names = re.findall(r'(?<![\w-])--(\w+)', PAGE.read_text())
    self.assertGreater(len(names), 15)
    for name in set(names) - {'meta_graph'}:
      with self.subTest(name):
        self.assertTrue(name in values or name.removeprefix('no') in values)

  def test_there_is_one_place_for_the_measured_departures(self):
    text = PAGE.read_text()
    self.assertEqual(text.count('<!-- departures:begin -->'), 1)
    self.assertEqual(text.count('<!-- departures:end -->'), 1)

  def test_rate_inside_the_velocity_or_outside(self):
    inside, outside = paths([0.1] * 40)
    np.testing.assert_allclose(inside, outside, atol=1e-15)
    ramp = 0.4 * np.minimum(np.arange(1, 41) / 8, (40 - np.arange(40)) / 33)
    inside, outside = paths(ramp)
    (figure,) = re.findall(
      r'the two paths lie up to ([\d.]+) apart',
      ' '.join(PAGE.read_text().split()),
    )
    self.assertEqual('%.2f' % np.abs(inside - outside).max(), figure)

  def test_he_uniform_is_wider_than_pytorch_by_the_root_of_6(self):
    self.assertIn('sqrt(6) = %.2f times' % np.sqrt(6), PAGE.read_text())


if __name__ == '__main__':
  absltest.main()
