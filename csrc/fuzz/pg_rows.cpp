// Rows of PostgreSQL, whole and in pieces, as sent and damaged: into columns, and into a book beside maps.
#include <cstring>
#include <memory>

#include "bml/book_sink.hpp"
#include "bml/pg_columns.hpp"
#include "bml/pg_libpq.hpp"
#include "bml/pg_stream.hpp"
#include "tall.hpp"

namespace {

using namespace fuzz;
using namespace bml::pg;
using Bytes = Vec<std::uint8_t>;

template <class T>
void append(Bytes& out, T x) {
    std::uint8_t raw[sizeof x];
    std::memcpy(raw, &x, sizeof x);
    for (std::size_t i = sizeof x; i > 0; --i) out.push_back(raw[i - 1]);
}
template <class T>
void append_field(Bytes& out, T x) {
    append(out, static_cast<std::int32_t>(sizeof x));
    append(out, x);
}
void append_integer(Bytes& out, Wire wire, int64_t x) {
    if (wire == Wire::int2) return append_field(out, static_cast<std::int16_t>(x));
    if (wire == Wire::int4) return append_field(out, static_cast<std::int32_t>(x));
    if (wire == Wire::boolean) return append_field(out, static_cast<std::uint8_t>(x));
    append_field(out, x);
}
void append_number(Bytes& out, double x, bool as_null) {
    if (as_null && std::isnan(x)) return append(out, std::int32_t{-1});
    append_field(out, x);
}

// What decoding came to.
struct Came {
    Code code = Code::more;
    State state = State::start;
    int64_t n_rows = 0;
    bool operator==(const Came&) const = default;
};

// As the decoder is fed: what is left of an incomplete row comes again with the next piece; columns that are
// full grow.
template <class Grow>
Came feed(CopyStream& stream, const Bytes& bytes, Input* cuts, Grow&& grow) {
    Came came;
    Bytes held;
    for (std::size_t at = 0; at < bytes.size() && came.code == Code::more;) {
        const auto left = static_cast<int64_t>(bytes.size() - at);
        const std::size_t piece =
            cuts ? static_cast<std::size_t>(cuts->number(1, std::min<int64_t>(left, 90))) : bytes.size();
        held.insert(held.end(), bytes.begin() + static_cast<std::ptrdiff_t>(at),
                    bytes.begin() + static_cast<std::ptrdiff_t>(at + piece));
        at += piece;
        do {
            const auto block =
                std::make_unique<std::uint8_t[]>(held.size());  // its end is where the sanitizer looks
            std::copy(held.begin(), held.end(), block.get());
            std::size_t used = 0;
            came.code = stream.decode(block.get(), held.size(), used);
            REQUIRE(used <= held.size());
            held.erase(held.begin(), held.begin() + static_cast<std::ptrdiff_t>(used));
        } while (came.code == Code::full && grow());
    }
    came.state = stream.state, came.n_rows = stream.n_rows;
    return came;
}

struct Held {  // columns that grow one by one
    explicit Held(const Layout& layout) : out(layout), n(layout.n_fields) {}
    bool grow() {
        const auto more = static_cast<std::size_t>(out.capacity + 1);
        for (int i = 0; i < n; ++i) {
            memory[i].resize(more);
            out.column[i] = memory[i].data();
        }
        out.capacity = static_cast<int64_t>(more);
        return true;
    }
    Columns out;
    int n;
    Vec<int64_t> memory[max_fields];  // wide enough for every kind
};

template <int K>
Layout layout_of(Input& in, const Rows<double, K>& rows) {
    Layout layout;
    const Wire ints[] = {Wire::int2, Wire::int4, Wire::int8};
    layout.add(Target::time, in.flag() ? Wire::timestamp : Wire::int8);
    layout.add(Target::level, ints[in.number(0, 2)]);
    if (K == 2) layout.add(Target::side, in.flag() ? Wire::boolean : Wire::int4);
    for (int k = 0; k < K; ++k) layout.add(Target::number, Wire::float8);
    if (!rows.batch.empty()) layout.add(Target::count, Wire::int8);
    return layout;
}

template <int K>
Bytes stream_of(Input& in, const Rows<double, K>& rows, const Layout& layout) {
    Bytes out;
    const char signature[] = "PGCOPY\n\xff\r\n";
    out.assign(signature, signature + sizeof signature);
    append(out, int64_t{0});
    const bool as_null = in.flag();
    for (std::size_t i = 0; i < rows.ts.size(); ++i) {
        append(out, static_cast<std::int16_t>(layout.n_fields));
        append_field(out, layout.field[0].wire == Wire::int8 ? rows.ts[i] : rows.ts[i] / 1000 - epoch_us);
        append_integer(out, layout.field[1].wire, rows.level[i]);
        if constexpr (K == 2) append_integer(out, layout.field[2].wire, rows.side[i]);
        for (const auto& column : rows.column) append_number(out, column[i], as_null);
        if (!rows.batch.empty()) append_field(out, rows.batch[i]);
    }
    append(out, std::int16_t{-1});
    return out;
}

// A result of libpq's, of fields of any length.
struct Result {
    int n_rows, n_fields;
    Vec<Bytes> cell;
    Vec<bool> null;
};
const Result& held(const void* result) { return *static_cast<const Result*>(result); }
std::size_t at_cell(const void* r, int row, int i) {
    return static_cast<std::size_t>(row * held(r).n_fields + i);
}

void check_result(Input& in, const Layout& layout) {
    Result result{static_cast<int>(in.number(0, 4)), layout.n_fields - (in.number(0, 15) == 0), {}, {}};
    for (int i = 0; i < result.n_rows * result.n_fields; ++i) {
        const Field& f = layout.field[i % result.n_fields];
        const bool null = in.number(0, 15) == 0;
        Bytes bytes(null ? 0 : at(in.number(0, 15) == 0 ? in.number(0, 70) : f.width));
        for (auto& byte : bytes) byte = static_cast<std::uint8_t>(in.number(0, 255));
        result.cell.push_back(bytes);
        result.null.push_back(null);
    }
    Libpq pq{};
    pq.n_rows = [](const void* r) { return held(r).n_rows; };
    pq.n_fields = [](const void* r) { return held(r).n_fields; };
    pq.length = [](const void* r, int row, int i) {
        return static_cast<int>(held(r).cell[at_cell(r, row, i)].size());
    };
    pq.is_null = [](const void* r, int row, int i) {
        return static_cast<int>(held(r).null[at_cell(r, row, i)]);
    };
    pq.value = [](const void* r, int row, int i) {
        return reinterpret_cast<char*>(const_cast<std::uint8_t*>(held(r).cell[at_cell(r, row, i)].data()));
    };
    Held columns(layout);
    CopyStream stream(layout, &columns.out);
    int row = 0;
    Code code;
    do code = take_result(pq, &result, stream, row);
    while (code == Code::full && columns.grow());
    REQUIRE(stream.n_rows == row);
    REQUIRE((code == Code::more) == (row == result.n_rows && (result.n_fields == layout.n_fields)));
}

template <int K>
void check(Input& in) {
    Rows<double, K> rows = any_rows<double, K>(in);
    const Layout layout = layout_of<K>(in, rows);
    if (layout.field[0].wire == Wire::timestamp)
        for (auto& ts : rows.ts) ts = (std::clamp<int64_t>(ts, -999, 999) + epoch_us) * 1000;
    if (in.number(0, 7) == 0) return check_result(in, layout);
    Bytes bytes = stream_of<K>(in, rows, layout);
    const bool damaged = in.flag();
    if (damaged) {
        for (int64_t n = in.number(1, 6); n > 0; --n)
            bytes[at(in.number(0, static_cast<int64_t>(bytes.size()) - 1))] =
                static_cast<std::uint8_t>(in.number(0, 255));
        bytes.resize(at(in.number(0, static_cast<int64_t>(bytes.size()))));
    }
    Held whole(layout), pieces(layout);
    CopyStream first(layout, &whole.out), second(layout, &pieces.out), third;
    const Came came = feed(first, bytes, nullptr, [&] { return whole.grow(); });
    REQUIRE(feed(second, bytes, &in, [&] { return pieces.grow(); }) == came);
    for (int i = 0; i < layout.n_fields; ++i)  // also what is beyond the rows: the same was written there
        REQUIRE(whole.memory[i] == pieces.memory[i]);

    bml::BookSink sink(rows.levels, K, rows.keep, !rows.batch.empty(), 1 << 20, std::size_t{1} << 30);
    third = CopyStream(layout, &sink);
    const Came placed = feed(third, bytes, &in, [] { return false; });
    if (damaged) {  // a book may refuse what columns take: two rows of one cell
        REQUIRE(placed.code == Code::conflict || placed == came);
        sink.finish();
        return;
    }
    const Book<double> wanted = book_of<double, K, double>(rows);
    const Code code = placed.code == Code::more ? sink.finish() : placed.code;
    if (!wanted.faults.empty()) {
        using bml::What;
        const What what = code == Code::conflict    ? What::duplicate_conflict
                          : code == Code::bad_level ? What::level_below_one
                          : code == Code::bad_side  ? What::side_unknown
                                                    : What::ok;
        REQUIRE(wanted.faults.count(what) == 1);
        return;
    }
    REQUIRE(came.code == Code::more && came.state == State::end && came.n_rows == rows.size());
    REQUIRE(code == Code::more);
    REQUIRE(sink.ts == wanted.times);
    REQUIRE(same(Vec<double>(sink.book.data(), sink.book.data() + wanted.book.size()), wanted.book));
    int64_t n_deep = 0, n_rows = 0;
    for (std::size_t t = 0; t < sink.ts.size(); ++t) {
        REQUIRE(sink.count[t].n_surplus == wanted.duplicate[t]);
        n_deep += sink.count[t].n_deep, n_rows += sink.count[t].n_rows;
    }
    REQUIRE(n_rows == rows.size() && n_deep == wanted.n_deep);
    REQUIRE(sink.n_duplicate == wanted.n_duplicate);
    REQUIRE(sink.n_conflict == wanted.n_conflict);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input in(data, size);
    in.flag() ? check<4>(in) : check<2>(in);
    return 0;
}
