"""Changes the code at random and counts which changes the tests notice.

  python -m tests.tools.mutants --count=300 --seed=1 --out=mutants.jsonl

Each mutant is one small change at a place drawn at random in graph_resnet9/
model, inputs, training and doctor: modules take turns in random order, then an
operator is drawn by the root of the number of its places, then a place.
Docstrings, strings, messages of errors and of the log are left alone. The
mutant lies in a copy of the tree; the tests of its module run there, then those
of its folder, then those of WIDER, each file in a forked child, until one
fails. Survivors are printed as differences; the same seed draws the same
mutants of a tree, and a second call with the same --out goes on where the first
one ended. --jobs tries so many at a time.
"""

import argparse
import ast
import collections
import difflib
import functools
import json
import multiprocessing
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = ('model', 'inputs', 'training', 'doctor')
# Tests that meet the code of a folder from further away.
WIDER = {
  'model': ('training/fast10_test.py', 'training/loop_test.py'),
  'inputs': ('training/loop_test.py', 'evaluation/evaluate_test.py'),
  'training': (
    'evaluation/evaluate_test.py',
    'checkpoints',
    'cluster/tasks_test.py',
  ),
  'doctor': (),
}
SECS = 600  # A test file that takes longer counts as one that failed.

_COMPARE = {
  ast.Lt: ast.LtE,
  ast.LtE: ast.Lt,
  ast.Gt: ast.GtE,
  ast.GtE: ast.Gt,
  ast.Eq: ast.NotEq,
  ast.NotEq: ast.Eq,
  ast.Is: ast.IsNot,
  ast.IsNot: ast.Is,
  ast.In: ast.NotIn,
  ast.NotIn: ast.In,
}
_ARITHMETIC = {
  ast.Add: ast.Sub,
  ast.Sub: ast.Add,
  ast.Mult: ast.Div,
  ast.Div: ast.Mult,
  ast.FloorDiv: ast.Mult,
  ast.Mod: ast.Mult,
  ast.Pow: ast.Mult,
  ast.BitAnd: ast.BitOr,
  ast.BitOr: ast.BitAnd,
}


def _compare(node):
  if isinstance(node, ast.Compare):
    yield lambda n: n.ops.__setitem__(0, _COMPARE[type(n.ops[0])]())


def _arithmetic(node):
  if isinstance(node, (ast.BinOp, ast.AugAssign)) and not isinstance(
    getattr(node, 'left', None), (ast.Constant, ast.JoinedStr)
  ):
    if type(node.op) in _ARITHMETIC:
      yield lambda n: setattr(n, 'op', _ARITHMETIC[type(n.op)]())


def _logic(node):
  if isinstance(node, ast.BoolOp):
    other = ast.Or if isinstance(node.op, ast.And) else ast.And
    yield lambda n: setattr(n, 'op', other())


def _condition(node):
  if isinstance(node, (ast.If, ast.While, ast.IfExp)):
    yield lambda n: setattr(n, 'test', ast.UnaryOp(ast.Not(), n.test))


def _constant(node):
  if isinstance(node, ast.Constant):
    if isinstance(node.value, bool):
      yield lambda n: setattr(n, 'value', not n.value)
    elif isinstance(node.value, (int, float)):
      yield lambda n: setattr(n, 'value', n.value + 1)


def _return(node):
  if isinstance(node, ast.Return) and node.value is not None:
    if not (isinstance(node.value, ast.Constant) and node.value.value is None):
      yield lambda n: setattr(n, 'value', ast.Constant(None))


def _delete(node):
  """An assignment to a part of something, or a call, is left out."""
  for field in ('body', 'orelse', 'finalbody'):
    parts = getattr(node, field, None)
    for at, part in enumerate(parts if isinstance(parts, list) else ()):
      if isinstance(part, ast.AugAssign) or (
        isinstance(part, ast.Expr) and isinstance(part.value, ast.Call)
      ):
        yield lambda n, field=field, at=at: getattr(n, field).__setitem__(
          at, ast.Pass()
        )


def _keyword(node):
  if isinstance(node, ast.Call):
    for at, keyword in enumerate(node.keywords):
      if keyword.arg:
        yield lambda n, at=at: n.keywords.pop(at)


OPERATORS = {
  'compare': _compare,
  'arithmetic': _arithmetic,
  'and/or': _logic,
  'not': _condition,
  'constant': _constant,
  'return None': _return,
  'delete': _delete,
  'keyword': _keyword,
}


def _silent(node):
  """Whether what stands in a node is no business of a test."""
  if isinstance(node, (ast.Raise, ast.Import, ast.ImportFrom)):
    return True
  if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
    return True  # A docstring.
  call = node.func if isinstance(node, ast.Call) else None
  if isinstance(call, ast.Attribute) and isinstance(call.value, ast.Name):
    return call.value.id == 'logging'
  return isinstance(node, ast.arg) or isinstance(node, ast.AnnAssign)


def _nodes(tree):
  """(path, node) of all nodes that may change; a path leads from the root."""
  waiting = [((), tree)]
  while waiting:
    path, node = waiting.pop()
    if _silent(node):
      continue
    yield path, node
    for field, value in ast.iter_fields(node):
      if field in ('annotation', 'returns', 'decorator_list'):
        continue
      if isinstance(value, list):
        waiting += [
          ((*path, (field, at)), part)
          for at, part in enumerate(value)
          if isinstance(part, ast.AST)
        ]
      elif isinstance(value, ast.AST):
        waiting.append(((*path, (field, None)), value))


def places(text):
  """{operator: [(path of the node, number of the change there)]}, in order."""
  found = collections.defaultdict(list)
  for path, node in _nodes(ast.parse(text)):
    for name, changes in OPERATORS.items():
      found[name] += [(path, at) for at, _ in enumerate(changes(node))]
  return {name: sorted(sites, key=str) for name, sites in found.items()}


def mutated(text, operator, place):
  """The text of a module with one change."""
  tree = ast.parse(text)
  node = tree
  path, number = place
  for field, at in path:
    node = getattr(node, field)
    node = node if at is None else node[at]
  list(OPERATORS[operator](node))[number](node)
  return ast.unparse(ast.fix_missing_locations(tree)) + '\n'


def draw(count, seed):
  """[(module, operator, place)], `count` of them."""
  numbers = random.Random(seed)
  modules = sorted(
    str(path.relative_to(ROOT))
    for folder in FOLDERS
    for path in (ROOT / 'graph_resnet9' / folder).rglob('*.py')
    if path.name != '__init__.py'
  )
  numbers.shuffle(modules)
  left = {name: places((ROOT / name).read_text()) for name in modules}
  drawn = []
  while len(drawn) < count and any(left.values()):
    for name in modules:
      sites = {key: value for key, value in left[name].items() if value}
      left[name] = sites
      if not sites or len(drawn) == count:
        continue
      operator = numbers.choices(
        list(sites), [len(value) ** 0.5 for value in sites.values()]
      )[0]
      place = sites[operator].pop(numbers.randrange(len(sites[operator])))
      drawn.append((name, operator, place))
  return drawn


def tests_of(module):
  """Test files and folders, nearest first: each a stage of its own."""
  parts = pathlib.Path(module).with_suffix('').parts[1:]
  own = pathlib.Path('tests', *parts[:-1], parts[-1] + '_test.py')
  folder = pathlib.Path('tests', parts[0])
  stages = [
    own,
    pathlib.Path('tests', *parts[:-1]) if len(parts) > 2 else own,
    *sorted(
      path.relative_to(ROOT) for path in (ROOT / folder).glob('*_test.py')
    ),
    *(pathlib.Path('tests', name) for name in WIDER[parts[0]]),
  ]
  kept = []
  for stage in stages:
    if (ROOT / stage).exists() and str(stage) not in kept:
      kept.append(str(stage))
  return kept


def _fails(copy_of_tree, stage):
  """Whether a test file fails in a copy of the tree; in a child."""
  pid = os.fork()
  if not pid:
    os.setsid()
    os.chdir(copy_of_tree)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
      os.dup2(null, stream)
    # Of the copy, not of the tree that this program was loaded from.
    sys.path[:] = [str(copy_of_tree)] + [
      path for path in sys.path if path and pathlib.Path(path) != ROOT
    ]
    for name in [name for name in sys.modules if name.startswith('tests')]:
      del sys.modules[name]
    os.environ['PYTHONPATH'] = str(copy_of_tree)
    import pytest

    code = pytest.main(['-x', '-q', '-p', 'no:cacheprovider', stage])
    os._exit(code not in (0, 5))
  end = time.monotonic() + SECS
  while time.monotonic() < end:
    ended, status = os.waitpid(pid, os.WNOHANG)
    if ended:
      return bool(status)
    time.sleep(0.1)
  os.killpg(pid, signal.SIGKILL)
  os.waitpid(pid, 0)
  return True


def _rows(out):
  return (
    [json.loads(line) for line in out.open(encoding='utf-8')]
    if out.exists()
    else []
  )


def _work(drawn, out, share, jobs):
  """Tries each `jobs`-th mutant that `out` lacks, in a copy of the tree."""
  done = {row['number'] for row in _rows(out)}
  sound = set()  # What passes as long as nothing is changed.
  scratch = pathlib.Path(tempfile.mkdtemp(prefix='mutants'))
  tree = scratch / 'tree'
  shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns('.git'))
  try:
    for number, (module, operator, place) in enumerate(drawn):
      if number % jobs != share or number in done:
        continue
      text = (ROOT / module).read_text()
      changed = mutated(text, operator, place)
      (tree / module).write_text(changed)
      by = next(filter(functools.partial(_fails, tree), tests_of(module)), '')
      (tree / module).write_text(text)
      if by and by not in sound:
        if _fails(tree, by):
          sys.exit('%s: fails without a change, too' % by)
        sound.add(by)
      difference = '\n'.join(
        line
        for line in difflib.unified_diff(
          ast.unparse(ast.parse(text)).splitlines(),
          changed.splitlines(),
          n=1,
          lineterm='',
        )
      )
      row = dict(
        number=number,
        module=module,
        operator=operator,
        killed_by=by,
        difference=difference,
      )
      with out.open('a', encoding='utf-8') as f:
        f.write(json.dumps(row) + '\n')
      if not by:
        print('%d survives: %s\n%s' % (number, module, difference), flush=True)
  finally:
    shutil.rmtree(scratch, ignore_errors=True)


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--count', type=int, default=300)
  parser.add_argument('--seed', type=int, default=1)
  parser.add_argument('--out', default='mutants.jsonl')
  parser.add_argument('--jobs', type=int, default=1)
  given = parser.parse_args()
  out = pathlib.Path(given.out)
  # Loaded once, for all children; the package itself must not be.
  os.environ.update(
    TF_USE_LEGACY_KERAS='1', TF_ENABLE_ONEDNN_OPTS='1', TF_CPP_MIN_LOG_LEVEL='3'
  )
  import tensorflow.compat.v1 as tf

  tf.layers.batch_normalization  # Loads tf-keras, too.
  assert 'graph_resnet9' not in sys.modules
  drawn = draw(given.count, given.seed)
  children = [
    multiprocessing.get_context('fork').Process(
      target=_work, args=(drawn, out, share, given.jobs)
    )
    for share in range(given.jobs)
  ]
  for child in children:
    child.start()
  for child in children:
    child.join()
  if any(child.exitcode for child in children):
    sys.exit(1)
  done = _rows(out)
  for folder in FOLDERS:
    rows = [row for row in done if row['module'].split('/')[1] == folder]
    killed = sum(bool(row['killed_by']) for row in rows)
    print('%s: %d of %d killed' % (folder, killed, len(rows)))
  killed = sum(bool(row['killed_by']) for row in done)
  print('all: %d of %d killed' % (killed, len(done)))


if __name__ == '__main__':
  main()
