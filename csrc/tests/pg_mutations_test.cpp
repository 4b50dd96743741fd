// A million damaged messages through the row parser, into columns and into a book: none may be read or
// written beyond its end. argv[1]: how many.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "bml/book_sink.hpp"
#include "bml/pg_columns.hpp"
#include "bml/pg_stream.hpp"

namespace {

using namespace bml::pg;
using Bytes = std::vector<std::uint8_t>;
using Random = std::minstd_rand;

template <class T>
void field(Bytes& out, T x) {
    const auto put = [&](auto value) {
        std::uint8_t raw[sizeof value];
        std::memcpy(raw, &value, sizeof value);
        out.insert(out.end(), std::reverse_iterator(raw + sizeof value), std::reverse_iterator(raw));
    };
    put(static_cast<std::int32_t>(sizeof x));
    put(x);
}

Bytes message(const Layout& layout, Random& random) {
    Bytes out{0, static_cast<std::uint8_t>(layout.n_fields)};
    for (int i = 0; i < layout.n_fields; ++i) switch (layout.field[i].wire) {
            case Wire::int2:
                field(out, static_cast<std::int16_t>(random() % 30));
                break;
            case Wire::int4:
                field(out, static_cast<std::int32_t>(random() % 30));
                break;
            case Wire::float4:
                field(out, 1.5f);
                break;
            case Wire::boolean:
                field(out, static_cast<std::uint8_t>(random() % 2));
                break;
            case Wire::text:
                out.insert(out.end(), {0, 0, 0, 3, 'b', 'i', 'd'});
                break;
            default:
                field(out, static_cast<std::int64_t>(random() % 5));
        }
    return out;
}

void damage(Bytes& bytes, Random& random) {
    constexpr std::uint8_t telling[] = {0, 1, 2, 3, 4, 8, 64, 127, 128, 254, 255};
    for (std::size_t n = 1 + random() % 4; n > 0; --n) {
        const std::size_t at = random() % bytes.size();
        bytes[at] = random() % 2 ? telling[random() % sizeof telling] : static_cast<std::uint8_t>(random());
    }
    if (random() % 4 == 0) bytes.resize(random() % (bytes.size() + 1));
    if (random() % 8 == 0) bytes.insert(bytes.end(), random() % 40, static_cast<std::uint8_t>(random()));
}

// In pieces on the heap, each of exactly its size.
void feed(CopyStream& stream, const Bytes& bytes, Random& random) {
    stream.state = State::rows;
    Bytes held;
    Code code = Code::more;
    for (std::size_t at = 0; at < bytes.size() && code == Code::more;) {
        const std::size_t piece = std::min(bytes.size() - at, 1 + random() % 100);
        held.insert(held.end(), bytes.data() + at, bytes.data() + at + piece), at += piece;
        const auto block = std::make_unique<std::uint8_t[]>(held.size());
        std::copy(held.begin(), held.end(), block.get());
        std::size_t used = 0;
        code = stream.decode(block.get(), held.size(), used);
        if (used > held.size()) std::abort();
        held.erase(held.begin(), held.begin() + static_cast<std::ptrdiff_t>(used));
    }
}

Layout layout_of(std::initializer_list<std::pair<Target, Wire>> fields) {
    Layout layout;
    for (const auto& [target, wire] : fields) layout.add(target, wire);
    layout.bid_size = layout.ask_size = 3;
    std::memcpy(layout.bid_text, "bid", 3), std::memcpy(layout.ask_text, "ask", 3);
    return layout;
}

}  // namespace

int main(int argc, char** argv) {
    const long wanted = argc > 1 ? std::atol(argv[1]) : 1'000'000;
    using enum Wire;
    constexpr auto ts = Target::time, level = Target::level, side = Target::side, x = Target::number,
                   n = Target::count;
    const Layout layouts[] = {
        layout_of({{ts, timestamp}, {level, int4}, {x, float8}, {x, float8}, {x, float8}, {x, float8}}),
        layout_of({{ts, int8}, {level, int8}, {x, float4}, {x, float8}, {x, int2}, {x, int8}, {n, int8}}),
        layout_of({{ts, int4}, {level, int2}, {side, text}, {x, float8}, {x, float8}}),
        layout_of(
            {{ts, timestamp}, {level, int4}, {side, boolean}, {x, float8}, {x, float4}, {n, timestamp}}),
    };
    Random random(1);
    long rows = 0;
    for (long i = 0; i < wanted; ++i) {
        const Layout& layout = layouts[i % 4];
        Bytes bytes = message(layout, random);
        damage(bytes, random);
        const Bytes after = message(layout, random);  // what comes next must not be misread as part of it
        bytes.insert(bytes.end(), after.begin(), after.end());
        Columns columns(layout);
        std::int64_t room[max_fields][4];
        for (std::size_t k = 0; k < max_fields; ++k) columns.column[k] = room[k];
        columns.capacity = 4;
        CopyStream plain(layout, &columns);
        feed(plain, bytes, random);
        rows += plain.n_rows;
        const bool sided = layout.field[2].target == side,
                   batch = layout.field[layout.n_fields - 1].target == n;
        bml::BookSink sink(7, sided ? 2 : 4, static_cast<bml::Keep>(i / 4 % 3), batch, 100,
                           std::size_t{1} << 20);
        CopyStream placing(layout, &sink);
        feed(placing, bytes, random);
        sink.finish();
    }
    std::printf("%ld damaged messages, %ld rows came of them\n", wanted, rows);
    return rows > 0 ? 0 : 1;
}
