#!/bin/sh
# Runs the program of the same name in ../libexec with the torch of this machine, and CUDA's libraries beside it. ITHACA_TORCH_LIB
# names torch's library folder when `python3` (or $PYTHON) is not the one that has torch.
here=$(dirname "$(readlink -f "$0")")
if [ -z "${ITHACA_TORCH_LIB:-}" ]; then
  ITHACA_TORCH_LIB=$("${PYTHON:-python3}" -c 'import importlib.util, pathlib
print(pathlib.Path(importlib.util.find_spec("torch").origin).parent / "lib")') || {
    echo "no torch in ${PYTHON:-python3}: set PYTHON or ITHACA_TORCH_LIB" >&2
    exit 10
  }
fi
libraries=$ITHACA_TORCH_LIB
for folder in "$ITHACA_TORCH_LIB"/../../nvidia/*/lib; do
  [ -d "$folder" ] && libraries=$libraries:$folder
done
export LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
exec "$here/../libexec/$(basename "$0")" "$@"
