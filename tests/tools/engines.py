"""Runs an exported model in an engine that is not ours.

  python engines.py ENGINE MODEL IMAGES.npy ANSWERS.npz [FORMAT_DIR]

MODEL is what graph_resnet9.export has written, IMAGES uint8 [n, 32, 32, 3];
ANSWERS gets the outputs of the signature serving_default that the engine has.
Knows neither graph_resnet9 nor the other engines, so that each may live in an
environment of its own; runs on Python 3.7.
"""

import sys

import numpy as np

OUTPUTS = ('classes', 'class_names', 'probabilities')


def tensorflow1(model, images):
  """TensorFlow 1.15's own loader and session."""
  import tensorflow as tf

  assert tf.__version__.startswith('1.'), tf.__version__
  with tf.Graph().as_default(), tf.Session() as session:
    signature = tf.saved_model.loader.load(
      session, ['serve'], model
    ).signature_def['serving_default']
    return session.run(
      {name: signature.outputs[name].name for name in OUTPUTS},
      {signature.inputs['images'].name: images},
    )


def openvino(model, images):
  """OpenVINO's reader of SavedModels, on the CPU in float32."""
  import openvino as ov

  core = ov.Core()
  compiled = core.compile_model(
    core.read_model(model), 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'}
  )
  outputs = compiled(images)
  return {
    name: outputs[port]
    for port in compiled.outputs
    for name in OUTPUTS
    if name in port.get_names()
  }


def onnx(model, images):
  """tf2onnx's translation in ONNX Runtime, on the CPU."""
  import onnxruntime

  session = onnxruntime.InferenceSession(
    model, providers=['CPUExecutionProvider']
  )
  names = [output.name for output in session.get_outputs()]
  return dict(zip(names, session.run(names, {'images': images})))


def litert(model, images):
  """LiteRT's interpreter of a TFLite file."""
  from ai_edge_litert import interpreter

  runner = interpreter.Interpreter(model).get_signature_runner(
    'serving_default'
  )
  return runner(images=images)


def main():
  engine, model, images, answers = sys.argv[1:]
  outputs = globals()[engine](model, np.load(images))
  outputs = {name: np.asarray(value) for name, value in outputs.items()}
  if 'class_names' in outputs:
    outputs['class_names'] = np.array(
      [
        name.decode() if isinstance(name, bytes) else str(name)
        for name in outputs['class_names']
      ]
    )
  np.savez(answers, **outputs)


if __name__ == '__main__':
  main()
