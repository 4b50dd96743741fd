// Count, mean, central sums to the fourth power and total of every column, NaN skipped, in one read.
//
// Values are shifted by the column's first one, so that a price of 1e5 with ticks of 1e-2 keeps its digits
// and a constant column has exactly zero spread. Rows go in blocks: each is centred on its own mean while it
// is in cache, then merged (Pebay, SAND2008-6212). Block size and order are fixed, hence so is every bit.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace bml {

inline constexpr std::int64_t moment_rows = 64;     // of a block; part of the result's definition
inline constexpr std::int64_t moment_columns = 64;  // side by side; no effect on the result

struct Central {
    double n = 0, mean = 0, m2 = 0, m3 = 0, m4 = 0;

    void merge(const Central& b) {
        if (b.n == 0) return;
        const double sum = n + b.n, delta = b.mean - mean, step = delta / sum, step2 = step * step;
        const double spread = delta * step * n * b.n;
        m4 += b.m4 + spread * step2 * (n * n - n * b.n + b.n * b.n) +
              6 * step2 * (n * n * b.m2 + b.n * b.n * m2) + 4 * step * (n * b.m3 - b.n * m3);
        m3 += b.m3 + spread * step * (n - b.n) + 3 * step * (n * b.m2 - b.n * m2);
        m2 += b.m2 + spread;
        mean += step * b.n;
        n = sum;
    }
};

struct MomentArrays {
    std::int64_t* count;
    double *mean, *m2, *m3, *m4, *total;
};

// Columns side by side, so that the inner loops run along a row.
struct Strip {
    double shift[moment_columns] = {}, total[moment_columns] = {};
    Central whole[moment_columns] = {};
};

// Adds rows, centred on their own mean, to the strip; rows lie ``stride`` apart.
template <class T>
void add_block(const T* x, std::int64_t rows, std::int64_t stride, std::int64_t width, Strip& strip) {
    constexpr auto V = moment_columns;
    double n[V] = {}, sum[V] = {}, raw[V] = {}, mean[V] = {}, m2[V] = {}, m3[V] = {}, m4[V] = {};
    for (std::int64_t v = 0; v < width; ++v) {
        if (strip.whole[v].n > 0) continue;
        std::int64_t t = 0;
        while (t < rows && std::isnan(x[t * stride + v])) ++t;
        if (t < rows && std::isfinite(x[t * stride + v]))
            strip.shift[v] = static_cast<double>(x[t * stride + v]);
    }
    for (std::int64_t t = 0; t < rows; ++t)
        for (std::int64_t v = 0; v < width; ++v) {
            const double value = static_cast<double>(x[t * stride + v]);
            const bool present = value == value;
            n[v] += present ? 1.0 : 0.0;
            sum[v] += present ? value - strip.shift[v] : 0.0;
            raw[v] += present ? value : 0.0;
        }
    for (std::int64_t v = 0; v < width; ++v) mean[v] = n[v] > 0 ? sum[v] / n[v] : 0.0;
    for (std::int64_t t = 0; t < rows; ++t)
        for (std::int64_t v = 0; v < width; ++v) {
            const double value = static_cast<double>(x[t * stride + v]);
            const double off = value == value ? value - strip.shift[v] - mean[v] : 0.0;
            const double square = off * off;
            m2[v] += square;
            m3[v] += square * off;
            m4[v] += square * square;
        }
    for (std::int64_t v = 0; v < width; ++v) {
        strip.whole[v].merge({n[v], mean[v], m2[v], m3[v], m4[v]});
        strip.total[v] += raw[v];
    }
}

// x (T, V) -> six arrays (V,)
template <class T>
void daily_moments(const T* x, std::int64_t n_times, std::int64_t n_series, const MomentArrays& out) {
    for (std::int64_t start = 0; start < n_series; start += moment_columns) {
        const std::int64_t width = std::min(moment_columns, n_series - start);
        Strip strip;
        for (std::int64_t t = 0; t < n_times; t += moment_rows)
            add_block(x + t * n_series + start, std::min(moment_rows, n_times - t), n_series, width, strip);
        for (std::int64_t v = 0; v < width; ++v) {
            const Central& c = strip.whole[v];
            const double total = strip.total[v];
            out.count[start + v] = static_cast<std::int64_t>(c.n);
            out.mean[start + v] = c.n == 0 || std::isfinite(total) ? strip.shift[v] + c.mean : total / c.n;
            out.m2[start + v] = c.m2;
            out.m3[start + v] = c.m3;
            out.m4[start + v] = c.m4;
            out.total[start + v] = total;
        }
    }
}

}  // namespace bml
