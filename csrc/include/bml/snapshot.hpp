// One snapshot whose rows are in no order, or of which cells repeat: row by row, with the rule for
// duplicates.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "bml/error.hpp"
#include "bml/rows.hpp"

namespace bml {

// Rows left out, by kind.
struct Surplus {
    std::int64_t n_deep = 0, n_duplicate = 0, n_conflict = 0;

    void operator+=(const Surplus& other) {
        n_deep += other.n_deep, n_duplicate += other.n_duplicate, n_conflict += other.n_conflict;
    }
};

template <class Rows>
bool same_values(const Rows& rows, std::int64_t i,
                 std::int64_t j) {  // NaN equals NaN: missing twice is no conflict
    return std::all_of(rows.column.begin(), rows.column.end(),
                       [=](const auto* c) { return c[i] == c[j] || (c[i] != c[i] && c[j] != c[j]); });
}

template <class Rows>
bool replaces(const Rows& rows, std::int64_t i, std::int64_t kept, Keep keep) {
    if (rows.batch && rows.batch[i] != rows.batch[kept]) return rows.batch[i] > rows.batch[kept];
    return keep == Keep::last;
}

// Which row every cell of a snapshot is taken from.
template <class Rows>
class Owners {
    using In = typename Rows::Value;
    std::vector<std::int64_t> owner_;  // of an earlier snapshot: a smaller number

  public:
    std::int32_t n_surplus = 0;  // rows of the snapshot beyond one a cell
    std::int64_t n_nan = 0;      // sided rows of the snapshot without price and quantity

    // Fills room (4, stride) from rows [start, stop), which must be of one time.
    Error read(const Rows& rows, std::int64_t start, std::int64_t stop, std::int64_t n_levels,
               std::int64_t stride, Keep keep, Surplus& sum, In* room) {
        n_surplus = 0, n_nan = 0;
        if constexpr (Rows::width == 2)
            for (std::int64_t i = start; i < stop; ++i)
                n_nan += rows.level[i] <= n_levels && rows.column[0][i] != rows.column[0][i] &&
                         rows.column[1][i] != rows.column[1][i];
        owner_.resize(static_cast<std::size_t>(n_levels * Rows::sides), -1);
        std::fill_n(room, 4 * stride, std::numeric_limits<In>::quiet_NaN());
        for (std::int64_t i = start; i < stop; ++i) {
            if (rows.level[i] < 1) return {What::level_below_one, i};
            if constexpr (Rows::width == 2)
                if (rows.side[i] != 0 && rows.side[i] != 1) return {What::side_unknown, i};
            if (rows.level[i] > n_levels) {
                ++sum.n_deep;
                continue;
            }
            std::int64_t& owner = owner_[static_cast<std::size_t>(rows.slot(i))];
            if (owner >= start) {
                ++n_surplus;
                if (!replaces(rows, i, owner, keep)) continue;
            }
            owner = i;
            In* to = room + rows.level[i] - 1;
            if constexpr (Rows::width == 2) to += 2 * stride * rows.side[i];
            for (std::size_t k = 0; k < Rows::width; ++k)
                to[static_cast<std::int64_t>(k) * stride] = rows.column[k][i];
        }
        return n_surplus > 0 ? settle(rows, start, stop, n_levels, keep, sum) : Error{};
    }

  private:
    // Counts the surplus rows, now that it is known which row every cell keeps.
    Error settle(const Rows& rows, std::int64_t start, std::int64_t stop, std::int64_t n_levels, Keep keep,
                 Surplus& sum) const {
        for (std::int64_t i = start; i < stop; ++i) {
            if (rows.level[i] > n_levels) continue;
            const std::int64_t kept = owner_[static_cast<std::size_t>(rows.slot(i))];
            if (kept == i || (rows.batch && rows.batch[i] != rows.batch[kept]))
                continue;  // a later batch replaced it
            if (same_values(rows, i, kept)) {
                ++sum.n_duplicate;
            } else if (keep == Keep::refuse) {
                return {What::duplicate_conflict, i};
            } else {
                ++sum.n_conflict;
            }
        }
        return {};
    }
};

}  // namespace bml
