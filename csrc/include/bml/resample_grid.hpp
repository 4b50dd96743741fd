// Samples at their own times to a grid, with the age of what was taken. One merge of two sorted lists.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "bml/error.hpp"
#include "bml/parallel.hpp"
#include "bml/stream.hpp"
#include "bml/times.hpp"

namespace bml {

inline constexpr std::int64_t resampled_rows = 16;  // of a unit of work; no effect on the result
inline constexpr std::int64_t streamed_bytes = std::int64_t{32}
                                               << 20;  // of output, for which the cache is too small

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

// Which sample, or for linear which pair, every grid point takes: source and age, -1 for none.
template <class T>
void find_sources(const Samples<T>& in, const std::int64_t* grid_ns, std::int64_t max_age_ns, Method method,
                  const OnGrid<T>& out) {
    std::int64_t next = 0;  // the first sample after the grid point
    for (std::int64_t g = 0; g < out.n_grid; ++g) {
        const std::int64_t now = grid_ns[g];
        while (next < in.n_times && in.ts_ns[next] <= now) ++next;
        const std::int64_t left = next - 1;
        const bool fresh = left >= 0 && within(in.ts_ns[left], now, max_age_ns);
        const bool alone = fresh && (method == Method::forward_fill || in.ts_ns[left] == now);
        const bool found = alone || (fresh && next < in.n_times && within(now, in.ts_ns[next], max_age_ns));
        out.source[g] = found ? left : -1;
        out.age_ns[g] = found ? now - in.ts_ns[left] : -1;
    }
}

// One row of the grid, written past the cache in lines of 64 bytes, and plainly before the first and after
// the last whole one. put(x, n, line) gives n values from x on.
template <class T, class Put>
void stream_row(T* to, std::int64_t width, Put put) {
    constexpr std::int64_t per_line = line_bytes / static_cast<std::int64_t>(sizeof(T));
    const std::int64_t head = std::min(width, values_to_line(to)), lines = (width - head) / per_line;
    put(std::int64_t{0}, head, to);
    each_line(lines, [&](std::int64_t i) {
        alignas(line_bytes) T line[per_line];
        put(head + i * per_line, per_line, line);
        stream_line(line, to + head + i * per_line);
    });
    put(head + lines * per_line, width - head - lines * per_line, to + head + lines * per_line);
}

// Grid row g, its source and age known.
template <class T>
void write_row(const Samples<T>& in, std::int64_t now, Method method, const OnGrid<T>& out, std::int64_t g,
               bool past_cache) {
    const std::int64_t left = out.source[g];
    T* to = out.value + g * in.width;
    const auto write = [&](auto put) {
        if (past_cache)
            stream_row(to, in.width, put);
        else
            put(std::int64_t{0}, in.width, to);
    };
    if (left < 0)
        return write([=](std::int64_t, std::int64_t n, T* at) {
            std::fill_n(at, n, std::numeric_limits<T>::quiet_NaN());
        });
    const T *a = in.value + left * in.width, *b = a + in.width;
    if (method == Method::forward_fill || out.age_ns[g] == 0)
        return write([=](std::int64_t x, std::int64_t n, T* at) { std::copy_n(a + x, n, at); });
    const double past = static_cast<double>(out.age_ns[g]);
    const double share = past / (past + static_cast<double>(in.ts_ns[left + 1] - now));
    write([=](std::int64_t x, std::int64_t n, T* at) {
        for (std::int64_t i = 0; i < n; ++i) {
            const double from = static_cast<double>(a[x + i]);
            at[i] = static_cast<T>(from + (static_cast<double>(b[x + i]) - from) * share);
        }
    });
}

template <class T>
Error resample_grid(const Samples<T>& in, const std::int64_t* grid_ns, std::int64_t max_age_ns, Method method,
                    const OnGrid<T>& out, int threads) {
    if (const auto row = first_not_increasing(in.ts_ns, in.n_times); row >= 0)
        return {What::times_not_increasing, row};
    if (const auto row = first_not_increasing(grid_ns, out.n_grid); row >= 0)
        return {What::grid_not_increasing, row};
    find_sources(in, grid_ns, max_age_ns, method, out);
    const bool past_cache = out.n_grid * in.width * static_cast<std::int64_t>(sizeof(T)) >= streamed_bytes;
    parallel_for(threads, (out.n_grid + resampled_rows - 1) / resampled_rows, [&](std::int64_t unit) {
        const std::int64_t stop = std::min(out.n_grid, (unit + 1) * resampled_rows);
        for (std::int64_t g = unit * resampled_rows; g < stop; ++g)
            write_row(in, grid_ns[g], method, out, g, past_cache);
        if (past_cache) stream_end();
    });
    return {};
}

}  // namespace bml
