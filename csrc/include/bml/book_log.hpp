// Rows whose fate is open until all have come: of which batch a cell is, and which of the equal ones is the
// last.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "bml/rows.hpp"

namespace bml {

// NaN equals NaN: missing twice is no conflict.
inline bool same_values(const double* a, const double* b, std::size_t width) {
    for (std::size_t k = 0; k < width; ++k)
        if (!(a[k] == b[k] || (a[k] != a[k] && b[k] != b[k]))) return false;
    return true;
}

class BookLog {
  public:
    struct Entry {
        std::size_t slot, at;
        std::int64_t batch;
        bool is_first;  // of its cell: the book has no row of it
        std::array<double, 4> value;
    };
    std::vector<Entry> entries;
    std::int64_t n_duplicate = 0, n_conflict = 0;

    // Writes what every cell keeps: ``cell(slot, at)`` is where, ``batch(slot)`` the batch of what is there
    // now. The first conflict that is refused, or null.
    template <class Cell, class Batch>
    const Entry* settle(Keep keep, std::size_t width, Cell&& cell, Batch&& batch) {
        std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
            return a.slot != b.slot ? a.slot < b.slot : a.at < b.at;
        });
        for (std::size_t i = 0, j = 0; i < entries.size(); i = j) {
            const Entry& one = entries[i];
            while (j < entries.size() && entries[j].slot == one.slot && entries[j].at == one.at) ++j;
            Entry there{one.slot, one.at, batch(one.slot), false, {}};
            double* to = cell(one.slot, one.at);
            std::copy_n(to, width, there.value.data());
            const Entry* kept = one.is_first ? nullptr : &there;
            for (std::size_t k = i; k < j; ++k)
                if (!kept || entries[k].batch > kept->batch ||
                    (entries[k].batch == kept->batch && keep == Keep::last))
                    kept = &entries[k];
            if (!one.is_first && !count(there, *kept, keep, width)) return &one;
            for (std::size_t k = i; k < j; ++k)
                if (!count(entries[k], *kept, keep, width)) return &entries[k];
            std::copy_n(kept->value.data(), width, to);
        }
        return nullptr;
    }

  private:
    // A row that is not kept; false: it differs, and that is refused.
    bool count(const Entry& row, const Entry& kept, Keep keep, std::size_t width) {
        if (&row == &kept || row.batch != kept.batch) return true;  // a later batch replaced it
        const bool same = same_values(row.value.data(), kept.value.data(), width);
        ++(same ? n_duplicate : n_conflict);
        return same || keep != Keep::refuse;
    }
};

}  // namespace bml
