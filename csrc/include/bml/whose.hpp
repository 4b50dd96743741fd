// A snapshot whose rows are in no order: which row every cell is taken from, when no cell is named twice.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "bml/lanes.hpp"
#include "bml/rows.hpp"

namespace bml {

// Eight values of ``from`` at ``at``; NaN where that is negative.
template <class In>
void gather_eight(const In* from, const std::int32_t* at, In* to) {
#if defined(__AVX512F__)
    const __m256i index = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
    if constexpr (sizeof(In) == 8) {
        const __mmask8 there = static_cast<__mmask8>(~_mm256_movemask_ps(_mm256_castsi256_ps(index)));
        const __m512d nan = _mm512_set1_pd(std::numeric_limits<double>::quiet_NaN());
        _mm512_storeu_pd(to, _mm512_mask_i32gather_pd(nan, there, index, from, 8));
        return;
    }
#endif
    for (int i = 0; i < n_lanes; ++i) to[i] = at[i] < 0 ? std::numeric_limits<In>::quiet_NaN() : from[at[i]];
}

template <class Rows>
class Whose {
    using In = typename Rows::Value;
    std::vector<std::int32_t> row_;  // (sides, padded levels), counted from the snapshot's first; -1: no row
    std::int64_t stride_ = 0;
    std::array<const In*, 4> from_;  // the snapshot's first row
    std::array<std::array<In, 8>, 4> eight_;
    const std::int64_t* ts_ = nullptr;
    const std::int32_t* level_ = nullptr;

  public:
    // False: some row is not in the book, or a cell is named twice. One pass over the levels, without a
    // branch.
    bool find(const Rows& rows, std::int64_t start, std::int64_t stop, std::int64_t n_levels) {
        if (stop - start > n_levels * Rows::sides) return false;
        const auto n = static_cast<std::int32_t>(stop - start);
        const std::int32_t* level = rows.level + start;
        std::int32_t least = 1, most = 1;
        for (std::int32_t i = 0; i < n; ++i)
            least = std::min(least, level[i]), most = std::max(most, level[i]);
        if (least < 1 || most > n_levels) return false;
        ts_ = rows.ts_ns + start, level_ = level;
        stride_ = (n_levels + 7) / 8 * 8;
        row_.assign(static_cast<std::size_t>(stride_ * Rows::sides), -1);
        std::int32_t* row = row_.data();
        if constexpr (Rows::width == 2) {
            const std::int8_t* side = rows.side + start;
            std::int8_t other = 0;
            for (std::int32_t i = 0; i < n; ++i) other = static_cast<std::int8_t>(other | (side[i] & ~1));
            if (other != 0) return false;
            for (std::int32_t i = 0; i < n; ++i) row[side[i] * stride_ + level[i] - 1] = i;
        } else {
            for (std::int32_t i = 0; i < n; ++i) row[level[i] - 1] = i;
        }
        for (std::size_t f = 0; f < 4; ++f) from_[f] = rows.column[f % Rows::width] + start;
        return n == std::count_if(row_.begin(), row_.end(), [](std::int32_t i) { return i >= 0; });
    }

    // Columns of levels l + 1 .. l + 8, good until the next call; also asks for the snapshot after, since no
    // order of reading tells the hardware what comes.
    FourColumns<In> eight(std::int64_t l) {
        FourColumns<In> to;
        __builtin_prefetch(ts_ + stride_ * Rows::sides + l * Rows::sides);
        __builtin_prefetch(level_ + stride_ * Rows::sides + l * Rows::sides);
        for (std::size_t f = 0; f < 4; ++f) {
            const std::size_t side = Rows::width == 2 ? f / 2 : 0;
            const std::int64_t at = static_cast<std::int64_t>(side) * stride_ + l;
            __builtin_prefetch(from_[f] + stride_ * Rows::sides + at);
            gather_eight(from_[f], row_.data() + at, eight_[f].data());
            to[f] = eight_[f].data();
        }
        return to;
    }
};

}  // namespace bml
