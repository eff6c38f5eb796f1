"""Runs cases: prints their tables, writes their files."""

import os
import platform
import time

import tensorflow.compat.v1 as tf

from graph_resnet9 import files
from graph_resnet9.demos import cases as demos
from graph_resnet9.demos import lab
from graph_resnet9.demos import picture
from graph_resnet9.demos import report
from graph_resnet9.inputs import dataset


def run(names, out_dir, seed, data_dir, fast):
  """Runs cases one after the other.

  Args:
    names: list of names of demos.NAMES.
    out_dir: directory for CASE.json and CASE.png, or ''.
    seed: int.
    data_dir: folder with CIFAR-10, or '' for the synthetic images.
    fast: Python bool; shorter trainings.
  Returns:
    bool, whether all claims hold.
  Raises:
    UserError: no such case, bad data, or an out_dir that cannot be written.
  """
  modules = {name: demos.load(name) for name in names}
  if out_dir:
    files.make_dir('--out_dir', out_dir)
  source = dataset.find('cifar10' if data_dir else 'synthetic', data_dir)
  trainer = lab.Trainer(seed, source, fast)
  failed = []
  for name, module in modules.items():
    print(demos.title(name), flush=True)
    began = time.monotonic()
    outcome = module.run(trainer)
    outcome = outcome._replace(
      claims=[
        *outcome.claims,
        *report.doctor_claims(outcome.arms, module.CAUSES),
      ]
    )
    result = report.as_dict(
      name,
      module.SOURCE,
      outcome,
      dataset=source.name,
      seed=seed,
      fast=fast,
      secs=round(time.monotonic() - began, 1),
      tensorflow=tf.__version__,
      python=platform.python_version(),
    )
    print(report.table(result))
    for line in outcome.notes:
      print(line)
    for claim in outcome.claims:
      print(claim)
    print(
      '%s: %s\n'
      % (name, 'all claims hold' if outcome.holds else 'NOT all claims hold'),
      flush=True,
    )
    if out_dir:
      path = os.path.join(out_dir, name)
      picture.draw(path + '.png', demos.title(name), outcome)
      files.write(path + '.json', report.to_json(result))
    if not outcome.holds:
      failed.append(name)
  if failed:
    print('claims failed in %s' % ', '.join(failed))
  return not failed
