// Times are int64 nanoseconds: order, search, and differences that may not fit 64 bits.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

namespace bml {

// Where snapshots begin if the rows are in time order, and n at the end; found by jumping, since neighbours
// are about as long. Rows in between are not looked at: who reads a snapshot checks that it is of one time.
// How many there are; -1: not in order. ``starts`` (N + 1,) and
// ``times`` (N,) have room for any number of them.
inline std::int64_t find_snapshots(const std::int64_t* ts_ns, std::int64_t n, std::int64_t* starts,
                                   std::int64_t* times) {
    std::int64_t length = 1, count = 0;
    for (std::int64_t start = 0, stop; start < n; start = stop) {
        for (std::int64_t line = -1; line <= 1; ++line)  // where a later one will be looked for
            __builtin_prefetch(ts_ns + std::clamp(start + 6 * length + 8 * line, std::int64_t{0}, n - 1));
        const std::int64_t now = ts_ns[start];
        starts[count] = start;
        times[count++] = now;
        std::int64_t inside = start,
                     outside = n;  // a row known to be of this time, the first known not to be
        for (std::int64_t step = 1, at = start + length - 1; at < n; at += step, step *= 2) {
            if (ts_ns[at] != now) {
                outside = at;
                break;
            }
            inside = at;
        }
        if (inside == start && length > 1)  // shorter than the one before: look back from where it would end
            for (std::int64_t step = 1, at = outside - 1; at > start; at -= step, step *= 2) {
                if (ts_ns[at] == now) {
                    inside = at;
                    break;
                }
                outside = at;
            }
        while (outside - inside > 1) {
            const std::int64_t middle = inside + (outside - inside) / 2;
            (ts_ns[middle] == now ? inside : outside) = middle;
        }
        stop = outside;
        if (stop < n && ts_ns[stop] < now) return -1;
        length = stop - start;
    }
    starts[count] = n;
    return count;
}

inline bool one_time(const std::int64_t* ts_ns, std::int64_t start, std::int64_t stop) {
    std::int64_t differs = 0;
    for (std::int64_t i = start; i < stop; ++i) differs |= ts_ns[i] ^ ts_ns[start];
    return differs == 0;
}

// The first row that is not after the one before it, or -1.
inline std::int64_t first_not_increasing(const std::int64_t* x, std::int64_t n) {
    for (std::int64_t i = 1; i < n; ++i)
        if (x[i] <= x[i - 1]) return i;
    return -1;
}

// later - earlier <= limit, where the difference itself may not fit; limit >= 0.
inline bool within(std::int64_t earlier, std::int64_t later, std::int64_t limit) {
    constexpr std::int64_t lowest = std::numeric_limits<std::int64_t>::min();
    return later < lowest + limit || earlier >= later - limit;
}

}  // namespace bml
