"""Where the time of a step goes, by TensorFlow's own trace of it."""

import re
from typing import NamedTuple

import tensorflow.compat.v1 as tf

# In the name of an op, or of its gradient: the scope of a convolution.
_CONVOLUTION = re.compile(
  r'(?:^|/)((?:prep|layer\d)(?:/residual/res\d)?/conv)/'
)


class Seconds(NamedTuple):
  """Of one step; of ops that run at the same time each counts in full.

  by_type: {type of op: (count, seconds)}, the longest first.
  by_convolution: {scope: seconds}, forward and backward, in the order of the
    network.
  """

  by_type: dict[str, tuple[int, float]]
  by_convolution: dict[str, float]


def seconds(session, op):
  """Runs `op` once and returns Seconds."""
  metadata = tf.RunMetadata()
  session.run(
    op,
    options=tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE),
    run_metadata=metadata,
  )
  return sums(metadata.step_stats)


def sums(step_stats):
  """Seconds of a StepStats proto."""
  types, convolutions = {}, {}
  for device in step_stats.dev_stats:
    for node in device.node_stats:
      secs = 1e-6 * (node.op_end_rel_micros - node.op_start_rel_micros)
      # "name = Type(inputs)", or only the name.
      name, _, call = node.timeline_label.partition(' = ')
      kind = call.partition('(')[0] or name or node.node_name
      count, before = types.get(kind, (0, 0.0))
      types[kind] = count + 1, before + secs
      scope = _CONVOLUTION.search(node.node_name)
      if scope:
        convolutions[scope[1]] = convolutions.get(scope[1], 0.0) + secs
  return Seconds(
    dict(sorted(types.items(), key=lambda item: -item[1][1])),
    dict(sorted(convolutions.items(), key=_place)),
  )


def _place(item):
  """prep before layer1 before layer1/residual."""
  return not item[0].startswith('prep'), item[0]
