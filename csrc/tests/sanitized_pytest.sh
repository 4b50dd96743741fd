#!/usr/bin/env bash
# Runs the tests of all compiled code against extensions built under ASan and UBSan, in a scratch copy: the normal
# build stays. These are tests/kernels and the decoders of database rows. Arguments go to pytest. PYTHON chooses the
# interpreter. The wheel's tests are left out: they build it as it ships; so are window features, which
# are numba's code.
set -euo pipefail
shopt -s nullglob
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
isa=$("$python" -c 'from bml.kernels import _isa; print(_isa.best())')
case $isa in v*) export BML_ISAS=$isa ;; esac # one build is enough: all are of one source
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

mkdir -p "$scratch/tests/sources"
cp -r setup.py pyproject.toml README* LICENSE* csrc bml "$scratch"
cp -r tests/*.py tests/kernels "$scratch/tests"
cp tests/sources/test_postgres_decoder.py tests/sources/test_copy_book.py "$scratch/tests/sources"
find "$scratch/bml" -name '*.so' -delete
cd "$scratch"
BML_SANITIZE=address,undefined "$python" setup.py -q build_ext --inplace

# Python itself is not sanitized, so both libraries are loaded first; libstdc++ for exceptions to be seen.
# What Python does not free at exit is no leak of ours, and memory held in quarantine must not look like one.
# malloc instead of pools: every overrun is seen. --capture=sys: a report is printed by a process that then dies, so
# it must not wait in pytest's file.
LD_PRELOAD="$(g++ -print-file-name=libasan.so):$(g++ -print-file-name=libstdc++.so)" \
    ASAN_OPTIONS=detect_leaks=0:quarantine_size_mb=8 UBSAN_OPTIONS=print_stacktrace=1 PYTHONMALLOC=malloc PYTHONPATH="$scratch" \
    BML_HYPOTHESIS=quick BML_TEST_BACKENDS=compiled,spec \
    "$python" -m pytest tests/kernels tests/sources/test_postgres_decoder.py tests/sources/test_copy_book.py \
    --ignore tests/kernels/test_kernels_wheel.py --ignore tests/kernels/test_window_feature.py -p no:cacheprovider --capture=sys "$@"
