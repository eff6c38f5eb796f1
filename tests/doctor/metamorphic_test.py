"""What does not concern batch normalisation changes nothing that lint says.

Graphs of the corpus, each in eight other forms: the findings, their ops and
variables, and the stored statistics of each layer must be those of the graph
as it was.

  python -m tests.doctor.metamorphic_test --all    # every graph: minutes
"""

import collections
import os
import random
import sys
import tempfile

from absl.testing import absltest
import tensorflow.compat.v1 as tf
from tensorflow.core.framework import variable_pb2

from graph_resnet9.doctor.graph import programs
from graph_resnet9.doctor.layers import anatomy
from graph_resnet9.doctor.lint import rules
from tests import helpers
from tests.doctor import corpus
from tests.doctor import corpus_phases

SEED = 0
# How many of the corpus are tried, of each code and of the healthy ones.
_OF_A_CODE, _HEALTHY = 1, 10
_DEVICE = '/job:worker/replica:0/task:1/device:GPU:0'


def sample():
  """Some of the corpus: every code, and healthy graphs that look faulty."""
  draws = random.Random(SEED)
  groups = collections.defaultdict(list)
  for case in corpus.cases() + corpus_phases.cases():
    groups[tuple(sorted(case.codes))].append(case)
  for codes, cases in groups.items():
    most = _OF_A_CODE if codes else _HEALTHY
    yield from draws.sample(cases, min(len(cases), most))


class Graph:
  """A MetaGraphDef to be changed, and what is known of it.

  train_ops: names of the ops that a step runs, or empty.
  floats: {name of an op: set of the indices of its outputs that are float
    tensors and no references}.
  scope: what now stands before the names that the ops had.
  """

  def __init__(self, built):
    graph = tf.get_default_graph()
    self.meta_graph = tf.train.export_meta_graph(
      graph=graph, saver_def=built.saver.saver_def if built.saver else None
    )
    self.train_ops = list(built.train_ops)
    self.floats = {
      op.name: {
        k
        for k, tensor in enumerate(op.outputs)
        if tensor.dtype.is_floating and not tensor.dtype._is_ref_dtype
      }
      for op in graph.get_operations()
    }
    self.scope = ''

  def copy(self):
    other = object.__new__(Graph)
    other.meta_graph = tf.MetaGraphDef()
    other.meta_graph.CopyFrom(self.meta_graph)
    other.train_ops, other.floats = list(self.train_ops), self.floats
    other.scope = ''
    return other

  @property
  def nodes(self):
    return self.meta_graph.graph_def.node

  def add(self, op, name, *inputs, **types):
    """Adds a node; types: its attributes that are DataTypes."""
    node = self.nodes.add(op=op, name='added/' + name, input=inputs)
    for key, value in types.items():
      node.attr[key].type = value.as_datatype_enum
    return node

  def add_string(self, name, value):
    node = self.add('Const', name, dtype=tf.string)
    node.attr['value'].tensor.CopyFrom(tf.make_tensor_proto(value))
    return node.name

  def float_tensors(self):
    return [
      name if not k else '%s:%d' % (name, k)
      for name, indices in self.floats.items()
      for k in sorted(indices)
    ]


# The forms. Each takes a Graph to change, and a random.Random.


def identities(graph, draws):
  """An Identity in half of all places where a float tensor is read."""
  for node in list(graph.nodes):
    # In loops they read what TensorFlow lets stand there.
    if node.op in ('Merge', 'NextIteration', 'Exit', 'Enter'):
      continue
    for k, value in enumerate(node.input):
      name, _, index = value.partition(':')
      if int(index or 0) in graph.floats.get(name, ()) and draws.random() < 0.5:
        added = graph.add(
          'Identity', '%s/%d' % (node.name, k), value, T=tf.float32
        )
        node.input[k] = added.name


def summaries(graph, draws):
  """Summaries of tensors anywhere: activations, gradients, statistics."""
  tensors = graph.float_tensors()
  for k, value in enumerate(draws.sample(tensors, min(len(tensors), 12))):
    tag = graph.add_string('tag%d' % k, 'summary')
    graph.add('HistogramSummary', 'summary%d' % k, tag, value, T=tf.float32)


def unused_placeholder(graph, draws):
  """A placeholder that nothing reads, and that is no switch of a phase."""
  del draws
  graph.add('Placeholder', 'unused', dtype=tf.float32)


def another_network(graph, draws):
  """A network without batch norm beside, trained by a step of its own."""
  del draws
  graph.add('Placeholder', 'other/x', dtype=tf.float32)
  weights = graph.add('VarHandleOp', 'other/weights', dtype=tf.float32)
  weights.attr['shape'].shape.dim.add(size=4)
  graph.add(
    'ReadVariableOp', 'other/read', 'added/other/weights', dtype=tf.float32
  )
  graph.add('Mul', 'other/y', 'added/other/x', 'added/other/read', T=tf.float32)
  graph.add('Tanh', 'other/z', 'added/other/y', T=tf.float32)
  graph.add(
    'AssignVariableOp',
    'other/assign',
    'added/other/weights',
    'added/other/z',
    dtype=tf.float32,
  )


def branches(graph, draws):
  """What else is computed of tensors of the graph, for nobody."""
  tensors = graph.float_tensors()
  for k, value in enumerate(draws.sample(tensors, min(len(tensors), 12))):
    graph.add('Abs', 'branch%d/abs' % k, value, T=tf.float32)
    graph.add(
      'Tanh', 'branch%d/tanh' % k, 'added/branch%d/abs' % k, T=tf.float32
    )


def another_scope(graph, draws):
  """All of it in another scope, as tf.import_graph_def leaves it."""
  del draws
  graph.scope = 'imported/'
  renamed(graph, {node.name: graph.scope + node.name for node in graph.nodes})


def another_order(graph, draws):
  """The ops in another order in the file."""
  nodes = list(graph.nodes)
  draws.shuffle(nodes)
  del graph.nodes[:]
  graph.nodes.extend(nodes)


def devices(graph, draws):
  """Each op on a device, or not."""
  for node in graph.nodes:
    node.device = draws.choice(['', _DEVICE])


FORMS = (
  identities,
  summaries,
  unused_placeholder,
  another_network,
  branches,
  another_scope,
  another_order,
  devices,
)


def renamed(graph, names):
  """Renames the ops of a Graph; names: {old: new}."""
  graph.train_ops = [names[name] for name in graph.train_ops]
  for node in graph.nodes:
    node.name = names[node.name]
    for k, value in enumerate(node.input):
      mark = '^' if value.startswith('^') else ''
      name, colon, index = value[len(mark) :].partition(':')
      node.input[k] = mark + names[name] + colon + index
  for key, collection in graph.meta_graph.collection_def.items():
    if key == 'train_op':
      collection.node_list.value[:] = [
        names.get(name, name) for name in collection.node_list.value
      ]
    for k, value in enumerate(collection.bytes_list.value):
      if key in ('variables', 'trainable_variables', 'global_step'):
        definition = variable_pb2.VariableDef.FromString(value)
        name, colon, index = definition.variable_name.partition(':')
        definition.variable_name = names[name] + colon + index
        collection.bytes_list.value[k] = definition.SerializeToString()
  saver = graph.meta_graph.saver_def
  if saver.save_tensor_name:
    name, _, index = saver.save_tensor_name.partition(':')
    saver.save_tensor_name = '%s:%s' % (names[name], index or 0)


def told(graph, prefix):
  """What lint says, and the stored statistics of each layer; by old names."""

  def old(names):
    return frozenset(name[len(graph.scope) :] for name in names)

  found = anatomy.Anatomy(
    programs.of_meta_graph(graph.meta_graph), graph.train_ops
  )
  report = rules.lint(found, prefix)
  return (
    {(f.code, old(f.ops), old(f.variables)) for f in report.findings},
    {old(node.name for node in layer.stored) for layer in found.layers},
  )


def differences(case):
  """Names of the forms in which lint says something else of a case."""
  draws = random.Random(case.name)
  with tf.Graph().as_default(), tempfile.TemporaryDirectory() as folder:
    built = case.build()
    prefix = None
    if built.checkpoint:
      prefix = os.path.join(folder, 'checkpoint')
      helpers.save_weights(built.checkpoint, prefix)
    whole = Graph(built)
    expected = told(whole, prefix)
    for form in FORMS:
      changed = whole.copy()
      form(changed, draws)
      # A checkpoint knows variables by the names that a saver gives them.
      renames = form is another_scope and not built.saver
      if prefix and renames:
        continue
      found = told(changed, prefix)
      if found != expected:
        yield form.__name__, expected, found


class MetamorphicTest(absltest.TestCase):
  def test_what_does_not_concern_it_changes_nothing(self):
    for case in sample():
      for form, expected, found in differences(case):
        with self.subTest(case=case.name, form=form):
          self.assertEqual(found, expected)

  def test_the_sample_has_every_code(self):
    codes = set().union(
      *(case.codes for case in corpus.cases() + corpus_phases.cases())
    )
    self.assertEqual(set().union(*(case.codes for case in sample())), codes)


if __name__ == '__main__':
  if sys.argv[1:] == ['--all']:
    for each in corpus.cases() + corpus_phases.cases():
      for form, expected, found in differences(each):
        print(each.name, form, expected, found, sep='\n  ')
  else:
    absltest.main()
