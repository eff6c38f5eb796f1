#!/usr/bin/env bash
# Runs the tests by every TensorFlow and Python that the package allows, each in
# an environment of its own under DIR, and prints a row of BUILD.md's table a pair:
#   scripts/matrix.sh DIR                         # the whole suite, hours
#   scripts/matrix.sh DIR tests/model tests/cli   # what pytest is given
# PAIRS='2.18:3.10 2.21:3.13' are other pairs. Interpreters are python3.X of PATH
# or of pyenv; a pair whose Python is not there is left out. An environment that
# is there is used as it is; the log of a pair stays beside it. The exit code is 0
# if all pairs pass.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=${1:?usage: scripts/matrix.sh DIR [PYTEST ARGUMENT...]}; shift
pairs=${PAIRS:-2.18:3.10 2.18:3.11 2.18:3.12 2.19:3.10 2.19:3.11 2.19:3.12
  2.20:3.10 2.20:3.11 2.20:3.12 2.20:3.13 2.21:3.10 2.21:3.11 2.21:3.12 2.21:3.13}
mkdir -p "$dir"

# interpreter 3.X: its path.
interpreter() {
  local each
  for each in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
    if "$each" -c '' 2>/dev/null; then echo "$each"; return; fi
  done
}

failed=0
echo '| TensorFlow | Python | tests |'
echo '| --- | --- | --- |'
for pair in $pairs; do
  tensorflow=${pair%:*} python=$(interpreter "${pair#*:}")
  [ -n "$python" ] || { echo "no Python ${pair#*:}: left out" >&2; continue; }
  environment=$dir/$tensorflow-${pair#*:}
  if [ ! -e "$environment/ready" ]; then
    rm -rf "$environment"
    "$python" -m venv "$environment"
    "$environment/bin/pip" install -q -e '.[test]' \
      "tensorflow==$tensorflow.*" "tf-keras==$tensorflow.*"
    touch "$environment/ready"
  fi
  log=$environment.log
  "$environment/bin/python" -m pytest -q -n2 --dist=loadscope "$@" > "$log" 2>&1 ||
    { failed=1; tail -n 50 "$log" >&2; }
  versions=$("$environment/bin/python" -c 'import platform
from importlib import metadata
print(metadata.version("tensorflow"), "|", platform.python_version())')
  echo "| $versions | $(grep -E ' in [0-9.]+s' "$log" | tail -1 | tr -d =) |"
done
exit "$failed"
