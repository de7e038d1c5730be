#!/usr/bin/env bash
# Runs every test by label, in order of price, to the end even after a failure, and prints a summary.
#
#   tools/run_tests.sh [LABEL...]      default: unit client cluster parity gpu
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}
[ $# -gt 0 ] || set -- unit client cluster parity gpu

summary=() status=0 start=$SECONDS
for label in "$@"; do
  began=$SECONDS log=build/ctest-$label.log rc=0
  echo "== $label"
  ctest --test-dir build -L "^$label\$" --no-tests=ignore --output-on-failure -j "$jobs" 2>&1 | tee "$log" || rc=$?
  [ $rc = 0 ] || status=1
  counted=$(grep -E '^[0-9]+% tests passed' "$log" || echo 'no tests')
  skipped=$(grep -cE '\*\*\*Skipped' "$log" || true)
  summary+=("$(printf '%-8s %-45s %s skipped, %d s' "$label" "$counted" "$skipped" $((SECONDS - began)))")
done
echo "== summary, $((SECONDS - start)) s"
printf '%s\n' "${summary[@]}"
# Labels are a closed set; a test with another one would never run.
unlabelled=$(ctest --test-dir build -N -LE '^(unit|client|cluster|parity|gpu)$' | grep -E '^ +Test +#' || true)
if [ -n "$unlabelled" ]; then
  printf 'tests without one of the labels:\n%s\n' "$unlabelled"
  status=1
fi
[ $status = 0 ] && echo "all green" || echo "FAILED"
exit $status
