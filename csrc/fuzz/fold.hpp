// A depth bin by its definition, one level at a time: level l adds to lane l % 8.
#pragma once

#include "fuzz.hpp"

namespace fuzz {

struct LaneSum {
    double lane[8] = {};

    void add(int64_t level, double x) { lane[level % 8] += x; }
    double total() const {
        return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
    }
};

// One side of the bin [start, stop) of a snapshot.
template <class T, class Out>
void fold(const T* cell, int64_t start, int64_t stop, Out* out, float* coverage) {
    LaneSum px_sum, qty_sum, value_sum;
    int64_t present = 0;
    for (int64_t l = start; l < stop; ++l) {
        const double px = static_cast<double>(cell[4 * l]), qty = static_cast<double>(cell[4 * l + 1]);
        if (std::isnan(px) || std::isnan(qty)) continue;
        ++present;
        px_sum.add(l, px), qty_sum.add(l, qty), value_sum.add(l, px * qty);
    }
    const double n = static_cast<double>(present), qty = qty_sum.total();
    double px = value_sum.total() / qty;
    if (present == 1 || qty == 0) px = px_sum.total() / n;
    *coverage = stop > start ? static_cast<float>(n / static_cast<double>(stop - start)) : 0.0F;
    out[0] = present > 0 ? static_cast<Out>(px) : std::numeric_limits<Out>::quiet_NaN();
    out[1] = present > 0 ? static_cast<Out>(qty) : std::numeric_limits<Out>::quiet_NaN();
}

}  // namespace fuzz
