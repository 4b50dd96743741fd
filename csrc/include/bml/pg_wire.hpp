// A row as PostgreSQL sends it, and what it becomes: big-endian fields of known types.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace bml::pg {

inline constexpr int max_fields = 16;
inline constexpr int max_text = 63;  // PostgreSQL's longest enum label; a side is shorter still

enum class Target : std::int32_t { time = 0, level = 1, side = 2, number = 3, count = 4 };
enum class Wire : std::int32_t {
    int2 = 0,
    int4 = 1,
    int8 = 2,
    float4 = 3,
    float8 = 4,
    timestamp = 5,
    boolean = 6,
    text = 7
};

// Why decoding stopped; Python words it. ``more``: all complete rows are decoded.
enum class Code : std::int32_t {
    more = 0,
    full = 1,  // the output must grow; the row was not taken
    bad_signature = 2,
    bad_flags = 3,
    bad_extension = 4,
    bad_count = 5,
    bad_length = 6,
    after_end = 7,
    null_field = 8,
    bad_time = 9,
    bad_level = 10,
    bad_side = 11,
    too_many = 12,  // more rows than allowed
    conflict = 13,  // rows of one cell and batch differ, and the rule is to refuse
    no_room = 14,   // more snapshots than memory
};

struct Field {
    Target target;
    Wire wire;
    std::int32_t width;  // 0: any, text
    int index;           // among the fields of its target
};

// One decoded row. ``number`` and ``count`` are in the order of the fields.
struct Row {
    std::int64_t ts = 0;
    std::int32_t level = 1;
    std::int8_t side = 0;
    std::array<double, max_fields> number{};
    std::array<std::int64_t, max_fields> count{};
};

// Where rows go.
class Out {
  public:
    virtual Code put(const Row& row) = 0;

  protected:
    ~Out() = default;
};

template <class Unsigned>
Unsigned big_endian(const std::uint8_t* p) {
    Unsigned x;
    std::memcpy(&x, p, sizeof x);
    if constexpr (std::endian::native == std::endian::big) return x;
    if constexpr (sizeof x == 8)
        return __builtin_bswap64(x);
    else if constexpr (sizeof x == 4)
        return __builtin_bswap32(x);
    else
        return __builtin_bswap16(x);
}
inline std::uint32_t be32(const std::uint8_t* p) { return big_endian<std::uint32_t>(p); }
inline std::uint64_t be64(const std::uint8_t* p) { return big_endian<std::uint64_t>(p); }
inline std::int16_t be16(const std::uint8_t* p) {
    return static_cast<std::int16_t>(big_endian<std::uint16_t>(p));
}

inline std::int64_t integer(Wire wire, const std::uint8_t* p) {
    if (wire == Wire::int4) return static_cast<std::int32_t>(be32(p));
    if (wire == Wire::int2) return be16(p);
    return static_cast<std::int64_t>(be64(p));
}

inline double number(Wire wire, const std::uint8_t* p) {
    if (wire == Wire::float8) return std::bit_cast<double>(be64(p));
    if (wire == Wire::float4) return static_cast<double>(std::bit_cast<float>(be32(p)));
    return static_cast<double>(integer(wire, p));
}

}  // namespace bml::pg
