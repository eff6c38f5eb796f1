"""The same training step in JAX, to compare speeds with.

JAX (extra `bench`) is imported by `load` alone. Network and update as in
davidcpage/cifar10-fast, images as [batch, height, width, channels], one jitted
function, arguments donated.
"""

import importlib
import math

from graph_resnet9.errors import UserError

# Scope, and channels in and out in units of the width, of every 3x3 layer.
_LAYERS = (
  ('layer1', 1, 2),
  ('res1', 2, 2),
  ('res2', 2, 2),
  ('layer2', 2, 4),
  ('layer3', 4, 8),
  ('res3', 8, 8),
  ('res4', 8, 8),
)


def load():
  """The module jax.

  Raises:
    UserError: it is not installed, or does not load.
  """
  try:
    return importlib.import_module('jax')
  except (ImportError, OSError) as e:
    raise UserError(
      "--compare=jax: JAX cannot be loaded (%s); pip install -e '.[bench]'" % e
    ) from None


def training_step(jax, settings):
  """Initialises a network and a batch of random images.

  Args:
    jax: the module.
    settings: train_flags.Recipe; all tricks but the average of the weights and
      the scale of float16 losses.
  Returns:
    A function without arguments that takes a training step and waits for it.
  """
  key, batch = jax.random.key(0), settings.batches.batch_size
  state = _initial(jax, settings.model, key)
  state['velocity'] = jax.tree.map(jax.numpy.zeros_like, state['weights'])
  images = jax.random.normal(key, [batch, 32, 32, 3])
  labels = jax.nn.one_hot(jax.random.randint(key, [batch], 0, 10), 10)
  update = _update(jax, settings)

  def step():
    nonlocal state
    state, loss = update(state, images, labels)
    loss.block_until_ready()

  return step


def _initial(jax, model, key):
  """{'weights': ..., 'fixed': ..., 'moving': ...}, dicts of arrays."""
  jnp, width = jax.numpy, model.width

  def uniform(*shape):
    bound = 1 / math.sqrt(math.prod(shape[:-1]))
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)

  prep = (1, 1, 27, width) if model.whitening else (3, 3, 3, width)
  weights = {'prep': uniform(*prep), 'linear': uniform(8 * width, 10)}
  for name, channels, filters in _LAYERS:
    weights[name] = uniform(3, 3, channels * width, filters * width)
  fixed = {'whitening': uniform(3, 3, 3, 27)} if model.whitening else {}
  moving = {}
  for name in ['prep'] + [name for name, _, _ in _LAYERS]:
    channels = weights[name].shape[-1]
    scales = weights if model.train_gamma else fixed
    scales[name + '/gamma'] = jnp.ones(channels)
    weights[name + '/beta'] = jnp.zeros(channels)
    moving[name] = jnp.zeros(channels), jnp.ones(channels)
  return dict(weights=weights, fixed=fixed, moving=moving)


def _update(jax, settings):
  """The jitted step: state, images, one-hot labels -> state, loss."""
  jnp, how = jax.numpy, settings.optimizer
  rate, smoothing = max(how.lr_values) / 10, how.label_smoothing

  def loss_of(weights, fixed, moving, images, labels):
    logits, moving = _network(
      jax, settings, {**weights, **fixed}, moving, images
    )
    labels = (1 - smoothing) * labels + smoothing / 10
    loss = -jnp.mean(jnp.sum(labels * jax.nn.log_softmax(logits), -1))
    return loss, moving

  def moved(name, weight, velocity, gradient):
    scale = how.bias_lr_scale if name.endswith('beta') else 1.0
    gradient = gradient + how.weight_decay / scale * weight
    velocity = how.momentum * velocity + gradient
    nesterov = gradient + how.momentum * velocity
    return weight - rate * scale * nesterov, velocity

  def update(state, images, labels):
    weights, velocity = state['weights'], state['velocity']
    (loss, moving), gradients = jax.value_and_grad(loss_of, has_aux=True)(
      weights, state['fixed'], state['moving'], images, labels
    )
    pairs = {
      name: moved(name, weights[name], velocity[name], gradients[name])
      for name in weights
    }
    return dict(
      weights={name: pair[0] for name, pair in pairs.items()},
      velocity={name: pair[1] for name, pair in pairs.items()},
      fixed=state['fixed'],
      moving=moving,
    ), loss

  return jax.jit(update, donate_argnums=0)


def _network(jax, settings, values, moving, images):
  """(float32 [batch, 10] logits, the moving statistics after the step)."""
  jnp, lax, model = jax.numpy, jax.lax, settings.model
  after = {}

  def conv(x, name):
    return lax.conv_general_dilated(
      x,
      values[name].astype(x.dtype),
      (1, 1),
      'SAME',
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )

  def max_pool(x, size):
    window = 1, size, size, 1
    return lax.reduce_window(x, -jnp.inf, lax.max, window, window, 'VALID')

  def batch_norm(x, name):
    groups = len(x) // (settings.ghost_batch or len(x))
    y = x.astype(jnp.float32).reshape(groups, -1, *x.shape[1:])
    mean = y.mean((1, 2, 3), keepdims=True)
    variance = y.var((1, 2, 3), keepdims=True)
    after[name] = tuple(
      0.9 * old + 0.1 * new.mean(0).reshape(-1)
      for old, new in zip(moving[name], (mean, variance))
    )
    y = (y - mean) * lax.rsqrt(variance + 1e-5)
    y = y * values[name + '/gamma'] + values[name + '/beta']
    return y.reshape(x.shape).astype(x.dtype)

  def block(x, name, pool=False):
    x = conv(x, name)
    if pool and model.pool_before_bn:
      x = max_pool(x, 2)
    x = batch_norm(x, name)
    if pool and not model.pool_before_bn:
      x = max_pool(x, 2)
    return jax.nn.celu(x, 0.3) if model.activation == 'celu' else jax.nn.relu(x)

  x = images.astype(model.precision)
  x = block(conv(x, 'whitening') if model.whitening else x, 'prep')
  x = block(x, 'layer1', pool=True)
  x = x + block(block(x, 'res1'), 'res2')
  x = block(x, 'layer2', pool=True)
  x = block(x, 'layer3', pool=True)
  x = x + block(block(x, 'res3'), 'res4')
  x = max_pool(x, 4).reshape(len(x), -1)
  x = x @ values['linear'].astype(x.dtype)
  return x.astype(jnp.float32) * model.logit_scale, after
