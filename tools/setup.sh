#!/usr/bin/env bash
# Prepares a machine to build and run Ithaca: system packages and the virtual environment .venv.
#
#   tools/setup.sh demo    what `make demo` needs: compilers, libraries, torch for CPU, transformers
#   tools/setup.sh test    what `make test`, `make bench` and `make gpu` need: also the CUDA wheels, test and lint tools
#
# Debian 12 or Ubuntu 24.04. May be run any number of times: finished parts are recognised by a stamp (a hash of the pinned
# requirements, the Python version and this script) and skipped. As root it installs missing system packages; otherwise it
# prints the one line that does and stops with code 2.
#
# PYTHON=/path/to/python3 chooses another interpreter (3.11 or later).
set -euo pipefail
cd "$(dirname "$0")/.."

profile=${1:-}
case "$profile" in
  demo) ;;
  test) ;;
  *) sed -n '2,11p' "$0" | sed 's/^# \{0,1\}//'; exit 64 ;;
esac
say() { printf 'setup: %s\n' "$*"; }

# --- system packages -------------------------------------------------------------------------------------------------
packages=(build-essential cmake ninja-build pkg-config git ccache curl ca-certificates python3 python3-venv
  libgrpc++-dev protobuf-compiler protobuf-compiler-grpc libprotobuf-dev libabsl-dev prometheus-cpp-dev
  nlohmann-json3-dev libsqlite3-dev libyaml-cpp-dev libcli11-dev libcurl4-openssl-dev libssl-dev zlib1g-dev
  libgloo-dev libpcre2-dev libutf8proc-dev libc-ares-dev libre2-dev)
[ "$profile" = demo ] || packages+=(libgtest-dev libgmock-dev libbenchmark-dev jq)

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}\n' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" != 0 ]; then
    say "${#missing[@]} system packages are missing and only root may install them. Run this once, then try again:"
    printf '\n  sudo apt-get install -y --no-install-recommends %s\n\n' "${missing[*]}"
    exit 2
  fi
  say "installing ${#missing[@]} system packages: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
else
  say "all ${#packages[@]} system packages are there"
fi

# --- virtual environment ---------------------------------------------------------------------------------------------
python=${PYTHON:-}
for candidate in "$python" /usr/bin/python3 python3; do
  [ -n "$candidate" ] || continue
  if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    python=$candidate
    break
  fi
  python=
done
[ -n "$python" ] || { say "no Python 3.11 or later with the venv module; set PYTHON=/path/to/python3"; exit 2; }

if [ ! -x .venv/bin/python ]; then
  say "making .venv with $("$python" --version)"
  "$python" -m venv .venv
fi
version=$(.venv/bin/python -c 'import platform; print(platform.python_version())')

# Installs one list of pinned wheels, unless the stamp says that very list is installed.
install_wheels() {
  local list=$1 stamp=.venv/.ithaca-$1.stamp hash
  hash=$( (cat "tools/requirements-$list.txt" tools/setup.sh tools/cuda_standins.sh; echo "$version") | sha256sum | cut -c1-64)
  if [ "$(cat "$stamp" 2>/dev/null)" = "$hash" ]; then
    say "wheels of tools/requirements-$list.txt are in .venv"
    return
  fi
  say "installing the wheels of tools/requirements-$list.txt into .venv"
  .venv/bin/python -m pip install -q --disable-pip-version-check --no-deps --no-compile -r "tools/requirements-$list.txt"
  echo "$hash" >"$stamp"
}
install_wheels demo
if [ "$profile" = test ]; then
  install_wheels test
  tools/cuda_standins.sh --remove
elif [ ! -e .venv/.ithaca-test.stamp ]; then
  tools/cuda_standins.sh
fi
say "checking that Python can import torch"
CUDA_VISIBLE_DEVICES='' .venv/bin/python -c 'import torch, transformers; print(f"setup: torch {torch.__version__}, transformers {transformers.__version__}")'
say "ready for make $profile"
