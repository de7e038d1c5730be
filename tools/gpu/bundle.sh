#!/usr/bin/env bash
# Builds the engine with CUDA and NCCL, and the control world, and packs them to run on a machine that has neither Debian's libraries
# nor a compiler: only Python with the torch wheel the engine was built with, and a driver.
#
#   tools/gpu/bundle.sh        ->  dist/ithaca-gpu/ and dist/ithaca-gpu.tar.gz (under 50 MiB)
#
# In the bundle: bin/ (programs; the engine's is a launcher that finds torch), libexec/ (what the launcher starts), lib/ (gRPC,
# protobuf and the like; not glibc, libstdc++, torch or CUDA), run.sh with the stages. Build folder: build-gpu, or ITHACA_GPU_BUILD.
set -euo pipefail
cd "$(dirname "$0")/../.."

build=${ITHACA_GPU_BUILD:-build-gpu}
bundle=dist/ithaca-gpu
limit_mib=50
control=(ithacad ithaca-worker ithaca)
with_torch=(ithaca-engine cuda_paths_test)

# DT_RPATH, not DT_RUNPATH: it also serves the libraries that Debian's libraries load.
cmake --preset gpu -B "$build" -D ITHACA_BUILD_CONTROL=ON -D CMAKE_EXE_LINKER_FLAGS=-Wl,--disable-new-dtags -D 'CMAKE_BUILD_RPATH=$ORIGIN/../lib'
cmake --build "$build" --target "${control[@]}" "${with_torch[@]}"

rm -rf "$bundle"
mkdir -p "$bundle"/{bin,libexec,lib}
for name in "${control[@]}"; do cp "$build/bin/$name" "$bundle/bin/"; done
for name in "${with_torch[@]}"; do
  cp "$build/bin/$name" "$bundle/libexec/" 2>/dev/null || cp "$build/tests/$name" "$bundle/libexec/"
  cp tools/gpu/engine-launcher.sh "$bundle/bin/$name"
done
programs=("${control[@]/#/$bundle/bin/}" "${with_torch[@]/#/$bundle/libexec/}")

# Every library a program loads here that the other machine lacks. glibc's and the compiler's are there, and newer; torch's and
# CUDA's come with torch.
not_packed='^(linux-vdso|ld-linux-x86-64|lib(c|m|dl|rt|pthread|resolv|util|gcc_s|stdc\+\+|gomp))[.]so|^lib(torch|c10|cuda|cublas|cudnn|cufft|cufile|curand|cusolver|cusparse|nccl|nvshmem|nvrtc|nvJitLink|cupti|nvToolsExt)'
ldd "${programs[@]}" | awk '$2 == "=>" && $3 ~ /^\// {print $1, $3}' | sort -u | while read -r name path; do
  [[ $name =~ $not_packed ]] && continue
  case "$path" in */site-packages/*) continue ;; esac
  cp -L "$path" "$bundle/lib/$name"
done
if ldd "${programs[@]}" | grep -F 'not found' | grep -Ev "$not_packed"; then
  echo "bundle: a library is missing on this machine" >&2
  exit 1
fi

for program in "${programs[@]}"; do
  cat >"$build/set_rpath.cmake" <<CMAKE
file(RPATH_SET FILE "$PWD/$program" NEW_RPATH "\$ORIGIN/../lib")
CMAKE
  cmake -P "$build/set_rpath.cmake"
  strip "$program"
done
strip --strip-unneeded "$bundle"/lib/*.so* 2>/dev/null || true
cp tools/gpu/{run.sh,run.py,models.py,processes.py} "$bundle/"
.venv/bin/python -c 'import importlib.metadata as m; print("torch", m.version("torch"))' >"$bundle/BUILT_WITH"

tar -C dist --owner=0 --group=0 --numeric-owner -czf dist/ithaca-gpu.tar.gz ithaca-gpu
bytes=$(stat -c %s dist/ithaca-gpu.tar.gz)
echo "bundle: dist/ithaca-gpu.tar.gz, $((bytes / 1048576)) MiB, $(find "$bundle/lib" -type f | wc -l) libraries"
if [ "$bytes" -gt $((limit_mib * 1048576)) ]; then
  echo "bundle: more than $limit_mib MiB" >&2
  exit 1
fi
