"""doctor/lint/restoring.py: can statistics come from another training?"""

import types

from absl.testing import absltest
from absl.testing import parameterized

from graph_resnet9.doctor.lint import restoring
from tests.doctor.hand_made import HandMade


class Training:
  """A weight trained with a momentum, and a stored mean, by hand."""

  def __init__(self, apply='ApplyMomentum', kind='V2'):
    self.made = made = HandMade()
    self.kind = kind
    for name in ('weight', 'momentum', 'mean'):
      made.variable(name, 3)
    for name in ('names', 'slices', 'rate', 'gradient'):
      made.const(name, 0.5)
    made.placeholder('file')
    slots = {'ApplyMomentum': ['momentum'], 'ApplyGradientDescent': []}[apply]
    self.step = made.op(
      'step', apply, 'weight', *slots, 'rate', 'gradient', 'rate'
    )

  def saver(self, name, *saved, restores=True):
    """A saver of variables; restores: whether it has its half of the ops."""
    made = self.made
    made.op(
      name,
      'Save' + self.kind,
      'file',
      'names',
      'slices',
      *[variable + '/read' for variable in saved],
    )
    if restores:
      for variable in saved:
        read = '%s/read_%s' % (name, variable)
        made.op(
          read,
          'Restore' + self.kind.replace('Slices', 'Slice'),
          'file',
          'names',
          'slices',
        )
        made.op(read + '/assign', 'Assign', variable, read)

  def says(self, run=True):
    """What is said of the stored mean."""
    view = self.made.view()
    found = types.SimpleNamespace(
      view=view, reached={view.find(self.step)} if run else set()
    )
    return restoring.may_be_restored(found, [view.find('mean')])


ALL = ('weight', 'momentum', 'mean')


class RestoringTest(parameterized.TestCase):
  @parameterized.parameters('V2', '', 'Slices')
  def test_a_saver_of_all_restores_this_training(self, kind):
    training = Training(kind=kind)
    training.saver('save', *ALL)
    self.assertIs(training.says(), False)

  @parameterized.parameters('V2', '', 'Slices')
  def test_a_saver_without_the_momenta_restores_another(self, kind):
    training = Training(kind=kind)
    training.saver('save', *ALL)
    training.saver('backbone', 'weight', 'mean', restores=False)
    self.assertIs(training.says(), True)

  def test_one_of_weights_alone_does_not_restore_statistics(self):
    training = Training()
    training.saver('save', *ALL)
    training.saver('weights', 'weight')
    self.assertIs(training.says(), False)

  def test_two_savers_of_all_are_as_good_as_one(self):
    training = Training()
    training.saver('save', *ALL)
    training.saver('save_best', *ALL)
    self.assertIs(training.says(), False)

  # Where it cannot be told.

  def test_without_a_saver(self):
    self.assertIs(Training().says(), True)

  def test_an_optimizer_that_keeps_nothing(self):
    training = Training('ApplyGradientDescent')
    training.saver('save', *ALL)
    self.assertIs(training.says(), True)

  def test_an_optimizer_that_no_step_runs(self):
    training = Training()
    training.saver('save', *ALL)
    self.assertIs(training.says(run=False), True)

  # Assignments beside the saver's.

  def assigned(self, *ops):
    """The answer with ops, the last one's value assigned to the mean."""
    training = Training()
    training.saver('save', *ALL)
    for name, op, *inputs in ops:
      training.made.op(name, op, *inputs)
    training.made.op('assign', 'Assign', 'mean', ops[-1][0])
    return training.says()

  def test_of_something_fed(self):
    self.assertIs(self.assigned(('fed', 'Identity', 'file')), True)
    self.assertIs(
      self.assigned(('half', 'Mul', 'rate', 'file'), ('sum', 'Neg', 'half')),
      True,
    )

  def test_of_something_read(self):
    read = 'read', 'RestoreV2', 'names', 'names', 'slices'
    self.assertIs(self.assigned(read), True)
    self.assertIs(self.assigned(read, ('flat', 'Neg', 'read')), True)

  def test_the_name_of_a_file_may_be_fed(self):
    training = Training()
    training.saver('save', *ALL)
    read = training.made.op('again', 'RestoreV2', 'file', 'names', 'slices')
    training.made.op('assign', 'Assign', 'weight', read)
    self.assertIs(training.says(), False)

  def test_of_an_initial_value(self):
    self.assertIs(self.assigned(('zero', 'Neg', 'rate')), False)
    # Round and round, in a damaged graph.
    self.assertIs(self.assigned(('a', 'Neg', 'b'), ('b', 'Neg', 'a')), False)


if __name__ == '__main__':
  absltest.main()
