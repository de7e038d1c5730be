#!/usr/bin/env bash
# Runs on a machine with a GPU what only a GPU can show. Needs Python 3.10 or later with torch, a driver, and the bundle this
# script lies in (tools/gpu/bundle.sh makes it).
#
#   ./run.sh --dry-run          lists the stages
#   ./run.sh                    runs every stage that has no result yet, in order
#   ./run.sh nccl qwen3-4b      runs these
#   ./run.sh --rehearse         the same on the CPU with small shapes: tries the script, measures nothing
#
# A stage takes less than ten minutes; one that was cut off goes on where it was when it is called again. Results: a JSON file a
# stage in $OUT (default: results beside this script). PYTHON names another interpreter.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
exec "${PYTHON:-python3}" "$here/run.py" "$@"
