// Count, mean, central sums to the fourth power and total of every column, NaN skipped, in one read.
#pragma once

#include <cmath>
#include <cstdint>

#include "bml/power_sums.hpp"
#include "bml/strips.hpp"

namespace bml {

struct MomentArrays {
    std::int64_t* count;
    double *mean, *m2, *m3, *m4, *total;
};

// What blocks that have ended come to: column v of the states at place first + v * apart.
inline void write_moments(const PowerSums* state, std::int64_t columns, const MomentArrays& out,
                          std::int64_t first, std::int64_t apart) {
    for (std::int64_t v = 0; v < columns; ++v) {
        const PowerSums& of = state[v / n_native];
        const auto i = v % n_native;
        const std::int64_t to = first + v * apart;
        const double n = of.whole.n[i], total = of.total[i];
        out.count[to] = static_cast<std::int64_t>(n);
        out.mean[to] = n == 0 || std::isfinite(total) ? of.base[i] + of.whole.mean[i] : total / n;
        out.m2[to] = of.whole.m2[i];
        out.m3[to] = of.whole.m3[i];
        out.m4[to] = of.whole.m4[i];
        out.total[to] = total;
    }
}

// x (T, V) -> six arrays (V,)
template <class T>
void daily_moments(const T* x, std::int64_t n_times, std::int64_t n_series, const MomentArrays& out,
                   int threads) {
    for_each_strip(threads, n_series, [&](std::int64_t first, std::int64_t columns) {
        PowerSums state[power_sums_of(strip_columns)];
        for (std::int64_t t = 0; t < n_times;) {
            const T* row[rows_at_once];
            int rows = 0;
            do row[rows++] = x + t++ * n_series + first;
            while (rows < rows_at_once && t < n_times && t % moment_rows != 0);
            add_rows(row, rows, columns, state);
            if (t % moment_rows != 0 && t < n_times) continue;
            for (std::int64_t i = 0; i < power_sums_of(columns); ++i) state[i].end_block();
        }
        write_moments(state, columns, out, first, 1);
    });
}

}  // namespace bml
