// Rows of values, copied, converted or standardised, a line of the output at a time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "bml/half_line.hpp"
#include "bml/stream.hpp"

namespace bml {

inline constexpr std::int64_t gathered_ahead = 2048;  // bytes; no effect on any result

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

}  // namespace bml
