#!/usr/bin/env bash
# Installs the package under Python 3.7, where pip chooses TensorFlow 1.15, and
# runs the doctor's tests there and those of checkpoints that go to and fro:
#   scripts/doctor_on_tensorflow1.sh DIR [PYTEST ARGUMENT...]
# The environment is DIR/tensorflow1, made if it is not there. The interpreter is
# PYTHON37, or python3.7 of PATH or of pyenv; without one this says so and is done.
# GRAPH_RESNET9_PYTHON is one with a TensorFlow 2, for the second part.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=${1:?usage: scripts/doctor_on_tensorflow1.sh DIR [PYTEST ARGUMENT...]}; shift
for python in "${PYTHON37:-}" python3.7 \
  "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.7*/bin/python3.7; do
  if "$python" -c 'import sys; assert sys.version_info[:2] == (3, 7)' \
    2>/dev/null; then break; fi
  python=
done
if [ -z "$python" ]; then
  echo 'no Python 3.7: the doctor has not been tested on TensorFlow 1.15'
  exit 0
fi
mkdir -p "$dir"
if [ ! -e "$dir/tensorflow1/ready" ]; then
  "$python" -m venv --clear "$dir/tensorflow1"
  "$dir/tensorflow1/bin/pip" install -q "$PWD[test]"
  "$dir/tensorflow1/bin/pip" uninstall -q -y graph_resnet9  # The checkout's.
  touch "$dir/tensorflow1/ready"
fi
old=$dir/tensorflow1/bin/python
# The corpus is built with tf-keras; the graphs of eras_test.py are TensorFlow
# 1's own.
mapfile -t files < <(
  ls tests/doctor/*_test.py | grep -vE '/(lint|metamorphic)_test.py')
"$old" -m pytest -q "$@" "${files[@]}"
GRAPH_RESNET9_ENGINES=$dir "${GRAPH_RESNET9_PYTHON:-python}" -m pytest -q "$@" \
  tests/doctor/exchange_test.py
echo "the doctor has been tested on TensorFlow $("$old" -c '
import tensorflow; print(tensorflow.__version__)' 2>/dev/null)"
