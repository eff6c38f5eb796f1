"""Runs every case and makes docs/cases.md of what they say and measured.

  python docs/make_cases.py [--data_dir=DIR] [--seeds=0-4] [--case=NAME]
  python docs/make_cases.py --page

Runs the cases on the embedded images with all seeds and, with a folder of
CIFAR-10, on these with seed 0; writes docs/cases/*.json and *.png and
docs/cases/cifar10/*.json, then the page. --page makes the page alone, of the
files that are there. A seed of all cases takes about ten minutes on two cores.
"""

import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile

from graph_resnet9.demos import gallery

FOLDER = pathlib.Path(__file__).with_name('cases')


def demo(*args):
  """Exit code of the command."""
  return subprocess.call([sys.executable, '-m', 'graph_resnet9.demo', *args])


def on_cifar10(case, data_dir):
  """Runs on the canonical images; keeps the figures, not the pictures."""
  folder = FOLDER / gallery.CIFAR10
  folder.mkdir(exist_ok=True)
  with tempfile.TemporaryDirectory() as out:
    code = demo('--case=' + case, '--data_dir=' + data_dir, '--out_dir=' + out)
    for path in pathlib.Path(out).glob('*.json'):
      shutil.copy(path, folder)
  return code


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--data_dir', help='folder with CIFAR-10')
  parser.add_argument('--seeds', default='0-4')
  parser.add_argument('--case', default='all')
  parser.add_argument('--page', action='store_true', help='the page alone')
  args = parser.parse_args()
  code = 0
  if not args.page:
    code = demo(
      '--case=' + args.case, '--seeds=' + args.seeds, '--out_dir=%s' % FOLDER
    )
    if args.data_dir:
      code = on_cifar10(args.case, args.data_dir) or code
  if not code:
    FOLDER.with_suffix('.md').write_text(gallery.page(FOLDER))
  return code


if __name__ == '__main__':
  sys.exit(main())
