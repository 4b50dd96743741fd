# The two commands of the README are `make demo` and `make test`; each sets up its own virtual environment.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SOURCES := setup.py pyproject.toml constraints.txt $(wildcard csrc/bind/*.cpp csrc/bind/*.hpp csrc/probe/*.cpp csrc/include/bml/*.hpp) \
	$(shell find bml -name '*.pyx')
DEMO_STORE ?= bml-store/demo

.PHONY: help demo test test-all lint format sanitize bench clean

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
	BML_STORE=$(DEMO_STORE) $(BIN)/bml run configs/demo.yaml

test: $(STAMP)  ## the tests
	$(BIN)/pytest -m "not slow"

test-all: $(STAMP) lint sanitize  ## everything: slow tests, linters, sanitizers, the numba backend
	$(BIN)/pytest
	BML_KERNELS=numba $(BIN)/pytest tests/kernels

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

bench: $(STAMP)  ## kernels beside a memcpy of the same bytes
	$(BIN)/python bench/kernels.py

clean:  ## remove what was built (never data)
	rm -rf build dist *.egg-info $(VENV)
	find bml -name '*.so' -delete
