"""Changes the code at random and counts which changes the tests notice.

  python -m tests.tools.mutants --count=300 --seed=1 --out=mutants.jsonl

Each mutant is one small change at a place drawn at random in graph_resnet9/
model, inputs, training and doctor: modules take turns in random order, then an
operator is drawn by the root of the number of its places, then a place.
Docstrings, strings, messages of errors and of the log are left alone. The
mutant lies in a copy of the tree, and tests run there in a forked child until
one fails: those that pass through the lines of the change, as coverage.py has
seen it before, the quickest first and for FIRST seconds at most. What lives on
meets the whole files of all of them afterwards, and those that start commands,
which coverage does not follow. The same seed draws the same mutants of a tree,
and a second call with the same --out goes on where the first one ended; beside
it lies what coverage has seen. --jobs tries so many at a time.
"""

import argparse
import ast
import collections
import contextlib
import difflib
import functools
import itertools
import json
import multiprocessing
import os
import pathlib
import random
import re
import shutil
import signal
import sys
import tempfile
import time

import coverage
import pytest

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
FIRST = 60  # Seconds of tests that every mutant meets.
SECS = 1800  # Tests that take longer count as some that fail.

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


def _along(tree, path):
  """The nodes from the root to that of a place."""
  yield tree
  for field, at in path:
    tree = getattr(tree, field)
    tree = tree if at is None else tree[at]
    yield tree


def mutated(text, operator, place):
  """The text of a module with one change."""
  tree = ast.parse(text)
  path, number = place
  *_, node = _along(tree, path)
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


def lines_of(text, path):
  """The lines of the statement, without its body, that a place lies in.

  None of a statement that runs at import: no test is seen to pass there.
  """
  statements = [
    node for node in _along(ast.parse(text), path) if isinstance(node, ast.stmt)
  ]
  *around, node = statements
  if not any(isinstance(one, ast.FunctionDef) for one in around):
    return set()
  inner = [part.lineno for part in getattr(node, 'body', ())]
  return set(range(node.lineno, min([node.end_lineno + 1, *inner])))


def test_files():
  """Of all tests that may notice a mutant."""
  names = sum((WIDER[folder] for folder in FOLDERS), FOLDERS)
  paths = [ROOT / 'tests' / name for name in names]
  files = [
    file
    for path in paths
    for file in ([path] if path.suffix else path.rglob('*_test.py'))
  ]
  return sorted({str(file.relative_to(ROOT)) for file in files})


def _starts_commands(file):
  text = (ROOT / file).read_text(encoding='utf-8')
  return re.search(r'\bcommand\(|fresh_command|CommandTestCase|_harness', text)


def _in_child(tree, function, limit):
  """The exit code of a child that calls it in a copy of the tree; 1: too late.

  The package must not have been loaded before.
  """
  pid = os.fork()
  if not pid:
    os.setsid()
    os.chdir(tree)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
      os.dup2(null, stream)
    # Of the copy, not of the tree that this program was loaded from.
    sys.path[:] = [str(tree)] + [
      path for path in sys.path if path and pathlib.Path(path) != ROOT
    ]
    for name in [name for name in sys.modules if name.startswith('tests')]:
      del sys.modules[name]
    os.environ['PYTHONPATH'] = str(tree)
    code = 1
    try:
      code = function()
    finally:
      os._exit(code)
  end = time.monotonic() + limit
  while time.monotonic() < end:
    ended, status = os.waitpid(pid, os.WNOHANG)
    if ended:
      return os.waitstatus_to_exitcode(status)
    time.sleep(0.05)
  os.killpg(pid, signal.SIGKILL)
  os.waitpid(pid, 0)
  return 1


class _Seen:
  """A plugin of pytest: what each test takes and passes through."""

  def __init__(self, collector):
    self.collector, self.secs = collector, {}

  @pytest.hookimpl(hookwrapper=True)
  def pytest_runtest_protocol(self, item):
    self.collector.switch_context(item.nodeid)
    begin = time.monotonic()
    yield
    self.secs[item.nodeid] = round(time.monotonic() - begin, 2)


def _cover(tree, file, out):
  """Writes {test: [seconds, {module: lines}]} of a test file that passes."""
  collector = coverage.Coverage(
    data_file=None, source=[str(tree / 'graph_resnet9')]
  )
  collector.start()
  seen = _Seen(collector)
  code = pytest.main(['-q', '-p', 'no:cacheprovider', file], [seen])
  collector.stop()
  if code:
    return 1
  found = {test: [secs, {}] for test, secs in seen.secs.items()}
  data = collector.get_data()
  for path in data.measured_files():
    module = str(pathlib.Path(path).relative_to(tree))
    for line, tests in data.contexts_by_lineno(path).items():
      for test in tests:
        if test in found:
          found[test][1].setdefault(module, []).append(line)
  out.write_text(json.dumps(found))
  return 0


class _Tree:
  """A copy of the tree, in which a module is changed for a while."""

  def __init__(self, scratch):
    self.path = pathlib.Path(tempfile.mkdtemp(dir=scratch)) / 'tree'
    shutil.copytree(
      ROOT, self.path, ignore=shutil.ignore_patterns('.git', '__pycache__')
    )

  def fails(self, tests, limit):
    """Whether one of the tests does, or all take longer."""
    arguments = ['-x', '-q', '-p', 'no:cacheprovider', *tests]
    return bool(
      _in_child(self.path, lambda: int(pytest.main(arguments)), limit)
    )

  @contextlib.contextmanager
  def changed(self, module, text):
    before = (self.path / module).read_text()
    (self.path / module).write_text(text)
    yield
    (self.path / module).write_text(before)


def _covered(scratch, folder, share, jobs):
  tree = _Tree(scratch)
  files = list(itertools.filterfalse(_starts_commands, test_files()))
  for file in files[share::jobs]:
    out = folder / (file.replace('/', '.') + '.json')
    if not out.exists():
      call = functools.partial(_cover, tree.path, file, out)
      if _in_child(tree.path, call, 2 * SECS):
        sys.exit('%s: fails without a change, too' % file)


def _rows(out):
  """{number: row}, of each mutant the last one."""
  lines = out.read_text(encoding='utf-8').splitlines() if out.exists() else []
  return {row['number']: row for row in map(json.loads, lines)}


def _difference(text, changed):
  return '\n'.join(
    difflib.unified_diff(
      ast.unparse(ast.parse(text)).splitlines(),
      changed.splitlines(),
      n=1,
      lineterm='',
    )
  )


def _try_all(scratch, folder, drawn, out, share, jobs):
  """Tries each `jobs`-th mutant on the quickest tests, then on all others."""
  tests = {}  # {test: (seconds, {module: lines})}
  for file in folder.iterdir():
    tests.update(json.loads(file.read_text()))
  tree = _Tree(scratch)
  commands = list(filter(_starts_commands, test_files()))
  rows = _rows(out)  # Other jobs write of other mutants.
  for last, number in itertools.product(
    (False, True), range(share, len(drawn), jobs)
  ):
    module, operator, place = drawn[number]
    row = rows.get(number)
    if row and (row['killed'] or row['last'] or not last):
      continue
    text = (ROOT / module).read_text()
    changed = mutated(text, operator, place)
    lines = lines_of(text, place[0])
    through = {t: p for t, p in tests.items() if module in p[1]}
    through = {
      test: secs
      for test, (secs, passed) in through.items()
      if lines & set(passed[module])
    } or {test: secs for test, (secs, _) in through.items()}
    order = sorted(through, key=through.get)
    if last:
      # Whole files: what one test runs, others look at.
      own = 'tests/%s/' % module.split('/')[1]
      chosen = [*dict.fromkeys(test.partition('::')[0] for test in order)]
      chosen += [file for file in commands if file.startswith(own)]
      limit = SECS
    else:
      sums = itertools.accumulate(through[test] for test in order)
      chosen = [test for test, secs in zip(order, sums) if secs <= FIRST]
      limit = 30 + 5 * sum(map(through.get, chosen))
    killed = False
    if chosen:
      with tree.changed(module, changed):
        killed = tree.fails(chosen, limit)
    row = rows[number] = dict(
      number=number,
      module=module,
      operator=operator,
      killed=killed,
      last=last,
      tests=len(chosen),
      difference=_difference(text, changed),
    )
    with out.open('a', encoding='utf-8') as f:
      f.write(json.dumps(row) + '\n')


def _side_by_side(jobs, function, *args):
  """Calls function(*args, share, jobs) in a process for each share."""
  children = [
    multiprocessing.get_context('fork').Process(
      target=function, args=(*args, share, jobs)
    )
    for share in range(jobs)
  ]
  for child in children:
    child.start()
  for child in children:
    child.join()
  if any(child.exitcode for child in children):
    sys.exit(1)


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--count', type=int, default=300)
  parser.add_argument('--seed', type=int, default=1)
  parser.add_argument('--out', default='mutants.jsonl')
  parser.add_argument('--jobs', type=int, default=1)
  given = parser.parse_args()
  out = pathlib.Path(given.out).resolve()
  folder = out.with_suffix('.coverage')
  folder.mkdir(exist_ok=True)
  # Loaded once, for all children; the package itself must not be.
  os.environ.update(
    TF_USE_LEGACY_KERAS='1', TF_ENABLE_ONEDNN_OPTS='1', TF_CPP_MIN_LOG_LEVEL='3'
  )
  import tensorflow.compat.v1 as tf

  tf.layers.batch_normalization  # Loads tf-keras, too.
  assert 'graph_resnet9' not in sys.modules
  drawn = draw(given.count, given.seed)
  with tempfile.TemporaryDirectory(prefix='mutants') as scratch:
    _side_by_side(given.jobs, _covered, scratch, folder)
    _side_by_side(given.jobs, _try_all, scratch, folder, drawn, out)
  rows = _rows(out).values()
  for row in rows:
    if not row['killed']:
      print('%(number)d survives: %(module)s\n%(difference)s' % row)
  for name in FOLDERS:
    own = [row for row in rows if row['module'].split('/')[1] == name]
    killed = sum(row['killed'] for row in own)
    print('%s: %d of %d killed' % (name, killed, len(own)))
  killed = sum(row['killed'] for row in rows)
  print('all: %d of %d killed' % (killed, len(rows)))


if __name__ == '__main__':
  main()
