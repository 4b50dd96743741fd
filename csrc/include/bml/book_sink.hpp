// Rows in any order straight into the book (T, L, 4): no columns in between. A row is written to its cell as
// it comes; rows that may still lose or win a cell wait in a log, which ``finish`` settles.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "bml/book_log.hpp"
#include "bml/growing.hpp"
#include "bml/pg_wire.hpp"
#include "bml/rows.hpp"
#include "bml/slots.hpp"
#include "bml/sort_by_time.hpp"

namespace bml {

class BookSink final : public pg::Out {
    const std::int64_t n_levels_, sides_;
    const std::size_t cells_, words_;  // of a snapshot: cells, and words of a bit a cell
    const Keep keep_;
    const bool has_batch_;
    const std::int64_t max_rows_;
    const std::size_t max_bytes_;
    std::int64_t n_rows_ = 0;
    std::size_t capacity_ = 0;
    Slots slots_;
    std::vector<std::int64_t> batch_;  // of the rows a snapshot has in the book: the first's
    std::vector<std::uint64_t> seen_;
    BookLog log_;

    double* cell(std::size_t slot, std::size_t at) const {
        return book.data() + 4 * static_cast<std::size_t>(n_levels_) * slot +
               4 / static_cast<std::size_t>(sides_) * at;
    }

    bool add(const pg::Row& row) {
        if (slots_.size() == capacity_) {
            const std::size_t next = capacity_ == 0 ? 64 : 2 * capacity_;
            const std::size_t bytes = next * static_cast<std::size_t>(n_levels_) * 32;
            if (bytes / 2 > max_bytes_ || !book.grow(bytes)) return false;
            capacity_ = next;
        }
        slots_.add(row.ts);
        count.emplace_back();
        if (has_batch_) batch_.push_back(row.count[0]);
        seen_.resize(seen_.size() + words_);
        return true;
    }

  public:
    // ``width`` numbers a row: 4 both sides of a level, 2 one. ``max_bytes``: of the book.
    BookSink(std::int64_t n_levels, int width, Keep keep, bool has_batch, std::int64_t max_rows,
             std::size_t max_bytes)
        : n_levels_(n_levels),
          sides_(4 / width),
          cells_(static_cast<std::size_t>(n_levels * sides_)),
          words_((cells_ + 63) / 64),
          keep_(keep),
          has_batch_(has_batch),
          max_rows_(max_rows),
          max_bytes_(max_bytes) {
        first_void.level = 0;
    }

    Growing book;
    std::vector<SlotCount> count;
    std::int64_t n_duplicate = 0, n_conflict = 0;  // as tall_to_wide counts them
    pg::Row first_void;                            // the first of ``n_void``; level 0: none
    pg::Row refused;                               // the row of a conflict
    std::size_t size() const { return slots_.size(); }

    pg::Code put(const pg::Row& row) override {
        if (n_rows_ == max_rows_) return pg::Code::too_many;
        const std::size_t slot = slots_.find(row.ts);
        if (slot == slots_.size() && !add(row)) return pg::Code::no_room;
        ++n_rows_;
        SlotCount& now = count[slot];
        ++now.n_rows;
        if (row.level > n_levels_) return ++now.n_deep, pg::Code::more;
        if (sides_ == 2 && row.number[0] != row.number[0] && row.number[1] != row.number[1]) {
            if (first_void.level == 0) first_void = row;
            ++now.n_void;
        }
        const auto at = static_cast<std::size_t>((row.level - 1) * sides_ + (sides_ == 2 ? row.side : 0));
        std::uint64_t& word = seen_[slot * words_ + at / 64];
        const std::uint64_t bit = std::uint64_t{1} << at % 64;
        const bool again = (word & bit) != 0;
        word |= bit;
        const bool other = has_batch_ && row.count[0] != batch_[slot];
        if (again || other) [[unlikely]]
            return surplus(row, slot, at, again);
        std::copy_n(row.number.data(), 4 / sides_, cell(slot, at));
        return pg::Code::more;
    }

    // Settles the log, makes what no row named NaN, puts the snapshots in the order of their times, in place.
    pg::Code finish() {
        const auto width = static_cast<std::size_t>(4 / sides_);
        const auto* bad = log_.settle(
            keep_, width, [this](std::size_t slot, std::size_t at) { return cell(slot, at); },
            [this](std::size_t slot) { return has_batch_ ? batch_[slot] : 0; });
        if (bad) return refuse(bad->slot, bad->at);
        n_duplicate += log_.n_duplicate, n_conflict += log_.n_conflict;
        fill();
        ts = slots_.ts();
        sort_by_time(ts, count, book.data(), 4 * static_cast<std::size_t>(n_levels_));
        book.shrink(size() * static_cast<std::size_t>(n_levels_) * 32);
        return pg::Code::more;
    }
    std::vector<std::int64_t> ts;  // since ``finish``

  private:
    pg::Code refuse(std::size_t slot, std::size_t at) {
        const auto cell = static_cast<std::int64_t>(at);
        refused.ts = slots_.ts()[slot];
        refused.level = static_cast<std::int32_t>(cell / sides_ + 1);
        refused.side = static_cast<std::int8_t>(cell % sides_);
        return pg::Code::conflict;
    }

    [[gnu::noinline]] pg::Code surplus(const pg::Row& row, std::size_t slot, std::size_t at, bool again) {
        count[slot].n_surplus += again;
        if (!has_batch_ && keep_ != Keep::last) {  // what is there stays
            const bool same =
                same_values(cell(slot, at), row.number.data(), static_cast<std::size_t>(4 / sides_));
            if (!same && keep_ == Keep::refuse) return refuse(slot, at);
            ++(same ? n_duplicate : n_conflict);
            return pg::Code::more;
        }
        log_.entries.push_back({slot, at, has_batch_ ? row.count[0] : 0, !again, {}});
        std::copy_n(row.number.data(), 4 / sides_, log_.entries.back().value.data());
        return pg::Code::more;
    }

    void fill() const {
        for (std::size_t slot = 0; slot < size(); ++slot)
            for (std::size_t w = 0; w < words_; ++w) {
                std::uint64_t absent = ~seen_[slot * words_ + w];
                if (const std::size_t left = cells_ - 64 * w; left < 64)
                    absent &= (std::uint64_t{1} << left) - 1;
                for (; absent != 0; absent &= absent - 1)
                    std::fill_n(cell(slot, 64 * w + static_cast<std::size_t>(std::countr_zero(absent))),
                                4 / sides_, std::numeric_limits<double>::quiet_NaN());
            }
    }
};

}  // namespace bml
