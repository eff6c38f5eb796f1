"""The lines that differ between broken and fixed, from a case's own files.

A case marks them where they stand:

  # [broken: no control dependency]
  return optimizer.minimize(loss)
  # [end]
"""

import pathlib
import re
import textwrap
from typing import NamedTuple

_REGION = re.compile(
  r'^ *# \[(broken|fixed): ([^\n]+)\]\n(.*?)^ *# \[end\]$', re.M | re.S
)


class Excerpt(NamedTuple):
  """broken: bool. title: str. code: str, dedented."""

  broken: bool
  title: str
  code: str


def of(module):
  """List of Excerpt: the marked lines of a case and of its COMPANIONS."""
  text = '\n'.join(
    pathlib.Path(one.__file__).read_text()
    for one in (module, *getattr(module, 'COMPANIONS', ()))
  )
  return [
    Excerpt(state == 'broken', title, textwrap.dedent(code).strip('\n'))
    for state, title, code in _REGION.findall(text)
  ]
