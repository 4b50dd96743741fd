// In how many snapshots each level holds a quantity: what a depth plan is learned from.
#pragma once

#include <algorithm>
#include <cstdint>

namespace bml {

// book (T, L, 4) -> count (L, 2): snapshots with bid_qty > 0 and with ask_qty > 0. NaN is not greater.
template <class T>
void depth_profile(const T* book, std::int64_t n_times, std::int64_t n_levels, std::int64_t* count) {
    std::fill_n(count, 2 * n_levels, std::int64_t{0});
    for (std::int64_t t = 0; t < n_times; ++t) {
        const T* row = book + t * n_levels * 4;
        for (std::int64_t l = 0; l < n_levels; ++l) {
            count[2 * l] += row[4 * l + 1] > T{0};
            count[2 * l + 1] += row[4 * l + 3] > T{0};
        }
    }
}

}  // namespace bml
