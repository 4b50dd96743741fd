// Rows in any order: brought together in groups of snapshots that fit a cache, then placed. Two reads and one
// write of the rows instead of a sort; the order of rows is kept in a group, so the rule for duplicates
// holds.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "bml/cells.hpp"
#include "bml/distinct_times.hpp"
#include "bml/error.hpp"
#include "bml/huge.hpp"
#include "bml/parallel.hpp"
#include "bml/reader.hpp"
#include "bml/rows.hpp"
#include "bml/snapshot.hpp"

namespace bml {

inline constexpr std::int64_t group_values = std::int64_t{1} << 16;  // of a group's room: half a megabyte

template <class In, std::size_t W>
struct Record {
    std::uint32_t place, row;  // of its first value in the group's room; of the rows
    std::array<In, W> value;
};

// slot (N,): the snapshot of every row; ``bounds``: snapshots between which no group may lie, 0 and T
// included.
template <class Rows>
struct Groups {
    using In = typename Rows::Value;
    static constexpr std::uint32_t nobody = std::numeric_limits<std::uint32_t>::max();

    std::vector<std::int64_t> first;  // (n + 1,) snapshot
    std::vector<std::int32_t> of;     // (T,) group
    std::vector<std::int64_t> begin;  // (n + 1,) record
    Huge<Record<In, Rows::width>> record;
    std::int64_t stride, n_deep = 0;
    Error error;

    Groups(const Rows& rows, const std::int32_t* slot, const std::vector<std::int64_t>& bounds,
           std::int64_t n_levels, int threads)
        : record(static_cast<std::size_t>(rows.n_rows)), stride(padded_levels(n_levels)) {
        cut(bounds);
        const std::int64_t n_parts = (rows.n_rows + rows_a_part - 1) / rows_a_part;
        const std::size_t n = first.size() - 1;
        std::vector<std::vector<std::int64_t>> next(static_cast<std::size_t>(n_parts));  // count, then place
        std::vector<Error> errors(static_cast<std::size_t>(n_parts));
        std::vector<std::int64_t> deep(static_cast<std::size_t>(n_parts));
        const auto each_row = [&](std::int64_t part, auto use) {
            const std::int64_t stop = std::min(rows.n_rows, (part + 1) * rows_a_part);
            for (std::int64_t i = part * rows_a_part; i < stop; ++i)
                if (rows.level[i] <= n_levels)
                    use(i, static_cast<std::size_t>(of[static_cast<std::size_t>(slot[i])]));
        };
        parallel_for(threads, n_parts, [&](std::int64_t part) {
            const auto p = static_cast<std::size_t>(part);
            const std::int64_t start = part * rows_a_part, stop = std::min(rows.n_rows, start + rows_a_part);
            errors[p] = check(rows, start, stop);
            next[p].assign(n, 0);
            if (errors[p]) return;
            std::int64_t kept = 0;
            each_row(part, [&](std::int64_t, std::size_t group) { ++next[p][group], ++kept; });
            deep[p] = stop - start - kept;
        });
        begin.assign(n + 1, 0);
        for (const Error& found : errors)
            if (found) {
                error = found;
                return;
            }
        for (const std::int64_t some : deep) n_deep += some;
        std::int64_t at = 0;
        for (std::size_t group = 0; group < n; ++group) {
            begin[group] = at;
            for (auto& part : next) {
                const std::int64_t count = part[group];
                part[group] = at;
                at += count;
            }
        }
        begin[n] = at;
        parallel_for(threads, n_parts, [&](std::int64_t part) {
            std::int64_t* to = next[static_cast<std::size_t>(part)].data();
            each_row(part, [&](std::int64_t i, std::size_t group) {
                auto& of_row = record[to[group]++];
                __builtin_prefetch(&of_row + 2, 1);  // written soon: many lines are begun at a time
                std::int64_t place = 4 * ((slot[i] - first[group]) * stride + rows.level[i] - 1);
                if constexpr (Rows::width == 2) place += 2 * rows.side[i];
                of_row.place = static_cast<std::uint32_t>(place), of_row.row = static_cast<std::uint32_t>(i);
                for (std::size_t k = 0; k < Rows::width; ++k) of_row.value[k] = rows.column[k][i];
            });
        });
    }

  private:
    void cut(const std::vector<std::int64_t>& bounds) {
        const std::int64_t size = std::max(std::int64_t{1}, group_values / (4 * stride));
        first = {0};
        for (std::size_t b = 1; b < bounds.size(); ++b)
            while (first.back() < bounds[b]) first.push_back(std::min(first.back() + size, bounds[b]));
        of.resize(static_cast<std::size_t>(first.back()));
        for (std::size_t group = 0; group + 1 < first.size(); ++group)
            std::fill(of.begin() + first[group], of.begin() + first[group + 1],
                      static_cast<std::int32_t>(group));
    }

    static Error check(const Rows& rows, std::int64_t start, std::int64_t stop) {
        for (std::int64_t i = start; i < stop; ++i) {
            if (rows.level[i] < 1) return {What::level_below_one, i};
            if constexpr (Rows::width == 2)
                if (rows.side[i] != 0 && rows.side[i] != 1) return {What::side_unknown, i};
        }
        return {};
    }
};

// Reads snapshots of groups as OrderedReader does of rows in order.
template <class R>
class ShuffledReader : public Rooms<typename R::Value> {
  public:
    using Rows = R;
    using In = typename Rows::Value;
    static constexpr bool in_row_order = false;

    ShuffledReader(const Rows& rows, const Groups<Rows>& groups, Keep keep, int rooms)
        : Rooms<In>(groups.stride, rooms), rows_(rows), groups_(groups), keep_(keep) {}

    Surplus surplus;

    Error read(std::int64_t t, Snapshot<In>& to) {
        const std::int64_t group = groups_.of[static_cast<std::size_t>(t)];
        if (group != group_)
            if (const Error error = place(group)) return error;
        const std::int64_t i = t - groups_.first[static_cast<std::size_t>(group)];
        const In* cell = room_.data() + i * 4 * groups_.stride;
        In* room = this->next_room();
        read_cells(cell, groups_.stride, room, groups_.stride);
        to = {};
        to.column = this->columns_of(room);
        to.n_surplus = n_surplus_[static_cast<std::size_t>(i)];
        to.n_nan = n_nan_[static_cast<std::size_t>(i)];
        return {};
    }

  private:
    Error place(std::int64_t group) {
        const auto g = static_cast<std::size_t>(group);
        const std::int64_t n = groups_.first[g + 1] - groups_.first[g], size = 4 * groups_.stride;
        group_ = group;
        room_.assign(static_cast<std::size_t>(n * size), std::numeric_limits<In>::quiet_NaN());
        owner_.assign(static_cast<std::size_t>(n * size / 2),
                      Groups<Rows>::nobody);  // of every side of a level
        n_surplus_.assign(static_cast<std::size_t>(n), 0);
        n_nan_.assign(static_cast<std::size_t>(n), 0);
        std::int64_t n_twice = 0;
        const auto* const record = groups_.record.data();
        for (std::int64_t r = groups_.begin[g]; r < groups_.begin[g + 1]; ++r) {
            const auto& row = record[r];
            std::uint32_t& owner = owner_[row.place / 2];
            if constexpr (Rows::width == 2)
                if (row.value[0] != row.value[0] && row.value[1] != row.value[1])
                    ++n_nan_[static_cast<std::size_t>(row.place / size)];
            if (owner != Groups<Rows>::nobody) {
                ++n_twice;
                ++n_surplus_[static_cast<std::size_t>(row.place / size)];
                if (!replaces(rows_, row.row, owner, keep_)) continue;
            }
            owner = row.row;
            std::copy_n(row.value.begin(), Rows::width, room_.begin() + row.place);
        }
        return n_twice > 0 ? settle(g) : Error{};
    }

    Error settle(std::size_t g) {
        for (std::int64_t r = groups_.begin[g]; r < groups_.begin[g + 1]; ++r) {
            const std::int64_t i = groups_.record[r].row, kept = owner_[groups_.record[r].place / 2];
            if (kept == i || (rows_.batch && rows_.batch[i] != rows_.batch[kept])) continue;
            if (same_values(rows_, i, kept)) {
                ++surplus.n_duplicate;
            } else if (keep_ == Keep::refuse) {
                return {What::duplicate_conflict, i};
            } else {
                ++surplus.n_conflict;
            }
        }
        return {};
    }

    const Rows& rows_;
    const Groups<Rows>& groups_;
    const Keep keep_;
    std::int64_t group_ = -1;
    std::vector<In> room_;
    std::vector<std::uint32_t> owner_;
    std::vector<std::int32_t> n_surplus_;
    std::vector<std::int64_t> n_nan_;
};

}  // namespace bml
