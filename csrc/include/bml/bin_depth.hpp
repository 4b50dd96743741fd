// Levels folded into depth bins: quantity summed, price weighted by quantity, coverage kept.
#pragma once

#include <cstdint>
#include <limits>

namespace bml {

// One side of one bin: ``cell`` is the px of its first level, 4 fields to the next; writes px, qty, coverage.
template <class T>
void fold_side(const T* cell, std::int64_t width, T* out, float* coverage) {
    std::int64_t present = 0;
    double qty_sum = 0, value_sum = 0, px_sum = 0, px = 0;
    for (std::int64_t l = 0; l < width; ++l) {
        px = static_cast<double>(cell[4 * l]);
        const double qty = static_cast<double>(cell[4 * l + 1]);
        if (px != px || qty != qty) continue;
        ++present;
        qty_sum += qty;
        value_sum += px * qty;
        px_sum += px;
    }
    *coverage = static_cast<float>(static_cast<double>(present) / static_cast<double>(width));
    if (present == 0) {
        out[0] = out[1] = std::numeric_limits<T>::quiet_NaN();
        return;
    }
    double mean = px_sum;  // of one level: exact, no division
    if (present > 1) mean = qty_sum == 0 ? px_sum / static_cast<double>(present) : value_sum / qty_sum;
    out[0] = static_cast<T>(mean);
    out[1] = static_cast<T>(qty_sum);
}

// book (T, L, 4), edges (D + 1,) -> out (T, D, 4), coverage (T, D, 2)
template <class T>
void bin_depth(const T* book, std::int64_t n_times, std::int64_t n_levels, const std::int64_t* edges,
               std::int64_t n_bins, T* out, float* coverage) {
    for (std::int64_t t = 0; t < n_times; ++t) {
        const T* row = book + t * n_levels * 4;
        for (std::int64_t d = 0; d < n_bins; ++d, out += 4, coverage += 2) {
            const std::int64_t width = edges[d + 1] - edges[d];
            fold_side(row + 4 * edges[d], width, out, coverage);
            fold_side(row + 4 * edges[d] + 2, width, out + 2, coverage + 1);
        }
    }
}

}  // namespace bml
