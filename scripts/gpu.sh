#!/usr/bin/env bash
# What one GPU does with both recipes, within ten minutes on a fast one:
#   scripts/gpu.sh DATA OUT
# DATA holds CIFAR-10's folders; OUT gets a log of each part, the trainings, and
# of each training flags.txt, metrics.jsonl and about.txt in OUT/results.
#   SMALL=1 scripts/gpu.sh DATA OUT
# tries the script itself in a minute or two, on a CPU as well.
set -uo pipefail
cd "$(dirname "$0")/.."
[ $# = 2 ] || { sed -n 2,7p "$0" >&2; exit 2; }
data=$1 out=$2
mkdir -p "$out/results"
python=${PYTHON:-python3}
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
small=() steps=20 seeds=3
if [ -n "${SMALL-}" ]; then
  small=(--width=4 --train_examples=2048 --test_examples=1000 --epochs=1)
  steps=2 seeds=1
elif ! "$python" - <<'PY'
import sys, tensorflow as tf
sys.exit(not tf.config.list_physical_devices('GPU'))
PY
then
  echo 'scripts/gpu.sh: TensorFlow finds no GPU here; SMALL=1 tries the script' >&2
  exit 1
fi

failed=0
# part NAME SECONDS COMMAND...: runs it, its output in OUT/NAME.log.
part() {
  local name=$1 secs=$2; shift 2
  echo "== $name: $*"
  SECONDS=0
  timeout "$secs" "$@" > "$out/$name.log" 2> "$out/$name.err" || {
    echo "   failed ($?): $(tail -n 1 "$out/$name.err")"; failed=1; }
  echo "   $SECONDS s; $(tail -n 1 "$out/$name.log" | cut -c1-300)"
}

part placement 300 "$python" -m pytest -q tests/training/placement_test.py
for recipe in dawn24 fast10; do
  for xla in auto off; do
    part "benchmark_${recipe}_xla_$xla" 150 "$python" -m graph_resnet9.benchmark \
      --flagfile=flags/$recipe.flags --precision=float16 --xla=$xla --steps=$steps \
      --runs=2 --compare=torch --json --dataset=cifar10 --data_dir="$data" "${small[@]}"
  done
done
for ((seed = 0; seed < seeds; seed++)); do
  train_dir=$out/fast10_seed$seed
  part "fast10_seed$seed" 200 "$python" -m graph_resnet9.train \
    --flagfile=flags/fast10.flags --precision=float16 --dataset=cifar10 \
    --data_dir="$data" --train_dir="$train_dir" --seed=$seed "${small[@]}"
  kept=$out/results/fast10_gpu/seed$seed
  mkdir -p "$kept"
  grep -v -- --data_dir "$train_dir/flags.txt" > "$kept/flags.txt"
  cp "$train_dir/metrics.jsonl" "$kept/"
  { command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name --format=csv,noheader \
      || echo 'no GPU'; } | head -n 1 > "$kept/about.txt"
done
exit $failed
