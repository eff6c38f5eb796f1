"""ResNet9 and its update in PyTorch, as davidcpage/cifar10-fast has them.

The peer that model_pytorch_test compares with. `python -m
tests.pytorch_reference` writes tests/data/pytorch_reference.json; with PyTorch
installed the test computes the figures anew as well. PyTorch is no dependency.
"""

import json
import pathlib

import numpy as np

STORED = pathlib.Path(__file__).parent / 'data' / 'pytorch_reference.json'
WIDTH, BATCH, STEPS, STEPS_PER_EPOCH = 16, 64, 5, 97
MOMENTUM, WEIGHT_DECAY = .9, 5e-4
KNOTS, RATES = (0, 5, 24), (0, .4, 0)
# Scope, and channels in units of the width, of every convolution.
CONVS = (('prep', None, 1), ('layer1', 1, 2), ('layer1/residual/res1', 2, 2),
         ('layer1/residual/res2', 2, 2), ('layer2', 2, 4), ('layer3', 4, 8),
         ('layer3/residual/res1', 8, 8), ('layer3/residual/res2', 8, 8))


def weights():
  """{variable name: float32 array}, layouts as in TensorFlow."""
  random = np.random.RandomState(1)
  values = {}

  def uniform(name, shape):
    bound = 1 / np.sqrt(np.prod(shape[:-1]))
    values[name] = random.uniform(-bound, bound, shape).astype(np.float32)

  for scope, channels, filters in CONVS:
    channels = channels * WIDTH if channels else 3
    uniform(scope + '/conv/kernel', (3, 3, channels, filters * WIDTH))
    # Not 1 and 0, so that weight decay on them shows.
    values[scope + '/bn/gamma'] = random.uniform(
        .8, 1.2, filters * WIDTH).astype(np.float32)
    values[scope + '/bn/beta'] = random.uniform(
        -.2, .2, filters * WIDTH).astype(np.float32)
  uniform('linear/kernel', (8 * WIDTH, 10))
  return values


def batches():
  """STEPS pairs of float32 images [BATCH, 32, 32, 3] and int64 labels."""
  random = np.random.RandomState(2)
  for _ in range(STEPS):
    labels = random.randint(10, size=BATCH)
    images = random.normal(size=(BATCH, 32, 32, 3)) * .7
    images += np.sin(labels[:, None, None, None] + np.arange(32)[:, None] / 3)
    yield images.astype(np.float32), labels


def summary(losses, before, after):
  """What is compared: the losses, and for every variable the size of its
  movement and its dot product with a fixed direction of unit length."""
  moves = {}
  for i, name in enumerate(sorted(after)):
    start = before.get(name, np.float32(1 if 'variance' in name else 0))
    move = np.asarray(after[name], np.float64) - start
    direction = np.random.RandomState(100 + i).normal(size=move.shape)
    moves[name] = [float(np.linalg.norm(move)), float(
        np.sum(move * direction) / np.linalg.norm(direction))]
  return {'losses': [float(loss) for loss in losses], 'movements': moves}


def run_pytorch():
  """Takes the steps in PyTorch; returns a summary."""
  import torch  # pylint: disable=g-import-not-at-top
  functional = torch.nn.functional
  before = weights()
  values, moving = {}, {}
  for name, value in before.items():
    value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
    values[name] = torch.tensor(value.copy(), requires_grad=True)
  for scope, _, filters in CONVS:
    moving[scope + '/bn/moving_mean'] = torch.zeros(filters * WIDTH)
    moving[scope + '/bn/moving_variance'] = torch.ones(filters * WIDTH)

  def cbr(x, scope):
    x = functional.conv2d(x, values[scope + '/conv/kernel'], padding=1)
    return functional.relu(functional.batch_norm(
        x, moving[scope + '/bn/moving_mean'],
        moving[scope + '/bn/moving_variance'], values[scope + '/bn/gamma'],
        values[scope + '/bn/beta'], training=True, momentum=.1, eps=1e-5))

  def residual(x, scope):
    return x + cbr(cbr(x, scope + '/res1'), scope + '/res2')

  def logits(x):
    x = cbr(x, 'prep')
    x = residual(functional.max_pool2d(cbr(x, 'layer1'), 2), 'layer1/residual')
    x = functional.max_pool2d(cbr(x, 'layer2'), 2)
    x = residual(functional.max_pool2d(cbr(x, 'layer3'), 2), 'layer3/residual')
    x = functional.max_pool2d(x, 4).flatten(1)
    return x @ values['linear/kernel'].T * .125

  velocity = {name: torch.zeros_like(value) for name, value in values.items()}
  losses = []
  for step, (images, labels) in enumerate(batches()):
    rate = np.interp((step + 1) / STEPS_PER_EPOCH, KNOTS, RATES) / BATCH
    loss = functional.cross_entropy(
        logits(torch.tensor(images.transpose(0, 3, 1, 2).copy())),
        torch.tensor(labels), reduction='sum')
    gradients = torch.autograd.grad(loss, list(values.values()))
    losses.append(loss.item() / BATCH)
    with torch.no_grad():
      for (name, value), change in zip(values.items(), gradients):
        change = (change + WEIGHT_DECAY * BATCH * value) * -rate
        velocity[name].mul_(MOMENTUM).add_(change)
        value.add_(change + MOMENTUM * velocity[name])
  after = {name: value.detach().numpy() for name, value in
           {**values, **moving}.items()}
  after = {name: value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
           for name, value in after.items()}
  return summary(losses, before, after)


if __name__ == '__main__':
  STORED.write_text(json.dumps(run_pytorch(), indent=1) + '\n')
