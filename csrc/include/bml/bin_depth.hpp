// Levels folded into depth bins: quantity summed, price weighted by quantity, coverage kept.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "bml/depth_sums.hpp"
#include "bml/parallel.hpp"

namespace bml {

inline constexpr std::int64_t binned_rows = 32;  // of a unit of work; no effect on the result

// Levels that are bins of their own: as fold_bin, without sums. A sum from +0.0 makes +0.0 of -0.0, and so
// does this.
template <class T, class Out>
void copy_side(T px, T qty, Out* out, float* coverage) {
    const bool ok = px == px && qty == qty;
    out[0] = static_cast<Out>(ok ? px + T{0} : std::numeric_limits<T>::quiet_NaN());
    out[1] = static_cast<Out>(ok ? qty + T{0} : std::numeric_limits<T>::quiet_NaN());
    *coverage = ok ? 1.0F : 0.0F;
}

template <class T, class Out>
void copy_levels(const Cells<T>& row, std::int64_t start, std::int64_t n, Out* out, float* coverage) {
    const T* from = row.cell + 4 * start;
    for (std::int64_t i = 0; i < 2 * n; ++i)
        copy_side(from[2 * i], from[2 * i + 1], out + 2 * i, coverage + i);
}

template <class T, class Out>
void copy_levels(const Columns<T>& row, std::int64_t start, std::int64_t n, Out* out, float* coverage) {
    const T *a = row.column[0] + start, *b = row.column[1] + start, *c = row.column[2] + start,
            *d = row.column[3] + start;
    for (std::int64_t i = 0; i < n; ++i) {
        copy_side(a[i], b[i], out + 4 * i, coverage + 2 * i);
        copy_side(c[i], d[i], out + 4 * i + 2, coverage + 2 * i + 1);
    }
}

// One bin: out 4 values, coverage 2.
template <class Row, class Out>
void fold_bin(const Row& row, std::int64_t start, std::int64_t stop, Out* out, float* coverage) {
    SideSums side[2], plain[2];
    row.template add<Sum::px_qty>(start, stop, side);
    const auto weighted = [](const SideSums& s) { return s.present > 1 && s.qty != 0; };
    if (!weighted(side[0]) || !weighted(side[1])) row.template add<Sum::px>(start, stop, plain);
    for (int k = 0; k < 2; ++k) {
        const double present = static_cast<double>(side[k].present);
        double px = std::numeric_limits<double>::quiet_NaN(), qty = px;
        if (side[k].present > 0) qty = side[k].qty;
        if (weighted(side[k]))
            px = side[k].value / qty;
        else if (side[k].present == 1)
            px = plain[k].value;  // exact: no division
        else if (side[k].present > 1)
            px = plain[k].value / present;
        out[2 * k] = static_cast<Out>(px);
        out[2 * k + 1] = static_cast<Out>(qty);
        coverage[k] = stop > start ? static_cast<float>(present / static_cast<double>(stop - start)) : 0.0F;
    }
}

// One snapshot, edges (D + 1,) -> out (D, 4), coverage (D, 2)
template <class Row, class Out>
void fold_row(const Row& row, const std::int64_t* edges, std::int64_t n_bins, Out* out, float* coverage) {
    for (std::int64_t d = 0; d < n_bins; ++d) {
        const std::int64_t first = d;
        while (d < n_bins && edges[d + 1] - edges[d] == 1) ++d;
        copy_levels(row, edges[first], d - first, out + 4 * first, coverage + 2 * first);
        if (d < n_bins) fold_bin(row, edges[d], edges[d + 1], out + 4 * d, coverage + 2 * d);
    }
}

// The same, bit for bit, of a snapshot in four columns (L,): bid_px, bid_qty, ask_px, ask_qty
template <class T, class Out>
void fold_columns(const T* const* column, std::int64_t n_levels, const std::int64_t* edges,
                  std::int64_t n_bins, Out* out, float* coverage) {
    fold_row(Columns<T>{column, n_levels}, edges, n_bins, out, coverage);
}

// book (T, L, 4), edges (D + 1,) or, ``per_row``, (T, D + 1) -> out (T, D, 4), coverage (T, D, 2)
template <class T>
void bin_depth(const T* book, std::int64_t n_times, std::int64_t n_levels, const std::int64_t* edges,
               std::int64_t n_bins, bool per_row, T* out, float* coverage, int threads) {
    parallel_for(threads, (n_times + binned_rows - 1) / binned_rows, [=](std::int64_t unit) {
        const std::int64_t stop = std::min(n_times, (unit + 1) * binned_rows);
        for (std::int64_t t = unit * binned_rows; t < stop; ++t)
            fold_row(Cells<T>{book + t * n_levels * 4, n_levels}, edges + (per_row ? t * (n_bins + 1) : 0),
                     n_bins, out + t * n_bins * 4, coverage + t * n_bins * 2);
    });
}

}  // namespace bml
