"""doctor/measure/pairs.py on layers put together by hand."""

import types

from absl.testing import absltest
from absl.testing import parameterized

from graph_resnet9.doctor.graph.nodes import Node
from graph_resnet9.doctor.layers.anatomy import Layer
from graph_resnet9.doctor.layers.updates import Update
from graph_resnet9.doctor.measure import pairs


class Net:
  """Nodes by name, each made once."""

  def __init__(self):
    self.nodes = {}

  def node(self, name):
    return self.nodes.setdefault(name, Node(name, 'VariableV2', {}, 0))

  def site(self, mean='', variance=''):
    """A site that reads stored statistics of these names."""
    return types.SimpleNamespace(
      moving_mean=[self.node(mean)] if mean else [],
      moving_variance=[self.node(variance)] if variance else [],
    )

  def update(self, name, site):
    return Update(None, self.node(name), '', site, 0.9)

  def layer(self, sites, updates=(), means='', variances=''):
    return Layer(
      'layer',
      sites,
      list(updates),
      [self.node(name) for name in means.split()],
      [self.node(name) for name in variances.split()],
    )

  def pairs(self, layer, sites=None):
    """[(name, indices of sites, names of what is stored)]."""
    found = pairs.of_layer(layer, layer.sites if sites is None else sites)
    return [
      (
        pair.name,
        [[s is site for s in layer.sites].index(True) for site in pair.sites],
        [node.name for node in pair.stored],
      )
      for pair in found
    ]


class PairsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.net = Net()

  def test_one_pair_is_that_of_all_calls(self):
    net = self.net
    sites = [net.site(), net.site('m', 'v'), net.site()]
    layer = net.layer(sites, [], 'm', 'v')
    self.assertEqual(net.pairs(layer), [('layer', [0, 1, 2], ['m', 'v'])])
    # Of the calls that count.
    self.assertEqual(
      net.pairs(layer, [sites[2], sites[0]]), [('layer', [2, 0], ['m', 'v'])]
    )

  @parameterized.parameters(('', ''), ('m', ''), ('', 'v'), ('m', 'm'))
  def test_less_than_a_pair_is_none(self, means, variances):
    net = self.net
    layer = net.layer([net.site()], [], means, variances)
    self.assertEqual(net.pairs(layer), [('layer', [0], [])])

  def steps(self, *names, by_update=False):
    """A layer whose calls read, or update, a pair each of these scopes."""
    net = self.net
    sites, updates = [], []
    for name in names:
      both = [name + '/mean', name + '/var']
      sites.append(net.site(*([] if by_update else both)))
      updates += [net.update(v, sites[-1]) for v in both if by_update]
    scopes = list(dict.fromkeys(names))
    return net.layer(
      sites,
      updates,
      ' '.join(s + '/mean' for s in scopes),
      ' '.join(s + '/var' for s in scopes),
    )

  @parameterized.parameters(True, False)
  def test_each_call_its_own(self, by_update):
    self.assertEqual(
      self.net.pairs(self.steps('t0', 't1', 't2', by_update=by_update)),
      [
        ('t0', [0], ['t0/mean', 't0/var']),
        ('t1', [1], ['t1/mean', 't1/var']),
        ('t2', [2], ['t2/mean', 't2/var']),
      ],
    )

  @parameterized.parameters(True, False)
  def test_calls_that_share_a_pair(self, by_update):
    self.assertEqual(
      self.net.pairs(self.steps('a', 'b', 'a', by_update=by_update)),
      [('b', [1], ['b/mean', 'b/var']), ('a', [0, 2], ['a/mean', 'a/var'])],
    )

  def test_a_call_that_joins_two_groups(self):
    """It cannot be told then which statistics are whose."""
    net = self.net
    layer = self.steps('a', 'b')
    both = net.site('a/mean', 'b/var')
    layer.sites.append(both)
    self.assertEqual(net.pairs(layer), [('layer', [0, 1, 2], [])])

  def test_a_call_without_any(self):
    net = self.net
    layer = self.steps('a', 'b')
    layer.sites.append(net.site())
    self.assertEqual(
      net.pairs(layer),
      [
        ('a', [0], ['a/mean', 'a/var']),
        ('b', [1], ['b/mean', 'b/var']),
        ('layer', [2], []),
      ],
    )

  def test_an_update_counts_for_its_own_call_alone(self):
    net = self.net
    layer = self.steps('a', 'b')
    updates = [net.update('a/mean', net.site())]
    self.assertLen(net.pairs(layer._replace(updates=updates)), 2)

  def test_two_variances_and_one_mean(self):
    net = self.net
    sites = [net.site('m', 'v0'), net.site('', 'v1')]
    layer = net.layer(sites, [], 'm', 'v0 v1')
    self.assertEqual(
      net.pairs(layer), [('m', [0], ['m', 'v0']), ('layer', [1], [])]
    )

  def test_names_that_tell_them_apart(self):
    net = self.net
    for means, variances, names in (
      # Of one scope: the names of the means themselves.
      ('s/m0 s/m1', 's/v0 s/v1', ['s/m0', 's/m1']),
      # Without one, too.
      ('m0 m1', 'v0 v1', ['m0', 'm1']),
      ('s/t/m r/t/m', 'a b', ['s/t', 'r/t']),
    ):
      layer = net.layer(
        [net.site(*pair) for pair in zip(means.split(), variances.split())],
        [],
        means,
        variances,
      )
      self.assertEqual([name for name, _, _ in net.pairs(layer)], names)


if __name__ == '__main__':
  absltest.main()
