// In how many snapshots each level holds a quantity: what a depth plan is learned from.
#pragma once

#include <cstdint>
#include <cstring>

#include "bml/lanes.hpp"
#include "bml/strips.hpp"

namespace bml {

// Counts values above 0 in ``n`` columns side by side; rows lie ``stride`` apart. NaN is not above.
template <class T>
void count_above(const T* x, std::int64_t rows, std::int64_t stride, std::int64_t n, std::int64_t* count) {
    constexpr int at_once = 8;
    std::int64_t t = 0;
    for (; t + at_once <= rows; t += at_once) {
        const T* from = x + t * stride;
        std::int64_t v = 0;
        for (; v + n_native <= n; v += n_native) {
            Mask c;
            std::memcpy(&c, count + v, sizeof c);
            for (int r = 0; r < at_once; ++r) {
                if (v % n_lanes == 0) prefetch(from + r * stride + v, n_lanes, 512);
                c -= load(from + r * stride + v) > 0;
            }
            std::memcpy(count + v, &c, sizeof c);
        }
        for (; v < n; ++v)
            for (int r = 0; r < at_once; ++r) count[v] += from[r * stride + v] > T{0};
    }
    for (; t < rows; ++t)
        for (std::int64_t v = 0; v < n; ++v) count[v] += x[t * stride + v] > T{0};
}

// book (T, L, 4) -> count (L, 2): snapshots with bid_qty > 0 and with ask_qty > 0.
template <class T>
void depth_profile(const T* book, std::int64_t n_times, std::int64_t n_levels, std::int64_t* count,
                   int threads) {
    for_each_strip(threads, 4 * n_levels, [=](std::int64_t first, std::int64_t n) {
        std::int64_t above[strip_columns] = {};  // of all four fields: as fast as of two
        if (n_times > 0) count_above(book + first, n_times, 4 * n_levels, n, above);
        for (std::int64_t i = 1; i < n; i += 2) count[(first + i) / 2] = above[i];
    });
}

}  // namespace bml
