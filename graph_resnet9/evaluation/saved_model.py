"""A checkpoint as a SavedModel for others to serve, and one loaded again."""

from collections.abc import Callable
from collections.abc import Sequence
import contextlib
import glob
import os
import tempfile
from typing import Any
from typing import NamedTuple

from google.protobuf import message
import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.core.protobuf import saved_model_pb2

from graph_resnet9 import errors
from graph_resnet9 import files
from graph_resnet9.cli import recipe_flags
from graph_resnet9.cli import train_flags
from graph_resnet9.errors import UserError
from graph_resnet9.evaluation import evaluate
from graph_resnet9.inputs import augment
from graph_resnet9.inputs import dataset

SIGNATURE = tf.saved_model.signature_constants.DEFAULT_SERVING_SIGNATURE_DEF_KEY
TAG = tf.saved_model.tag_constants.SERVING
# What tf.train.Saver gets as its prefix inside a SavedModel.
VARIABLES = os.path.join('variables', 'variables')
_INPUTS = {'images': tf.uint8}
_OUTPUTS = {
  'classes': tf.int64,
  'class_names': tf.string,
  'probabilities': tf.float32,
}


def outputs(
  images: tf.Tensor,
  model: recipe_flags.Model,
  views: recipe_flags.Views,
  class_names: Sequence[str],
) -> dict[str, tf.Tensor]:
  """What the exported graph answers: the network as eval runs it.

  Args:
    images: [batch, 32, 32, 3] uint8 Tensor, RGB, as in the data set.
    model: recipe_flags.Model.
    views: recipe_flags.Views, of each image.
    class_names: one string a class.
  Returns:
    dict of Tensors: classes [batch] int64, class_names [batch] string,
    probabilities [batch, classes] float32. All have the batch in front;
    otherwise a server could not answer image by image.
  Collections:
    UPDATE_OPS: + 0. BIASES: as of resnet9.logits.
  """
  logits = evaluate.logits(images, False, model, views, len(class_names))
  classes = tf.argmax(logits, 1)
  return dict(
    classes=classes,
    class_names=tf.gather(tf.constant(class_names), classes),
    probabilities=tf.nn.softmax(logits),
  )


def export(
  prefix: str,
  export_dir: str,
  run: train_flags.Run,
  weights: str,
  check: Callable[[str], None] = lambda folder: None,
) -> dict[str, Any]:
  """Writes a SavedModel with the variables that inference needs, no others.

  Args:
    prefix: of the checkpoint.
    export_dir: directory to make.
    run: train_flags.Run of the run that the checkpoint is of. Its --conv is not
      exported: convolutions are direct, which are fast anywhere.
    weights: as of evaluate.restored_names.
    check: called with the folder of the finished SavedModel before it is moved
      into place; raises UserError to refuse it.
  Returns:
    dict for the line of JSON.
  Raises:
    UserError: export_dir is in use or cannot be written, or the checkpoint is
      damaged, does not fit or is not finite; nothing is left behind.
  """
  model = run.model.replace(conv='direct')
  class_names = dataset.class_names(run.data.dataset, run.data.classes)
  side = augment.SIDE
  graph = tf.Graph()
  with _new_dir(export_dir) as folder, graph.as_default():
    images = tf.placeholder(tf.uint8, [None, side, side, 3], 'images')
    signature = tf.saved_model.predict_signature_def(
      {'images': images}, outputs(images, model, run.views, class_names)
    )
    # Resource variables, but not of a kind that a MetaGraphDef can hold.
    graph.clear_collection(tf.GraphKeys.BIASES)
    names = evaluate.restored_names(prefix, weights, tf.global_variables())
    with tf.Session(config=_config()) as session:
      _restore(session, prefix, names)
      builder = tf.saved_model.Builder(folder)
      builder.add_meta_graph_and_variables(
        session,
        [TAG],
        {SIGNATURE: signature},
        clear_devices=True,
        strip_default_attrs=True,
      )
      builder.save()
    _drop_debug_names(folder)
    check(folder)
    parameters = sum(v.shape.num_elements() for v in tf.trainable_variables())
  return dict(
    export_dir=export_dir,
    checkpoint=prefix,
    step=evaluate.checkpoint_step(prefix),
    weights=evaluate.weights_kind(names),
    **run.views,
    width=run.model.width,
    precision=run.model.precision,
    parameters=parameters,
    bytes=_size(export_dir),
    class_names=class_names,
  )


def _restore(session, prefix, names):
  """Loads {name in the checkpoint: variable}.

  Through the initialisers: a saver would leave its ops in the exported graph.

  Raises:
    UserError: one of them is not finite.
  """
  reader = tf.train.load_checkpoint(prefix)
  values = {name: reader.get_tensor(name) for name in names}
  for name, value in values.items():
    broken = value.size - np.isfinite(value).sum()
    if broken:
      raise UserError(
        '%s: %s: %d of %d values are not finite; export a checkpoint of before '
        'that' % (prefix, name, broken, value.size)
      )
  session.run(
    [v.initializer for v in names.values()],
    {v.initializer.inputs[1]: values[name] for name, v in names.items()},
  )


def _drop_debug_names(folder):
  """Removes what TensorFlow 1 cannot know from the graph in a SavedModel.

  Loaders refuse a node with an attribute that their op lacks, and VarHandleOp
  got debug_name, which does nothing but name, in TensorFlow 2.18.
  """
  path = os.path.join(folder, tf.saved_model.constants.SAVED_MODEL_FILENAME_PB)
  with open(path, 'rb') as f:
    saved = saved_model_pb2.SavedModel.FromString(f.read())
  for meta_graph in saved.meta_graphs:
    for node in meta_graph.graph_def.node:
      node.attr.pop('debug_name', None)
  with open(path, 'wb') as f:
    f.write(saved.SerializeToString())


@contextlib.contextmanager
def _new_dir(export_dir):
  """The name of a directory to make; at the end it is moved to export_dir.

  Beside it, so that the move is a renaming, and with a name that is no number,
  so that a server which looks for new versions there takes none of it.
  """
  files.check_literal('--export_dir', export_dir)
  path = os.path.realpath(export_dir)
  parent, name = os.path.split(path)
  try:
    if os.path.exists(path) and not os.path.isdir(path):
      raise UserError('--export_dir=%s: a file, not a directory' % export_dir)
    if os.path.isdir(path) and os.listdir(path):
      raise UserError(
        '--export_dir=%s: not empty; give a new directory, for '
        'TensorFlow Serving that of the next version' % export_dir
      )
    os.makedirs(parent, exist_ok=True)
    with tempfile.TemporaryDirectory(
      dir=parent, prefix='.%s.tmp-' % name
    ) as scratch:
      # One level down, for the permissions that the umask asks for.
      folder = os.path.join(scratch, 'saved_model')
      yield folder
      os.rename(folder, path)  # Replaces an empty directory, and no other.
  except OSError as e:
    raise UserError(
      '--export_dir=%s: cannot be written: %s: %s'
      % (export_dir, e.filename, e.strerror)
    ) from None
  except tf.errors.OpError as e:
    raise UserError(
      '--export_dir=%s: cannot be written: %s' % (export_dir, errors.line(e))
    ) from None


class Predictor:
  """A session on an exported model; close it, or use it in a with statement."""

  def __init__(self, export_dir):
    """Loads the model.

    Args:
      export_dir: what graph_resnet9.export has written, or a folder of such
        versions with numbers for names: the newest is taken.
    Raises:
      UserError: there is no SavedModel, or one of something else.
    """
    export_dir = _newest_version(export_dir)
    self._session = tf.Session(graph=tf.Graph(), config=_config())
    try:
      signature = tf.saved_model.loader.load(
        self._session, [TAG], export_dir
      ).signature_def[SIGNATURE]
    # OSError: no SavedModel, or one that is no protocol buffer; RuntimeError:
    # none for serving; ValueError, LookupError: a damaged graph; OpError: its
    # variables.
    except (
      OSError,
      RuntimeError,
      ValueError,
      LookupError,
      message.DecodeError,
      tf.errors.OpError,
    ) as e:
      self._session.close()
      raise UserError(
        '--export_dir=%s: no SavedModel that can be loaded: %s%s'
        % (export_dir, errors.line(e), _hint(export_dir))
      ) from None
    names = self._all_names(signature)
    if names is None:
      raise UserError(
        '--export_dir=%s: a SavedModel, but not one of graph_resnet9.export: '
        'its signature %s is another one' % (export_dir, SIGNATURE)
      )
    self._images = signature.inputs['images'].name
    self._fetches = {name: signature.outputs[name].name for name in _OUTPUTS}
    self.class_names = [name.decode() for name in self._session.run(names)]

  def _all_names(self, signature):
    """The Tensor from which outputs() gathers; None in models of others."""
    if _has(signature.inputs, _INPUTS) and _has(signature.outputs, _OUTPUTS):
      op = self._session.graph.get_tensor_by_name(
        signature.outputs['class_names'].name
      ).op
      return op.inputs[0] if op.type == 'GatherV2' else None
    return None

  def __enter__(self):
    return self

  def __exit__(self, *unused):
    self._session.close()

  def predict(self, images: np.ndarray) -> 'Predictions':
    """What the model says of a batch.

    Args:
      images: [batch, 32, 32, 3] uint8 array.
    Returns:
      Predictions.
    """
    values = self._session.run(self._fetches, {self._images: images})
    return Predictions(
      values['classes'],
      [name.decode() for name in values['class_names']],
      values['probabilities'],
    )

  def top(self, images, count):
    """The most probable classes of each image, the most probable one first.

    Args:
      images: list of [32, 32, 3] uint8 arrays.
      count: int, how many classes at most.
    Returns:
      A list for each image of (index, name, probability).
    """
    found = self.predict(np.stack(images))
    ranks = np.argsort(-found.probabilities, 1, kind='stable')[:, :count]
    return [
      [(int(k), self.class_names[k], float(shares[k])) for k in rank]
      for rank, shares in zip(ranks, found.probabilities)
    ]


class Predictions(NamedTuple):
  """Of a batch of images.

  classes: int64 [batch]. class_names: as many strings.
  probabilities: float32 [batch, classes].
  """

  classes: np.ndarray
  class_names: list[str]
  probabilities: np.ndarray


def _newest_version(export_dir):
  """The version of the largest number in a folder of them; or the folder."""
  try:
    versions = [
      name
      for name in os.listdir(export_dir)
      if name.isdecimal()
      and tf.saved_model.contains_saved_model(os.path.join(export_dir, name))
    ]
  except OSError:
    return export_dir
  if tf.saved_model.contains_saved_model(export_dir) or not versions:
    return export_dir
  return os.path.join(export_dir, max(versions, key=int))


def _hint(export_dir):
  """What to do about a folder that holds the checkpoints of a training."""
  if glob.glob(os.path.join(glob.escape(export_dir), '*.index')):
    return '; it holds checkpoints: graph_resnet9.export makes one of them'
  return ''


def _has(tensors, expected):
  """Whether the tensors of a SignatureDef are there and of the right types."""
  return all(
    name in tensors and tensors[name].dtype == dtype.as_datatype_enum
    for name, dtype in expected.items()
  )


def _config():
  return tf.ConfigProto(allow_soft_placement=True)


def _size(folder):
  """Bytes of all files in a folder."""
  return sum(
    os.path.getsize(os.path.join(root, name))
    for root, _, names in os.walk(folder)
    for name in names
  )
