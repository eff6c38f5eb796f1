"""doctor/lint/source.py on tracebacks written by hand."""

import os
import types

from absl.testing import absltest
from absl.testing import parameterized

from graph_resnet9.doctor.lint import source
from graph_resnet9.doctor.lint.findings import Finding

LIBRARY = ('/env/site-packages/tensorflow/python/ops.py', 99)


class Graph:
  """A graph whose ops have tracebacks: {name: [(path, line)]}, outer first."""

  def __init__(self, **tracebacks):
    self._tracebacks = tracebacks

  def get_operation_by_name(self, name):
    if name == 'not a name':
      raise ValueError(name)
    return types.SimpleNamespace(traceback=self._tracebacks[name])


def places(ops, variables=(), **tracebacks):
  finding = Finding('few-values', tuple(ops), tuple(variables), 'detail')
  found = source.with_places(Graph(**tracebacks), finding)
  # Nothing else has changed.
  assert found._replace(places=()) == finding
  return found.places


class PlacesTest(parameterized.TestCase):
  def test_the_innermost_line_outside_of_libraries(self):
    frames = [('/u/train.py', 3), ('/u/net.py', 7), LIBRARY, LIBRARY]
    self.assertEqual(places('a', a=frames), ('/u/net.py:7',))

  def test_a_file_below_here_goes_by_its_relative_path(self):
    frames = [(os.path.join(os.getcwd(), 'models', 'net.py'), 12)]
    self.assertEqual(
      places('a', a=frames), (os.path.join('models', 'net.py') + ':12',)
    )

  @parameterized.parameters(
    '/p/tensorflow/python/ops.py',
    '/p/tensorflow_core/ops.py',
    '/p/tensorflow_estimator/ops.py',
    '/p/tf_keras/src/layers.py',
    '/p/keras/layers.py',
    '/p/keras_applications/vgg.py',
    '/p/tf_slim/layers.py',
    '/p/tensorpack/models.py',
    '/p/tflearn/layers.py',
    '/p/sonnet/modules.py',
    '/models/slim/nets/vgg.py',
    'C:\\p\\tensorflow\\ops.py',
    '<string>',
    '/usr/lib/python3/contextlib.py',
    '/usr/lib/python3/functools.py',
  )
  def test_libraries_make_layers_for_others(self, path):
    self.assertEqual(
      places('a', a=[('/u/train.py', 3), (path, 5)]), ('/u/train.py:3',)
    )

  @parameterized.parameters(
    '/u/tensorflow_models/net.py',
    '/u/my_keras/net.py',
    '/u/nets.py',
    '/u/my_functools.py',
  )
  def test_what_sounds_like_one_is_none(self, path):
    self.assertEqual(
      places('a', a=[('/u/train.py', 3), (path, 5)]), (path + ':5',)
    )

  def test_ops_come_before_variables(self):
    frames = dict(a=[('/u/a.py', 1)], v=[('/u/v.py', 2)])
    self.assertEqual(places('a', 'v', **frames), ('/u/a.py:1',))
    self.assertEqual(places('', 'v', **frames), ('/u/v.py:2',))
    self.assertEqual(places('', '', **frames), ())

  def test_each_line_once_in_order_and_four_at_most(self):
    lines = dict(a=9, b=9, c=3, d=7, e=1, f=5)
    frames = {name: [('/u/n.py', line)] for name, line in lines.items()}
    self.assertEqual(places('abc', **frames), ('/u/n.py:9', '/u/n.py:3'))
    self.assertEqual(
      places('abcdef', **frames),
      ('/u/n.py:9', '/u/n.py:3', '/u/n.py:7', '/u/n.py:1'),
    )

  def test_an_op_without_a_place_is_passed_over(self):
    frames = [('/u/n.py', 4)]
    self.assertEqual(
      places(
        ['gone', 'not a name', 'bare', 'empty', 'inner', 'a'],
        bare=None,
        empty=[],
        inner=[LIBRARY],
        a=frames,
      ),
      ('/u/n.py:4',),
    )


if __name__ == '__main__':
  absltest.main()
