// The headers alone, without Python: values and refusals by hand. Run by run.sh under ASan and UBSan.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <vector>

#include "bml/bin_depth.hpp"
#include "bml/daily_moments.hpp"
#include "bml/depth_profile.hpp"
#include "bml/distinct_times.hpp"
#include "bml/error.hpp"
#include "bml/gather_windows.hpp"
#include "bml/occupied_edges.hpp"
#include "bml/resample_grid.hpp"
#include "bml/tall_to_wide.hpp"
#include "bml/times.hpp"

namespace {

using std::int64_t;
constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr int64_t lowest = std::numeric_limits<int64_t>::min();
constexpr int64_t highest = std::numeric_limits<int64_t>::max();
int failures = 0;

#define CHECK(condition) check((condition), #condition, __LINE__)
void check(bool ok, const char* what, int line) {
    if (ok) return;
    std::printf("native_test.cpp:%d: failed: %s\n", line, what);
    ++failures;
}

bool equal(const std::vector<double>& a, const std::vector<double>& b) {
    if (a.size() != b.size()) return false;
    for (std::size_t i = 0; i < a.size(); ++i)
        if (!(a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i])))) return false;
    return true;
}

struct Reshaped {  // owns exactly what the kernel may touch, so that the sanitizer sees a byte too many
    std::vector<int64_t> times;
    std::vector<double> book;
    std::vector<std::int32_t> duplicate;
    bml::Error error;
    int64_t n_deep = 0, n_duplicate = 0, n_conflict = 0;
};

struct SidedRows {
    std::vector<int64_t> ts;
    std::vector<std::int32_t> level;
    std::vector<std::int8_t> side;
    std::vector<double> px, qty;
    std::vector<int64_t> batch = {};
};

// Rows in time order are streamed, others are brought together first.
Reshaped reshape(const SidedRows& r, int64_t levels, bml::Keep keep) {
    const auto n = static_cast<int64_t>(r.ts.size());
    std::vector<int64_t> starts(r.ts.size() + 1), times(r.ts.size());
    std::vector<std::int32_t> slot(r.ts.size());
    const int64_t found = bml::find_snapshots(r.ts.data(), n, starts.data(), times.data());
    times.resize(static_cast<std::size_t>(std::max(found, int64_t{0})));
    if (found < 0) times = bml::distinct_times(r.ts.data(), n, slot.data(), 2);
    Reshaped out{times,
                 std::vector<double>(static_cast<std::size_t>(levels) * 4 * times.size()),
                 std::vector<std::int32_t>(times.size()),
                 {}};
    const bml::TallRows<double, 2> rows{n,
                                        r.ts.data(),
                                        r.level.data(),
                                        r.side.data(),
                                        r.batch.empty() ? nullptr : r.batch.data(),
                                        {r.px.data(), r.qty.data()}};
    const bml::Wide<double> wide{static_cast<int64_t>(times.size()), levels, out.times.data(),
                                 out.book.data(), out.duplicate.data()};
    bml::Surplus sum;
    out.error = found < 0 ? bml::shuffled_to_wide(rows, slot.data(), keep, wide, sum, 2)
                          : bml::tall_to_wide(rows, starts.data(), keep, wide, sum, 2);
    out.n_deep = sum.n_deep, out.n_duplicate = sum.n_duplicate, out.n_conflict = sum.n_conflict;
    return out;
}

void test_times() {
    const std::vector<int64_t> sorted = {lowest, -1, -1, 0, highest}, mixed = {3, 1, 2};
    std::vector<int64_t> starts(6), times(5);
    CHECK(bml::find_snapshots(sorted.data(), 5, starts.data(), times.data()) == 4);
    CHECK(starts == std::vector<int64_t>({0, 1, 3, 4, 5, 0}));
    CHECK(bml::find_snapshots(mixed.data(), 3, starts.data(), times.data()) == -1);
    CHECK(bml::find_snapshots(nullptr, 0, starts.data(), times.data()) == 0 && starts[0] == 0);
    std::vector<std::int32_t> slot(5);
    CHECK(bml::distinct_times(mixed.data(), 3, slot.data(), 1) == std::vector<int64_t>({1, 2, 3}));
    CHECK(slot[0] == 2 && slot[1] == 0 && slot[2] == 1);
    CHECK(!bml::one_time(sorted.data(), 1, 4) && bml::one_time(sorted.data(), 1, 3));
    CHECK(bml::first_not_increasing(sorted.data(), 5) == 2);
    CHECK(bml::within(lowest, highest, highest) == false);
    CHECK(bml::within(lowest, -1, highest));
    CHECK(bml::within(lowest, lowest, 0));
    CHECK(!bml::within(0, 6, 5) && bml::within(1, 6, 5));
}

void test_tall_to_wide() {
    // ts 5: bid level 1, ask level 2; ts 7: level 3 is too deep
    const Reshaped a =
        reshape({{5, 5, 7}, {1, 2, 3}, {0, 1, 0}, {10, 11, 12}, {1, 0, 3}}, 2, bml::Keep::refuse);
    CHECK(!a.error && a.n_deep == 1 && a.times == std::vector<int64_t>({5, 7}));
    CHECK(equal(a.book, {10, 1, nan, nan, nan, nan, 11, 0, nan, nan, nan, nan, nan, nan, nan, nan}));

    const SidedRows twice{{9, 4, 9}, {1, 1, 1}, {0, 0, 0}, {1, 2, 3}, {1, 1, 1}};
    const Reshaped refused = reshape(twice, 1, bml::Keep::refuse);
    CHECK(refused.error.what == bml::What::duplicate_conflict && refused.error.row == 2);
    const Reshaped first = reshape(twice, 1, bml::Keep::first);
    CHECK(!first.error && first.n_conflict == 1 && equal(first.book, {2, 1, nan, nan, 1, 1, nan, nan}));
    const Reshaped last = reshape(twice, 1, bml::Keep::last);
    CHECK(!last.error && last.duplicate[1] == 1 && equal(last.book, {2, 1, nan, nan, 3, 1, nan, nan}));

    SidedRows batches = twice;
    batches.batch = {2, 1, 1};
    const Reshaped batch = reshape(batches, 1, bml::Keep::refuse);
    CHECK(!batch.error && batch.n_conflict == 0 && batch.duplicate[1] == 1 && batch.book[4] == 1);

    const Reshaped same = reshape({{1, 1}, {1, 1}, {1, 1}, {nan, nan}, {2, 2}}, 1, bml::Keep::refuse);
    CHECK(!same.error && same.n_duplicate == 1 && same.duplicate[0] == 1);
    CHECK(reshape({{1}, {0}, {0}, {1}, {1}}, 1, bml::Keep::refuse).error.what == bml::What::level_below_one);
    CHECK(reshape({{1}, {1}, {2}, {1}, {1}}, 1, bml::Keep::refuse).error.what == bml::What::side_unknown);
    const int64_t small = std::numeric_limits<std::int32_t>::min();
    CHECK(reshape({{1}, {static_cast<std::int32_t>(small)}, {0}, {1}, {1}}, 1, bml::Keep::first).error.row ==
          0);
    CHECK(reshape({}, 3, bml::Keep::refuse).times.empty());
}

void test_resample_grid() {
    const std::vector<int64_t> ts = {lowest, 10, 20, highest}, grid = {lowest, 9, 10, 15, 26, highest};
    const std::vector<double> value = {1, 2, 4, 8};
    std::vector<double> out(6);
    std::vector<int64_t> source(6), age(6);
    const bml::Samples<double> in{4, 1, ts.data(), value.data()};
    const bml::OnGrid<double> to{6, out.data(), source.data(), age.data()};
    CHECK(!bml::resample_grid(in, grid.data(), 5, bml::Method::forward_fill, to, 1));
    CHECK(equal(out, {1, nan, 2, 2, nan, 8}));
    CHECK(source == std::vector<int64_t>({0, -1, 1, 1, -1, 3}) &&
          age == std::vector<int64_t>({0, -1, 0, 5, -1, 0}));
    CHECK(!bml::resample_grid(in, grid.data(), 5, bml::Method::linear, to, 1));
    CHECK(equal(out, {1, nan, 2, 3, nan, 8}));
    CHECK(!bml::resample_grid(in, grid.data(), highest, bml::Method::forward_fill, to, 1));
    CHECK(source == std::vector<int64_t>({0, -1, 1, 1, 2, 3}));  // 9 - lowest does not fit 64 bits: too old
    const std::vector<int64_t> bad = {1, 1};
    const bml::Samples<double> still{2, 1, bad.data(), value.data()};
    CHECK(bml::resample_grid(still, grid.data(), 5, bml::Method::linear, to, 1).row == 1);
    const bml::OnGrid<double> two{2, out.data(), source.data(), age.data()};
    CHECK(bml::resample_grid(in, bad.data(), 5, bml::Method::linear, two, 1).what ==
          bml::What::grid_not_increasing);
}

// Rows written past the cache, from any place in memory: the values that plain writing gives.
void test_stream() {
    std::vector<float> from(301), to(301);
    for (std::size_t i = 0; i < from.size(); ++i) from[i] = static_cast<float>(i);
    for (std::size_t skip = 0; skip < 17; ++skip)
        for (const std::size_t n : {0U, 1U, 20U, 284U}) {
            std::fill(to.begin(), to.end(), -1.0F);
            bml::stream_row(
                to.data() + skip, static_cast<int64_t>(n),
                [&](int64_t x, int64_t some, float* at) { std::copy_n(from.data() + x, some, at); });
            bml::stream_end();
            bool same = std::equal(from.begin(), from.begin() + static_cast<int64_t>(n), to.data() + skip);
            for (std::size_t i = 0; i < to.size(); ++i) same &= (to[i] == -1) == (i < skip || i >= skip + n);
            CHECK(same);
        }
}

void test_depth_by_hand() {
    const std::vector<double> book = {10, 1, 20, nan, 9, 3,   21, 0, nan, nan, 22, 0,
                                      10, 0, 20, 5,   9, nan, 21, 5, 8,   2,   22, 5};
    std::vector<int64_t> count(6);
    bml::depth_profile(book.data(), 2, 3, count.data(), 1);
    CHECK(count == std::vector<int64_t>({1, 1, 1, 1, 1, 1}));
    const std::vector<int64_t> edges = {0, 1, 3};
    std::vector<double> out(16);
    std::vector<float> share(8);
    bml::bin_depth(book.data(), 2, 3, edges.data(), 2, false, out.data(), share.data(), 1);
    CHECK(equal(out, {10, 1, nan, nan, 9, 3, 21.5, 0, 10, 0, 20, 5, 8, 2, 21.5, 10}));
    CHECK(share == std::vector<float>({1, 0, 0.5, 1, 1, 1, 0.5, 1}));
    const std::vector<int64_t> each = {1, 1, 3, 3, 3, 3};  // an empty bin, then all levels; then none at all
    bml::bin_depth(book.data(), 2, 3, each.data(), 2, true, out.data(), share.data(), 1);
    CHECK(equal(out, {nan, nan, nan, nan, 9, 3, 21.5, 0, nan, nan, nan, nan, nan, nan, nan, nan}));
    CHECK(share == std::vector<float>({0, 0, 0.5, 1, 0, 0, 0, 0}));
    std::vector<int64_t> found(8);
    bml::occupied_edges(book.data(), 2, 3, 1, 2, found.data(), 1);
    CHECK(found == std::vector<int64_t>({0, 1, 2, 2, 0, 1, 2, 3}));
    bml::occupied_edges(book.data(), 2, 0, 1, 2, found.data(), 1);
    CHECK(found == std::vector<int64_t>(8, 0));
}

// The lane rule as a plain loop: quantity, price * quantity or price of levels [start, stop).
double lane_sum(const std::vector<double>& px, const std::vector<double>& qty, int64_t start, int64_t stop,
                int what) {
    double lane[8] = {};
    for (auto l = static_cast<std::size_t>(start); l < static_cast<std::size_t>(stop); ++l)
        if (!std::isnan(px[l]) && !std::isnan(qty[l]))
            lane[l % 8] += what == 0 ? qty[l] : what == 1 ? px[l] * qty[l] : px[l];
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

// Exactly as long as the levels, so that the sanitizer sees a load too far; every bin of every length.
void test_fold_forms() {
    for (const std::size_t levels : {1U, 7U, 8U, 9U, 29U}) {
        std::vector<double> column[4], cells(4 * levels);
        for (std::size_t f = 0; f < 4; ++f)
            for (std::size_t l = 0; l < levels; ++l) {
                const double x =
                    f % 2 ? 0.1 * static_cast<double>(l * 7 % 5) : 1e5 + 0.01 * static_cast<double>(l * f);
                column[f].push_back((l + f) % 6 == 5 ? nan : x);
                cells[4 * l + f] = column[f][l];
            }
        const double* const pointer[4] = {column[0].data(), column[1].data(), column[2].data(),
                                          column[3].data()};
        for (int64_t start = 0; start <= static_cast<int64_t>(levels); ++start)
            for (int64_t stop = start; stop <= static_cast<int64_t>(levels); ++stop) {
                const int64_t edges[2] = {start, stop};
                std::vector<double> a(4), b(4);
                std::vector<float> c(2), d(2);
                bml::bin_depth(cells.data(), 1, static_cast<int64_t>(levels), edges, 1, false, a.data(),
                               c.data(), 1);
                bml::fold_columns(pointer, static_cast<int64_t>(levels), edges, 1, b.data(), d.data());
                CHECK(equal(a, b) && c == d);
                for (std::size_t k = 0; k < 2; ++k) {
                    const auto sum = [&](int what) {
                        return lane_sum(column[2 * k], column[2 * k + 1], start, stop, what);
                    };
                    const double present =
                        std::round(static_cast<double>(c[k]) * static_cast<double>(stop - start));
                    double px = sum(1) / sum(0);
                    if (present == 1 || sum(0) == 0) px = sum(2) / present;
                    CHECK(equal({a[2 * k], a[2 * k + 1]},
                                {present > 0 ? px : nan, present > 0 ? sum(0) : nan}));
                }
            }
    }
}

struct Moments {
    std::vector<int64_t> count;
    std::vector<double> mean, m2, m3, m4, total;
    explicit Moments(std::size_t n) : count(n), mean(n), m2(n), m3(n), m4(n), total(n) {}
    bml::MomentArrays arrays() {
        return {count.data(), mean.data(), m2.data(), m3.data(), m4.data(), total.data()};
    }
    bool operator==(const Moments& b) const {
        return count == b.count && equal(mean, b.mean) && equal(m2, b.m2) && equal(m3, b.m3) &&
               equal(m4, b.m4) && equal(total, b.total);
    }
};

void test_daily_moments() {
    constexpr int64_t rows = 600, columns = 2055;  // more than two blocks and a strip
    std::vector<double> x(rows * columns, 0.1);
    for (std::size_t t = 0; t < rows; ++t) {
        x[t * columns + 1] = nan;
        x[t * columns + 2] = t == 0 ? 1e9 : static_cast<double>(t % 3);
        x[t * columns + 2054] = t % 2 ? 1e5 + 0.01 : 1e5;
    }
    Moments whole(columns);
    bml::daily_moments(x.data(), rows, columns, whole.arrays(), 1);
    CHECK(whole.count[0] == rows && whole.mean[0] == 0.1 && whole.m2[0] == 0 && whole.m3[0] == 0 &&
          whole.m4[0] == 0);
    CHECK(whole.count[1] == 0 && whole.total[1] == 0 && whole.mean[1] == 0 && whole.m2[1] == 0);
    const double far = (1e9 - 1) * (1e9 - 1) * 599 / 600;
    CHECK(std::abs(whole.m2[2] / far - 1) < 1e-10 && std::abs(whole.total[2] - (1e9 + 600)) < 1e-3);
    const double half = (1e5 + 0.01 - 1e5) / 2;
    CHECK(std::abs(whole.m2[2054] / (rows * half * half) - 1) < 1e-12);
    CHECK(std::abs(whole.mean[2054] - (1e5 + half)) < 1e-10);
    CHECK(std::abs(whole.m4[2054] * rows / (whole.m2[2054] * whole.m2[2054]) - 1) < 1e-12);

    // fed by pointers, as many rows at a time as there are: the same bits
    std::vector<bml::PowerSums> state(static_cast<std::size_t>(bml::power_sums_of(columns)));
    for (int64_t t = 0; t < rows;) {
        std::vector<std::vector<double>> held;
        for (int64_t more = std::min<int64_t>({1 + t % 13, rows - t, 256 - t % 256}); more > 0; --more, ++t)
            held.emplace_back(x.begin() + t * columns, x.begin() + (t + 1) * columns);
        std::vector<const double*> row;
        for (const auto& values : held) row.push_back(values.data());
        bml::add_rows(row.data(), static_cast<int>(row.size()), columns, state.data());
        if (t % bml::moment_rows == 0 || t == rows)
            for (auto& sums : state) sums.end_block();
    }
    Moments fed(columns);
    bml::write_moments(state.data(), columns, fed.arrays(), 0, 1);
    CHECK(fed == whole);
    bml::daily_moments(x.data(), 0, columns, whole.arrays(), 1);
    CHECK(whole.count[2054] == 0 && whole.mean[2054] == 0);
}

}  // namespace

// Windows over two days and of none, of rows of any width, beside a plain loop; large ones go past the cache.
template <class From>
void windows_of(int64_t width, int64_t rows) {
    const auto at = [](int64_t i) { return static_cast<std::size_t>(i); };
    std::vector<From> day[2];
    const From* days[2];
    const int64_t n_rows[2] = {rows / 2 + 1, rows - rows / 2};
    for (int d = 0; d < 2; ++d) {
        for (int64_t i = 0; i < n_rows[d] * width; ++i) day[d].push_back(static_cast<From>(i * 7 % 1000));
        days[d] = day[d].data();
    }
    std::vector<float> shift(at(2 * width)), scale(at(2 * width)), out(at(2 * rows * width), 7);
    for (std::size_t i = 0; i < shift.size(); ++i) shift[i] = float(i) - 9, scale[i] = 0.5f * float(i % 5);
    const int64_t which[4] = {0, 1, -1, -1}, start[2] = {1, 0}, set[2] = {1, 0};
    const bml::Standards standards(2, width, shift.data(), scale.data(), 100);
    for (const bml::Standards* with : {static_cast<const bml::Standards*>(nullptr), &standards}) {
        bml::gather_windows<From, float>({width, days, n_rows}, {2, rows, 2, which, start, set, out.data()},
                                         with, 2);
        bool same = true;
        for (int64_t i = 0; i < rows * width; ++i) {
            const int64_t from = i + width, first = n_rows[0] * width;
            const From one = from < first ? day[0][at(from)] : day[1][at(from - first)];
            From line[bml::n_line] = {one};
            float x = bml::load_line(line)[0];
            const std::size_t g = at(width + i % width);
            if (with) x = std::min(std::max(shift[g] + x * scale[g], -100.0f), 100.0f);
            same &= out[at(i)] == x && out[at(rows * width + i)] == 0;
        }
        CHECK(same);
    }
}

void test_gather_windows() {
    for (const int64_t width : {0, 1, 3, 15, 16, 17, 240, 1025})
        for (const int64_t rows : {0, 1, 2, 63, 130}) {
            windows_of<float>(width, rows);
            windows_of<std::uint16_t>(width, rows);
        }
    windows_of<float>(33, 5000);
    windows_of<std::uint16_t>(240, 700);
}

int main() {
    test_times();
    test_tall_to_wide();
    test_resample_grid();
    test_stream();
    test_depth_by_hand();
    test_fold_forms();
    test_daily_moments();
    test_gather_windows();
    std::printf(failures ? "%d failed\n" : "native_test: all passed\n", failures);
    return failures != 0;
}
