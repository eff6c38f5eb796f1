"""The same training step in PyTorch, to compare speeds with.

PyTorch (extra `bench`) is imported by `load` alone. What follows davidcpage/
cifar10-fast is the network and the arithmetic of its update; PyTorch's own
modules and SGD do the work, so that its figures are those of its users.
"""

import importlib
import math
import os
import shutil

from absl import logging

from graph_resnet9.errors import UserError

# The last one is channels_last, too.
VARIANTS = ('contiguous', 'channels_last', 'compiled')


def load():
  """The module torch.

  Raises:
    UserError: it is not installed, or does not load.
  """
  try:
    return importlib.import_module('torch')
  except (ImportError, OSError) as e:
    raise UserError(
      '--compare=torch: PyTorch cannot be loaded (%s); '
      "pip install -e '.[bench]'" % e
    ) from None


def training_steps(torch, settings):
  """{'PyTorch 2.13.0, channels_last': training_step(...), ...}."""
  return {
    'PyTorch %s, %s'
    % (torch.__version__.partition('+')[0], variant): training_step(
      torch, settings, variant
    )
    for variant in _variants(torch)
  }


def _variants(torch):
  """VARIANTS, unless there is no compiler for torch.compile to call."""
  if torch.cuda.is_available() or any(
    map(shutil.which, (os.environ.get('CXX', 'g++'), 'clang++'))
  ):
    return VARIANTS
  logging.warning('torch.compile is left out: it needs a C++ compiler')
  return VARIANTS[:2]


def training_step(torch, settings, variant):
  """Builds a network and a batch of random images on the device that trains.

  Args:
    torch: the module.
    settings: train_flags.Recipe; all tricks but the average of the weights.
    variant: 'contiguous' (NCHW), 'channels_last' (NHWC), or 'compiled', NHWC by
      torch.compile.
  Returns:
    A function without arguments that takes a training step and waits for it.
  """
  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  memory_format = (
    torch.contiguous_format if variant == 'contiguous' else torch.channels_last
  )
  model, how = settings.model, settings.optimizer
  network = _network(torch, model, settings.ghost_batch).to(
    device, memory_format=memory_format
  )
  batch = settings.batches.batch_size
  images = torch.randn(batch, 3, 32, 32, device=device).to(
    memory_format=memory_format
  )
  labels = torch.randint(10, [batch], device=device)
  biases = [p for name, p in network.named_parameters() if 'bias' in name]
  others = [p for name, p in network.named_parameters() if 'bias' not in name]
  rate, decay = max(how.lr_values) / 10, how.weight_decay
  optimizer = torch.optim.SGD(
    [
      dict(params=others, lr=rate, weight_decay=decay),
      dict(
        params=biases,
        lr=rate * how.bias_lr_scale,
        weight_decay=decay / how.bias_lr_scale,
      ),
    ],
    lr=rate,
    momentum=how.momentum,
    nesterov=how.momentum > 0,
  )
  run = torch.compile(network) if variant == 'compiled' else network
  loss_of = torch.nn.CrossEntropyLoss(label_smoothing=how.label_smoothing)
  scaler = torch.amp.GradScaler(device, enabled=model.precision == 'float16')

  def step():
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast(
      device,
      getattr(torch, model.precision),
      enabled=model.precision != 'float32',
    ):
      loss = loss_of(run(images).float() * model.logit_scale, labels)
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    loss.item()  # Waits for a GPU, as our session does.

  return step


def _network(torch, model, ghost_batch):
  """ResNet9 as a torch.nn.Module from images to [batch, 10], unscaled."""
  nn = torch.nn

  class BatchNorm(nn.BatchNorm2d):
    """Also over groups of `ghost_batch` images, as channels of their own."""

    def __init__(self, channels):
      super().__init__(channels)
      self.weight.requires_grad = model.train_gamma

    def forward(self, x):
      if not ghost_batch:
        return super().forward(x)
      groups = len(x) // ghost_batch
      repeat = lambda values: values.repeat(groups)
      # As davidcpage/cifar10-fast: every groups-th image makes a group.
      return nn.functional.batch_norm(
        x.reshape(-1, x.shape[1] * groups, *x.shape[2:]),
        repeat(self.running_mean),
        repeat(self.running_var),
        repeat(self.weight),
        repeat(self.bias),
        True,
        self.momentum,
        self.eps,
      ).view(x.shape)

  def block(inputs, outputs, size=3, pool=False):
    pools = [nn.MaxPool2d(2)] if pool else []
    normalised = [BatchNorm(outputs)]
    active = [nn.CELU(0.3) if model.activation == 'celu' else nn.ReLU()]
    convolved = [
      nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False)
    ]
    return nn.Sequential(
      *convolved,
      *(
        pools + normalised + active
        if model.pool_before_bn
        else normalised + active + pools
      ),
    )

  class Residual(nn.Module):
    def __init__(self, channels):
      super().__init__()
      self.branch = nn.Sequential(
        block(channels, channels), block(channels, channels)
      )

    def forward(self, x):
      return x + self.branch(x)

  w = model.width
  prep = [block(3, w)]
  if model.whitening:
    whitening = nn.Conv2d(3, 27, 3, padding=1, bias=False)
    whitening.weight.requires_grad = False
    nn.init.normal_(whitening.weight, std=1 / math.sqrt(27))
    prep = [whitening, block(27, w, size=1)]
  return nn.Sequential(
    *prep,
    block(w, 2 * w, pool=True),
    Residual(2 * w),
    block(2 * w, 4 * w, pool=True),
    block(4 * w, 8 * w, pool=True),
    Residual(8 * w),
    nn.MaxPool2d(4),
    nn.Flatten(),
    nn.Linear(8 * w, 10, bias=False),
  )
