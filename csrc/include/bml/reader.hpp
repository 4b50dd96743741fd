// Snapshots as four columns over the levels, NaN where no row is, out of rows in time order.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "bml/error.hpp"
#include "bml/levels.hpp"
#include "bml/rows.hpp"
#include "bml/snapshot.hpp"
#include "bml/times.hpp"
#include "bml/whose.hpp"

namespace bml {

// What one snapshot was found to be. The columns stay good until the reader's ``keep`` next reads.
template <class In>
struct Snapshot {
    FourColumns<In> column{};
    std::int32_t n_surplus = 0;  // rows beyond one a cell
    std::int64_t n_nan = 0;      // sided rows without price and quantity
    bool direct = false;         // the columns are the rows themselves
};

inline std::int64_t padded_levels(std::int64_t n_levels) {
    return (n_levels + n_lanes - 1) / n_lanes * n_lanes;
}

// What a reader writes a snapshot to: the last ``n`` rooms given out are kept.
template <class In>
class Rooms {
    std::vector<In> room_;
    const std::int64_t stride_, n_;
    std::int64_t at_ = 0;

  public:
    Rooms(std::int64_t stride, int n) : stride_(stride), n_(n) {}

    std::int64_t stride() const { return stride_; }
    In* next_room() {  // (4, stride)
        if (room_.empty()) room_.resize(static_cast<std::size_t>(4 * stride_ * n_));
        at_ = (at_ + 1) % n_;
        return room_.data() + at_ * 4 * stride_;
    }
    FourColumns<In> columns_of(const In* room) const {
        return {room, room + stride_, room + 2 * stride_, room + 3 * stride_};
    }
};

// ``starts`` (T + 1,): the first row of every snapshot.
template <class R>
class OrderedReader : public Rooms<typename R::Value> {
  public:
    using Rows = R;
    using In = typename Rows::Value;
    static constexpr bool in_row_order = true;

    OrderedReader(const Rows& rows, const std::int64_t* starts, std::int64_t n_levels, Keep keep, int rooms)
        : Rooms<In>(padded_levels(n_levels), rooms),
          rows_(rows),
          starts_(starts),
          n_levels_(n_levels),
          keep_(keep) {}

    Surplus surplus;

    // What::times_changed: its rows are not of one time.
    Error read(std::int64_t t, Snapshot<In>& to) {
        const std::int64_t start = starts_[t], stop = starts_[t + 1];
        to = {};
        if constexpr (Rows::width == 4)
            if (is_plain(start, stop)) {
                to.direct = true;
                for (std::size_t f = 0; f < 4; ++f) to.column[f] = rows_.column[f] + start;
                surplus.n_deep += stop - start - n_levels_;
                return {};
            }
        const std::int64_t stride = this->stride();
        In* room = this->next_room();
        to.column = this->columns_of(room);
        std::int64_t n_deep = 0, n_found = 0;
        const auto put = [=, this](std::int64_t l, const FourColumns<In>& eight) {
            for (std::size_t f = 0; f < 4; ++f)
                std::copy_n(eight[f], 8, room + static_cast<std::int64_t>(f) * stride + l);
        };
        const Streamed how = stream_snapshot(rows_, start, stop, n_levels_, n_deep, n_found, put);
        bool is_placed = how == Streamed::whole;
        if (!is_placed) {
            if (!one_time(rows_.ts_ns, start, stop)) return {What::times_changed, start};
            is_placed = whose_.find(rows_, start, stop, n_levels_);
            n_deep = 0, n_found = stop - start;
            for (std::int64_t l = 0; is_placed && l < n_levels_; l += 8) put(l, whose_.eight(l));
        }
        if (is_placed) {
            surplus.n_deep += n_deep;
            if constexpr (Rows::width == 2) to.n_nan = count_nan(to.column) - (2 * n_levels_ - n_found);
            return {};
        }
        const Error error = owners_.read(rows_, start, stop, n_levels_, stride, keep_, surplus, room);
        to.n_surplus = owners_.n_surplus, to.n_nan = owners_.n_nan;
        return error;
    }

  private:
    // The levels are 1, 2, ..., the book's, then deeper ones; the rows of one time.
    bool is_plain(std::int64_t start, std::int64_t stop) const {
        if (stop - start < n_levels_ || rows_.level[start] != 1) return false;
        const std::int64_t now = rows_.ts_ns[start];
        std::int64_t i = start;
        std::int32_t level = 1;
        bool plain = true;
        for (; i + 8 <= start + n_levels_ && plain; i += 8, level += 8) {
            plain = count_up(rows_.level + i, level) && all_are(rows_.ts_ns + i, now);
            __builtin_prefetch(rows_.ts_ns + i +
                               n_levels_);  // of the next snapshot: read after these columns are
            __builtin_prefetch(rows_.level + i + n_levels_);
        }
        for (; i < start + n_levels_; ++i, ++level) plain &= rows_.level[i] == level && rows_.ts_ns[i] == now;
        for (; i < stop; ++i) plain &= rows_.level[i] > n_levels_ && rows_.ts_ns[i] == now;
        return plain;
    }

    std::int64_t count_nan(const FourColumns<In>& c) const {
        std::int64_t n = 0;
        for (std::size_t f = 0; f < 4; f += 2)
            for (std::int64_t l = 0; l < n_levels_; ++l)
                n += (c[f][l] != c[f][l]) & (c[f + 1][l] != c[f + 1][l]);
        return n;
    }

    const Rows& rows_;
    const std::int64_t* starts_;
    const std::int64_t n_levels_;
    const Keep keep_;
    Whose<Rows> whose_;
    Owners<Rows> owners_;
};

}  // namespace bml
