"""Runs the sessions of docs/doctor.md and puts in what they print.

  python docs/make_doctor.py --data_dir=DATA --foreign=DIR [WORD ...]

A session is a block of the page that begins with `$ `. Its commands run one
after the other in a folder that is kept from block to block, and what each
prints on stdout comes below it, with lists cut short. DATA has
cifar-10-batches-bin; DIR has the published checkpoints and graphs, which are
not ours to ship (checkpoints.tar.xz, graphs.tar.xz). With words, only the
blocks that have one of them; a block that names a file which is not there is
left as it is, and named. Also makes docs/doctor/diagnose.png.
"""

import argparse
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tarfile
import tempfile

DOCS = pathlib.Path(__file__).resolve().parent
PAGE = DOCS / 'doctor.md'
PICTURE = DOCS / 'doctor' / 'diagnose.png'
_SESSION = re.compile(r'(?<=^```\n)(\$ .*?)(?=^```$)', re.M | re.S)
_COMMAND = re.compile(r'^\$ (.*(?:\\\n.*)*)$', re.M)
_LIST = re.compile(r'\["[^"\]]*", [^\]]*\]')
PUBLISHED = {'faceid': 'arthurdouillard+tensorflow-faceid__model__model.meta'}


def commands(session: str) -> list[str]:
  """The commands of a block, without what they printed."""
  return _COMMAND.findall(session)


def shortened(text: str) -> str:
  """Lists of several strings in JSON, cut after the first."""
  return _LIST.sub(lambda m: m.group().partition(',')[0] + ', ...]', text)


def run(command: str, folder: pathlib.Path) -> str:
  """What a command of the page prints; the doctor's may find something."""
  python = 'python() { %s "$@"; }; ' % shlex.quote(sys.executable)
  done = subprocess.run(
    ['bash', '-c', python + command],
    cwd=folder,
    capture_output=True,
    text=True,
    check=False,
    env={**os.environ, 'TF_USE_LEGACY_KERAS': '1'},
  )
  # What the doctor refuses it says in one line on stderr.
  refused = done.stderr if done.returncode == 2 else ''
  if done.returncode not in (0, 1, 2) or not (done.stdout or refused):
    sys.exit('%s: exit code %d: %s' % (command, done.returncode, done.stderr))
  return shortened(done.stdout + refused)


def missing(session: str, folder: pathlib.Path) -> str | None:
  """A folder that a block reads from, and that is not there."""
  made = re.findall(r'(?:train|--out=)\s*(\w+)/?', session)
  for name in ('cifar-10-batches-bin', *PUBLISHED):
    if re.search(r'\b%s\b' % name, session) and name not in made:
      if not (folder / name).exists():
        return name
  return None


def prepare(folder: pathlib.Path, data_dir: str, foreign: str) -> None:
  """Puts into a folder what the commands of the page name."""
  for name in ('docs', 'graph_resnet9', 'flags'):
    (folder / name).symlink_to(DOCS.parent / name)
  records = pathlib.Path(data_dir).resolve() / 'cifar-10-batches-bin'
  if data_dir and records.exists():
    (folder / records.name).symlink_to(records)
  for name, graph in PUBLISHED.items() if foreign else ():
    with tarfile.open(pathlib.Path(foreign) / 'checkpoints.tar.xz') as f:
      f.extractall(
        folder, [m for m in f.getmembers() if m.name.startswith(name + '/')]
      )
    with tarfile.open(pathlib.Path(foreign) / 'graphs.tar.xz') as f:
      (folder / name / 'model.meta').write_bytes(f.extractfile(graph).read())


def main():
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--data_dir', default='')
  parser.add_argument('--foreign', default='')
  parser.add_argument('words', nargs='*')
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as scratch:
    folder = pathlib.Path(scratch)
    prepare(folder, args.data_dir, args.foreign)

    def again(match):
      session = match.group()
      if args.words and not any(word in session for word in args.words):
        return session
      lacking = missing(session, folder)
      if lacking:
        print('left as it is, without %s: %s' % (lacking, commands(session)[0]))
        return session
      text = ''
      for command in commands(session):
        print(command, flush=True)
        text += '$ %s\n%s' % (command, run(command, folder))
      return text

    PAGE.write_text(_SESSION.sub(again, PAGE.read_text()))
    if (folder / 'layers.png').exists():
      PICTURE.write_bytes((folder / 'layers.png').read_bytes())


if __name__ == '__main__':
  main()
