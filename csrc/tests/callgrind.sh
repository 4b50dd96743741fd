#!/usr/bin/env bash
# Instructions per element of every kernel (x86-64-v3: valgrind knows no AVX-512) beside bench/instructions.json.
#     callgrind.sh [--write]        --write records them instead
# PYTHON and CXX choose interpreter and compiler; CXXFLAGS are added.
set -euo pipefail
cd "$(dirname "$0")/../.."
command -v valgrind >/dev/null || { echo "callgrind.sh needs valgrind: apt-get install valgrind"; exit 1; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cxx=${CXX:-g++}
# shellcheck disable=SC2086 # flags are words
"$cxx" -std=c++20 -O3 -march=x86-64-v3 -ffp-contract=off -Wno-psabi -pthread -Icsrc/include ${CXXFLAGS:-} \
    csrc/tests/callgrind_driver.cpp -o "$scratch/driver"
valgrind --tool=callgrind --instr-atstart=no --callgrind-out-file="$scratch/out" "$scratch/driver" 2>"$scratch/log" \
    || { cat "$scratch/log"; exit 1; }
"${PYTHON:-python3}" -m bench.instructions "$scratch" "$("$cxx" --version | head -n 1)" "$@"
