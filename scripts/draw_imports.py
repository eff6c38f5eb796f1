"""Draws docs/house.svg: which room of the package imports which.

  python scripts/draw_imports.py

A room stands above all that it imports. An arrow is left out where others lead
there in several steps. errors, files and interrupts, which anybody may import,
are no rooms.
"""

import ast
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'graph_resnet9'
PICTURE = ROOT / 'docs' / 'house.svg'
COMMANDS = 'commands'
_EVERYBODYS = {'errors', 'files', 'interrupts', '__init__'}
_WIDTH, _HEIGHT = 132, 30  # Of a box, in pixels.
_COLUMN, _ROW = 156, 74


def room_of(module: tuple[str, ...]) -> str | None:
  """The room of a module, given as the parts of its name in the package."""
  if len(module) == 1:
    return None if module[0] in _EVERYBODYS else COMMANDS
  return module[0]


def imports() -> dict[str, set[str]]:
  """{room: the other rooms that its modules import}."""
  rooms = {}
  for path in sorted(PACKAGE.rglob('*.py')):
    room = room_of(path.relative_to(PACKAGE).with_suffix('').parts)
    if room is None:
      continue
    imported = rooms.setdefault(room, set())
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.ImportFrom) and node.module:
        for alias in node.names:
          package, *name = ('%s.%s' % (node.module, alias.name)).split('.')
          # Of `from graph_resnet9 import files` the first is all there is.
          if package == PACKAGE.name and name[0] not in _EVERYBODYS:
            imported.add(name[0])
    imported.discard(room)
  return rooms


def reduced(rooms: dict[str, set[str]]) -> dict[str, set[str]]:
  """The same without what others lead to in several steps."""

  def below(room):
    return rooms[room].union(*map(below, rooms[room]))

  return {
    room: {
      one
      for one in targets
      if not any(one in below(other) for other in targets - {one})
    }
    for room, targets in rooms.items()
  }


def levels(rooms: dict[str, set[str]]) -> list[list[str]]:
  """The rooms in rows, each above all that it imports; the top one first."""
  level = {}

  def of(room):
    if room not in level:
      level[room] = 1 + max(map(of, rooms[room]), default=-1)
    return level[room]

  for room in rooms:
    of(room)
  rows = []
  for k in range(max(level.values()) + 1):
    # Above what they import, so that few arrows cross.
    place = {room: x for row in rows for x, room in enumerate(row)}
    mean = lambda room, place=place: sum(
      place[one] / len(rooms[room]) for one in rooms[room]
    )
    row = sorted(room for room in rooms if level[room] == k)
    rows.append(sorted(row, key=mean))
  return rows[::-1]


def svg() -> str:
  """The picture."""
  rooms = imports()
  rows, arrows = levels(rooms), reduced(rooms)
  columns = max(map(len, rows))
  width, height = columns * _COLUMN + 20, len(rows) * _ROW + 10
  middle = {}
  for y, row in enumerate(rows):
    # Every other row is moved a little, so that long arrows pass by boxes.
    left = (columns - len(row)) / 2 + (0.25 if y % 2 else -0.25)
    left = min(max(left, 0), columns - len(row))
    for x, room in enumerate(row):
      middle[room] = (
        round(10 + (left + x + 0.5) * _COLUMN),
        round(10 + y * _ROW + _HEIGHT / 2),
      )
  lines = [
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" '
    'font-family="sans-serif" font-size="13">' % (width, height),
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" '
    'markerWidth="8" markerHeight="8" orient="auto">'
    '<path d="M0 0 8 4 0 8z" fill="#678"/></marker></defs>',
    '<rect width="100%" height="100%" fill="#fff"/>',
  ]
  for room in sorted(arrows):
    for target in sorted(arrows[room]):
      (x, y), (to_x, to_y) = middle[room], middle[target]
      lines.append(
        '<path d="M%d %dL%d %d" stroke="#678" marker-end="url(#tip)"/>'
        % (x, y + _HEIGHT // 2, to_x, to_y - _HEIGHT // 2)
      )
  for room, (x, y) in sorted(middle.items()):
    lines += [
      '<rect x="%d" y="%d" width="%d" height="%d" rx="5" fill="#eef4fa" '
      'stroke="#678"/>' % (x - _WIDTH // 2, y - _HEIGHT // 2, _WIDTH, _HEIGHT),
      '<text x="%d" y="%d" text-anchor="middle">%s</text>' % (x, y + 5, room),
    ]
  return '\n'.join(lines + ['</svg>', ''])


if __name__ == '__main__':
  PICTURE.write_text(svg())
