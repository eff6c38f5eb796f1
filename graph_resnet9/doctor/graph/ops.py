"""What is known of ops by their names."""

import re

from tensorflow.python.framework import op_def_registry

# Ops that only gradients have. A transposed convolution is the op of a
# gradient, too, Conv2DBackpropInput, and so is none of these.
_GRADIENTS = re.compile(
  r'.*Grad(V2|V3|WithArgmax|Grad|GradV2|GradWithArgmax)?|.*Gradient'
  r'|.*Backprop(Filter|Kernel).*|BroadcastGradientArgs'
)
_NO_GRADIENTS = ('StopGradient', 'PreventGradient')
_LEAST_INPUTS = {}


def is_gradient(op):
  """Whether only gradients have ops like this."""
  return bool(_GRADIENTS.fullmatch(op)) and op not in _NO_GRADIENTS


def op_definition(op):
  """The OpDef of a registered op, or None."""
  if hasattr(op_def_registry, 'get'):
    return op_def_registry.get(op)
  return op_def_registry.get_registered_ops().get(op)  # TensorFlow 1.


def least_inputs(op):
  """How many inputs a registered op has at least; 0 of one that is not."""
  if op not in _LEAST_INPUTS:
    definition = op_definition(op)
    _LEAST_INPUTS[op] = sum(
      not (argument.number_attr or argument.type_list_attr)
      for argument in (definition.input_arg if definition else ())
    )
  return _LEAST_INPUTS[op]
