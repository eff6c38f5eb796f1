"""Diagnoses and comparisons as text and as JSON, of figures made by hand."""

import json
import pathlib
import types

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from graph_resnet9.doctor.graph.nodes import Node
from graph_resnet9.doctor.measure import comparing
from graph_resnet9.doctor.measure import diagnosis
from graph_resnet9.doctor.measure.comparing import Comparison
from graph_resnet9.doctor.measure.diagnosis import Diagnosis
from graph_resnet9.doctor.measure.verdicts import Verdict
from tests.inputs import small_records

# Two batches of two examples: mean 2, variance 8 / 3; means of batches 1, 3.
BATCHES = [np.array([[0.0], [2.0]]), np.array([[2.0], [4.0]])]
HEALTHY = Verdict('healthy', ['bn'], 'alike')
FAULT = Verdict('data-differ', ['bn'], 'far off')
UNKNOWN = Verdict('not-compared', ['bn'], 'in a loop')


def record(**fields):
  fields = {'mean': [2], 'variance': [16 / 3], 'initial_share': 0.25, **fields}
  return small_records.record(BATCHES, **fields)


def diagnosed(*verdicts, **fields):
  fields = {
    'records': [record()],
    'step': 500,
    'layers': 1,
    'unmeasured': [],
    'lacking': [],
    **fields,
  }
  return Diagnosis(verdicts=list(verdicts), **fields)


class DiagnosisTest(parameterized.TestCase):
  @parameterized.parameters(
    ([HEALTHY], True, False),
    ([FAULT], False, True),
    ([HEALTHY, UNKNOWN], False, False),
    ([UNKNOWN], False, False),
    ([FAULT, UNKNOWN], False, True),
    ([], False, False),
  )
  def test_health(self, verdicts, healthy, faults):
    result = diagnosed(*verdicts)
    self.assertIs(result.healthy, healthy)
    self.assertIs(result.faults, faults)

  def test_figures_of_a_layer(self):
    found = diagnosis.as_dict(record(epsilon=0.0))
    # The means of two batches vary by 2, all four values by 2, unbiased 8/3.
    expected = dict(
      layer='bn',
      batches=2,
      calls=1,
      batch_size=2.0,
      mean_gap=0.0,
      variance_ratio=2.0,
      share_between_batches=1.0,
      independent_share=8 / 3 / 2 / 2,
      share_between_calls=0.0,
      initial=False,
      initial_share=0.25,
      finite=True,
      frozen=False,
    )
    self.assertEqual(list(found), list(expected))
    for key, value in expected.items():
      self.assertAlmostEqual(found[key], value, msg=key)

  def test_figures_of_a_layer_that_stores_nothing(self):
    found = diagnosis.as_dict(record(mean=None, variance=None))
    self.assertIsNone(found['mean_gap'])
    self.assertIsNone(found['variance_ratio'])
    self.assertTrue(found['finite'])
    bad = diagnosis.as_dict(record(mean=[np.nan], frozen=True))
    self.assertEqual((bad['finite'], bad['frozen']), (False, True))
    self.assertTrue(
      diagnosis.as_dict(record(mean=[0], variance=[1]))['initial']
    )

  def test_json(self):
    result = diagnosed(
      FAULT,
      records=[record(mean=[np.inf])],
      layers=2,
      unmeasured=[('loop', 'in a loop')],
      lacking=['w'],
    )
    score = dict(statistics='moving', accuracy=np.float32(0.5), loss=np.nan)
    line = diagnosis.to_json(result, [score])
    self.assertLen(line.splitlines(), 1)
    found = json.loads(line)
    (layer,) = found.pop('layers')
    self.assertIsNone(layer['mean_gap'])
    self.assertEqual(layer['variance_ratio'], 2)
    self.assertEqual(
      found,
      dict(
        step=500,
        healthy=False,
        layers_in_graph=2,
        not_measured=[dict(layer='loop', reason='in a loop')],
        not_in_checkpoint=['w'],
        verdicts=[dict(code='data-differ', layers=['bn'], evidence='far off')],
        scores=[dict(statistics='moving', accuracy=0.5, loss=None)],
      ),
    )

  def test_table(self):
    result = diagnosed(
      HEALTHY,
      records=[record(), record(mean=None, variance=None, name='net/other')],
    )
    self.assertEqual(
      diagnosis.table(result, []).splitlines(),
      [
        '           mean off  variance    between   if drawn',
        'layer       by (sd)     ratio    batches  at random',
        'bn            0.000         2    100.00%     66.67%',
        'net/other         -         -    100.00%     66.67%',
        '1 of 1 layers measured over 2 batches of 2 examples, step 500',
        'healthy: alike',
      ],
    )

  def test_table_of_what_is_not_known(self):
    result = diagnosed(
      FAULT,
      UNKNOWN,
      step=None,
      layers=4,
      unmeasured=[('a', 'in a loop'), ('b', 'in a loop')],
      lacking=list('uvwxyz'),
    )
    self.assertEqual(
      diagnosis.table(result, []).splitlines()[3:],
      [
        '2 of 4 layers measured over 2 batches of 2 examples, step unknown',
        'not measured: a, b: in a loop',
        'not in the checkpoint, so at their initial values: u, v, w, x and 2 '
        'more',
        str(FAULT),
        str(UNKNOWN),
      ],
    )
    shown = diagnosis.table(result._replace(lacking=list('uvwx')), [])
    self.assertIn('initial values: u, v, w, x\n', shown)

  def scores(self, moving, recalibrated):
    return [
      dict(statistics=name, accuracy=accuracy, loss=1.5)
      for name, accuracy in (
        ('moving', moving), ('batch', 0.5), ('recalibrated', recalibrated),
      )
    ]  # fmt: skip

  def test_table_with_scores(self):
    gains = (
      'the moving statistics lag behind the weights, which still move fast: '
      'recalibrate gains 2.0 points'
    )
    lines = diagnosis.table(
      diagnosed(HEALTHY), self.scores(0.75, 0.77)
    ).splitlines()[4:]
    self.assertEqual(
      lines,
      [
        'moving        statistics: accuracy  75.00%, loss 1.5000',
        'batch         statistics: accuracy  50.00%, loss 1.5000',
        'recalibrated  statistics: accuracy  77.00%, loss 1.5000',
        gains,
        'healthy: alike',
      ],
    )
    for verdict, moving in ((HEALTHY, 0.765), (HEALTHY, 0.9), (FAULT, 0.1)):
      text = diagnosis.table(diagnosed(verdict), self.scores(moving, 0.77))
      self.assertNotIn('gains', text)

  def test_picture(self):
    path = pathlib.Path(self.create_tempdir().full_path) / 'layers.png'
    records = [
      record(),
      record(mean=None, variance=None, name='bare'),
      record(variance=[-1], name='negative'),
    ]
    diagnosis.draw(str(path), diagnosed(FAULT, records=records), 'title')
    self.assertEqual(path.read_bytes()[:4], b'\x89PNG')


class BehindTest(absltest.TestCase):
  def behind(self, lacking, by_batch=True, layer=True):
    """[(name, text)] of a layer whose input depends on variables a to g."""
    nodes = [Node(name, 'VarHandleOp', {}, 0) for name in 'gfedcba']
    nodes.append(Node('x', 'Placeholder', {}, 0))
    view = types.SimpleNamespace(ancestors=lambda of: of)
    probe = types.SimpleNamespace(
      name='bn',
      layer='layer' if layer else None,
      nodes=nodes,
      sites=[types.SimpleNamespace(by_batch=by_batch)],
      stored=[types.SimpleNamespace(op=types.SimpleNamespace(name='a'))],
    )
    runnable = types.SimpleNamespace(anatomy=types.SimpleNamespace(view=view))
    return [
      (each.name, text)
      for each, text in diagnosis.behind(runnable, [probe], list(lacking))
    ]

  def test_variables_that_lack(self):
    self.assertEqual(self.behind('bzc'), [('bn', 'b, c')])
    self.assertEqual(self.behind('bcdefg'), [('bn', 'b, c, d, e and 2 more')])
    self.assertEmpty(self.behind('xyz'))
    self.assertEmpty(self.behind(''))

  def test_what_the_batch_takes_the_place_of_does_not_matter(self):
    self.assertEmpty(self.behind('a'))
    self.assertEqual(self.behind('a', by_batch=False), [('bn', 'a')])

  def test_labels_are_behind_nothing(self):
    self.assertEmpty(self.behind('b', layer=False))


class ComparisonTest(parameterized.TestCase):
  @parameterized.parameters(
    (
      dict(kind='loss'),
      'loss 1 by the stored statistics, 2.5 by those of the batch, 0.125 by '
      'the new ones, over 3 batches held out',
    ),
    (
      dict(kind='outputs', batches=1, apart=False),
      'deviation of the outputs from those by the batch 1 by the stored '
      'statistics, 2.5 by those of the batch, 0.125 by the new ones, over 1 '
      'batch that is all there was',
    ),
    (
      dict(kind='outputs', guessing=True),
      'the loss is above that of guessing (are these its data and labels?), '
      'deviation of the outputs from those by the batch 1 by the stored '
      'statistics, 2.5 by those of the batch, 0.125 by the new ones, over 3 '
      'batches held out',
    ),
  )
  def test_text(self, fields, expected):
    fields = {
      'stored': 1.0, 'batch': 2.5, 'new': 0.125, 'batches': 3, 'worse': False,
      **fields,
    }  # fmt: skip
    self.assertEqual(str(Comparison(**fields)), expected)

  def test_json_has_no_nan(self):
    compared = Comparison('loss', 1.0, float('nan'), float('inf'), 3, True)
    self.assertEqual(
      compared.as_dict(),
      dict(batches=3, measure='loss', stored=1.0, batch=None, new=None),
    )
    self.assertTrue(compared.apart)
    self.assertFalse(compared.guessing)

  @parameterized.parameters(
    ('loss', 0.9, 1.0, True),
    ('loss', 0.96, 1.0, False),
    ('loss', 1.0, 1.0, False),
    ('outputs', 0.5, 1.0, False),
    ('loss', -1.2, -1.0, True),  # A loss may be negative.
    ('loss', -1.04, -1.0, False),
  )
  def test_who_trained_by_the_stored_ones(self, kind, stored, batch, expected):
    compared = Comparison(kind, stored, batch, 9.0, 3, True)
    self.assertIs(compared.trained_by_stored, expected)

  def test_deviations_are_in_standard_deviations(self):
    reference = np.array([1.0, 3.0, 5.0, 7.0])  # Their variance is 5.
    for values, expected in (
      ([reference], 0.0),
      ([reference + 5**0.5], 1.0),
      ([reference - 2 * 5**0.5], 2.0),
      ([reference, reference + 5**0.5], 0.5**0.5),
      ([np.zeros(0)], 0.0),
      ([], 0.0),
    ):
      references = [reference[: np.size(v)] for v in values]
      self.assertAlmostEqual(comparing._deviation(values, references), expected)
    # Of outputs that are all alike, in thousandths of them.
    self.assertAlmostEqual(
      comparing._deviation([np.full(4, 2.01)], [np.full(4, 2.0)]), 5.0
    )

  def test_the_loss_of_guessing(self):
    logits = [np.zeros([5, 10]), np.zeros([5, 3])]
    self.assertAlmostEqual(
      comparing._loss_of_guessing(logits), np.log(10) + np.log(3)
    )

  def test_losses_are_means_that_are_added(self):
    self.assertAlmostEqual(
      comparing._loss([np.float32([1, 3]), np.float32(0.5)]), 2.5
    )


if __name__ == '__main__':
  absltest.main()
