// Windows out of the arrays of days: rows of one array, then of the next (standard_rows.hpp).
#pragma once

#include <algorithm>
#include <cstdint>

#include "bml/half_line.hpp"
#include "bml/parallel.hpp"
#include "bml/standard_rows.hpp"
#include "bml/stream.hpp"

namespace bml {

inline constexpr std::int64_t gathered_rows = 64;  // of a unit of work; no effect on the result
inline constexpr std::int64_t gathered_past_cache = std::int64_t{1} << 19;  // bytes of output

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
