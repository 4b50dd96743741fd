// Which fields a row has, and each of them checked and decoded.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "bml/pg_wire.hpp"

namespace bml::pg {

inline constexpr std::int64_t epoch_us = 946684800000000;  // 2000-01-01, where PostgreSQL counts from

// Of a timestamp; false: it is infinite, or too far from 1970 for nanoseconds.
inline bool to_ns(std::int64_t us, std::int64_t& ns) {
    constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max() / 1000;
    if (us < -most - epoch_us || us > most - epoch_us) return false;
    ns = (us + epoch_us) * 1000;
    return true;
}

struct Fault {
    int field = 0;
    std::int64_t value = 0;
    int text_size = -1;  // -1: ``value`` says it
    char text[max_text + 1] = {};
};

struct Layout {
    Field field[max_fields] = {};
    int n_fields = 0;
    std::int64_t ns_per_unit = 1, first_level = 1;
    std::int64_t bid = 0, ask = 1;     // of a side that is no text
    int bid_size = -1, ask_size = -1;  // of one that is
    char bid_text[max_text] = {}, ask_text[max_text] = {};

    void add(Target target, Wire wire) {
        constexpr std::array<std::int32_t, 8> width{2, 4, 8, 4, 8, 8, 1, 0};
        const auto same =
            std::count_if(field, field + n_fields, [=](const Field& f) { return f.target == target; });
        field[static_cast<std::size_t>(n_fields++)] = {target, wire, width[static_cast<std::size_t>(wire)],
                                                       static_cast<int>(same)};
    }
    // The usual paired row: a timestamp, a level, four float8; then anything.
    bool is_usual() const {
        bool usual = n_fields >= 6 && field[0].wire == Wire::timestamp && field[1].target == Target::level;
        for (std::size_t i = 2; i < 6; ++i)
            usual &= field[i].target == Target::number && field[i].wire == Wire::float8;
        return usual;
    }
    bool fits(int i, std::int32_t length) const {
        const Field& f = field[static_cast<std::size_t>(i)];
        return length == f.width || (f.wire == Wire::text && length >= 0 && length <= max_text);
    }

    Code null(int i, Row& row) const {
        const Field& f = field[static_cast<std::size_t>(i)];
        const auto at = static_cast<std::size_t>(f.index);
        if (f.target == Target::number)
            row.number[at] = std::numeric_limits<double>::quiet_NaN();
        else if (f.target == Target::count)
            row.count[at] = -1;
        else
            return Code::null_field;
        return Code::more;
    }

    // ``length`` fits.
    Code value(int i, const std::uint8_t* p, std::int32_t length, Row& row, Fault& fault) const {
        const Field& f = field[static_cast<std::size_t>(i)];
        const auto at = static_cast<std::size_t>(f.index);
        if (f.target == Target::number) return row.number[at] = number(f.wire, p), Code::more;
        if (f.target == Target::side) return side(f, p, length, row, fault);
        const std::int64_t x = fault.value = integer(f.wire, p);
        if (f.target == Target::level) return level(x, row);
        std::int64_t ns = x;
        if (f.wire == Wire::timestamp) {
            if (!to_ns(x, ns)) return Code::bad_time;
        } else if (f.target == Target::time) {
            using Limits = std::numeric_limits<std::int64_t>;
            if (x > Limits::max() / ns_per_unit || x < Limits::min() / ns_per_unit) return Code::bad_time;
            ns = x * ns_per_unit;
        }
        (f.target == Target::time ? row.ts : row.count[at]) = ns;
        return Code::more;
    }

    Code level(std::int64_t x, Row& row) const {
        if (x < first_level || x - first_level >= std::numeric_limits<std::int32_t>::max())
            return Code::bad_level;
        row.level = static_cast<std::int32_t>(x - first_level + 1);
        return Code::more;
    }

  private:
    Code side(const Field& f, const std::uint8_t* p, std::int32_t length, Row& row, Fault& fault) const {
        bool is_bid, is_ask;
        if (f.wire == Wire::text) {
            while (length > 0 && p[length - 1] == ' ') --length;  // char(n) is padded
            const auto size = static_cast<std::size_t>(length);
            is_bid = length == bid_size && std::memcmp(p, bid_text, size) == 0;
            is_ask = length == ask_size && std::memcmp(p, ask_text, size) == 0;
            if (!is_bid && !is_ask) std::memcpy(fault.text, p, size), fault.text_size = length;
        } else {
            const std::int64_t x = fault.value = f.wire == Wire::boolean ? p[0] : integer(f.wire, p);
            is_bid = x == bid, is_ask = x == ask;
            fault.text_size = -1;
        }
        row.side = is_bid ? 0 : 1;
        return is_bid || is_ask ? Code::more : Code::bad_side;
    }
};

}  // namespace bml::pg
