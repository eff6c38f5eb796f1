"""A training graph that normalises by what is stored, as evaluation does."""

import tensorflow.compat.v1 as tf

from graph_resnet9.doctor.layers import batch_statistics
from graph_resnet9.doctor.measure import feeds
from graph_resnet9.doctor.measure import sessions
from graph_resnet9.errors import UserError

# What may stand between an update and what waits for it.
_HANDING_ON = ('NoOp', 'Identity', 'ReadVariableOp', 'Group')
_SCOPE = 'by_stored_statistics'


def copy(runnable, probes):
  """A Runnable whose layers can normalise by their stored statistics.

  Layers that always use those of the batch read the stored ones in their place;
  those that can choose are left for feeds.phase. Names are the same, so that
  the anatomy of the original holds. Nothing waits for updates any more.

  Args:
    runnable: sessions.Runnable.
    probes: list of probing.Probe, of the layers concerned.
  Raises:
    UserError: it cannot be made.
  """
  with runnable.graph.as_default():
    meta_graph = tf.train.export_meta_graph(
      graph_def=runnable.graph.as_graph_def(add_shapes=True), clear_devices=True
    )
  graph_def = meta_graph.graph_def
  nodes = {node.name: node for node in graph_def.node}
  replaced = {}  # Name of a Tensor: that of what takes its place.
  for number, probe in enumerate(probes):
    for call, site in enumerate(probe.sites):
      if feeds.phase_sources(site):
        continue
      scope = '%s/%d_%d' % (_SCOPE, number, call)
      if site.node.op in batch_statistics.FUSED:
        fused = nodes[site.node.name]
        fused.attr['is_training'].b = False
        for k, variable in enumerate(probe.stored):
          fused.input[3 + k] = _read(
            graph_def, '%s/%d' % (scope, k), variable
          ).name
        continue
      means = [site.mean] if site.mean else site.batch_mean
      for k, (variable, used) in enumerate(
        zip(probe.stored, (means, [site.variance]))
      ):
        read = _read(graph_def, '%s/%d' % (scope, k), variable)
        for place, used_tensor in enumerate(used):
          tensor = feeds.tensor_of(runnable.graph, used_tensor)
          if tensor is None:
            raise UserError(
              'layer %s: its batch statistics are inside a function, where the '
              'stored ones cannot take their place for a comparison; --force '
              'writes new ones unseen' % probe.name
            )
          replaced[tensor.name] = _shaped(
            graph_def, '%s/%d_%d' % (scope, k, place), read, variable, tensor
          )
  _replace(nodes, replaced)
  _drop_controls(nodes, _waited_for(runnable.anatomy.view, probes))
  graph = sessions.imported(meta_graph)
  return runnable._replace(
    graph=graph,
    init_feed={
      graph.get_tensor_by_name(tensor.name): value
      for tensor, value in runnable.init_feed.items()
    },
  )


def in_branch_or_loop(view, node):
  """Whether an op runs only if a branch is taken, or several times."""
  return any(
    n.op in ('Switch', 'RefSwitch', 'Enter', 'RefEnter')
    for n in view.ancestors(
      [node],
      stop=lambda n: (
        n.op
        in (
          'Merge',
          'RefMerge',
          'Exit',
          'RefExit',
          'Switch',
          'RefSwitch',
          'Enter',
          'RefEnter',
        )
      ),
    )
  )


def _read(graph_def, name, variable):
  """Adds a reading of a variable; returns the NodeDef."""
  dtype = variable.dtype.base_dtype.as_datatype_enum
  read = graph_def.node.add(name=name, input=[variable.op.name])
  if variable.op.type == 'VarHandleOp':
    read.op = 'ReadVariableOp'
    read.attr['dtype'].type = dtype
  else:
    read.op = 'Identity'
    read.attr['T'].type = dtype
  return read


def _shaped(graph_def, name, read, variable, tensor):
  """Adds what is read in the type and shape of another Tensor; its name."""
  dtype = tensor.dtype.base_dtype.as_datatype_enum
  stored = variable.dtype.base_dtype.as_datatype_enum
  if dtype != stored:
    cast = graph_def.node.add(name=name + '/cast', op='Cast', input=[read.name])
    cast.attr['SrcT'].type, cast.attr['DstT'].type = stored, dtype
    read = cast
  own, wanted = variable.shape, tensor.shape
  by_groups = (
    wanted.num_elements() != own.num_elements()
    and 0 < own.rank <= (wanted.rank or 0)
    and wanted[-1] == own[-1]
  )
  if not by_groups:
    shape = graph_def.node.add(
      name=name + '/shape', op='Shape', input=[tensor.name]
    )
    shape.attr['T'].type = dtype
    result = graph_def.node.add(
      name=name, op='Reshape', input=[read.name, shape.name]
    )
    result.attr['T'].type = dtype
    return result.name
  # Of groups of the batch, however many: the same for each, channels last.
  zeros = graph_def.node.add(
    name=name + '/zeros', op='ZerosLike', input=[tensor.name]
  )
  zeros.attr['T'].type = dtype
  result = graph_def.node.add(
    name=name, op='Add', input=[zeros.name, read.name]
  )
  result.attr['T'].type = dtype
  return result.name


def _replace(nodes, replaced):
  """Lets all of `nodes` take other inputs, by the names of Tensors."""
  for node in nodes.values():
    for k, name in enumerate(node.input):
      if not name.startswith('^'):
        whole = name if ':' in name else name + ':0'
        if whole in replaced:
          node.input[k] = replaced[whole]


def _waited_for(view, probes):
  """Names of the updates of layers, and of what hands on that they ran."""
  seen = set()
  waiting = [u.node for probe in probes for u in probe.layer.updates]
  while waiting:
    node = waiting.pop()
    if node not in seen:
      seen.add(node)
      waiting += [c for c in view.consumers[node] if c.op in _HANDING_ON]
  return {node.name for node in seen}


def _drop_controls(nodes, names):
  """Takes out the control inputs from nodes of these names."""
  for node in nodes.values():
    kept = [
      name
      for name in node.input
      if not (name.startswith('^') and name[1:] in names)
    ]
    if len(kept) < len(node.input):
      del node.input[:]
      node.input.extend(kept)
