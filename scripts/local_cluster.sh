#!/usr/bin/env bash
# Trains with one parameter server and two workers on this machine, which talk
# over 127.0.0.1:
#   scripts/local_cluster.sh --flagfile=flags/cluster_sync.flags
# Arguments are flags of graph_resnet9.train. WORKERS=3 and PS=2 change the
# numbers, PYTHON=... the interpreter. The chief's output is this script's; what
# the others print goes to stderr. Ctrl-C and SIGTERM save and stop, and the same
# command resumes. The exit code is the chief's.
set -euo pipefail
python=${PYTHON:-python} workers=${WORKERS:-2} servers=${PS:-1}

# hosts COUNT: one line for each free port.
mapfile -t hosts < <("$python" - $((servers + workers)) <<'EOF'
import socket, sys
taken = [socket.create_server(('127.0.0.1', 0)) for _ in range(int(sys.argv[1]))]
for each in taken:
  print('127.0.0.1:%d' % each.getsockname()[1])
EOF
)
join() { local IFS=,; echo "$*"; }
ps_hosts=$(join "${hosts[@]:0:servers}")
worker_hosts=$(join "${hosts[@]:servers}")

# start JOB INDEX [FLAG...]: in the background, in a process group of its own,
# so that Ctrl-C reaches the chief alone; the others end when it has.
start() {
  local job=$1 index=$2; shift 2
  setsid "$python" -m graph_resnet9.train "$@" --job_name="$job" \
    --task_index="$index" --ps_hosts="$ps_hosts" \
    --worker_hosts="$worker_hosts" --bind=loopback &
}

others=()
trap 'kill -KILL "${others[@]}" 2>/dev/null || true' EXIT
for ((i = 0; i < servers; i++)); do start ps "$i" "$@" >&2; others+=($!); done
for ((i = 1; i < workers; i++)); do start worker "$i" "$@" >&2; others+=($!); done
start worker 0 "$@"
chief=$!
trap 'kill -TERM "$chief" 2>/dev/null || true' TERM INT

# A signal ends `wait`, and the chief goes on until it has saved.
code=0
wait "$chief" || code=$?
while kill -0 "$chief" 2>/dev/null; do
  code=0
  wait "$chief" || code=$?
done

# They end by themselves, unless the chief never came so far as to tell them.
for other in "${others[@]}"; do
  for ((i = 0; i < 100; i++)); do
    kill -0 "$other" 2>/dev/null || break
    sleep .1
  done
done
exit "$code"
