#!/usr/bin/env bash
# Fuzzes the headers: each target of this folder (or those named after the seconds) under ASan and UBSan.
#     run.sh [SECONDS each, default 60] [TARGET ...]
# What was learned stays in build/fuzz/TARGET, so that a later run goes on; a finding lies in
# build/fuzz/TARGET-crash-*: run build/fuzz/TARGET.bin on it. CLANG and FUZZ_MARCH choose compiler and instructions,
# HEADERS other headers than csrc/include.
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
headers=${HEADERS:-csrc/include}

# Units of work as small as the fuzzer's days, so that their borders are fuzzed: these sizes have no effect on what is
# compared. One that is not there any more is an error: the lists follow the headers.
sizes=(binned_rows=2 edge_rows=2 resampled_rows=2 streamed_bytes=256 strip_columns=8 rows_a_part=8 group_values=64
    snapshots_a_unit=2 groups_a_unit=2 beyond_cache=256)
shrink() { # FOLDER NAME=VALUE ...
    local folder=$1 size header
    rm -rf "$folder"
    cp -r "$headers" "$folder"
    for size in "${@:2}"; do
        header=$(grep -lE "^inline constexpr .* ${size%=*} =" "$folder"/bml/*.hpp) \
            || { echo "csrc/fuzz/run.sh: no header has the constant ${size%=*}"; exit 1; }
        perl -0pi -e "s/(\ninline constexpr [\w:]+ ${size%=*} =)[^;]*;/\$1 ${size#*=};/" "$header"
    done
}

flags=(-std=c++20 -O1 -g -ffp-contract=off "-march=${FUZZ_MARCH:-native}" -Wno-psabi -pthread
    -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all)
for target in "${targets[@]}"; do
    out=build/fuzz/$target
    mkdir -p "$out"
    more=()
    [ "$target" != day_tensor ] || more=(moment_rows=4) # its blocks are its units; bits of moments are not compared
    shrink "$out-include" "${sizes[@]}" "${more[@]}"
    "$clang" "${flags[@]}" "-I$out-include" "csrc/fuzz/$target.cpp" -o "$out.bin"
    printf '%s, %s s: ' "$target" "$seconds"
    if "$out.bin" "$out" -max_total_time="$seconds" -max_len=4096 -timeout=20 -artifact_prefix="$out-" >"$out.log" 2>&1; then
        grep '^Done' "$out.log"
    else
        echo "FOUND"
        grep -v '^#[0-9]' "$out.log" | tail -n 60
        exit 1
    fi
done
