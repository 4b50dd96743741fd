#!/usr/bin/env bash
# Compiles every header alone, then builds and runs native_test under ASan and UBSan. CXX chooses the compiler.
set -euo pipefail
cd "$(dirname "$0")/../.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
flags=(-std=c++20 -Wall -Wextra -Wconversion -Werror -Icsrc/include)

for header in csrc/include/bml/*.hpp; do
    echo "#include \"${header#csrc/include/}\"" >"$scratch/alone.cpp"
    "${CXX:-g++}" "${flags[@]}" -fsyntax-only "$scratch/alone.cpp"
done
"${CXX:-g++}" "${flags[@]}" -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all \
    csrc/tests/native_test.cpp -o "$scratch/native_test"
"$scratch/native_test"
