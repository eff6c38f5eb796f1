"""What diagnose and recalibrate run: a checkpoint, held, and its graph."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import os
from typing import Any
from typing import NamedTuple

from graph_resnet9.checkpoints import held
from graph_resnet9.doctor.graph import paths
from graph_resnet9.doctor.measure import sessions


class Opened(NamedTuple):
  """A checkpoint whose files stay, and the graph that trained it.

  source: prefix of the checkpoint, for messages; its files may be gone.
  prefix: to read it by.
  runnable: makes a sessions.Runnable, anew at each call.
  settings: train_flags.Train of a run of graph_resnet9.train, or None.
  data: dataset.Data of that run, or None.
  """

  source: str
  prefix: str
  runnable: Callable[[], sessions.Runnable]
  settings: Any
  data: Any


@contextlib.contextmanager
def opened(
  chosen: paths.Files, feed: str = '', data_dir: str = ''
) -> Iterator[Opened]:
  """Opens what a command names, with the graph that belongs to it.

  That is a file with a graph; or where flags.txt lies beside the checkpoint,
  and neither a graph nor a feed is asked for, the training step of that run,
  built again.

  Args:
    chosen: of paths.of_session.
    feed: as of sessions.of_meta_graph.
    data_dir: as of rebuilt.settings_of.
  Yields:
    Opened.
  Raises:
    UserError: names what cannot be used.
  """
  source = chosen.checkpoint
  assert source is not None  # Of paths.of_session.
  flags_file = os.path.join(os.path.dirname(source), 'flags.txt')
  settings = None
  if not (chosen.asked or feed) and os.path.lexists(flags_file):
    # Only here: anybody's graph also runs where TensorFlow 1.15 does, and a
    # training of ours does not.
    # pylint: disable=g-import-not-at-top
    from graph_resnet9.inputs import dataset
    from graph_resnet9.training import rebuilt

    settings = rebuilt.settings_of(source, data_dir)
  with contextlib.ExitStack() as stack:
    checkpoint = stack.enter_context(held.held(source, check=False))
    prefix = checkpoint.files
    if settings is None:
      graph = chosen.graph or prefix + '.meta'
      yield Opened(
        source, prefix, lambda: sessions.of_meta_graph(graph, feed), None, None
      )
      return
    data = stack.enter_context(dataset.opened(**settings.data))
    workers = 1
    if settings.cluster.sync:
      workers = sessions.replicas(prefix + '.meta')
    yield Opened(
      source,
      prefix,
      lambda: sessions.of_graph(*rebuilt.graph(settings, data, workers)),
      settings,
      data,
    )
