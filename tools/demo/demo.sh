#!/usr/bin/env bash
# The main job, from end to end: a real model, a real book, two ranks that share one sequence, through the whole service.
#
#   tools/demo/demo.sh        after `make build-demo data`; `make demo` does all of it
#
# Everything it writes is in build/demo (removed at the next start) and the cache of the model and the book.
# DEMO_LENGTH, DEMO_STEPS and DEMO_COMPARED_STEPS change its size; ITHACA_BIN names another directory of binaries.
set -euo pipefail
cd "$(dirname "$0")/../.."

length=${DEMO_LENGTH:-4096} steps=${DEMO_STEPS:-6} compared=${DEMO_COMPARED_STEPS:-3}
cache=${ITHACA_CACHE:-$HOME/.cache/ithaca}
model=$cache/SmolLM2-135M-Instruct book=$cache/opticks
bin=${ITHACA_BIN:-$PWD/build/bin} work=$PWD/build/demo python=$PWD/.venv/bin/python
export CUDA_VISIBLE_DEVICES='' TRANSFORMERS_VERBOSITY=error HF_HUB_DISABLE_PROGRESS_BARS=1
began=$SECONDS

title() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
run() { printf '$ %s\n' "${*/#"$bin/"/}" >&2; "$@"; }
ithaca() { "$bin/ithaca" "$@"; }

rm -rf "$work"
mkdir -p "$work"
write_job() {  # name, ranks, steps, evaluate every so many
  cat >"$work/$1.yaml" <<JOB
name: $1
model: {path: $model}
data:
  train: [$book/train.jsonl]
  eval: [$book/heldout.txt]
  sequence_length: $length
parallelism: {sequence: $2}
training:
  steps: $3
  learning_rate: 2.0e-4
  schedule: {type: constant, warmup_steps: 2}
evaluation: {every_steps: $4, sequences: 1}
resources: {device: cpu}
JOB
}
write_job opticks-sp2 2 "$steps" "$steps"
write_job opticks-sp1 1 "$compared" 0

title "The job: SmolLM2-135M on Newton's Opticks, $length tokens a sequence, cut over two ranks"
cat "$work/opticks-sp2.yaml"

title "Does it fit? (offline, before anything runs)"
run "$bin/ithaca" estimate "$work/opticks-sp2.yaml"

title "The coordinator"
"$bin/ithacad" --state-dir "$work/state" --listen 127.0.0.1:0 --http 127.0.0.1:0 --cpu-slots 2 >"$work/ithacad.log" 2>&1 &
coordinator=$!
stop() {
  # A drained coordinator lets training go on, so a job that still runs is ended first.
  if ithaca cancel latest >/dev/null 2>&1; then timeout 60 "$bin/ithaca" watch latest >/dev/null 2>&1 || true; fi
  [ -z "${sampler:-}" ] || kill "$sampler" 2>/dev/null || true
  kill "$coordinator" 2>/dev/null || true
  wait 2>/dev/null || true
}
trap stop EXIT
for _ in $(seq 300); do
  grep -q '^ithacad listening' "$work/ithacad.log" && break
  kill -0 "$coordinator" 2>/dev/null || { cat "$work/ithacad.log"; exit 1; }
  sleep 0.1
done
ready=$(grep '^ithacad listening' "$work/ithacad.log")
echo "$ready"
grpc=$(sed -E 's/.*grpc=([^ ]+).*/\1/' <<<"$ready")
http=$(sed -E 's/.*http=([^ ]+).*/\1/' <<<"$ready")
export ITHACA_SERVER=$grpc
echo "status page: http://$http/      metrics: http://$http/metrics"

# Keeps the newest scrape that shows a job running, as a Prometheus server would have seen it.
sample_metrics() {
  while sleep 2; do
    curl -fsS "http://$http/metrics" -o "$work/scrape.new" 2>/dev/null || continue
    grep -q '^ithaca_job_tokens_per_second' "$work/scrape.new" && mv "$work/scrape.new" "$work/scrape.txt"
  done
}
sample_metrics &
sampler=$!

title "Two ranks, one sequence: submitted over gRPC, watched live"
run "$bin/ithaca" submit "$work/opticks-sp2.yaml" --watch
ithaca get latest -o json >"$work/sp2.json"
ithaca metrics latest -o json >"$work/sp2-steps.json"
kill "$sampler" 2>/dev/null || true
sampler=

title "The same on one rank, the first $compared steps"
run "$bin/ithaca" submit "$work/opticks-sp1.yaml" --watch
ithaca get latest -o json >"$work/sp1.json"
ithaca metrics latest -o json >"$work/sp1-steps.json"

title "What came of it"
"$python" tools/demo/report.py --work "$work" --model "$model" --held-out "$book/heldout.txt" --length "$length" \
  --page "http://$http/"
echo "took $((SECONDS - began)) s"
