// PostgreSQL's binary COPY stream, row by row into an output. The stream is: signature, flags, extension;
// then per row an int16 field count and per field an int32 length (-1: NULL) and that many bytes, big-endian;
// then an int16 -1. Everything in it is checked before it is used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "bml/pg_layout.hpp"
#include "bml/pg_wire.hpp"

namespace bml::pg {

inline constexpr std::uint32_t max_extension = 4096;

enum class State : std::int32_t { start = 0, rows = 1, end = 2 };

class CopyStream {
  public:
    CopyStream() = default;
    CopyStream(const Layout& given, Out* out) : layout(given), out_(out), is_usual_(given.is_usual()) {}

    Layout layout;
    Fault fault;
    Row row;
    std::int64_t n_rows = 0;
    State state = State::start;

    // Decodes what is complete of ``size`` bytes; ``used`` of them are done with, whatever is returned.
    Code decode(const std::uint8_t* p, std::size_t size, std::size_t& used) {
        used = 0;
        if (state == State::start) {
            const Code code = header(p, size, used);
            if (code != Code::more || state == State::start) return code;
        }
        while (state == State::rows && size - used >= 2) {
            const std::int16_t count = be16(p + used);
            if (count == -1) {
                state = State::end, used += 2;
                break;
            }
            if (count != layout.n_fields) return fault.value = count, Code::bad_count;
            std::size_t row_size = 0;
            Code code = fields(p + used + 2, size - used - 2, row_size);
            if (code == Code::more && row_size > 0) code = out_->put(row);
            if (code != Code::more) return code;
            if (row_size == 0) break;  // incomplete
            used += 2 + row_size, ++n_rows;
        }
        return state == State::end && used < size ? Code::after_end : Code::more;
    }

    // A field of the row that is now read; ``length`` -1 is NULL.
    Code field(int i, const std::uint8_t* p, std::int32_t length) {
        fault.field = i;
        if (length == -1) return layout.null(i, row);
        if (!layout.fits(i, length)) return fault.value = length, Code::bad_length;
        return layout.value(i, p, length, row, fault);
    }
    Code take() {
        const Code code = out_->put(row);
        n_rows += code == Code::more;
        return code;
    }

  private:
    Code header(const std::uint8_t* p, std::size_t size, std::size_t& used) {
        constexpr char signature[] = "PGCOPY\n\xff\r\n";  // its end, a zero, is part of it
        if (size >= 1 && p[0] == 0xFF && (size == 1 || p[1] == 0xFF)) {
            if (size >= 2) state = State::end, used = 2;  // GreptimeDB sends no header when there are no rows
            return size > 2 ? Code::after_end : Code::more;
        }
        if (size > 0 && std::memcmp(p, signature, size < 11 ? size : 11) != 0) return Code::bad_signature;
        if (size < 19) return Code::more;
        if (be32(p + 11) >> 16 != 0) return Code::bad_flags;  // bit 16: rows carry OIDs; others are reserved
        const std::uint32_t extension = be32(p + 15);
        if (extension > max_extension) return Code::bad_extension;
        if (size < 19 + std::size_t{extension}) return Code::more;
        state = State::rows, used = 19 + std::size_t{extension};
        return Code::more;
    }

    // ``row_size`` stays 0 when the row is incomplete.
    Code fields(const std::uint8_t* p, std::size_t size, std::size_t& row_size) {
        std::size_t pos = 0;
        int i = is_usual_ && usual(p, size, pos) ? 6 : 0;
        for (; i < layout.n_fields; ++i) {
            if (size - pos < 4) return Code::more;
            const auto length = static_cast<std::int32_t>(be32(p + pos));
            pos += 4;
            if (length > 0 && layout.fits(i, length) && size - pos < static_cast<std::size_t>(length))
                return Code::more;
            if (const Code code = field(i, p + pos, length); code != Code::more) return code;
            if (length > 0) pos += static_cast<std::size_t>(length);
        }
        row_size = pos;
        return Code::more;
    }

    // The six usual fields without NULL, of ``pos`` bytes; false: whatever they are, ``fields`` says.
    bool usual(const std::uint8_t* p, std::size_t size, std::size_t& pos) {
        const auto width = static_cast<std::size_t>(layout.field[1].width);
        if (size < 64 + width) return false;
        const std::uint8_t* q = p + 16 + width;  // where the four numbers begin
        const std::uint32_t differs = (be32(p) ^ 8) | (be32(p + 12) ^ static_cast<std::uint32_t>(width)) |
                                      (be32(q) ^ 8) | (be32(q + 12) ^ 8) | (be32(q + 24) ^ 8) |
                                      (be32(q + 36) ^ 8);
        if (differs != 0 || !to_ns(static_cast<std::int64_t>(be64(p + 4)), row.ts) ||
            layout.level(integer(layout.field[1].wire, p + 16), row) != Code::more)
            return false;
        for (std::size_t k = 0; k < 4; ++k) row.number[k] = number(Wire::float8, q + 12 * k + 4);
        pos = 64 + width;
        return true;
    }

    Out* out_ = nullptr;
    bool is_usual_ = false;
};

}  // namespace bml::pg
