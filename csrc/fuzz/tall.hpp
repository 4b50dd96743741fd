// Rows in any order, with duplicates, and the book they come to by maps: one row and one cell at a time.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <map>
#include <set>
#include <tuple>

#include "bml/error.hpp"
#include "bml/tall_to_wide.hpp"
#include "fuzz.hpp"

namespace fuzz {

template <class T, int K>
struct Rows {
    int64_t levels = 1;
    bml::Keep keep = bml::Keep::refuse;
    Vec<int64_t> ts, batch;  // batch: empty is none
    Vec<std::int32_t> level;
    Vec<std::int8_t> side;  // empty when K is 4
    std::array<Vec<T>, K> column;

    int64_t size() const { return static_cast<int64_t>(ts.size()); }
    bml::TallRows<T, K> view() const {
        bml::TallRows<T, K> rows{
            size(), ts.data(), level.data(), side.data(), batch.empty() ? nullptr : batch.data(), {}};
        for (std::size_t k = 0; k < K; ++k) rows.column[k] = column[k].data();
        return rows;
    }
};

// Where snapshots begin, the end included; empty: not in order.
inline Vec<int64_t> starts_of(const Vec<int64_t>& ts) {
    Vec<int64_t> starts(ts.size() + 1), times(ts.size());
    const int64_t n =
        bml::find_snapshots(ts.data(), static_cast<int64_t>(ts.size()), starts.data(), times.data());
    return Vec<int64_t>(starts.data(), starts.data() + n + 1);
}

// Rows as they come from a table, more or less: whole snapshots, then faults.
template <class T, int K>
Rows<T, K> any_rows(Input& in) {
    Rows<T, K> rows;
    const bool batched = in.flag(), faults = in.flag();
    rows.levels = in.number(1, 20);
    rows.keep = static_cast<bml::Keep>(in.number(0, 2));
    const auto add = [&](int64_t ts, int64_t level, int64_t side) {
        rows.ts.push_back(ts);
        rows.level.push_back(static_cast<std::int32_t>(level));
        if constexpr (K == 2) rows.side.push_back(static_cast<std::int8_t>(side));
        if (batched) rows.batch.push_back(in.number(0, 2));
        for (auto& column : rows.column) column.push_back(in.value<T>());
    };
    for (int64_t s = in.number(0, 6); s > 0; --s) {
        const int64_t ts = in.time(), deepest = in.number(0, 22), first = in.number(1, 3);
        for (int64_t side = 0; side < (K == 2 ? 2 : 1); ++side)
            for (int64_t l = first; l <= deepest; ++l)
                if (!faults || in.number(0, 7) > 0) add(ts, l, side);
    }
    for (int64_t i = faults ? in.number(0, 20) : 0; i > 0; --i) {
        const bool broken = in.number(0, 63) == 0;
        add(in.time(), broken ? in.number(-1, 1) : in.number(1, 22),
            broken ? in.number(-1, 2) : in.number(0, 1));
    }
    if (in.flag()) {  // in time order, each snapshot as it came
        Vec<std::size_t> order(rows.ts.size());
        for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
        std::stable_sort(order.begin(), order.end(), [&](auto i, auto j) { return rows.ts[i] < rows.ts[j]; });
        const auto sort = [&](auto& x) {
            auto sorted = x;
            for (std::size_t i = 0; i < x.size(); ++i) sorted[i] = x[order[i]];
            x = sorted;
        };
        sort(rows.ts), sort(rows.level), sort(rows.side), sort(rows.batch);
        for (auto& column : rows.column) sort(column);
    }
    for (auto* x : {&rows.ts, &rows.batch}) x->shrink_to_fit();
    rows.level.shrink_to_fit(), rows.side.shrink_to_fit();
    for (auto& column : rows.column) column.shrink_to_fit();
    return rows;
}

template <class Out>
struct Book {
    std::set<bml::What> faults;  // empty: the rest holds
    Vec<int64_t> times;
    Vec<Out> book;
    Vec<std::int32_t> duplicate;
    int64_t n_deep = 0, n_duplicate = 0, n_conflict = 0;
};

template <class T, int K, class Out>
Book<Out> book_of(const Rows<T, K>& rows) {
    Book<Out> out;
    std::map<int64_t, std::size_t> slot;
    for (const int64_t ts : rows.ts) slot[ts] = 0;
    for (auto& [ts, t] : slot) t = out.times.size(), out.times.push_back(ts);
    out.book.assign(out.times.size() * at(rows.levels) * 4, std::numeric_limits<Out>::quiet_NaN());
    out.duplicate.assign(out.times.size(), 0);
    std::map<std::tuple<std::size_t, int64_t, int64_t>, Vec<std::size_t>> cells;
    for (std::size_t i = 0; i < rows.ts.size(); ++i) {
        const int64_t side = rows.side.empty() ? 0 : rows.side[i];
        const bool known = side == 0 || side == 1;
        if (rows.level[i] < 1) out.faults.insert(bml::What::level_below_one);
        if (!known) out.faults.insert(bml::What::side_unknown);
        if (rows.level[i] > rows.levels)
            ++out.n_deep;
        else if (rows.level[i] >= 1 && known)
            cells[{slot[rows.ts[i]], rows.level[i], side}].push_back(i);
    }
    for (const auto& [cell, all] : cells) {
        const auto batch = [&](std::size_t i) { return rows.batch.empty() ? 0 : rows.batch[i]; };
        std::size_t kept = all[0];
        for (const std::size_t i : all)
            if (batch(i) > batch(kept) || (batch(i) == batch(kept) && rows.keep == bml::Keep::last)) kept = i;
        const auto& [t, level, side] = cell;
        out.duplicate[t] += static_cast<std::int32_t>(all.size()) - 1;
        for (const std::size_t i : all) {
            if (i == kept || batch(i) != batch(kept)) continue;
            const bool equal = std::all_of(rows.column.begin(), rows.column.end(), [&](const auto& c) {
                return c[i] == c[kept] || (std::isnan(c[i]) && std::isnan(c[kept]));
            });
            ++(equal ? out.n_duplicate : out.n_conflict);
            if (!equal && rows.keep == bml::Keep::refuse) out.faults.insert(bml::What::duplicate_conflict);
        }
        for (std::size_t k = 0; k < K; ++k)
            out.book[(t * at(rows.levels) + at(level - 1)) * 4 + (K == 2 ? 2 * at(side) : 0) + k] =
                static_cast<Out>(rows.column[k][kept]);
    }
    return out;
}

}  // namespace fuzz
