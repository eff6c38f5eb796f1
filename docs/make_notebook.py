"""Makes docs/cases.ipynb: its cells, executed.

  pip install -e '.[docs]' && python docs/make_notebook.py

Takes a minute or two on two cores.
"""

import pathlib

PATH = pathlib.Path(__file__).with_name('cases.ipynb')

MARKDOWN, CODE = 'markdown', 'code'
CELLS = (
  (
    MARKDOWN,
    """# The cases, one by one

Each case trains a broken and a fixed TensorFlow 1 graph from the same seed and
data, and says in numbers what is wrong. [cases.md](cases.md) shows all of them
with their results over several seeds; here you run one of them, see why, and
change it.

Install with `pip install -e '.[docs]'` from a checkout, then `jupyter lab
docs/cases.ipynb` (`pip install jupyterlab`), or open it in any editor for
notebooks.""",
  ),
  (
    CODE,
    """import graph_resnet9  # First: it sets up TensorFlow's environment.
from IPython.display import Image, Markdown, display
import tensorflow as tf

from graph_resnet9.demos import cases, excerpts, picture, runner

tf.get_logger().setLevel('ERROR')
for name in cases.NAMES:
  print(cases.title(name))""",
  ),
  (
    MARKDOWN,
    """Choose one. `FAST` makes the trainings shorter; `SEEDS = [0, 1, 2]`
repeats them and gives ranges; `DATA_DIR` may name a folder with CIFAR-10 in
place of the embedded images.""",
  ),
  (
    CODE,
    """CASE = 'slow_decay'
FAST = True
SEEDS = [0]
DATA_DIR = ''""",
  ),
  (MARKDOWN, """## What goes wrong, and why"""),
  (
    CODE,
    """case = cases.load(CASE)
display(Markdown(case.__doc__.partition('\\n')[2]))
print('Source:', case.SOURCE)""",
  ),
  (MARKDOWN, """## The lines that differ"""),
  (
    CODE,
    """for lines in excerpts.of(case):
  print('BROKEN' if lines.broken else 'FIXED', lines.title, sep=': ')
  print(lines.code + '\\n')""",
  ),
  (
    MARKDOWN,
    """## Run it

The table has, for each arm, training and evaluation by the moving statistics
and by those of each batch; what lint and diagnose say; and the claims of the
case with their margins.""",
  ),
  (
    CODE,
    """result, outcomes = runner.run_case(
  CASE, case, runner.source_of(DATA_DIR), SEEDS, FAST
)
print('\\n'.join(runner.lines_of(result)))""",
  ),
  (
    CODE,
    """picture.draw('case.png', cases.title(CASE), outcomes[0])
Image('case.png')""",
  ),
  (
    MARKDOWN,
    """## Look closer

An arm keeps its curve and what each layer has stored. `variance_ratio` is the
stored variance over that of the data, the median of the channels; `mean_gap`
how many standard deviations the stored mean is off.""",
  ),
  (
    CODE,
    """for arm in outcomes[0].arms:
  print('broken' if arm.broken else 'fixed', arm.name, sep=': ')
  for layer in arm.layers:
    print('  %-40s variance ratio %8.3g  mean gap %.3f' % (
      layer.name, layer.variance_ratio, layer.mean_gap))""",
  ),
  (
    MARKDOWN,
    """## Change it

A case is one file of `graph_resnet9/demos/cases/`; an arm is a function that
builds a graph. Copy the file, change the lines that differ, and ask
`python -m graph_resnet9.lint` and `diagnose` about your own graph:
[doctor.md](doctor.md).""",
  ),
)


def notebook():
  """nbformat.NotebookNode of CELLS, not executed."""
  import nbformat

  made = nbformat.v4.new_notebook(
    cells=[
      (
        nbformat.v4.new_markdown_cell
        if kind == MARKDOWN
        else nbformat.v4.new_code_cell
      )(text, id='cell%d' % k)
      for k, (kind, text) in enumerate(CELLS)
    ]
  )
  made.metadata.kernelspec = dict(
    name='python3', display_name='Python 3', language='python'
  )
  return made


def main():
  import tempfile

  import nbclient
  import nbformat

  made = notebook()
  with tempfile.TemporaryDirectory() as folder:
    nbclient.NotebookClient(
      made, timeout=1800, resources={'metadata': {'path': folder}}
    ).execute()
  for cell in made.cells:
    # What TensorFlow says of itself on stderr, and times.
    if cell.cell_type == 'code':
      cell.outputs = [o for o in cell.outputs if o.get('name') != 'stderr']
      cell.metadata.pop('execution', None)
  nbformat.write(made, PATH)


if __name__ == '__main__':
  main()
