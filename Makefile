# The two commands of the README are `make demo` and `make test`; each sets up its own virtual environment.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SOURCES := setup.py pyproject.toml constraints.txt $(wildcard csrc/bind/*.cpp csrc/bind/*.hpp csrc/probe/*.cpp csrc/include/bml/*.hpp) \
	$(shell find bml -name '*.pyx')
DEMO_STORE ?= bml-store/demo
DATABASE_STORE ?= bml-store/demo-database
FUZZ_SECONDS ?= 60
# quiet: the table that is made of the figures says more than pytest-benchmark's
MEASURE := $(BIN)/python -m pytest bench -q --benchmark-disable-gc --benchmark-quiet

.PHONY: help demo demo-database test test-all lint format sanitize fuzz callgrind bench bench-gate bench-baseline bench-extraction bench-loader clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): $(SOURCES)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "bml needs Python 3.11 or newer: make PYTHON=python3.11 ..."; exit 1; }
	@command -v c++ >/dev/null || { echo "bml needs a C++20 compiler: apt-get install g++ python3-dev"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP)  ## synthetic market -> model -> report, in minutes on a laptop
	BML_STORE=$(DEMO_STORE) $(BIN)/bml run configs/demo.yaml --open-test

demo-database: $(STAMP)  ## the same market through a PostgreSQL that lives in a folder, as far as the day files
	BML_DSN=embedded:$(DATABASE_STORE)/server $(BIN)/bml ingest configs/demo.yaml --table depth
	BML_DSN=embedded:$(DATABASE_STORE)/server BML_STORE=$(DATABASE_STORE) $(BIN)/bml preprocess configs/demo_database.yaml

test: $(STAMP)  ## the tests
	$(BIN)/pytest -m "not slow"

test-all: $(STAMP) lint sanitize  ## everything: slow tests, linters, sanitizers, the numba backend, fuzzing
	$(BIN)/pytest
	BML_KERNELS=numba $(BIN)/pytest tests/kernels
	$(MAKE) fuzz FUZZ_SECONDS=10
	$(MAKE) callgrind

lint: $(STAMP)  ## ruff, mypy --strict, clang-format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $$(git ls-files 'csrc/*.hpp' 'csrc/*.cpp')

format: $(STAMP)  ## rewrite the sources in the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $$(git ls-files 'csrc/*.hpp' 'csrc/*.cpp')

sanitize: $(STAMP)  ## C++ tests under ASan, UBSan and TSan; kernel and decoder tests under ASan and UBSan
	bash csrc/tests/run.sh
	PYTHON=$(abspath $(BIN)/python) bash csrc/tests/sanitized_pytest.sh

fuzz: $(STAMP)  ## libFuzzer on the C++ headers under ASan and UBSan, FUZZ_SECONDS each (needs clang)
	bash csrc/fuzz/run.sh $(FUZZ_SECONDS)

callgrind: $(STAMP)  ## instructions per element beside bench/instructions.json (needs valgrind)
	PYTHON=$(BIN)/python bash csrc/tests/callgrind.sh

bench: $(STAMP)  ## kernels beside memcpy and their peers; writes the README's table
	mkdir -p build
	$(MEASURE) --rounds 5 --patience 3 --benchmark-json=build/bench.json
	$(BIN)/python -m bench.report table build/bench.json --readme README.md

bench-gate: $(STAMP)  ## fails when a kernel is slower, beside memcpy and numba, than bench/baseline.json allows
	mkdir -p build
	$(MEASURE) --peers numba --rounds 11 --benchmark-json=build/bench-gate.json
	$(BIN)/python -m bench.report gate build/bench-gate.json bench/baseline.json

bench-baseline: $(STAMP)  ## measures three times and writes bench/baseline.json
	mkdir -p build
	for run in 1 2 3; do \
		$(MEASURE) --peers numba --rounds 11 --benchmark-json=build/bench-base-$$run.json || exit 1; done
	$(BIN)/python -m bench.report baseline build/bench-base-[123].json >build/baseline.json
	mv build/baseline.json bench/baseline.json

bench-extraction: $(STAMP)  ## a symbol-day out of PostgreSQL beside its peers (adbc-driver-postgresql, connectorx)
	mkdir -p build
	$(BIN)/python -m bench.extraction --json build/extraction.json

bench-loader: $(STAMP)  ## the loader beside memcpy, pread, h5py, npz and a DataLoader (2 GB in /tmp, removed at the end)
	$(BIN)/python -m bench.loader --folder /tmp/bml-bench-loader
	rm -r /tmp/bml-bench-loader

clean:  ## remove what was built (never data)
	rm -rf build dist *.egg-info $(VENV)
	find bml -name '*.so' -delete
