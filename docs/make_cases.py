"""Runs every case and makes docs/cases.md of what they say and measured.

  python docs/make_cases.py

Takes about a quarter of an hour on two cores. Writes docs/cases/*.json and
*.png, then the page.
"""

import pathlib
import subprocess
import sys

from graph_resnet9.demos import gallery

FOLDER = pathlib.Path(__file__).with_name('cases')


def main():
  code = subprocess.call(
    [
      sys.executable,
      '-m',
      'graph_resnet9.demo',
      '--case=all',
      '--out_dir=%s' % FOLDER,
    ]
  )
  if not code:
    FOLDER.with_suffix('.md').write_text(gallery.page(FOLDER))
  return code


if __name__ == '__main__':
  sys.exit(main())
