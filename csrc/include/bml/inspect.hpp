// What is wrong inside one snapshot: broken cells, prices out of order, a book that repeats the one before.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "bml/lanes.hpp"
#include "bml/reader.hpp"

namespace bml {

// Marks of a snapshot, as in bml/kernels/_day_tensor.py.
enum Mark : std::uint8_t { mark_dropped = 1, mark_disorder = 2, mark_stuck = 4 };

// A side of a level is good: 0 < price < inf and 0 <= quantity < inf.
template <class In>
bool is_good(In px, In qty) {
    constexpr In inf = std::numeric_limits<In>::infinity();
    return px > 0 && px < inf && qty >= 0 && qty < inf;
}

template <class In>
bool all_good(const In* px, const In* qty, std::int64_t n) {
    const Native inf = Native{} + std::numeric_limits<double>::infinity();
    Mask good = ~Mask{};
    std::int64_t l = 0;
    for (; l + n_native <= n; l += n_native) {
        const Native p = load(px + l), q = load(qty + l);
        good &= (p > 0) & (p < inf) & (q >= 0) & (q < inf);
    }
    bool all = true;
    for (int i = 0; i < n_native; ++i) all &= good[i] != 0;
    for (; l < n; ++l) all &= is_good(px[l], qty[l]);
    return all;
}

// Makes broken cells NaN, in ``room`` if the columns are the rows themselves; how many there were. Neither price nor
// quantity is absent, not broken.
template <class Reader>
std::int32_t clear_broken(Snapshot<typename Reader::In>& snapshot, std::int64_t n_levels, Reader& reader) {
    using In = typename Reader::In;
    auto& c = snapshot.column;
    if (all_good(c[0], c[1], n_levels) && all_good(c[2], c[3], n_levels)) return 0;
    In* room = const_cast<In*>(c[0]);
    if (snapshot.direct) {
        room = reader.next_room();
        for (std::size_t f = 0; f < 4; ++f) {
            In* to = room + static_cast<std::int64_t>(f) * reader.stride();
            std::copy_n(c[f], n_levels, to);
            c[f] = to;
        }
        snapshot.direct = false;
    }
    std::int32_t n = 0;
    for (std::int64_t side = 0; side < 2; ++side) {
        In *px = room + 2 * side * reader.stride(), *qty = px + reader.stride();
        for (std::int64_t l = 0; l < n_levels; ++l) {
            if (is_good(px[l], qty[l])) continue;
            n += px[l] == px[l] || qty[l] == qty[l];
            px[l] = qty[l] = std::numeric_limits<In>::quiet_NaN();
        }
    }
    return n;
}

// Whether some price is not strictly behind every price nearer to the touch; ``bid``: behind is lower.
template <class In>
bool is_disordered(const In* px, std::int64_t n, bool bid) {
    std::int32_t found = 0, hole = 0;
    if (bid)
        for (std::int64_t l = 0; l + 1 < n; ++l) found |= px[l + 1] >= px[l];
    else
        for (std::int64_t l = 0; l + 1 < n; ++l) found |= px[l + 1] <= px[l];
    for (std::int64_t l = 0; l + 1 < n; ++l) hole |= (px[l] != px[l]) & (px[l + 1] == px[l + 1]);
    if (found != 0 || hole == 0) return found != 0;
    In nearest = std::numeric_limits<In>::quiet_NaN();
    for (std::int64_t l = 0; l < n; ++l) {
        if (bid ? px[l] >= nearest : px[l] <= nearest) return true;
        if (px[l] == px[l]) nearest = px[l];
    }
    return false;
}

template <class In>
bool same_book(const FourColumns<In>& a, const FourColumns<In>& b, std::int64_t n) {
    for (std::int64_t l = 0; l < n; ++l)
        for (std::size_t f = 0; f < 4; ++f)
            if (a[f][l] != b[f][l] && (a[f][l] == a[f][l] || b[f][l] == b[f][l])) return false;
    return true;
}

}  // namespace bml
