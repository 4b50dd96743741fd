#!/usr/bin/env bash
# Compiles every header alone, then builds and runs the native tests under ASan and UBSan, and those of threads under
# TSan too. CXX chooses the compiler.
set -euo pipefail
cd "$(dirname "$0")/../.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
flags=(-std=c++20 -Wall -Wextra -Wconversion -Werror -Wno-psabi -Icsrc/include)

for header in csrc/include/bml/*.hpp; do
    echo "#include \"${header#csrc/include/}\"" >"$scratch/alone.cpp"
    "${CXX:-g++}" "${flags[@]}" -fsyntax-only "$scratch/alone.cpp"
done
build() {  # NAME SANITIZERS
    "${CXX:-g++}" "${flags[@]}" -O1 -g -pthread -fsanitize="$2" -fno-sanitize-recover=all "csrc/tests/$1.cpp" -o "$scratch/$1"
}
for name in native_test pool_test pg_mutations_test; do
    build "$name" address,undefined
    "$scratch/$name"
done
build pool_test thread
fixed=()  # this sanitizer may find its place taken by a randomised address; a container may forbid to fix them
if setarch -R true 2>/dev/null; then fixed=(setarch -R); fi
"${fixed[@]}" "$scratch/pool_test"
