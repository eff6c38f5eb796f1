"""A graph that is read and not run: its nodes, and what its tensors are."""

from graph_resnet9.doctor.graph import nodes
from graph_resnet9.doctor.graph import shapes
from graph_resnet9.doctor.graph import tensors

GraphView = nodes.GraphView
Tensor = nodes.Tensor
VARIABLE_OPS = tensors.VARIABLE_OPS
sources = tensors.sources
variable = tensors.variable
outside = tensors.outside
constant = tensors.constant
shape = shapes.shape
