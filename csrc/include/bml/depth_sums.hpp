// What the levels of one bin of one snapshot add up to, by the lane rule, for the two ways a snapshot lies in
// memory.
//
// Both ways give the same bits. A side of a level is present when neither px nor qty is NaN; absent ones add
// +0.0.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>

#include "bml/lanes.hpp"

namespace bml {

inline constexpr std::int64_t bytes_ahead =
    2048;  // what prefetching was measured to need; no effect on results

// ``value`` is the sum of px * qty, or of px.
struct SideSums {
    double value = 0, qty = 0;
    std::int64_t present = 0;
};

enum class Sum { px_qty, px };

// Calls eight(l, least, limit) for every eight levels from l, a multiple of 8, that [start, stop) touches: it
// holds those of [l + least, l + limit). ``limit`` is 0 when it holds all.
template <class Eight>
void each_eight(std::int64_t start, std::int64_t stop, Eight eight) {
    std::int64_t l = start - start % n_lanes;
    if (l < start) {
        eight(l, start - l, stop - l);
        l += n_lanes;
    }
    for (; l + n_lanes <= stop; l += n_lanes) eight(l, std::int64_t{0}, std::int64_t{0});
    if (l < stop) eight(l, std::int64_t{0}, stop - l);
}

// ``count`` values, and NaN after those, where a row ends before eight levels do.
template <class T, std::size_t size>
const T* padded(const T* from, std::int64_t count, T (&whole)[size]) {
    if (count >= static_cast<std::int64_t>(size)) return from;
    std::fill(std::copy_n(from, count, whole), whole + size, std::numeric_limits<T>::quiet_NaN());
    return whole;
}

// cell (L, 4), as in a book. Fields stay where they lie in a register: px * qty is summed in the places of
// px, qty in its own.
template <class T>
struct Cells {
    const T* cell;
    std::int64_t n_levels;

    template <Sum kind>
    void add(std::int64_t start, std::int64_t stop, SideSums (&side)[2]) const {
        Native sum[registers] = {};
        Mask absent[distinct] = {};
        each_eight(start, stop, [&](std::int64_t l, std::int64_t least, std::int64_t limit) {
            if (limit == 0) {
                prefetch(cell + 4 * l, 4 * n_lanes, bytes_ahead);
                add_eight<kind>(cell + 4 * l, sum, absent, [](int) { return ~Mask{}; });
                return;
            }
            T whole[4 * n_lanes];
            const T* from = padded(cell + 4 * l, 4 * (n_levels - l), whole);
            add_eight<kind>(from, sum, absent, [=](int r) {
                const Mask place = places() + r * n_native;
                return (place >= 4 * least) & (place < 4 * limit);
            });
        });
        finish(sum, absent, side);
    }

  private:
    static constexpr int registers = 4 * n_lanes / n_native;          // of eight levels
    static constexpr int distinct = n_native > 4 ? 1 : 4 / n_native;  // until the fields repeat

    template <Sum kind, class Inside>
    static void add_eight(const T* from, Native* sum, Mask* absent, Inside inside) {
#pragma GCC unroll 16
        for (int r = 0; r < registers; ++r) {
            const Native x = load(from + r * n_native), other = swapped(x);
            const Mask ok = inside(r) & (x == x) & (other == other);
            Native y = x;
            if constexpr (kind == Sum::px_qty) y = (places() & 1) == 0 ? x * other : x;
            add_where(ok, y, sum[r]);
            absent[r % distinct] += ok;
        }
    }

    static void finish(const Native* sum, const Mask* absent, SideSums (&side)[2]) {
        double field[4];
        if constexpr (n_native == 8) {
            const Native x = (sum[0] + sum[2]) + (sum[1] + sum[3]);  // even lanes below, odd lanes above
            for (int f = 0; f < 4; ++f) field[f] = x[f] + x[f + 4];
        } else {
            for (int j = 0; j < distinct; ++j)
                store(total([=](int lane) { return sum[lane * distinct + j]; }), field + j * n_native);
        }
        std::int64_t count[distinct * n_native];
        std::memcpy(count, absent, sizeof count);
        for (int k = 0; k < 2; ++k) {
            side[k] = {field[2 * k], field[2 * k + 1], 0};
            for (int i = 2 * k; i < distinct * n_native; i += 4) side[k].present -= count[i];
        }
    }
};

// Four columns (L,): bid_px, bid_qty, ask_px, ask_qty, as in rows of a table.
template <class T>
struct Columns {
    const T* const* column;
    std::int64_t n_levels;

    template <Sum kind>
    void add(std::int64_t start, std::int64_t stop, SideSums (&side)[2]) const {
        for (int k = 0; k < 2; ++k) add_side<kind>(column[2 * k], column[2 * k + 1], start, stop, side[k]);
    }

  private:
    static constexpr int registers = n_lanes / n_native;

    template <Sum kind>
    void add_side(const T* px, const T* qty, std::int64_t start, std::int64_t stop, SideSums& side) const {
        Native value[registers] = {}, sum[registers] = {};
        Mask absent = {};
        const auto add_eight = [&](const T* p, const T* q, auto inside) {
#pragma GCC unroll 4
            for (int r = 0; r < registers; ++r) {
                const Native x = load(p + r * n_native), y = load(q + r * n_native);
                const Mask ok = inside(r) & (x == x) & (y == y);
                add_where(ok, kind == Sum::px_qty ? x * y : x, value[r]);
                add_where(ok, y, sum[r]);
                absent += ok;
            }
        };
        each_eight(start, stop, [&](std::int64_t l, std::int64_t least, std::int64_t limit) {
            if (limit == 0) {
                prefetch(px + l, n_lanes, bytes_ahead);
                prefetch(qty + l, n_lanes, bytes_ahead);
                add_eight(px + l, qty + l, [](int) { return ~Mask{}; });
                return;
            }
            T whole_px[n_lanes], whole_qty[n_lanes];
            const T* p = padded(px + l, n_levels - l, whole_px);
            add_eight(p, padded(qty + l, n_levels - l, whole_qty), [=](int r) {
                const Mask place = places() + r * n_native;
                return (place >= least) & (place < limit);
            });
        });
        double lane[2][n_lanes];
        std::memcpy(lane[0], value, sizeof value);
        std::memcpy(lane[1], sum, sizeof sum);
        side = {total([&](int i) { return lane[0][i]; }), total([&](int i) { return lane[1][i]; }), 0};
        for (int i = 0; i < n_native; ++i) side.present -= absent[i];
    }
};

}  // namespace bml
