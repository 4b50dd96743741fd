#!/usr/bin/env bash
# Fuzzes the headers: each target of this folder (or those named after the seconds) under ASan and UBSan.
#     run.sh [SECONDS each, default 60] [TARGET ...]
# What was learned stays in build/fuzz/TARGET, so that a later run goes on; a finding lies in
# build/fuzz/TARGET-crash-*: run build/fuzz/TARGET.bin on it. CLANG and FUZZ_MARCH choose compiler and instructions.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-60}
shift || true
clang=${CLANG:-clang++}
command -v "$clang" >/dev/null || { echo "fuzzing needs $clang: apt-get install clang libclang-rt-14-dev"; exit 1; }
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    for file in csrc/fuzz/*.cpp; do targets+=("$(basename "$file" .cpp)"); done
fi

# Units of work as small as the fuzzer's days: their sizes have no effect on any result, so their borders are fuzzed.
# A size that is not there any more is an error: this list follows the headers.
sizes=(binned_rows=2 moment_columns=16 profiled_levels=8 edge_rows=2 resampled_rows=2 streamed_bytes=256)
if [ -e csrc/include/bml/shuffled.hpp ]; then
    sizes+=(rows_a_part=8 group_values=64 snapshots_a_unit=2 groups_a_unit=2 beyond_cache=256)
fi
mkdir -p build/fuzz
rm -rf build/fuzz/include
cp -r csrc/include build/fuzz/include
for size in "${sizes[@]}"; do
    header=$(grep -lE "^inline constexpr .* ${size%=*} =" build/fuzz/include/bml/*.hpp) \
        || { echo "csrc/fuzz/run.sh: no header has the constant ${size%=*}"; exit 1; }
    perl -0pi -e "s/(\ninline constexpr [\w:]+ ${size%=*} =)[^;]*;/\$1 ${size#*=};/" "$header"
done

flags=(-std=c++20 -O1 -g -ffp-contract=off "-march=${FUZZ_MARCH:-native}" -Wall -Wextra -Wno-psabi -Ibuild/fuzz/include -pthread
    -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all)
for target in "${targets[@]}"; do
    out=build/fuzz/$target
    mkdir -p "$out"
    "$clang" "${flags[@]}" "csrc/fuzz/$target.cpp" -o "$out.bin"
    printf '%s, %s s: ' "$target" "$seconds"
    if "$out.bin" "$out" -max_total_time="$seconds" -max_len=4096 -timeout=20 -artifact_prefix="$out-" >"$out.log" 2>&1; then
        grep '^Done' "$out.log"
    else
        echo "FOUND"
        grep -v '^#[0-9]' "$out.log" | tail -n 60
        exit 1
    fi
done
