"""doctor/measure/verdicts.py on records written by hand: one ailment each."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from graph_resnet9.doctor.measure import verdicts
from tests.inputs import small_records

MEAN, DEVIATION = 3.0, 2.0


def draws(batches=20, size=32, seed=0, channels=4, positions=4):
  """A list of [size, positions, channels] arrays of independent examples."""
  return list(
    np.random.RandomState(seed).normal(
      MEAN, DEVIATION, [batches, size, positions, channels]
    )
  )


def record(*calls, mean=MEAN, variance=DEVIATION**2, **kwargs):
  """A record whose layer has stored one mean and one variance throughout."""
  channels = calls[0][0].shape[-1]
  return small_records.record(
    *calls, mean=[mean] * channels, variance=[variance] * channels, **kwargs
  )


def codes(*records):
  return [verdict.code for verdict in verdicts.judge(records)]


class VerdictsTest(parameterized.TestCase):
  def test_healthy(self):
    (verdict,) = verdicts.judge([record(draws(), initial_share=0.0)])
    self.assertEqual(verdict.code, 'healthy')
    self.assertIn('20 batches', verdict.evidence)

  def test_updates_never_ran(self):
    for variance in (1, 0):
      self.assertEqual(
        codes(record(draws(), mean=0, variance=variance, initial_share=1e-9)),
        ['updates-never-ran'],
      )

  def test_only_the_layers_concerned_are_named(self):
    (verdict,) = verdicts.judge(
      [
        record(draws(), name='good'),
        record(draws(), mean=0, variance=1, name='bad'),
      ]
    )
    self.assertEqual(
      (verdict.code, verdict.layers), ('updates-never-ran', ['bad'])
    )
    self.assertIn('1 of 2 layers', verdict.evidence)

  def test_before_the_first_step_statistics_are_initial_by_right(self):
    self.assertNotIn(
      'updates-never-ran',
      codes(record(draws(), mean=0, variance=1, initial_share=1.0)),
    )

  def test_too_few_steps(self):
    left = 0.99**20
    slow = record(
      draws(),
      mean=(1 - left) * MEAN,
      variance=left + (1 - left) * DEVIATION**2,
      initial_share=left,
    )
    self.assertEqual(codes(slow), ['too-few-steps'])
    self.assertIn('82%', str(verdicts.judge([slow])[0]))

  def test_few_steps_that_do_no_harm_are_none(self):
    self.assertEqual(codes(record(draws(), initial_share=0.5)), ['healthy'])

  def test_batches_not_mixed(self):
    apart = [batch + 2 * (k % 5) for k, batch in enumerate(draws())]
    self.assertEqual(codes(record(apart)), ['batches-not-mixed'])

  def test_batches_that_drift_slowly_are_not_mixed(self):
    """By less than chance from one to the next, by far more over many."""
    mean = np.linspace(0, 3, 50)
    drifting = [
      batch + mean[k] for k, batch in enumerate(draws(50, size=8, positions=1))
    ]
    found = verdicts.unmixed(record(drifting))
    self.assertEqual(found.size, 25)
    self.assertGreater(found.share, 20 * found.independent)
    verdict = verdicts.judge([record(drifting)])[0]
    self.assertEqual(verdict.code, 'batches-not-mixed')
    self.assertIn('between blocks of 25 batches in a row', verdict.evidence)
    in_turn = [drifting[k % 25 * 2 + k // 25] for k in range(50)]
    self.assertLess(record(in_turn).share_between(25), found.share / 20)

  def test_uniform_batches_are_not_mixed(self):
    uniform = [np.full([8, 4], float(k % 5)) for k in range(20)]
    self.assertIn('batches-not-mixed', codes(record(uniform)))

  @parameterized.product(batches=[2, 5, 50], channels=[1, 16])
  def test_independent_draws_are_never_called_not_mixed(
    self, batches, channels
  ):
    for seed in range(200):
      drawn = small_records.record(
        draws(batches, size=16, seed=seed, channels=channels, positions=1)
      )
      self.assertIsNone(verdicts.unmixed(drawn), seed)

  def test_calls_differ(self):
    shared = record(draws(), [b + 3 for b in draws(seed=1)], mean=MEAN + 1.5)
    self.assertEqual(codes(shared), ['calls-differ'])

  def test_calls_alike_are_healthy(self):
    self.assertEqual(codes(record(draws(), draws(seed=1))), ['healthy'])

  @parameterized.parameters(1, 2, 4)
  def test_batch_too_small(self, size):
    self.assertEqual(
      codes(record(draws(200, size, positions=2))), ['batch-too-small']
    )

  def test_one_example_with_many_positions_is_too_small(self):
    self.assertEqual(
      codes(record(draws(200, size=1, positions=64))), ['batch-too-small']
    )

  @parameterized.parameters((MEAN + 2, 4), (MEAN, 16), (MEAN, 1.0))
  def test_data_differ(self, mean, variance):
    self.assertEqual(
      codes(record(draws(), mean=mean, variance=variance)), ['data-differ']
    )

  def test_other_ailments_explain_statistics_that_are_off(self):
    apart = [batch + 2 * (k % 5) for k, batch in enumerate(draws())]
    self.assertEqual(codes(record(apart, mean=-20)), ['batches-not-mixed'])

  def test_without_stored_statistics_the_input_is_judged(self):
    self.assertEqual(codes(small_records.record(draws())), ['not-compared'])
    self.assertEqual(
      codes(small_records.record(draws(200, 1))), ['batch-too-small']
    )

  def test_frozen_layer_is_not_judged(self):
    self.assertEqual(codes(record(draws(), mean=-20, frozen=True)), ['healthy'])
    self.assertEqual(
      codes(record(draws(200, 1), mean=0, variance=1, frozen=True)),
      ['never-by-batch'],
    )

  def test_labels_tell_only_whether_batches_are_mixed(self):
    few = small_records.record(draws(200, 1), labels=True)
    self.assertEqual(codes(record(draws()), few), ['healthy'])
    uniform = [np.full([8, 4], float(k % 5)) for k in range(20)]
    self.assertEqual(
      codes(record(draws()), small_records.record(uniform, labels=True)),
      ['batches-not-mixed'],
    )

  # What cannot be healthy.

  @parameterized.parameters(
    (np.nan, 4), (np.inf, 4), (MEAN, np.nan), (MEAN, np.inf), (MEAN, -3.0)
  )
  def test_statistics_that_are_not_finite_or_negative(self, mean, variance):
    for frozen in (True, False):
      bad = record(draws(), mean=mean, variance=variance, frozen=frozen)
      self.assertEqual(codes(bad), ['statistics-not-finite'])
      self.assertEqual(
        codes(record(draws(), name='good'), bad), ['statistics-not-finite']
      )

  def test_they_come_before_all_else(self):
    apart = [batch + 2 * (k % 5) for k, batch in enumerate(draws())]
    self.assertEqual(
      codes(record(apart, mean=np.nan)),
      ['statistics-not-finite', 'batches-not-mixed'],
    )

  def test_figures_that_are_no_numbers_are_never_right(self):
    class Figures:
      mean_gap = variance_ratio = np.nan
      independent_share = 0.1
      batches, freedom = 10, 1

      @staticmethod
      def share_between(size):
        return np.nan

    self.assertTrue(verdicts.differs(Figures))
    self.assertIsNotNone(verdicts.unmixed(Figures))

  def test_what_is_not_compared_is_not_called_healthy(self):
    good = record(draws(), name='good')
    bare = small_records.record(draws(), name='bare')
    new = record(draws(), mean=0, variance=1, initial_share=1.0, name='new')
    found = verdicts.judge([good, bare, new], [('hidden', 'in a loop')])
    self.assertEqual(
      [(v.code, v.layers) for v in found],
      [('healthy', ['good']), ('not-compared', ['hidden', 'bare', 'new'])],
    )
    self.assertIn('1 of 3 layers', found[0].evidence)
    self.assertIn('hidden: in a loop', found[1].evidence)

  def test_what_was_measured_in_vain_is_not_judged(self):
    off = record(draws(), mean=-20, name='off')
    self.assertEqual(
      [v.code for v in verdicts.judge([off], [('off', 'behind w')])],
      ['not-compared'],
    )

  # What is said.

  def evidence(self, *records):
    return [verdict.evidence for verdict in verdicts.judge(records)]

  def test_evidence_of_batches_one_by_one(self):
    apart = record([batch + 20 * (k % 2) for k, batch in enumerate(draws())])
    found = verdicts.unmixed(apart)
    self.assertEqual(found.size, 1)
    self.assertAlmostEqual(found.excess, found.share - found.independent)
    self.assertEqual(
      self.evidence(apart),
      [
        '%.1f%% of the variance of bn lies between batches, %.1f%% if the '
        'examples were drawn independently'
        % (100 * apart.share_between_batches, 100 * apart.independent_share)
      ],
    )

  def test_evidence_of_the_worst_layer(self):
    fine, worse, worst = (
      record(draws(), mean=mean, name=name)
      for mean, name in ((3, 'a'), (5, 'b'), (-9, 'c'))
    )
    (verdict,) = verdicts.judge([fine, worst, worse])
    self.assertEqual(verdict.layers, ['c', 'b'])
    # 12 off, of a standard deviation of 2.
    self.assertRegex(
      verdict.evidence,
      r'^the stored mean of c is (5\.9|6\.[01]) standard deviations off, ',
    )

  def test_evidence_of_calls(self):
    shared = record(draws(), [b + 3 for b in draws(seed=1)], mean=MEAN + 1.5)
    self.assertEqual(
      self.evidence(shared),
      [
        '%.0f%% of the variance in bn lies between its 2 calls'
        % (100 * shared.share_between_calls)
      ],
    )

  def test_evidence_of_health(self):
    good, other = (
      record(draws(seed=seed), name=str(seed), mean=MEAN + seed / 4)
      for seed in (0, 1)
    )
    frozen = record(draws(), frozen=True, name='f')
    compared = (
      'stored means within %.2f standard deviations, variances %.2f to %.2f '
      'times the actual ones, over 20 batches'
      % (
        max(good.mean_gap, other.mean_gap),
        min(good.variance_ratio, other.variance_ratio),
        max(good.variance_ratio, other.variance_ratio),
      )
    )
    by_stored = (
      'training normalises %s by the stored statistics, as evaluation does'
    )
    for records, expected in (
      ([good, other], compared),
      ([frozen], by_stored % 'all 1 layers'),
      ([good, other, frozen], compared + '; ' + by_stored % '1 layers'),
    ):
      self.assertEqual(self.evidence(*records), [expected])

  def test_reasons_are_listed_with_their_names(self):
    self.assertEqual(verdicts.listed([]), '')
    self.assertEqual(
      verdicts.listed([('a', 'x'), ('b', 'y'), ('c', 'x')]), 'a, c: x; b: y'
    )
    for names, expected in (
      ('abcd', 'a, b, c, d: x'),
      ('abcdef', 'a, b, c, d and 2 more: x'),
    ):
      self.assertEqual(
        verdicts.listed([(name, 'x') for name in names]), expected
      )

  def test_health_is_said_without_a_title_and_advice(self):
    said = str(verdicts.Verdict('healthy', ['bn'], 'evidence'))
    self.assertEqual(said, 'healthy: evidence')
    self.assertEqual(
      str(verdicts.Verdict('not-compared', ['bn'], 'evidence')),
      'not-compared: it cannot be told whether these layers are healthy; '
      'evidence',
    )

  def test_what_chance_explains(self):
    """Five standard deviations of chi-square, which is normal in the end."""
    for freedom in (1e5, 1e6):
      self.assertAlmostEqual(
        verdicts._by_chance(freedom), 1 + 5 * (2 / freedom) ** 0.5, places=3
      )
    self.assertGreater(verdicts._by_chance(1), 5**2)
    self.assertLess(verdicts._by_chance(1), 6**2)

  def test_a_share_that_matters_to_nobody(self):
    """Far beyond chance, and a fiftieth of the variance."""
    for shift, expected in ((0.2, False), (0.5, True)):
      drawn = [
        batch + shift * (k % 2) * DEVIATION
        for k, batch in enumerate(draws(20, 1000))
      ]
      self.assertEqual(verdicts.unmixed(record(drawn)) is not None, expected)

  def test_every_verdict_fits_one_line_and_advises(self):
    for code in set(verdicts.TITLES) - set(verdicts.NO_FAULT):
      line = str(verdicts.Verdict(code, ['bn'], 'evidence'))
      self.assertLen(line.splitlines(), 1)
      self.assertIn('. ' + verdicts.ADVICE[code], line)


if __name__ == '__main__':
  absltest.main()
