// What a kernel reports about its data: a code and the row it concerns. Python words it, in one place.
#pragma once

#include <cstdint>

namespace bml {

enum class What : std::int32_t {
    ok = 0,
    level_below_one = 1,       // levels count from 1
    side_unknown = 2,          // a side is 0 (bid) or 1 (ask)
    duplicate_conflict = 3,    // rows of one cell and batch differ, and the rule is to refuse
    times_changed = 4,         // the times found before do not fit the rows: they were written to meanwhile
    times_not_increasing = 5,  // the samples' times must increase strictly
    grid_not_increasing = 6,   // the grid's times must increase strictly
};

struct Error {
    What what = What::ok;
    std::int64_t row = -1;

    explicit operator bool() const { return what != What::ok; }
};

}  // namespace bml
