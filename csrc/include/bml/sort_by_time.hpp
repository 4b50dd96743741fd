// Snapshots into the order of their times, in place: each is moved once, along the cycles of the permutation.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

namespace bml {

// What is known of one snapshot besides its values.
struct SlotCount {
    std::int32_t n_rows = 0, n_surplus = 0, n_deep = 0;
    std::int32_t n_void = 0;  // sided rows of the book without price and quantity
};

// ``book``: ``width`` values a snapshot.
inline void sort_by_time(std::vector<std::int64_t>& ts, std::vector<SlotCount>& count, double* book,
                         std::size_t width) {
    if (std::is_sorted(ts.begin(), ts.end())) return;
    std::vector<std::size_t> from(ts.size());  // which snapshot comes to a place; itself once it is there
    std::iota(from.begin(), from.end(), std::size_t{0});
    std::sort(from.begin(), from.end(), [&](std::size_t i, std::size_t j) { return ts[i] < ts[j]; });
    std::vector<double> held(width);
    for (std::size_t start = 0; start < from.size(); ++start) {
        if (from[start] == start) continue;
        const std::int64_t held_ts = ts[start];
        const SlotCount held_count = count[start];
        std::copy_n(book + start * width, width, held.data());
        std::size_t to = start;
        while (from[to] != start) {
            const std::size_t i = from[to];
            ts[to] = ts[i], count[to] = count[i];
            std::copy_n(book + i * width, width, book + to * width);
            from[to] = to, to = i;
        }
        ts[to] = held_ts, count[to] = held_count, from[to] = to;
        std::copy_n(held.data(), width, book + to * width);
    }
}

}  // namespace bml
