// Tall rows as they come: one row per (time, level[, side]), a column each, in any order.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace bml {

// Of rows of one cell and batch with different values: refuse them, or keep one by row order.
enum class Keep : std::int32_t { refuse = 0, first = 1, last = 2 };

// K columns a row: 4 = both sides (bid_px, bid_qty, ask_px, ask_qty), 2 = one side (px, qty).
template <class In, int K>
struct TallRows {
    using Value = In;
    static constexpr std::size_t width = K;
    static constexpr std::int64_t sides = 4 / K;

    std::int64_t n_rows;
    const std::int64_t* ts_ns;
    const std::int32_t* level;
    const std::int8_t* side;    // read when K is 2
    const std::int64_t* batch;  // null: all rows are of one batch
    std::array<const In*, K> column;

    std::int64_t slot(std::int64_t i) const {  // of the cell in its snapshot
        const std::int64_t l = level[i] - std::int64_t{1};
        if constexpr (K == 2) return 2 * l + side[i];
        return l;
    }
};

// Columns of one snapshot over its levels: bid_px, bid_qty, ask_px, ask_qty.
template <class In>
using FourColumns = std::array<const In*, 4>;

// Where the asks of [start, stop) begin when all bids come first, else -1.
inline std::int64_t first_ask(const std::int8_t* side, std::int64_t start, std::int64_t stop) {
    const std::int64_t half = start + (stop - start) / 2;
    std::int64_t at = half;
    if (half == start || side[half - 1] != 0 || side[half] != 1)
        at = std::lower_bound(side + start, side + stop, std::int8_t{1}) - side;
    std::int8_t bid = 0, ask = 1;
    for (std::int64_t i = start; i < at; ++i) bid = static_cast<std::int8_t>(bid | side[i]);
    std::int8_t other = 0;
    for (std::int64_t i = at; i < stop; ++i) other = static_cast<std::int8_t>(other | (side[i] ^ ask));
    return bid == 0 && other == 0 ? at : -1;
}

}  // namespace bml
