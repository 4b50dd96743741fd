// Times are int64 nanoseconds: order, search, and differences that may not fit 64 bits.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

namespace bml {

// How many distinct times; -1 when they are not in order.
inline std::int64_t count_times(const std::int64_t* ts_ns, std::int64_t n) {
    std::int64_t count = n > 0;
    bool sorted = true;
    for (std::int64_t i = 1; i < n; ++i) {
        count += ts_ns[i] != ts_ns[i - 1];
        sorted &= ts_ns[i] >= ts_ns[i - 1];
    }
    return sorted ? count : -1;
}

// Where ``ts`` lies in the sorted times; the slot after ``near`` is tried first (level-major rows). -1:
// nowhere.
inline std::int64_t find_time(std::int64_t ts, const std::int64_t* times, std::int64_t n, std::int64_t near) {
    if (near + 1 < n && times[near + 1] == ts) return near + 1;
    const std::int64_t* at = std::lower_bound(times, times + n, ts);
    return at != times + n && *at == ts ? at - times : -1;
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
