#!/usr/bin/env bash
# Lets Python import the CUDA build of torch on a machine without the CUDA libraries, for work on the CPU only.
#
# The only torch wheel on the package index is the CUDA build, and its libtorch_python.so names libtorch_cuda.so, which names
# ten CUDA libraries. They come as 1.7 GB of wheels (2.9 GB unpacked), of which work on the CPU calls nothing; the dynamic
# loader merely insists that each library and each symbol exists. So this script reads from torch's own libraries which
# symbols they want of which library and compiles empty libraries of the same names, whose every function says what it is
# and aborts. Half a second instead of minutes on a slow line.
#
# Ithaca's own binaries never load them: the CPU engine links libtorch_cpu and libc10 alone. They lie in torch/lib, which is
# last on torch's search path, so the real libraries win where both exist; `tools/setup.sh test` installs those and removes
# these.
#
#   tools/cuda_standins.sh            makes what is missing
#   tools/cuda_standins.sh --remove   removes what it made
set -euo pipefail
cd "$(dirname "$0")/.."

site=$(echo .venv/lib/python3*/site-packages)
lib=$site/torch/lib
made=$lib/ithaca-standins.txt

if [ -e "$made" ]; then
  while read -r name; do rm -f "$lib/$name"; done <"$made"
  rm -f "$made"
fi
[ "${1:-}" != --remove ] || exit 0

# library | which symbols are its own, unless a symbol's version names the library
libraries=(
  'libcublas.so.13|^$'
  'libcublasLt.so.13|^$'
  'libcudnn.so.9|^$'
  'libcufft.so.12|^$'
  'libcufile.so.0|^cuFile'
  'libcurand.so.10|^curand'
  'libcusparse.so.12|^$'
  'libcusparseLt.so.0|^cusparseLt'
  'libnccl.so.2|^p?nccl'
  'libnvshmem_host.so.3|^nvshmem'
)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# "name" or "name@VERSION", once each.
for library in libtorch_cuda.so libtorch_python.so libtorch_nvshmem.so libc10_cuda.so; do
  readelf --dyn-syms --wide "$lib/$library" | awk '$7 == "UND" && $8 != "" {print $8}'
done | sort -u >"$work/wanted"

count=0
for entry in "${libraries[@]}"; do
  name=${entry%%|*} pattern=${entry#*|}
  compgen -G "$site/nvidia/*/lib/$name" >/dev/null && continue
  sed 's/@@*/ /' "$work/wanted" | awk -v library="$name" -v own="$pattern" '$2 == library || $1 ~ own' >"$work/symbols"
  {
    echo 'extern int puts(const char*); extern void abort(void);'
    awk -v library="$name" '{printf "void %s(void) { puts(\"%s: %s is a stand-in: no CUDA libraries are installed\"); abort(); }\n", $1, library, $1}' "$work/symbols"
  } >"$work/standin.c"
  awk '$2 != "" {names[$2] = names[$2] " " $1 ";"} END {for (v in names) printf "%s { global:%s };\n", v, names[v]}' \
    "$work/symbols" >"$work/standin.map"
  flags=()
  [ ! -s "$work/standin.map" ] || flags+=("-Wl,--version-script=$work/standin.map")
  cc -shared -fPIC -w -fno-builtin -Wl,-soname,"$name" "${flags[@]}" -o "$lib/$name" "$work/standin.c"
  echo "$name" >>"$made"
  count=$((count + 1))
done
echo "setup: made $count empty stand-ins for CUDA libraries, so that Python can import torch for work on the CPU"
