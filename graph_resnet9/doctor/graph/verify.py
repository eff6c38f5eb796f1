"""Whether the ops that are looked at have the inputs that they must have."""

# How many, at least; ops of any other kind are passed over.
_LEAST = {
  1: 'Abs ArgMax Cast CheckNumerics ConcatV2 DeepCopy Enter Exit Exp '
  'Identity Inv IteratorGetNext Log Log1p Merge Neg NextIteration Pack '
  'PlaceholderWithDefault PreventGradient ReadVariableOp Reciprocal RefEnter '
  'RefExit RefIdentity RefMerge RefNextIteration Relu Rsqrt Shape Sigmoid '
  'Snapshot Softmax Sqrt Square Squeeze StopGradient Tanh If StatelessIf Case '
  'StatelessCase QueueDequeue QueueDequeueV2 VariableShape',
  2: 'Add AddV2 Assign AssignAdd AssignAddVariableOp AssignSub '
  'AssignSubVariableOp AssignVariableOp BatchMatMul BatchMatMulV2 BiasAdd '
  'Conv2D Conv3D DepthwiseConv2dNative Div ExpandDims Gather GatherNd '
  'MakeIterator MatMul Max Maximum Mean Min Minimum Mul Pad Pow Prod '
  'QueueDequeueMany QueueDequeueManyV2 RealDiv RefSwitch Reshape '
  'ResourceGather SparseSoftmaxCrossEntropyWithLogits Split '
  'SoftmaxCrossEntropyWithLogits SquaredDifference Sub Sum Switch Tile '
  'Transpose Save',
  3: 'ClipByValue Conv2DBackpropInput GatherV2 SaveSlices SaveV2 Select '
  'SelectV2 Slice SplitV',
  4: 'StridedSlice',
  5: 'FusedBatchNorm FusedBatchNormGrad FusedBatchNormGradV2 '
  'FusedBatchNormGradV3 FusedBatchNormV2 FusedBatchNormV3',
}
_INPUTS = {op: n for n, ops in _LEAST.items() for op in ops.split()}


def inputs(view):
  """Raises ValueError if a Node of a GraphView has less than it must have."""
  for node in view.nodes.values():
    least = _INPUTS.get(node.op, 0)
    if len(node.inputs) < least:
      raise ValueError(
        '%s: %d inputs; %s has %d or more'
        % (node.name, len(node.inputs), node.op, least)
      )
