"""ResNet9 and its update in PyTorch, as davidcpage/cifar10-fast has them.

The peer that model_pytorch_test compares with. `python -m
tests.model.pytorch_reference` writes data/pytorch_reference.json and prints how
far PyTorch in float32 is from PyTorch in float64; with PyTorch installed the
test computes the figures anew as well. PyTorch is no dependency.
"""

import json
import pathlib
from typing import NamedTuple

import numpy as np

STORED = pathlib.Path(__file__).parent / 'data' / 'pytorch_reference.json'
WIDTH, BATCH = 16, 64
MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4
AVERAGE = '/ExponentialMovingAverage'
# Scope, and channels in units of the width, of every convolution.
CONVS = (
  ('prep', None, 1),
  ('layer1', 1, 2),
  ('layer1/residual/res1', 2, 2),
  ('layer1/residual/res2', 2, 2),
  ('layer2', 2, 4),
  ('layer3', 4, 8),
  ('layer3/residual/res1', 8, 8),
  ('layer3/residual/res2', 8, 8),
)


class Recipe(NamedTuple):
  """How the network is built and trained: DAWN24 where nothing else is said.

  groups: of consecutive images with batch statistics of their own.
  average_steps: 0: no average of the weights; otherwise the average moves by
    1 - average_decay ** average_steps after steps 1, 1 + average_steps, ...
  """

  steps: int = 5
  steps_per_epoch: int = 97
  knots: tuple[float, ...] = (0, 5, 24)
  rates: tuple[float, ...] = (0, 0.4, 0)
  logit_scale: float = 0.125
  activation: str = 'relu'
  pool_before_bn: bool = False
  train_gamma: bool = True
  groups: int = 1
  whitening: bool = False
  label_smoothing: float = 0.0
  bias_lr_scale: float = 1.0
  average_decay: float = 0.0
  average_steps: int = 0


RECIPES = {
  'dawn24': Recipe(),  # dawn.py.
  'fast10': Recipe(  # new_dawn.py, and torch_backend.py's update_ema.
    # At 97 steps an epoch the betas learn so fast that float32 is 5% away
    # from float64 after 6 steps.
    steps=6,
    steps_per_epoch=400,
    knots=(0, 2, 8, 10),
    rates=(0, 1, 0.1, 0.1),
    logit_scale=1 / 16,
    activation='celu',
    pool_before_bn=True,
    train_gamma=False,
    groups=4,
    whitening=True,
    label_smoothing=0.2,
    bias_lr_scale=64.0,
    average_decay=0.99,
    average_steps=5,
  ),
}


def weights(recipe):
  """{variable name: float32 array}, layouts as in TensorFlow."""
  random = np.random.RandomState(1)
  values = {}

  def uniform(name, shape):
    bound = 1 / np.sqrt(np.prod(shape[:-1]))
    values[name] = random.uniform(-bound, bound, shape).astype(np.float32)

  if recipe.whitening:
    uniform('prep/whitening/kernel', (3, 3, 3, 27))
  for scope, channels, filters in CONVS:
    shape = (3, 3, channels * WIDTH if channels else 3, filters * WIDTH)
    if recipe.whitening and scope == 'prep':
      shape = (1, 1, 27, WIDTH)
    uniform(scope + '/conv/kernel', shape)
    # Not 1 and 0, so that weight decay on them shows.
    if recipe.train_gamma:
      values[scope + '/bn/gamma'] = random.uniform(
        0.8, 1.2, filters * WIDTH
      ).astype(np.float32)
    values[scope + '/bn/beta'] = random.uniform(
      -0.2, 0.2, filters * WIDTH
    ).astype(np.float32)
  uniform('linear/kernel', (8 * WIDTH, 10))
  return values


def batches(recipe):
  """Pairs of float32 images [BATCH, 32, 32, 3] and int64 labels, one a step."""
  random = np.random.RandomState(2)
  for _ in range(recipe.steps):
    labels = random.randint(10, size=BATCH)
    images = random.normal(size=(BATCH, 32, 32, 3)) * 0.7
    images += np.sin(labels[:, None, None, None] + np.arange(32)[:, None] / 3)
    yield images.astype(np.float32), labels


def summary(losses, before, after):
  """What is compared: the losses, and for every variable the size of its
  movement and its dot product with a fixed direction of unit length."""
  moves = {}
  for i, name in enumerate(sorted(after)):
    start = before.get(
      name.replace(AVERAGE, ''), np.float32(1 if 'variance' in name else 0)
    )
    move = np.asarray(after[name], np.float64) - start
    direction = np.random.RandomState(100 + i).normal(size=move.shape)
    moves[name] = [
      float(np.linalg.norm(move)),
      float(np.sum(move * direction) / np.linalg.norm(direction)),
    ]
  return {'losses': [float(loss) for loss in losses], 'movements': moves}


def difference(ours, theirs):
  """(largest difference of the losses, {variable: difference of its movement,
  relative to its size}) of two summaries."""
  return np.max(np.abs(np.subtract(ours['losses'], theirs['losses']))), {
    name: np.max(np.abs(np.subtract(ours['movements'][name], move))) / move[0]
    for name, move in theirs['movements'].items()
  }


def _logits(x, values, moving, recipe):
  """The network in PyTorch; updates `moving`, {name: [groups, channels]}."""
  import torch  # pylint: disable=g-import-not-at-top

  functional = torch.nn.functional

  def conv(x, name):
    kernel = values[name + '/kernel']
    return functional.conv2d(x, kernel, padding=kernel.shape[-1] // 2)

  def batch_norm(x, scope):
    names = scope + '/moving_mean', scope + '/moving_variance'
    gamma, beta = values.get(scope + '/gamma'), values[scope + '/beta']
    return torch.cat(
      [
        functional.batch_norm(
          group,
          *(moving[name][i] for name in names),
          gamma,
          beta,
          True,
          momentum=0.1,
          eps=1e-5,
        )
        for i, group in enumerate(x.chunk(recipe.groups))
      ]
    )

  def activation(x):
    return (
      functional.celu(x, 0.3)
      if recipe.activation == 'celu'
      else functional.relu(x)
    )

  def block(x, scope, pool=1):
    x, bn = conv(x, scope + '/conv'), scope + '/bn'
    if recipe.pool_before_bn:
      return activation(batch_norm(functional.max_pool2d(x, pool), bn))
    return functional.max_pool2d(activation(batch_norm(x, bn)), pool)

  def residual(x, scope):
    return x + block(block(x, scope + '/res1'), scope + '/res2')

  if recipe.whitening:
    x = conv(x, 'prep/whitening')
  x = block(x, 'prep')
  x = residual(block(x, 'layer1', 2), 'layer1/residual')
  x = block(x, 'layer2', 2)
  x = residual(block(x, 'layer3', 2), 'layer3/residual')
  x = functional.max_pool2d(x, 4).flatten(1)
  return x @ values['linear/kernel'].T * recipe.logit_scale


def run_pytorch(recipe, dtype='float32'):
  """Takes the steps in PyTorch; returns a summary."""
  import torch  # pylint: disable=g-import-not-at-top

  before = weights(recipe)
  values, moving = {}, {}
  for name, value in before.items():
    value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
    values[name] = torch.tensor(
      value.astype(dtype), requires_grad='whitening' not in name
    )
  trained = {name: v for name, v in values.items() if v.requires_grad}
  for scope, _, filters in CONVS:
    shape = recipe.groups, filters * WIDTH
    dtype_ = trained['linear/kernel'].dtype
    moving[scope + '/bn/moving_mean'] = torch.zeros(shape, dtype=dtype_)
    moving[scope + '/bn/moving_variance'] = torch.ones(shape, dtype=dtype_)

  def state():
    """What is kept, by name; of the groups' statistics the mean."""
    return {
      **{name: value.detach().clone() for name, value in trained.items()},
      **{name: value.mean(0) for name, value in moving.items()},
    }

  velocity = {name: torch.zeros_like(value) for name, value in trained.items()}
  average, losses = state(), []
  for step, (images, labels) in enumerate(batches(recipe)):
    rate = (
      np.interp((step + 1) / recipe.steps_per_epoch, recipe.knots, recipe.rates)
      / BATCH
    )
    images = torch.tensor(images.transpose(0, 3, 1, 2).astype(dtype))
    loss = torch.nn.functional.cross_entropy(
      _logits(images, values, moving, recipe),
      torch.tensor(labels),
      reduction='sum',
      label_smoothing=recipe.label_smoothing,
    )
    gradients = torch.autograd.grad(loss, list(trained.values()))
    losses.append(loss.item() / BATCH)
    with torch.no_grad():
      for (name, value), change in zip(trained.items(), gradients):
        scale = recipe.bias_lr_scale if name.endswith('beta') else 1.0
        change = change + WEIGHT_DECAY * BATCH / scale * value
        change = change * -rate * scale
        velocity[name].mul_(MOMENTUM).add_(change)
        value.add_(change + MOMENTUM * velocity[name])
    if recipe.average_steps and step % recipe.average_steps == 0:
      keep = recipe.average_decay**recipe.average_steps
      average = {
        name: keep * average[name] + (1 - keep) * value
        for name, value in state().items()
      }
  after = state()
  if recipe.average_steps:
    after.update({name + AVERAGE: value for name, value in average.items()})
  after = {
    name: value.numpy().transpose(2, 3, 1, 0)
    if value.ndim == 4
    else value.numpy().T
    for name, value in after.items()
  }
  return summary(losses, before, after)


def main():
  results = {name: run_pytorch(recipe) for name, recipe in RECIPES.items()}
  for name, recipe in RECIPES.items():
    loss, moves = difference(results[name], run_pytorch(recipe, 'float64'))
    worst = max(moves, key=moves.get)
    print(
      '%s: float32 is %.1e off in the losses, %.2g%% in %s'
      % (name, loss, 100 * moves[worst], worst)
    )
  STORED.write_text(json.dumps(results, indent=1) + '\n')


if __name__ == '__main__':
  main()
