// Tall rows at the border.
#pragma once

#include "arrays.hpp"
#include "bml/rows.hpp"

namespace bml::bind {

template <class In, int K>
TallRows<In, K> rows_of(const Array<std::int64_t>& ts_ns, const Array<std::int32_t>& level,
                        const Columns<In, K>& columns, const Array<std::int8_t>& side,
                        const Array<std::int64_t>& batch) {
    const std::int64_t n = ts_ns.size();
    TallRows<In, K> rows{n,
                         input(ts_ns, n, "ts_ns_N"),
                         input(level, n, "level_N"),
                         input(side, K == 2 ? n : 0, "side_N"),
                         batch.size() == 0 ? nullptr : input(batch, n, "batch_N"),
                         {}};
    for (std::size_t k = 0; k < K; ++k) rows.column[k] = input(columns[k], n, "columns");
    return rows;
}

// Which snapshot every row is of: one of the two is there.
struct Order {
    const std::int64_t* starts = nullptr;  // (T + 1,)
    const std::int32_t* slot = nullptr;    // (N,)
};

// Starts that lie outside the rows, or slots outside the times, would be read through.
inline Order order_of(const Array<std::int64_t>& starts, const Array<std::int32_t>& slot, std::int64_t n_rows,
                      std::int64_t n_times) {
    if (starts.size() > 0) {
        const std::int64_t* at = input(starts, n_times + 1, "starts");
        bool inside = at[0] == 0 && at[n_times] == n_rows;
        for (std::int64_t t = 0; t < n_times; ++t) inside = inside && at[t] < at[t + 1];
        require(inside, "starts", "not strictly increasing over the rows");
        return {at, nullptr};
    }
    const std::int32_t* of = input(slot, n_rows, "slot_N");
    for (std::int64_t i = 0; i < n_rows; ++i) require(of[i] >= 0 && of[i] < n_times, "slot_N", "outside the times");
    return {nullptr, of};
}

}  // namespace bml::bind
