"""Runs cases: prints their tables, writes their files."""

import os
import pathlib
import platform
import re
import sys
import time

import tensorflow.compat.v1 as tf

from graph_resnet9 import files
from graph_resnet9.demos import cases
from graph_resnet9.demos import lab
from graph_resnet9.demos import picture
from graph_resnet9.demos import report
from graph_resnet9.demos import tables
from graph_resnet9.inputs import dataset


def run(names, out_dir, seeds, data_dir, fast):
  """Runs cases one after the other.

  Args:
    names: list of names of cases.NAMES.
    out_dir: directory for CASE.json and CASE.png, or ''.
    seeds: list of int.
    data_dir: folder with CIFAR-10, or '' for the synthetic images.
    fast: Python bool; shorter trainings.
  Returns:
    bool, whether all claims hold.
  Raises:
    UserError: no such case, bad data, or an out_dir that cannot be written.
  """
  modules = {name: cases.load(name) for name in names}
  if out_dir:
    files.make_dir('--out_dir', out_dir)
  source = source_of(data_dir)
  failed = []
  for name, module in modules.items():
    print(cases.title(name), flush=True)
    result, outcomes = run_case(name, module, source, seeds, fast)
    print('\n'.join(lines_of(result)) + '\n', flush=True)
    if out_dir:
      path = os.path.join(out_dir, name)
      picture.draw(path + '.png', cases.title(name), outcomes[0])
      files.write(path + '.json', report.to_json(result))
    if not result['claim_holds']:
      failed.append(name)
  if failed:
    print('claims failed in %s' % ', '.join(failed))
  return not failed


def source_of(data_dir):
  """dataset.Source: CIFAR-10 of a folder, or '' for the synthetic images."""
  return dataset.find('cifar10' if data_dir else 'synthetic', data_dir)


def run_case(name, module, source, seeds, fast):
  """Runs a case with each seed.

  Args:
    name: str. module: of the case.
    source: dataset.Source.
    seeds: list of int.
    fast: bool.
  Returns:
    (result as of report.together, list of report.Outcome).
  """
  outcomes = []
  began = time.monotonic()
  for seed in seeds:
    print('%s, seed %d' % (name, seed), file=sys.stderr, flush=True)
    outcome = module.run(lab.Trainer(seed, source, fast))
    outcomes.append(
      outcome._replace(
        claims=[
          *outcome.claims,
          *report.doctor_claims(outcome.arms, module.CAUSES),
        ]
      )
    )
  result = report.together(
    name,
    module.SOURCE,
    outcomes[0].columns,
    [report.as_dict(o, seed) for o, seed in zip(outcomes, seeds)],
    dataset=source.name,
    fast=fast,
    secs=round(time.monotonic() - began, 1),
    machine=machine(),
    tensorflow=tf.__version__,
    python=platform.python_version(),
  )
  return result, outcomes


def lines_of(result):
  """What is printed of a result: table, source, notes, claims."""
  beside = tables.beside(result)
  return [
    *tables.terminal(result),
    *(tables.lined_up(beside) if beside else []),
    *result['notes'],
    *tables.claims(result),
    '%s: %s'
    % (
      result['case'],
      'all claims hold' if result['claim_holds'] else 'NOT all claims hold',
    ),
  ]


def machine():
  """The processor, in words: '2 cores of Intel(R) Xeon(R) ...'."""
  about = pathlib.Path('/proc/cpuinfo')
  names = (
    re.findall(r'^model name\s*: (.+)$', about.read_text(), re.M)
    if about.exists()
    else []
  )
  return '%d cores of %s' % (
    os.cpu_count(),
    names[0] if names else platform.processor() or platform.machine(),
  )
