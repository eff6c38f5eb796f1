"""Runs a TensorFlow 1 training graph and says what ails its batch norm.

  python -m graph_resnet9.diagnose --meta_graph=FILE.meta --checkpoint=PREFIX
  python -m graph_resnet9.diagnose --meta_graph=FILE.meta --checkpoint=PREFIX \\
      --feed=module:function --png=layers.png
  python -m graph_resnet9.diagnose --checkpoint=/tmp/r9

Restores the checkpoint, runs batches of the graph's own input or of a function
of yours without changing a variable, and compares for each layer what it has
stored with what it is given. Of checkpoints of graph_resnet9.train also loss
and accuracy by moving, batch and recalibrated statistics. Exit code 0: healthy;
1: not; 2: the input cannot be used.
"""

import os
import tempfile

from graph_resnet9.cli import command as command_line
from graph_resnet9.cli import config
from graph_resnet9.cli import doctor_flags
from graph_resnet9.cli import settings as options


def main():
  # pylint: disable=g-import-not-at-top
  from graph_resnet9 import files
  from graph_resnet9.checkpoints import choose as checkpoints
  from graph_resnet9.doctor.measure import diagnosis
  from graph_resnet9.doctor.measure import recalibration as population
  from graph_resnet9.doctor.measure import session as subject
  from graph_resnet9.evaluation import evaluate as evaluation
  from graph_resnet9.training import rebuilt

  settings = config.read(options.Diagnose)
  if settings.png:
    files.check_png('--png', settings.png)
  prefix = checkpoints.prefix_of(settings.checkpoint)
  run = (
    None
    if settings.meta_graph or settings.feed
    else rebuilt.settings_of(prefix, settings.data_dir)
  )
  scores = []
  with tempfile.TemporaryDirectory() as scratch:
    if run:
      examined = subject.of_graph(*rebuilt.graph(run, scratch))
    else:
      examined = subject.of_meta_graph(
        settings.meta_graph or prefix + '.meta', settings.feed
      )
    result = diagnosis.diagnose(examined, prefix, settings.batches)
    if run:
      cured = os.path.join(scratch, 'recalibrated')
      population.recalibrate(
        subject.of_graph(*rebuilt.graph(run, scratch)),
        prefix,
        cured,
        settings.batches,
      )
      for name, path, batch_norm in (
        ('moving', prefix, 'moving'),
        ('batch', prefix, 'batch'),
        ('recalibrated', cured, 'moving'),
      ):
        summary, _, _ = evaluation.evaluate(
          rebuilt.eval_settings(run, path, batch_norm)
        )
        scores.append(
          dict(
            statistics=name, accuracy=summary['accuracy'], loss=summary['loss']
          )
        )
  if settings.png:
    with files.replacing(settings.png) as temporary:
      diagnosis.draw(temporary, result, prefix)
  if settings.json:
    print(diagnosis.to_json(result, scores))
  else:
    print(diagnosis.table(result, scores))
  return 0 if result.healthy else 1


if __name__ == '__main__':
  command_line.run(main, doctor_flags.define_diagnose_flags, error_code=2)
