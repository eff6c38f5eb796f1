"""Static checks beside the statistics: the axis, and what reaches the loss."""

from graph_resnet9.doctor.graph import shapes
from graph_resnet9.doctor.graph import tensors
from graph_resnet9.doctor.lint import findings

_LAYOUTS = (
  'Conv2D',
  'Conv3D',
  'DepthwiseConv2dNative',
  'MaxPool',
  'AvgPool',
  'MaxPoolV2',
  'Conv2DBackpropInput',
  'MaxPool3D',
  'AvgPool3D',
)
# Between a convolution and the layer that normalises what it makes.
_ELEMENTWISE = {
  'Relu',
  'Relu6',
  'Elu',
  'Selu',
  'LeakyRelu',
  'Tanh',
  'Sigmoid',
  'Softplus',
  'Add',
  'AddV2',
  'AddN',
  'BiasAdd',
  'Mul',
  'Sub',
  'Maximum',
}
_CLIPS = {'Maximum', 'Minimum', 'ClipByValue'}
_PROBABILITIES = ('Softmax', 'Sigmoid')
_LOGITS_LOSSES = (
  'SoftmaxCrossEntropyWithLogits',
  'SparseSoftmaxCrossEntropyWithLogits',
)
_PRODUCTS = ('MatMul', 'Conv2D', 'BatchMatMulV2', 'BatchMatMul')
# Between a variable and the product that it is a factor of.
_OF_WEIGHTS = (
  'Mul',
  'RealDiv',
  'Sub',
  'Transpose',
  'Rsqrt',
  'FakeQuantWithMinMaxVars',
  'FakeQuantWithMinMaxArgs',
  'Dequantize',
  'GatherV2',
  'ResourceGather',
)
_MAX_WALK = 60


def axes(found):
  """The layers whose axis is not that of their convolutions' channels."""
  wrong = []
  for layer in found.layers:
    for site in layer.sites:
      size = shapes.shape(site.x)
      layout = _layout(site.x)
      if size and len(size) > 2 and layout is not None:
        expected = 1 if layout.startswith(b'NC') else len(size) - 1
        if site.channel_axis % len(size) != expected:
          wrong.append((site, size, expected))
  if wrong:
    site, size, expected = wrong[0]
    axis = site.channel_axis % len(size)
    yield findings.of(
      'gamma-not-channels',
      [s.node for s, _, _ in wrong],
      [s.gamma for s, _, _ in wrong if s.gamma],
      'axis %d of %s; the convolution has its channels in axis %d'
      % (axis, ' x '.join(str(n or '?') for n in size), expected),
    )


def _layout(tensor):
  """data_format of the nearest convolution or pooling before a tensor."""
  seen, waiting = set(), [tensor]
  while waiting and len(seen) < _MAX_WALK:
    for source in tensors.sources(waiting.pop(0)):
      node = source.node
      if node in seen:
        continue
      seen.add(node)
      if node.op in _LAYOUTS and 'data_format' in node.attr:
        return node.attr['data_format'].s
      if node.op in _ELEMENTWISE:
        waiting += node.inputs
  return None


def losses(found):
  """Probabilities into losses of logits, and the other way round."""
  # A step needs the gradient of the loss, and not always its value.
  forward = [
    node
    for node in found.view.nodes.values()
    if not found.steps
    or node in found.reached
    or any(t.node in found.reached for t in node.inputs)
  ]
  twice, raw = [], []
  for node in forward:
    if node.op in _LOGITS_LOSSES and _is_probability(node.inputs[0]):
      twice.append(node)
    elif node.op == 'Log1p' and any(
      _is_probability(logits) for logits in _sigmoid_logits(node.inputs[0])
    ):
      twice.append(node)
    elif node.op == 'Log' and _is_linear(node.inputs[0]):
      raw.append(node)
  if twice:
    yield findings.of('softmax-twice', twice, (), mend=_mend(twice[0]))
  if raw:
    yield findings.of('logits-as-probabilities', raw, ())


def _mend(loss):
  """The line that helps with a loss, by what its labels are."""
  name = {'SoftmaxCrossEntropyWithLogits': 'softmax', 'Log1p': 'sigmoid'}.get(
    loss.op, 'sparse_softmax'
  )
  return (
    'loss = tf.losses.%s_cross_entropy(labels, logits)  # before the %s'
    % (name, 'sigmoid' if name == 'sigmoid' else 'softmax')
  )


def _unclipped(tensor):
  """The sources of a tensor before clipping, and adding or taking epsilon."""
  found, seen, waiting = [], set(), [tensor]
  while waiting and len(seen) < _MAX_WALK:
    for source in tensors.sources(waiting.pop()):
      node = source.node
      if source in seen:
        continue
      seen.add(source)
      free = [t for t in node.inputs if tensors.constant(t) is None]
      if node.op in _CLIPS:
        waiting += free[:1]
      elif node.op in ('Add', 'AddV2', 'Sub') and len(free) == 1:
        waiting += free
      elif node.op in ('RealDiv', 'Div') and _is_sum_of(node):
        waiting.append(node.inputs[0])
      elif node.op in ('GatherV2', 'Gather', 'GatherNd'):
        waiting.append(node.inputs[0])  # The probability of the label.
      else:
        found.append(source)
  return found


def _is_sum_of(division):
  """Whether something is divided by its own sum, to add up to 1."""
  below = [source.node for source in tensors.sources(division.inputs[1])]
  for node in list(below):
    if node.op in ('Select', 'SelectV2', 'Maximum'):  # Kept away from 0.
      below += [s.node for t in node.inputs for s in tensors.sources(t)]
  part = set(tensors.sources(division.inputs[0]))
  return any(
    node.op == 'Sum' and part == set(tensors.sources(node.inputs[0]))
    for node in below
  )


def _is_probability(tensor):
  ops = [source.node.op for source in _unclipped(tensor)]
  return bool(ops) and all(op in _PROBABILITIES for op in ops)


def _is_linear(tensor):
  nodes = [source.node for source in _unclipped(tensor)]
  return bool(nodes) and all(
    _is_layer(node)
    or node.op in ('Add', 'AddV2', 'BiasAdd')
    and any(
      _is_layer(source.node)
      for term in node.inputs
      for source in tensors.sources(term)
    )
    for node in nodes
  )


def _is_layer(node):
  """Whether it is a product with weights, and not of two probabilities."""
  return node.op in _PRODUCTS and any(_is_weights(t) for t in node.inputs[:2])


def _is_weights(tensor):
  """Whether a tensor is made of variables or constants alone."""
  seen, waiting, found = set(), [tensor], False
  while waiting and len(seen) < _MAX_WALK:
    for source in tensors.sources(waiting.pop()):
      node = source.node
      if source in seen:
        continue
      seen.add(source)
      if node.op in tensors.VARIABLE_OPS or node.op == 'Const':
        found = True
      elif node.op in _OF_WEIGHTS:
        waiting += node.inputs
      else:
        return False
  return found


def _sigmoid_logits(tensor):
  """x of exp(-|x|), as tf.nn.sigmoid_cross_entropy_with_logits writes it."""
  found = []
  for source in tensors.sources(tensor):
    if source.node.op != 'Exp':
      continue
    for inner in tensors.sources(source.node.inputs[0]):
      node = inner.node
      if node.op in ('Select', 'SelectV2'):
        found.append(node.inputs[2])
      elif node.op == 'Neg':
        found += [
          t.node.inputs[0]
          for t in tensors.sources(node.inputs[0])
          if t.node.op == 'Abs'
        ]
  return found
