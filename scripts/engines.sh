#!/usr/bin/env bash
# Makes a virtual environment for each engine that tests/evaluation/engines_test.py
# runs exported models in:
#   scripts/engines.sh DIR
#   GRAPH_RESNET9_ENGINES=DIR python -m pytest -q tests/evaluation/engines_test.py
# PYTHON is the interpreter that has graph_resnet9's TensorFlow, for tf2onnx;
# PYTHON37 one of version 3.7, for TensorFlow 1.15. Without it that one is left
# out.
set -euo pipefail
dir=${1:?usage: scripts/engines.sh DIR} python=${PYTHON:-python}
mkdir -p "$dir"

# environment NAME INTERPRETER PACKAGE...
environment() {
  local name=$1 interpreter=$2; shift 2
  "$interpreter" -m venv "$dir/$name"
  "$dir/$name/bin/pip" install -q "$@"
}
environment openvino "$python" openvino
environment litert "$python" ai-edge-litert
environment onnx "$python" onnxruntime
# tf2onnx asks for an older protobuf than TensorFlow has, and needs it not.
"$dir/onnx/bin/pip" install -q --no-deps tf2onnx onnx ml_dtypes
"$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
  > "$(echo "$dir"/onnx/lib/python*/site-packages)/tensorflow.pth"
python37=${PYTHON37:-$(command -v python3.7 || true)}
if [ -n "$python37" ]; then
  environment tensorflow1 "$python37" tensorflow==1.15.5 'protobuf<3.21' 'numpy<1.19'
else
  echo 'no Python 3.7: TensorFlow 1.15 is left out' >&2
fi
