// Samples at their own times to a grid, with the age of what was taken. One merge of two sorted lists.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "bml/error.hpp"
#include "bml/times.hpp"

namespace bml {

enum class Method : std::int32_t { forward_fill = 0, linear = 1 };

template <class T>
struct Samples {
    std::int64_t n_times, width;
    const std::int64_t* ts_ns;
    const T* value;  // (T, X)
};

template <class T>
struct OnGrid {
    std::int64_t n_grid;
    T* value;  // (G, X)
    std::int64_t *source, *age_ns;
};

template <class T>
Error resample_grid(const Samples<T>& in, const std::int64_t* grid_ns, std::int64_t max_age_ns, Method method,
                    const OnGrid<T>& out) {
    constexpr T nan = std::numeric_limits<T>::quiet_NaN();
    if (const auto row = first_not_increasing(in.ts_ns, in.n_times); row >= 0)
        return {What::times_not_increasing, row};
    if (const auto row = first_not_increasing(grid_ns, out.n_grid); row >= 0)
        return {What::grid_not_increasing, row};
    std::int64_t next = 0;  // the first sample after the grid point
    for (std::int64_t g = 0; g < out.n_grid; ++g) {
        const std::int64_t now = grid_ns[g];
        while (next < in.n_times && in.ts_ns[next] <= now) ++next;
        const std::int64_t left = next - 1;
        const bool fresh = left >= 0 && within(in.ts_ns[left], now, max_age_ns);
        const bool copy = fresh && (method == Method::forward_fill || in.ts_ns[left] == now);
        const bool blend = fresh && !copy && next < in.n_times && within(now, in.ts_ns[next], max_age_ns);
        T* to = out.value + g * in.width;
        out.source[g] = copy || blend ? left : -1;
        out.age_ns[g] = copy || blend ? now - in.ts_ns[left] : -1;
        if (copy) {
            std::copy_n(in.value + left * in.width, in.width, to);
        } else if (blend) {
            const T *a = in.value + left * in.width, *b = a + in.width;
            const double past = static_cast<double>(now - in.ts_ns[left]);
            const double ahead = static_cast<double>(in.ts_ns[next] - now);
            const double share = past / (past + ahead);
            for (std::int64_t x = 0; x < in.width; ++x) {
                const double from = static_cast<double>(a[x]);
                to[x] = static_cast<T>(from + (static_cast<double>(b[x]) - from) * share);
            }
        } else {
            std::fill_n(to, in.width, nan);
        }
    }
    return {};
}

}  // namespace bml
