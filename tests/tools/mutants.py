"""Changes the code at random and counts which changes the tests notice.

  python -m tests.tools.mutants --count=300 --seed=1 --out=mutants.jsonl

Each mutant is one small change at a place drawn at random in graph_resnet9/
model, inputs, training and doctor: modules take turns in random order, then an
operator is drawn by the root of the number of its places, then a place.
Docstrings, strings, messages of errors and of the log are left alone. The
mutant lies in a copy of the tree; the test files of its folder and those of
WIDER run there, each in a forked child, until one fails: first those that have
killed most of the mutants of that folder in the least time. Each mutant gets
FIRST seconds, then those that still live go through all that is left. The same
seed draws the same mutants of a tree, and a second call with the same --out
goes on where the first one ended. --jobs tries so many at a time.
"""

import argparse
import ast
import collections
import difflib
import itertools
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
FIRST = 60
SECS = 600  # A test file that takes longer counts as one that fails.

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
  """The test files and folders that may notice a change of a module."""
  folder = pathlib.Path(module).parts[1]
  files = sorted((ROOT / 'tests' / folder).rglob('*_test.py'))
  return [
    *(str(path.relative_to(ROOT)) for path in files),
    *('tests/' + name for name in WIDER[folder]),
  ]


def _by_yield(module, stages, rows):
  """Test files, those first that killed most in a second, by what is known."""
  kills = collections.Counter({stage: 0.5 for stage in stages})
  secs = collections.Counter({stage: 5.0 for stage in stages})
  name = pathlib.Path(module).stem + '_test.py'
  kills.update({stage: 1 for stage in stages if stage.endswith('/' + name)})
  for row in rows.values():
    if os.path.dirname(row['module']) == os.path.dirname(module):
      kills[row['killed_by']] += 1
      secs.update(row['secs'])
  return sorted(stages, key=lambda stage: -kills[stage] / secs[stage])


def _fails(copy_of_tree, stage, limit=SECS):
  """Whether a test file fails in a copy of the tree; in a child.

  limit: seconds, after which it counts as one that failed.
  """
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
  end = time.monotonic() + limit
  while time.monotonic() < end:
    ended, status = os.waitpid(pid, os.WNOHANG)
    if ended:
      return bool(status)
    time.sleep(0.1)
  os.killpg(pid, signal.SIGKILL)
  os.waitpid(pid, 0)
  return True


def _rows(out):
  """{number: row}, of each mutant the last one."""
  lines = out.read_text(encoding='utf-8').splitlines() if out.exists() else []
  return {row['number']: row for row in map(json.loads, lines)}


def _limit(stage, rows):
  """Five times what a test file has taken where it found nothing."""
  passed = [
    row['secs'][stage]
    for row in rows.values()
    if stage in row['secs'] and row['killed_by'] != stage
  ]
  return 30 + 5 * max(passed) if passed else SECS


def _difference(text, changed):
  return '\n'.join(
    difflib.unified_diff(
      ast.unparse(ast.parse(text)).splitlines(),
      changed.splitlines(),
      n=1,
      lineterm='',
    )
  )


def _work(drawn, out, share, jobs):
  """Tries each `jobs`-th mutant, in a copy of the tree."""
  sound = set()  # What passes as long as nothing is changed.
  scratch = pathlib.Path(tempfile.mkdtemp(prefix='mutants'))
  tree = scratch / 'tree'
  shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns('.git'))
  try:
    for limit, number in itertools.product(
      (FIRST, float('inf')), range(share, len(drawn), jobs)
    ):
      module, operator, place = drawn[number]
      rows = _rows(out)
      row = rows.get(number) or dict(
        number=number, module=module, operator=operator, killed_by='', secs={}
      )
      left = [stage for stage in tests_of(module) if stage not in row['secs']]
      if row['killed_by'] or not left or sum(row['secs'].values()) >= limit:
        continue
      text = (ROOT / module).read_text()
      changed = mutated(text, operator, place)
      (tree / module).write_text(changed)
      for stage in _by_yield(module, left, rows):
        begin = time.monotonic()
        if _fails(tree, stage, _limit(stage, rows)):
          row['killed_by'] = stage
        row['secs'][stage] = round(time.monotonic() - begin, 1)
        if row['killed_by'] or sum(row['secs'].values()) >= limit:
          break
      (tree / module).write_text(text)
      by = row['killed_by']
      if by and by not in sound:
        if _fails(tree, by):
          sys.exit('%s: fails without a change, too' % by)
        sound.add(by)
      row['difference'] = _difference(text, changed)
      with out.open('a', encoding='utf-8') as f:
        f.write(json.dumps(row) + '\n')
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
  rows = _rows(out).values()
  for row in rows:
    if not row['killed_by']:
      print('%(number)d survives: %(module)s\n%(difference)s' % row)
  for folder in FOLDERS:
    own = [row for row in rows if row['module'].split('/')[1] == folder]
    killed = sum(bool(row['killed_by']) for row in own)
    print('%s: %d of %d killed' % (folder, killed, len(own)))
  killed = sum(bool(row['killed_by']) for row in rows)
  print('all: %d of %d killed' % (killed, len(rows)))


if __name__ == '__main__':
  main()
