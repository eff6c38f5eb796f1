"""What a case found: arms, claims, figures of its source. No TensorFlow."""

from collections.abc import Callable
from collections.abc import Sequence
import json
import math
from typing import Any
from typing import NamedTuple

# A gap between training and evaluation that needs an explanation.
_ACCURACY_GAP = 0.15
_LOSS_RATIO = 2.0
PERCENT = '%'  # Unit of a fraction that is shown in percent.


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
  traces: {name: list of numbers}, one a step.
  others: {name: (moving, batch) Scores} of other ways to evaluate at the end.
  lint, diagnosis: codes of what the two checks found.
  guessing: the accuracy of guessing, or the loss where there is no accuracy.
  """

  name: str
  broken: bool
  curve: list[Point]
  layers: list[Any]
  figures: dict[str, float]
  traces: dict[str, Any] = {}
  others: dict[str, Any] = {}
  lint: Sequence[str] = ()
  diagnosis: Sequence[str] = ()
  guessing: float = 0.1

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


class Beside(NamedTuple):
  """A figure of the source beside the one measured here.

  what: str. source: str, as the source gives it, '-' if it does not.
  here: number, or None where nothing here corresponds to it.
  unit: PERCENT, or ''.
  """

  what: str
  source: str
  here: float | None
  unit: str = ''


class Outcome(NamedTuple):
  """What a case found.

  beside: list of Beside.
  columns: {key of Arm.figures: title}, what the table shows besides scores.
  draw: function of matplotlib axes, the panel of the quantity that explains the
    case; None: how far the stored statistics of each layer are off.
  notes: lines to stand under the table.
  """

  arms: list[Arm]
  claims: list[Claim]
  beside: Sequence[Beside] = ()
  columns: dict[str, str] = {}
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
    causes: codes, one of which a broken arm must have; () where the doctor
      knows nothing of the cause: no claims.
  """

  def codes(arm):
    return set(arm.lint) | set(arm.diagnosis)

  broken = [arm for arm in arms if arm.broken]
  fixed = [arm for arm in arms if not arm.broken]
  if not causes:
    return
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


def as_dict(outcome, seed):
  """What a run with one seed found, for JSON."""
  return dict(
    seed=seed,
    claim_holds=outcome.holds,
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
        figures={name: _finite(x) for name, x in arm.figures.items()},
      )
      for arm in outcome.arms
    ],
    beside=[
      dict(row._asdict(), here=_finite(row.here)) for row in outcome.beside
    ],
    notes=list(outcome.notes),
    claims=[
      dict(claim._asdict(), figure=_finite(claim.figure), holds=claim.holds)
      for claim in outcome.claims
    ],
  )


def together(name, source, columns, runs, **about):
  """What NAME.json holds: the run with the first seed, and those with others.

  Args:
    name, source: str.
    columns: as of Outcome.
    runs: list of as_dict's results, one a seed.
    about: where and on what the case ran.
  """
  return dict(
    about,
    case=name,
    source=source,
    columns=columns,
    **dict(runs[0], claim_holds=all(run['claim_holds'] for run in runs)),
    other_seeds=runs[1:],
  )


def runs_of(result):
  """The runs of together's result, one a seed."""
  return [result] + result['other_seeds']


def _finite(value):
  """JSON has no infinity, and none of NumPy's numbers."""
  if value is None or not math.isfinite(value):
    return None
  return float(value)


def to_json(result):
  return json.dumps(result, indent=1) + '\n'
