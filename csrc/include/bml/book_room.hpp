// Room for snapshots found by their times: it grows as they come, and a bit a cell says which were named.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "bml/growing.hpp"
#include "bml/slots.hpp"
#include "bml/sort_by_time.hpp"

namespace bml {

class BookRoom {
    const std::size_t max_bytes_, cells_, words_;  // of a snapshot: cells, and words of a bit a cell
    std::size_t capacity_ = 0;
    Slots slots_;
    std::vector<std::uint64_t> seen_;

  public:
    // ``width`` values a cell, 4 / ``width`` cells a level.
    BookRoom(std::int64_t levels, int width, std::size_t max_bytes)
        : max_bytes_(max_bytes),
          cells_(static_cast<std::size_t>(levels) * 4 / static_cast<std::size_t>(width)),
          words_((cells_ + 63) / 64),
          n_levels(levels),
          cell_width(static_cast<std::size_t>(width)) {}

    const std::int64_t n_levels;
    const std::size_t cell_width;
    Growing book;
    std::vector<SlotCount> count;
    std::vector<std::int64_t> ts;  // since ``finish``

    std::size_t size() const { return slots_.size(); }
    std::int64_t time(std::size_t slot) const { return slots_.ts()[slot]; }
    // ``size()``: it is not there yet.
    std::size_t find(std::int64_t ts_ns) { return slots_.find(ts_ns); }

    double* cell(std::size_t slot, std::size_t at) const {
        return book.data() + cell_width * (cells_ * slot + at);
    }
    // Whether the cell was seen before.
    bool see(std::size_t slot, std::size_t at) {
        std::uint64_t& word = seen_[slot * words_ + at / 64];
        const std::uint64_t bit = std::uint64_t{1} << at % 64;
        const bool again = (word & bit) != 0;
        word |= bit;
        return again;
    }

    // False: there is no more memory, or not as much is allowed.
    bool add(std::int64_t ts_ns) {
        const std::size_t each = cells_ * cell_width * sizeof(double);
        if (slots_.size() >= max_bytes_ / each) return false;
        if (slots_.size() == capacity_) {
            const std::size_t next = capacity_ == 0 ? 64 : 2 * capacity_;
            if (!book.grow(next * each)) return false;
            capacity_ = next;
        }
        slots_.add(ts_ns);
        count.emplace_back();
        seen_.resize(seen_.size() + words_);
        return true;
    }

    // Makes what was not seen NaN and puts the snapshots in the order of their times, in place.
    void finish() {
        for (std::size_t slot = 0; slot < size(); ++slot) fill(slot);
        ts = slots_.ts();
        sort_by_time(ts, count, book.data(), cells_ * cell_width);
        book.shrink(size() * cells_ * cell_width * sizeof(double));
    }

  private:
    void fill(std::size_t slot) const {
        for (std::size_t w = 0; w < words_; ++w) {
            std::uint64_t absent = ~seen_[slot * words_ + w];
            if (const std::size_t left = cells_ - 64 * w; left < 64) absent &= (std::uint64_t{1} << left) - 1;
            for (; absent != 0; absent &= absent - 1)
                std::fill_n(cell(slot, 64 * w + static_cast<std::size_t>(std::countr_zero(absent))),
                            cell_width, std::numeric_limits<double>::quiet_NaN());
        }
    }
};

}  // namespace bml
