"""What rules ask of tensors, and how they read what a file says of sizes."""

from typing import NamedTuple

from graph_resnet9.doctor.graph.nodes import Tensor

MOST_SIZES = 64  # Of a vector of sizes: no tensor has so many axes.


class Question(NamedTuple):
  """What is asked of a tensor: its shape; or the value of a few sizes."""

  kind: str
  tensor: Tensor


def shape_of(tensor):
  return Question('shape', tensor)


def value_of(tensor):
  return Question('value', tensor)


def sizes_of(proto):
  """A list of sizes of a TensorShapeProto, or None."""
  if proto.unknown_rank:
    return None
  return [None if size.size < 0 else size.size for size in proto.dim]


def common(found):
  """What shapes have in common that are of the same tensor."""
  if not found or None in found or len({len(sizes) for sizes in found}) > 1:
    return None
  return [same[0] if len(set(same)) == 1 else None for same in zip(*found)]
