// Snapshots as four columns over the levels, out of a book (T, L, 4) that is placed already.
#pragma once

#include <cstdint>

#include "bml/cells.hpp"
#include "bml/error.hpp"
#include "bml/reader.hpp"
#include "bml/snapshot.hpp"

namespace bml {

template <class In_>
class BookReader : public Rooms<In_> {
    const In_* book_;  // (T, L, 4)
    const std::int64_t n_levels_;

  public:
    using In = In_;
    static constexpr bool in_row_order = true;

    BookReader(const In* book, std::int64_t n_levels, int rooms)
        : Rooms<In>(padded_levels(n_levels), rooms), book_(book), n_levels_(n_levels) {}

    Surplus surplus;  // none: whoever placed the rows knows

    Error read(std::int64_t t, Snapshot<In>& to) {
        In* room = this->next_room();
        read_cells(book_ + t * n_levels_ * 4, n_levels_, room, this->stride());
        to = {};
        to.column = this->columns_of(room);
        return {};
    }
};

}  // namespace bml
