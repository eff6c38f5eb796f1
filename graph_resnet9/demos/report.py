"""What a case found: arms, claims; as a table and as JSON. No TensorFlow."""

from collections.abc import Callable
from collections.abc import Sequence
import json
import math
from typing import Any
from typing import NamedTuple

_HEADER = (
  'arm',
  '',
  'train loss',
  'acc',
  'moving loss',
  'acc',
  'batch loss',
  'acc',
  'verdict',
  'doctor',
)
# A gap between training and evaluation that needs an explanation.
_ACCURACY_GAP = 0.15
_LOSS_RATIO = 2.0


class Scores(NamedTuple):
  """Mean loss, and the accuracy as a fraction, or None."""

  loss: float | None
  accuracy: float | None = None


class Point(NamedTuple):
  """A training after `step` steps.

  train: mean over the steps since the point before.
  moving, batch: on the evaluation data, by moving and by batch statistics.
  """

  step: int
  train: Scores
  moving: Scores
  batch: Scores


class Arm(NamedTuple):
  """One of the trainings that a case compares.

  curve: list of Point, the last one at the end.
  layers: list of doctor.measure.moments.Record at the end.
  figures: {name: number}, what else the case measured.
  others: {name: (moving, batch) Scores} of other ways to evaluate at the end.
  lint, diagnosis: codes of what the two checks found.
  """

  name: str
  broken: bool
  curve: list[Point]
  layers: list[Any]
  figures: dict[str, float]
  others: dict[str, Any] = {}
  lint: Sequence[str] = ()
  diagnosis: Sequence[str] = ()

  @property
  def train(self):
    return self.curve[-1].train

  @property
  def moving(self):
    return self.curve[-1].moving

  @property
  def batch(self):
    return self.curve[-1].batch

  def evaluated(self, name, other):
    """This arm by another evaluation, as an arm of its own."""
    moving, batch = self.others[other]
    end = self.curve[-1]._replace(moving=moving, batch=batch)
    return self._replace(name=name, curve=self.curve[:-1] + [end])


class Claim(NamedTuple):
  """A figure, and the margin that it must keep: relation is '<=' or '>='."""

  text: str
  figure: float
  relation: str
  margin: float

  @property
  def holds(self):
    return bool(
      self.figure <= self.margin
      if self.relation == '<='
      else self.figure >= self.margin
    )

  def __str__(self):
    return '%s  %s: %.4g %s %.4g' % (
      'holds' if self.holds else 'FAILS',
      self.text,
      self.figure,
      self.relation if self.holds else 'is not ' + self.relation,
      self.margin,
    )


class Outcome(NamedTuple):
  """What a case found.

  draw: function of matplotlib axes, a panel of the case's own, or None.
  notes: lines to stand under the table.
  """

  arms: list[Arm]
  claims: list[Claim]
  draw: Callable[[Any], None] | None = None
  notes: Sequence[str] = ()

  @property
  def holds(self):
    return all(claim.holds for claim in self.claims)


def verdict(train, moving, batch):
  """What the scores of an arm say, in words."""

  def far(score):
    # So turned that a loss that is not a number is far.
    if train.accuracy is not None:
      return not train.accuracy - score.accuracy <= _ACCURACY_GAP
    return not score.loss <= _LOSS_RATIO * train.loss

  if not far(moving):
    return 'evaluation follows training'
  if not far(batch):
    return 'stored statistics are wrong'
  return 'evaluation fails either way'


def doctor_claims(arms, causes):
  """Claims that lint or diagnose names the cause, and finds no other fault.

  Args:
    arms: list of Arm.
    causes: codes, one of which a broken arm must have.
  """

  def codes(arm):
    return set(arm.lint) | set(arm.diagnosis)

  broken = [arm for arm in arms if arm.broken]
  fixed = [arm for arm in arms if not arm.broken]
  yield Claim(
    'broken arms in which neither lint nor diagnose says %s'
    % ' or '.join(causes),
    sum(not codes(arm) & set(causes) for arm in broken),
    '<=',
    0,
  )
  yield Claim(
    'fixed arms in which lint or diagnose finds a fault',
    sum(bool(codes(arm)) for arm in fixed),
    '<=',
    0,
  )


def as_dict(name, source, outcome, **about):
  """What NAME.json holds; `about` says where and on what the case ran."""
  return dict(
    case=name,
    source=source,
    claim_holds=outcome.holds,
    **about,
    arms=[
      dict(
        name=arm.name,
        broken=arm.broken,
        train_loss=_finite(arm.train.loss),
        train_accuracy=arm.train.accuracy,
        eval_moving_loss=_finite(arm.moving.loss),
        eval_moving_accuracy=arm.moving.accuracy,
        eval_batch_loss=_finite(arm.batch.loss),
        eval_batch_accuracy=arm.batch.accuracy,
        verdict=verdict(arm.train, arm.moving, arm.batch),
        lint=list(arm.lint),
        diagnosis=list(arm.diagnosis),
        figures=arm.figures,
      )
      for arm in outcome.arms
    ],
    notes=list(outcome.notes),
    claims=[
      dict(
        claim._asdict(), figure=_finite(float(claim.figure)), holds=claim.holds
      )
      for claim in outcome.claims
    ],
  )


def rows(result):
  """The table of as_dict's result: header, then one list of cells an arm."""
  yield list(_HEADER)
  for arm in result['arms']:
    yield (
      [arm['name'], 'broken' if arm['broken'] else 'fixed']
      + [
        cell
        for which in ('train', 'eval_moving', 'eval_batch')
        for cell in (
          _number(arm[which + '_loss']),
          _percent(arm[which + '_accuracy']),
        )
      ]
      + [arm['verdict'], ', '.join(arm['lint'] + arm['diagnosis']) or '-']
    )


def table(result):
  """The table for a terminal."""
  cells = list(rows(result))
  widths = [max(map(len, column)) for column in zip(*cells)]
  texts = (0, 1, len(_HEADER) - 2, len(_HEADER) - 1)
  return '\n'.join(
    '  '.join(
      cell.ljust(width) if k in texts else cell.rjust(width)
      for k, (cell, width) in enumerate(zip(row, widths))
    ).rstrip()
    for row in cells
  )


def _finite(value):
  """JSON has no infinity."""
  return value if value is not None and math.isfinite(value) else None


def _number(value):
  return '-' if value is None else '%.3f' % value


def _percent(value):
  return '-' if value is None else '%.1f%%' % (100 * value)


def to_json(result):
  return json.dumps(result, indent=1) + '\n'
