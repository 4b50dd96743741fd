// Edges of depth bins that follow each snapshot's occupied depth.
#pragma once

#include <algorithm>
#include <cstdint>

#include "bml/parallel.hpp"

namespace bml {

inline constexpr std::int64_t edge_rows = 64;  // of a unit of work; no effect on the result

// One more than the deepest level of cell (L, 4) with a quantity above 0 on a side. NaN is not above.
template <class T>
std::int64_t occupied_depth(const T* cell, std::int64_t n_levels) {
    std::int64_t l = n_levels;
    for (; l >= 8; l -= 8) {
        bool any = false;
        for (std::int64_t i = l - 8; i < l; ++i) any |= (cell[4 * i + 1] > T{0}) | (cell[4 * i + 3] > T{0});
        if (any) break;
    }
    while (l > 0 && !(cell[4 * l - 3] > T{0} || cell[4 * l - 1] > T{0})) --l;
    return l;
}

// book (T, L, 4) -> edges (T, near + deep + 1): ``near`` bins of one level, then ``deep`` that split the rest
// of the depth. Where levels are fewer than bins, a bin a level, and the bins beyond are empty.
template <class T>
void occupied_edges(const T* book, std::int64_t n_times, std::int64_t n_levels, std::int64_t near,
                    std::int64_t deep, std::int64_t* edges, int threads) {
    parallel_for(threads, (n_times + edge_rows - 1) / edge_rows, [=](std::int64_t unit) {
        const std::int64_t stop = std::min(n_times, (unit + 1) * edge_rows);
        for (std::int64_t t = unit * edge_rows; t < stop; ++t) {
            const std::int64_t depth = occupied_depth(book + t * n_levels * 4, n_levels);
            const std::int64_t first = std::min(near, depth), rest = depth - first,
                               bins = std::min(deep, rest);
            std::int64_t* edge = edges + t * (near + deep + 1);
            for (std::int64_t d = 0; d <= near; ++d) edge[d] = std::min(d, first);
            for (std::int64_t d = 1; d <= deep; ++d)
                edge[near + d] = first + (d < bins ? d * rest / bins : rest);
        }
    });
}

}  // namespace bml
