// Tall rows (time, level[, side]) to the wide book (T, L, 4).
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "bml/cells.hpp"
#include "bml/error.hpp"
#include "bml/levels.hpp"
#include "bml/parallel.hpp"
#include "bml/shuffled.hpp"
#include "bml/snapshot.hpp"
#include "bml/stream.hpp"
#include "bml/times.hpp"
#include "bml/whose.hpp"

namespace bml {

inline constexpr std::int64_t snapshots_a_unit =
    64;  // of work; no effect on the result, nor have the next two
inline constexpr std::int64_t groups_a_unit = 4;
inline constexpr std::int64_t beyond_cache = std::int64_t{32} << 20;  // bytes

template <class Out>
struct Wide {
    std::int64_t n_times, n_levels;
    const std::int64_t* ts_ns;  // (T,)
    Out* book;                  // (T, L, 4)
    std::int32_t* duplicate;    // (T,)
};

struct UnitOutcome {
    Error error;
    Surplus surplus;
};

template <bool past_cache, class In, class Out>
[[gnu::always_inline]] inline void write_levels(const FourColumns<In>& c, std::int64_t l,
                                                std::int64_t n_levels, Out* book) {
    if (l + 8 <= n_levels) return write_eight<past_cache>(c, book + 4 * l);
    Out last[32];
    write_eight<false>(c, last);
    std::copy_n(last, 4 * (n_levels - l), book + 4 * l);
}

template <bool past_cache, class Rows, class Out>
Error wide_unit(const Rows& rows, const std::int64_t* starts, Keep keep, const Wide<Out>& wide,
                std::int64_t begin, std::int64_t end, Surplus& sum) {
    using In = typename Rows::Value;
    const std::int64_t n_levels = wide.n_levels, stride = (n_levels + 7) / 8 * 8;
    std::vector<In> room;
    Whose<Rows> whose;
    Owners<Rows> owners;
    for (std::int64_t t = begin; t < end; ++t) {
        Out* book = wide.book + t * n_levels * 4;
        const auto write = [=](std::int64_t l, const FourColumns<In>& c) {
            write_levels<past_cache>(c, l, n_levels, book);
        };
        std::int64_t n_deep = 0, n_found = 0;
        wide.duplicate[t] = 0;
        const Streamed how =
            stream_snapshot(rows, starts[t], starts[t + 1], n_levels, n_deep, n_found, write);
        if (how == Streamed::whole) {
            sum.n_deep += n_deep;
            continue;
        }
        if (how == Streamed::not_one_time || !one_time(rows.ts_ns, starts[t], starts[t + 1]))
            return {What::times_changed, starts[t]};
        if (whose.find(rows, starts[t], starts[t + 1], n_levels)) {
            for (std::int64_t l = 0; l < n_levels; l += 8) write(l, whose.eight(l));
            continue;
        }
        room.resize(static_cast<std::size_t>(4 * stride));
        if (const Error error =
                owners.read(rows, starts[t], starts[t + 1], n_levels, stride, keep, sum, room.data()))
            return error;
        wide.duplicate[t] = owners.n_surplus;
        for (std::int64_t l = 0; l < n_levels; l += 8)
            write(l, {room.data() + l, room.data() + stride + l, room.data() + 2 * stride + l,
                      room.data() + 3 * stride + l});
    }
    return {};
}

// The first error in row order, and the surplus of all units.
inline Error sum_up(const std::vector<UnitOutcome>& units, Surplus& sum) {
    Error first;
    for (const UnitOutcome& unit : units) {
        if (unit.error && (!first || unit.error.row < first.row)) first = unit.error;
        sum += unit.surplus;
    }
    return first;
}

template <class Out>
bool goes_past_cache(const Wide<Out>& wide) {
    const auto bytes = wide.n_times * wide.n_levels * 4 * static_cast<std::int64_t>(sizeof(Out));
    return bytes > beyond_cache && reinterpret_cast<std::uintptr_t>(wide.book) % 64 == 0 &&
           wide.n_levels % 8 == 0;
}

// starts (T + 1,): the first row of every snapshot. What::times_changed: the rows are not in time order.
template <class Rows, class Out>
Error tall_to_wide(const Rows& rows, const std::int64_t* starts, Keep keep, const Wide<Out>& wide,
                   Surplus& sum, int threads) {
    const std::int64_t n_units = (wide.n_times + snapshots_a_unit - 1) / snapshots_a_unit;
    const bool past_cache = goes_past_cache(wide);
    std::vector<UnitOutcome> units(static_cast<std::size_t>(n_units));
    parallel_for(threads, n_units, [&](std::int64_t u) {
        UnitOutcome& unit = units[static_cast<std::size_t>(u)];
        const std::int64_t begin = u * snapshots_a_unit,
                           end = std::min(begin + snapshots_a_unit, wide.n_times);
        unit.error = past_cache ? wide_unit<true>(rows, starts, keep, wide, begin, end, unit.surplus)
                                : wide_unit<false>(rows, starts, keep, wide, begin, end, unit.surplus);
        stream_end();
    });
    return sum_up(units, sum);
}

// The same of rows in any order; ``slot`` is the snapshot of every row.
template <class Rows, class Out>
Error shuffled_to_wide(const Rows& rows, const std::int32_t* slot, Keep keep, const Wide<Out>& wide,
                       Surplus& sum, int threads) {
    const std::int64_t n_levels = wide.n_levels;
    const Groups<Rows> groups(rows, slot, {0, wide.n_times}, n_levels, threads);
    if (groups.error) return groups.error;
    const auto n_groups = static_cast<std::int64_t>(groups.first.size()) - 1;
    const std::int64_t n_units = (n_groups + groups_a_unit - 1) / groups_a_unit;
    std::vector<UnitOutcome> units(static_cast<std::size_t>(n_units));
    parallel_for(threads, n_units, [&](std::int64_t u) {
        UnitOutcome& unit = units[static_cast<std::size_t>(u)];
        ShuffledReader<Rows> reader(rows, groups, keep, 1);
        Snapshot<typename Rows::Value> snapshot;
        const auto begin = static_cast<std::size_t>(u * groups_a_unit);
        const auto end = static_cast<std::size_t>(std::min((u + 1) * groups_a_unit, n_groups));
        for (std::int64_t t = groups.first[begin]; t < groups.first[end]; ++t) {
            if (const Error error = reader.read(t, snapshot); error) {
                if (!unit.error || error.row < unit.error.row) unit.error = error;
                continue;
            }
            wide.duplicate[t] = snapshot.n_surplus;
            const auto& c = snapshot.column;
            for (std::int64_t l = 0; l < n_levels; l += 8)
                write_levels<false>(FourColumns<typename Rows::Value>{c[0] + l, c[1] + l, c[2] + l, c[3] + l},
                                    l, n_levels, wide.book + t * n_levels * 4);
        }
        unit.surplus = reader.surplus;
    });
    sum.n_deep += groups.n_deep;
    return sum_up(units, sum);
}

}  // namespace bml
