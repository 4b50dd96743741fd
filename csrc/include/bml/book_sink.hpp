// Rows in any order straight into the book (T, L, 4): no columns in between. A row is written to its cell as
// it comes; rows that may still lose or win a cell wait in a log, which ``finish`` settles.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "bml/book_log.hpp"
#include "bml/book_room.hpp"
#include "bml/pg_wire.hpp"
#include "bml/rows.hpp"

namespace bml {

class BookSink final : public pg::Out {
    const Keep keep_;
    const bool has_batch_, is_sided_;
    const std::int64_t max_rows_;
    std::int64_t n_rows_ = 0;
    std::vector<std::int64_t> batch_;  // of the rows a snapshot has in the book: the first's
    BookLog log_;

  public:
    // ``width`` numbers a row: 4 both sides of a level, 2 one. ``max_bytes``: of the book.
    BookSink(std::int64_t n_levels, int width, Keep keep, bool has_batch, std::int64_t max_rows,
             std::size_t max_bytes)
        : keep_(keep),
          has_batch_(has_batch),
          is_sided_(width == 2),
          max_rows_(max_rows),
          room(n_levels, width, max_bytes) {
        first_void.level = 0;
    }

    BookRoom room;
    std::int64_t n_duplicate = 0, n_conflict = 0;  // as tall_to_wide counts them
    pg::Row first_void;                            // the first of ``n_void``; level 0: none
    pg::Row refused;                               // the row of a conflict

    pg::Code put(const pg::Row& row) override {
        if (n_rows_ == max_rows_) return pg::Code::too_many;
        const std::size_t slot = room.find(row.ts);
        if (slot == room.size()) {
            if (!room.add(row.ts)) return pg::Code::no_room;
            if (has_batch_) batch_.push_back(row.count[0]);
        }
        ++n_rows_;
        SlotCount& now = room.count[slot];
        ++now.n_rows;
        if (row.level > room.n_levels) return ++now.n_deep, pg::Code::more;
        if (is_sided_ && row.number[0] != row.number[0] && row.number[1] != row.number[1]) {
            if (first_void.level == 0) first_void = row;
            ++now.n_void;
        }
        const auto level = static_cast<std::size_t>(row.level - 1);
        const std::size_t at = is_sided_ ? 2 * level + static_cast<std::size_t>(row.side) : level;
        const bool again = room.see(slot, at);
        const bool other = has_batch_ && row.count[0] != batch_[slot];
        if (again || other) [[unlikely]]
            return surplus(row, slot, at, again);
        double* to = room.cell(slot, at);  // of a size known here: no call for a few bytes
        is_sided_ ? std::copy_n(row.number.data(), 2, to) : std::copy_n(row.number.data(), 4, to);
        return pg::Code::more;
    }

    // Settles the log, then finishes the room.
    pg::Code finish() {
        const auto* bad = log_.settle(
            keep_, room.cell_width, [this](std::size_t slot, std::size_t at) { return room.cell(slot, at); },
            [this](std::size_t slot) { return has_batch_ ? batch_[slot] : 0; });
        if (bad) return refuse(bad->slot, bad->at);
        n_duplicate += log_.n_duplicate, n_conflict += log_.n_conflict;
        room.finish();
        return pg::Code::more;
    }

  private:
    pg::Code refuse(std::size_t slot, std::size_t at) {
        refused.ts = room.time(slot);
        refused.level = static_cast<std::int32_t>(is_sided_ ? at / 2 : at) + 1;
        refused.side = static_cast<std::int8_t>(is_sided_ ? at % 2 : 0);
        return pg::Code::conflict;
    }

    [[gnu::noinline]] pg::Code surplus(const pg::Row& row, std::size_t slot, std::size_t at, bool again) {
        room.count[slot].n_surplus += again;
        if (!has_batch_ && keep_ != Keep::last) {  // what is there stays
            const bool same = same_values(room.cell(slot, at), row.number.data(), room.cell_width);
            if (!same && keep_ == Keep::refuse) return refuse(slot, at);
            ++(same ? n_duplicate : n_conflict);
            return pg::Code::more;
        }
        log_.entries.push_back({slot, at, has_batch_ ? row.count[0] : 0, !again, {}});
        std::copy_n(row.number.data(), room.cell_width, log_.entries.back().value.data());
        return pg::Code::more;
    }
};

}  // namespace bml
