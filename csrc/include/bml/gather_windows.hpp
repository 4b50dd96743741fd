// Windows out of the arrays of days: rows of one array, then of the next, copied, converted or standardised.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "bml/half_line.hpp"
#include "bml/parallel.hpp"
#include "bml/stream.hpp"

namespace bml {

inline constexpr std::int64_t gathered_rows = 64;  // of a unit of work; no effect on the result
inline constexpr std::int64_t gathered_past_cache = std::int64_t{1} << 19;  // bytes of output
inline constexpr std::int64_t gathered_ahead = 2048;                        // bytes; no effect on any result

template <class From>
struct Days {
    std::int64_t width;          // X
    const From* const* day;      // (S) each (rows, X)
    const std::int64_t* n_rows;  // (S)
};

template <class To>
struct Windows {
    std::int64_t count, rows, most_days;         // W, T, K
    const std::int64_t *day, *start, *standard;  // (W, K), (W), (W)
    To* out;                                     // (W, T, X)
};

// shift + x * scale, clipped, 0 where unknown. Of each set as many rows side by side as fill some lines, and
// one line more.
class Standards {
    std::int64_t stride_;
    std::vector<float> shift_, scale_;

  public:
    const std::int64_t rows;
    const float limit;

    Standards(std::int64_t n, std::int64_t width, const float* shift, const float* scale, float most)
        : stride_(0), rows(std::max<std::int64_t>(1, 1024 / std::max<std::int64_t>(width, 1))), limit(most) {
        stride_ = rows * width + n_line;
        for (std::int64_t i = 0; i < n * stride_ && width > 0; ++i) {
            const std::int64_t at = i / stride_ * width + i % stride_ % width;
            shift_.push_back(shift[at]), scale_.push_back(scale[at]);
        }
    }
    const float* shift(std::int64_t set) const { return shift_.data() + set * stride_; }
    const float* scale(std::int64_t set) const { return scale_.data() + set * stride_; }
};

// n values, a line of the output at a time: make(at, i) is the line of what lies at ``at``, the values from i
// on.
template <class From, class To, class Make>
void write_values(const From* from, std::int64_t n, To* to, bool past_cache, Make make) {
    constexpr std::int64_t per_line = line_bytes / static_cast<std::int64_t>(sizeof(To));
    const auto part = [&](std::int64_t i, std::int64_t count) {
        From some[per_line] = {};
        std::copy_n(from + i, count, some);
        const auto line = make(some, i);
        std::memcpy(to + i, &line, static_cast<std::size_t>(count) * sizeof(To));
    };
    std::int64_t i = std::min(n, values_to_line(to));
    if (i > 0) part(0, i);
    for (; i + per_line <= n; i += per_line) {
        __builtin_prefetch(reinterpret_cast<const char*>(from + i) + gathered_ahead);
        const auto line = make(from + i, i);
        past_cache ? stream_line(&line, to + i) : static_cast<void>(std::memcpy(to + i, &line, line_bytes));
    }
    if (i < n) part(i, n - i);
}

// Whole rows of one day.
template <class From, class To>
void write_rows(const From* from, std::int64_t n_rows, std::int64_t width, To* to, bool past_cache,
                const Standards* standards, std::int64_t set) {
    if constexpr (std::is_same_v<To, float>) {
        if (standards) {
            const float *shift = standards->shift(set), *scale = standards->scale(set),
                        most = standards->limit;
            const Line zero{}, high = zero + most, low = zero - most;
            for (std::int64_t r = 0; r < n_rows; r += standards->rows)
                write_values(from + r * width, std::min(standards->rows, n_rows - r) * width, to + r * width,
                             past_cache, [=](const From* at, std::int64_t i) {
                                 const Line y = load_line(shift + i) + load_line(at) * load_line(scale + i);
                                 const Line below = y > high ? high : y, x = below < low ? low : below;
                                 return x == x ? x : zero;
                             });
            return;
        }
    }
    write_values(from, n_rows * width, to, past_cache, [](const From* at, std::int64_t) {
        if constexpr (std::is_same_v<From, To>) {
            struct alignas(line_bytes) {
                char bytes[line_bytes];
            } line;
            std::memcpy(&line, at, line_bytes);
            return line;
        } else {
            return load_line(at);
        }
    });
}

// Rows of window w, [first, stop) of the output; the caller has checked that its days reach so far.
template <class From, class To>
void write_window(const Days<From>& in, const Windows<To>& out, const Standards* standards, std::int64_t w,
                  std::int64_t first, std::int64_t stop, bool past_cache) {
    To* to = out.out + w * out.rows * in.width;
    const std::int64_t* days = out.day + w * out.most_days;
    std::int64_t begin = -out.start[w];  // the row of the output that the day's first row would be
    for (std::int64_t k = 0; first < stop && k < out.most_days && days[k] >= 0; ++k) {
        const std::int64_t end = begin + in.n_rows[days[k]], until = std::min(end, stop);
        if (first < until) {
            write_rows(in.day[days[k]] + (first - begin) * in.width, until - first, in.width,
                       to + first * in.width, past_cache, standards, standards ? out.standard[w] : 0);
            first = until;
        }
        begin = end;
    }
    std::fill(to + first * in.width, to + stop * in.width, To{0});  // a window of no days
}

template <class From, class To>
void gather_windows(const Days<From>& in, const Windows<To>& out, const Standards* standards, int threads) {
    const std::int64_t units = (out.rows + gathered_rows - 1) / gathered_rows;
    const std::int64_t bytes = out.count * out.rows * in.width * static_cast<std::int64_t>(sizeof(To));
    parallel_for(threads, out.count * units, [&](std::int64_t unit) {
        const TinyNumbers kept;
        const std::int64_t first = unit % units * gathered_rows,
                           stop = std::min(out.rows, first + gathered_rows);
        write_window(in, out, standards, unit / units, first, stop, bytes >= gathered_past_cache);
        stream_end();
    });
}

}  // namespace bml
