"""doctor/measure/moments.py against NumPy on whole arrays."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from graph_resnet9.doctor.measure import moments
from tests.inputs import small_records


def population(rows):
  """(mean, unbiased variance) of the rows of an array."""
  return rows.mean(0), rows.var(0, ddof=1)


def assert_moments(got, rows, rtol=1e-12):
  mean, variance = population(rows)
  np.testing.assert_equal(got.count, len(rows))
  np.testing.assert_allclose(got.mean, mean, rtol=rtol)
  np.testing.assert_allclose(got.variance, variance, rtol=rtol)


class MergedTest(parameterized.TestCase):
  @parameterized.parameters(range(10))
  def test_any_split_is_the_whole(self, seed):
    random = np.random.RandomState(seed)
    rows = random.normal([3, -5, 100], [2, 1, 30], [200, 3])
    # Neighbouring cuts that coincide make empty parts, 0 and 200 too.
    cuts = sorted(list(random.randint(0, 201, 12)) + [0, 0, 57, 58, 58, 200])
    parts = np.split(rows, cuts)
    self.assertContainsSubset({0, 1}, set(map(len, parts)))
    assert_moments(moments.merged(map(moments.of_rows, parts)), rows)

  def test_order_and_nesting_do_not_matter(self):
    parts = [
      moments.of_rows(part)
      for part in np.split(
        np.random.RandomState(0).normal(3, 2, [60, 2]), [1, 20, 50]
      )
    ]
    flat = moments.merged(parts)
    nested = moments.merged(
      [moments.merged(parts[2:]), moments.merged(reversed(parts[:2]))]
    )
    np.testing.assert_allclose(nested.mean, flat.mean, rtol=1e-13)
    np.testing.assert_allclose(nested.m2, flat.m2, rtol=1e-13)

  def test_one_value_has_no_variance(self):
    one = moments.merged([moments.of_rows([[3.0, 4.0]])])
    np.testing.assert_array_equal(one.variance, [0, 0])
    np.testing.assert_array_equal(one.mean, [3, 4])

  def test_nothing_is_no_value(self):
    self.assertEqual(moments.merged([]).count, 0)
    empty = moments.of_rows(np.zeros([0, 3]))
    np.testing.assert_array_equal(empty.mean, np.zeros(3))
    self.assertEqual(moments.merged([empty]).count, 0)

  def test_mean_a_million_deviations_away(self):
    rows = np.random.RandomState(0).normal(1e6, 1, [4096, 5])
    got = moments.merged(map(moments.of_rows, np.split(rows, 64)))
    np.testing.assert_allclose(got.variance, rows.var(0, ddof=1), rtol=1e-6)
    # The formula that is not used, in the type of the layers.
    x = rows.astype(np.float32)
    naive = (x**2).mean(0) - x.mean(0) ** 2
    self.assertGreater(np.abs(naive - rows.var(0)).max(), 1)

  def test_equal_values_have_a_variance_of_zero(self):
    rows = np.full([300, 2], 0.1) * [1, 1e6]
    got = moments.merged(map(moments.of_rows, np.split(rows, [1, 7, 130])))
    self.assertTrue((got.variance >= 0).all())
    np.testing.assert_allclose(got.variance / rows[0] ** 2, 0, atol=1e-24)


class BatchTest(parameterized.TestCase):
  @parameterized.parameters(
    ((8, 5, 6, 3),), ((8, 7, 3),), ((8, 3),), ((1, 5, 6, 3),)
  )
  def test_moments_are_those_of_all_values(self, shape):
    values = np.random.RandomState(0).normal([1, 10, 1e4], [1, 2, 3], shape)
    assert_moments(
      small_records.batch(values).moments, values.reshape(-1, 3), rtol=1e-9
    )

  def test_variance_is_unbiased(self):
    batch = small_records.batch([[1.0], [2.0], [6.0]])
    np.testing.assert_allclose(batch.moments.variance, [7])  # (4 + 1 + 9) / 2

  def test_counts_that_32_bits_do_not_hold(self):
    # As a session hands the number of positions over.
    part = moments.Batch(
      np.array([[1.0], [3.0]]), np.zeros([2, 1]), np.int32(2**30)
    )
    both = moments.merged([part.moments, part.moments])
    self.assertEqual(both.count, 2**32)
    np.testing.assert_allclose(both.variance, [1], rtol=1e-9)

  def test_summary_counts_values_and_examples(self):
    summary = moments.summary(small_records.batch(np.ones([4, 5, 6, 3])))
    self.assertEqual((summary.values.count, summary.examples.count), (120, 4))


class StoredTest(absltest.TestCase):
  def test_mean_gap_and_variance_ratio(self):
    # Of [0, 2] and [10, 30]: means 1 and 20, variances 2 and 200.
    record = small_records.record(
      [[[0.0, 10.0]], [[2.0, 30.0]]], mean=[1 + 2**0.5, 20], variance=[4, 300]
    )
    self.assertAlmostEqual(record.mean_gap, 0.5**0.5)  # 1 and 0 deviations.
    self.assertAlmostEqual(record.variance_ratio, 1.75)  # Of 2 and 1.5.

  def test_epsilon_counts_as_variance(self):
    # A layer that sees a variance of 0 + 1 and has stored 3 + 1.
    record = small_records.record(
      [[[2.0]], [[2.0]]], mean=[5], variance=[3], epsilon=1.0
    )
    self.assertAlmostEqual(record.mean_gap, 3)
    self.assertAlmostEqual(record.variance_ratio, 4)

  def test_channel_that_hardly_varies_does_not_decide(self):
    alive = np.array([-1.0, 1.0, -1.0, 1.0])
    values = np.stack([alive, alive * 1e-9], 1)
    record = small_records.record([values], mean=[0.0, 1e-4], variance=[1, 1])
    self.assertLess(record.mean_gap, 0.01)

  def test_initial_is_0_and_1_or_0_everywhere(self):
    for mean, variance, expected in (
      ([0, 0], [1, 1], True),
      ([0, 0], [0, 0], True),
      ([0, 0], [1, 0], False),
      ([0, 1e-9], [1, 1], False),
      ([0, 0], [1, 1.1], False),
    ):
      with self.subTest(mean=mean, variance=variance):
        record = small_records.record(
          [np.ones([2, 2])], mean=mean, variance=variance
        )
        self.assertEqual(bool(record.initial), expected)
    self.assertFalse(small_records.record([np.ones([2, 2])]).initial)

  def test_sizes(self):
    record = small_records.record([np.ones([4, 5, 2]), np.ones([2, 5, 2])])
    self.assertEqual(
      (record.batches, record.batch_size, record.values), (2, 3, 10)
    )


class ShareTest(parameterized.TestCase):
  def test_uniform_batches(self):
    record = small_records.record([np.full([8, 3], k) for k in range(20)])
    self.assertAlmostEqual(record.share_between_batches, 1, delta=0.06)
    self.assertAlmostEqual(record.independent_share, 20 / 19 / 8, delta=0.02)

  def test_blocks_of_batches(self):
    batches = [np.full([8, 3], k // 5) for k in range(23)]
    record = small_records.record(batches)
    # Of 0, 1, 2, 3, four times each and five times each.
    values = np.array([0, 1, 2, 3])
    every = np.repeat(values, 5).tolist() + [4] * 3
    self.assertAlmostEqual(
      record.share_between(5), values.var(ddof=1) / np.var(every)
    )
    self.assertAlmostEqual(
      record.share_between(1), min(1, np.var(every, ddof=1) / np.var(every))
    )

  def test_batches_that_are_alike(self):
    batch = np.random.RandomState(0).normal(0, 1, [8, 3])
    self.assertAlmostEqual(
      small_records.record([batch] * 5).share_between_batches, 0
    )

  def test_empty_batch_counts_for_nothing(self):
    batches = np.split(np.random.RandomState(0).normal(3, 1, [40, 2]), 5)
    with_empty = small_records.record(batches + [np.zeros([0, 2])])
    self.assertAlmostEqual(
      with_empty.share_between_batches,
      small_records.record(batches).share_between_batches,
    )

  @parameterized.parameters(2, 8, 32)
  def test_shuffled_draws_are_near_independent_share(self, size):
    random = np.random.RandomState(size)
    examples = random.normal(0, 1, [size * 300, 1, 4])
    examples = examples + random.normal(0, 1, [size * 300, 6, 4])
    record = small_records.record(np.split(examples, 300))
    self.assertAlmostEqual(
      record.share_between_batches / record.independent_share, 1, delta=0.1
    )
    # An example's mean varies by 1 + 1/6 of the 2 that its values do.
    self.assertAlmostEqual(record.independent_share * size, 7 / 12, delta=0.05)

  def test_share_between_calls(self):
    zeros = [np.array([[-1.0], [1.0]])] * 3
    twos = [np.array([[1.0], [3.0]])] * 3
    self.assertAlmostEqual(
      small_records.record(zeros, twos).share_between_calls, 0.5
    )
    self.assertAlmostEqual(
      small_records.record(zeros, zeros).share_between_calls, 0
    )
    self.assertAlmostEqual(small_records.record(zeros).share_between_calls, 0)

  def test_channels_that_vary_independently(self):
    """n^2 / the sum of the squared correlations of n one-hot channels."""
    for counts in ([5, 5], [4, 4, 4, 4], [1, 2, 7], [3, 30, 300, 1]):
      rows = np.repeat(np.eye(len(counts)), counts, 0)
      correlations = np.corrcoef(rows.T)
      self.assertAlmostEqual(
        small_records.record([rows], labels=True).freedom,
        len(counts) ** 2 / (correlations**2).sum(),
      )
    equal = np.repeat(np.eye(10), 6, 0)
    freedom = small_records.record([equal], labels=True).freedom
    self.assertAlmostEqual(freedom, 9)
    # A class that is never there is no channel.
    wider = np.concatenate([equal, np.zeros([60, 3])], 1)
    self.assertAlmostEqual(
      small_records.record([wider], labels=True).freedom, 9
    )

  def test_of_others_nothing_is_known(self):
    equal = np.repeat(np.eye(4), 5, 0)
    self.assertEqual(small_records.record([equal]).freedom, 1)
    for rows in (2 * equal, equal[:5], np.eye(4)[:0].reshape(0, 4)):
      self.assertEqual(small_records.record([rows], labels=True).freedom, 1)

  def test_what_hardly_varies_does_not_count(self):
    batches = [
      np.array([[k, 1e-9 * (j % 2)]] * 3) for j, k in enumerate('0123')
    ]
    batches = [batch.astype(float) for batch in batches]
    # One channel is uniform in each batch, the other next to constant.
    values = np.repeat([0.0, 1, 2, 3], 3)
    self.assertAlmostEqual(
      small_records.record(batches).share_between_batches,
      min(1, np.var([0, 1, 2, 3], ddof=1) / values.var()),
    )

  def test_inputs_that_are_constant_share_nothing(self):
    record = small_records.record([np.full([4, 2], 3.0)] * 3)
    self.assertEqual(record.share_between_batches, 0)


if __name__ == '__main__':
  absltest.main()
