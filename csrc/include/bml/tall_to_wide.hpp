// Tall rows (time, level[, side]) to the wide book (T, L, 4): one read of the rows, one write of the book.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "bml/error.hpp"
#include "bml/times.hpp"

namespace bml {

enum class Keep : std::int32_t { refuse = 0, first = 1, last = 2 };

// K columns a row: 4 = both sides (bid_px, bid_qty, ask_px, ask_qty), 2 = one side (px, qty).
template <class In, int K>
struct TallRows {
    std::int64_t n_rows;
    const std::int64_t* ts_ns;
    const std::int32_t* level;
    const std::int8_t* side;    // read when K is 2
    const std::int64_t* batch;  // null: all rows are of one batch
    std::array<const In*, K> column;

    static constexpr std::int64_t sides = 4 / K;

    std::int64_t cell(std::int64_t i) const {
        const std::int64_t l = level[i] - std::int64_t{1};
        if constexpr (K == 2) return 2 * l + side[i];
        return l;
    }
    bool same(std::int64_t i, std::int64_t j) const {  // NaN equals NaN: missing twice is no conflict
        return std::all_of(column.begin(), column.end(),
                           [=](const In* c) { return c[i] == c[j] || (c[i] != c[i] && c[j] != c[j]); });
    }
    bool later(std::int64_t i, std::int64_t j, Keep keep) const {
        if (batch && batch[i] != batch[j]) return batch[i] > batch[j];
        return keep == Keep::last;
    }
};

// sorted: times are written as they come, ``owner`` holds one snapshot, (L, sides).
// else:   times are given, sorted and unique, ``owner`` holds every cell, (T, L, sides). It starts as -1.
template <class Out>
struct Wide {
    bool sorted;
    std::int64_t n_times, n_levels;
    std::int64_t* ts_ns;
    Out* book;                // (T, L, 4)
    std::int32_t* duplicate;  // (T,), starts as 0
    std::int64_t* owner;      // the row a cell was taken from
    std::int64_t n_deep = 0, n_duplicate = 0, n_conflict = 0;
};

// The snapshot in hand: its slot, its first row when times come in order (else 0), surplus rows so far.
struct Place {
    std::int64_t t = -1, first = 0, surplus = 0;
};

// Counts the surplus rows of [start, stop), once it is known which row every cell keeps.
template <class In, int K, class Out>
Error settle(const TallRows<In, K>& rows, std::int64_t start, std::int64_t stop, std::int64_t t, Keep keep,
             Wide<Out>& wide) {
    const std::int64_t cells = wide.n_levels * rows.sides;
    for (std::int64_t i = start; i < stop; ++i) {
        if (rows.level[i] > wide.n_levels) continue;
        if (!wide.sorted && wide.ts_ns[t] != rows.ts_ns[i])
            t = find_time(rows.ts_ns[i], wide.ts_ns, wide.n_times, t);
        const std::int64_t kept = wide.owner[(wide.sorted ? 0 : t * cells) + rows.cell(i)];
        if (kept == i) continue;
        ++wide.duplicate[t];
        if (rows.batch && rows.batch[i] != rows.batch[kept]) continue;  // a later batch replaced it
        if (rows.same(i, kept)) {
            ++wide.n_duplicate;
        } else if (keep == Keep::refuse) {
            return {What::duplicate_conflict, i};
        } else {
            ++wide.n_conflict;
        }
    }
    return {};
}

// A row of another time than the one before it: its snapshot, settled and opened when times come in order.
template <class In, int K, class Out>
Error enter(const TallRows<In, K>& rows, std::int64_t i, Place& at, Keep keep, Wide<Out>& wide) {
    if (!wide.sorted) {
        at.t = find_time(rows.ts_ns[i], wide.ts_ns, wide.n_times, at.t);
        return at.t < 0 ? Error{What::times_changed, i} : Error{};
    }
    if (at.surplus > 0)
        if (const Error error = settle(rows, at.first, i, at.t, keep, wide)) return error;
    at = {at.t + 1, i, 0};
    if (at.t == wide.n_times) return {What::times_changed, i};
    const std::int64_t values = wide.n_levels * 4;
    wide.ts_ns[at.t] = rows.ts_ns[i];
    std::fill_n(wide.book + at.t * values, values, std::numeric_limits<Out>::quiet_NaN());  // stays in cache
    return {};
}

template <class In, int K, class Out>
Error tall_to_wide(const TallRows<In, K>& rows, Keep keep, Wide<Out>& wide) {
    const std::int64_t cells = wide.n_levels * rows.sides;
    if (!wide.sorted) std::fill_n(wide.book, wide.n_times * cells * K, std::numeric_limits<Out>::quiet_NaN());
    Place at;
    for (std::int64_t i = 0; i < rows.n_rows; ++i) {
        if (at.t < 0 || wide.ts_ns[at.t] != rows.ts_ns[i])
            if (const Error error = enter(rows, i, at, keep, wide)) return error;
        if (rows.level[i] < 1) return {What::level_below_one, i};
        if constexpr (K == 2)
            if (rows.side[i] != 0 && rows.side[i] != 1) return {What::side_unknown, i};
        if (rows.level[i] > wide.n_levels) {
            ++wide.n_deep;
            continue;
        }
        const std::int64_t cell = rows.cell(i);
        std::int64_t& owner = wide.owner[(wide.sorted ? 0 : at.t * cells) + cell];
        if (owner >= at.first) {  // a smaller number is of an earlier snapshot
            ++at.surplus;
            if (!rows.later(i, owner, keep)) continue;
        }
        owner = i;
        Out* to = wide.book + (at.t * cells + cell) * K;
        for (std::size_t k = 0; k < K; ++k) to[k] = static_cast<Out>(rows.column[k][i]);
    }
    if (at.surplus > 0)
        if (const Error error = settle(rows, at.first, rows.n_rows, at.t, keep, wide)) return error;
    return wide.sorted && at.t + 1 != wide.n_times ? Error{What::times_changed, rows.n_rows - 1} : Error{};
}

}  // namespace bml
