# Ithaca's doors. Each target sets up what it needs first (tools/setup.sh); run any of them again at any time.

JOBS ?= $(shell n=$$(nproc); m=$$(awk '/MemTotal/ {print int($$2 / 2000000)}' /proc/meminfo); echo $$(( n < m ? n : m > 0 ? m : 1 )))
PYTHON := .venv/bin/python
export CMAKE_BUILD_PARALLEL_LEVEL := $(JOBS)

.DEFAULT_GOAL := help
.PHONY: help demo test bench gpu format clean setup-demo setup-test build-demo build-test build-cuda data check \
        unit parity parity-full cluster client

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: build-demo data ## Train a real model on a real book, two ranks on one sequence, through the whole service
	tools/demo/demo.sh

test: build-test build-cuda data ## What CI runs: format, layers, lint, build with warnings as errors, CUDA side too, every test
	tools/run_tests.sh

bench: build-test data ## Speed and memory beside transformers; writes docs/benchmarks.md and a JSON file
	$(PYTHON) tools/bench/bench.py

gpu: setup-test ## Build the bundle that runs on a machine with a GPU, the torch wheel and a driver
	tools/gpu/bundle.sh

format: setup-test ## Format every C++ file
	git ls-files -co --exclude-standard '*.cc' '*.h' '*.cu' '*.cuh' | xargs .venv/bin/clang-format -i

clean: ## Remove what was built (not .venv)
	rm -rf build build-control build-engine build-gpu dist

unit: build-test ## Only the unit tests
	ctest --test-dir build -L unit --output-on-failure -j $(JOBS)

parity: build-test data ## Only the comparison with transformers, the set CI runs
	ctest --test-dir build -L parity --output-on-failure

parity-full: build-test data ## The comparison with transformers, every combination
	ITHACA_PARITY=full $(PYTHON) -m pytest -v -p no:cacheprovider tests/parity

cluster: build-test ## Only the tests with real processes
	ctest --test-dir build -L cluster --output-on-failure

client: build-test ## Only the tests with foreign clients
	ctest --test-dir build -L client --output-on-failure

setup-demo: ; tools/setup.sh demo
setup-test: ; tools/setup.sh test

build-demo: setup-demo
	cmake --preset demo
	cmake --build --preset demo

build-test: setup-test
	cmake --preset test
	cmake --build --preset test

# The engine once more with its CUDA and NCCL side, so that CUDA code always compiles. Nothing here runs it.
build-cuda: setup-test
	cmake --preset gpu -D ITHACA_BUILD_CONTROL=OFF
	cmake --build --preset gpu --target ithaca-engine cuda_paths_test

# The real model and the real book, in $ITHACA_CACHE (~/.cache/ithaca).
data:
	$(PYTHON) tools/demo/convert_smollm2.py
	$(PYTHON) tools/demo/corpus.py
