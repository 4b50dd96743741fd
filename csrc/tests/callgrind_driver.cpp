// Every kernel once on fixed data, for callgrind: instructions do not vary, so a per cent more is seen.
// Run by callgrind.sh. A dump is named "kernel input/elements"; an element is a row (tall) or a value (book).
#include <valgrind/callgrind.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <string>
#include <vector>

#include "bml/bin_depth.hpp"
#include "bml/daily_moments.hpp"
#include "bml/day_tensor.hpp"
#include "bml/depth_profile.hpp"
#include "bml/resample_grid.hpp"
#include "bml/tall_to_wide.hpp"

namespace {

using std::int64_t;
template <class T>
using Vec = std::vector<T>;

constexpr int64_t n_times = 300, n_levels = 200, step = 10;
constexpr int threads = 1;

class Random {  // the same numbers everywhere
  public:
    std::uint64_t next() { return (state_ = state_ * 6364136223846793005ULL + 1442695040888963407ULL) >> 33; }

  private:
    std::uint64_t state_ = 1;
};

template <class Work>
void count(const std::string& name, int64_t elements, const Work& work) {
    const std::string label = name + "/" + std::to_string(elements);  // outlives the macro's use of it
    const char* planted = std::getenv("BML_PLANTED_SLOW_DOWN");       // by the test of this comparison
    const int runs = planted && name == planted ? 2 : 1;
    CALLGRIND_START_INSTRUMENTATION;
    for (int i = 0; i < runs; ++i) work();
    CALLGRIND_STOP_INSTRUMENTATION;
    CALLGRIND_DUMP_STATS_AT(label.c_str());
}

struct Rows {
    Vec<int64_t> ts;
    Vec<std::int32_t> level;
    Vec<std::int8_t> side;
    std::array<Vec<double>, 4> column;

    int64_t size() const { return static_cast<int64_t>(ts.size()); }
    void add(int64_t t, int64_t l, int64_t s, Random& random) {
        ts.push_back(t * step), level.push_back(static_cast<std::int32_t>(l + 1));
        side.push_back(static_cast<std::int8_t>(s));
        for (auto& c : column) c.push_back(static_cast<double>(random.next() % 1000));
    }
    template <int K>
    bml::TallRows<double, K> view() const {
        bml::TallRows<double, K> rows{size(), ts.data(), level.data(), side.data(), nullptr, {}};
        for (std::size_t k = 0; k < K; ++k) rows.column[k] = column[k].data();
        return rows;
    }
};

Rows rows_of(int64_t n_sides, std::uint64_t missing_per_mille) {
    Random random;
    Rows rows;
    for (int64_t t = 0; t < n_times; ++t)
        for (int64_t s = 0; s < n_sides; ++s)
            for (int64_t l = 0; l < n_levels; ++l)
                if (random.next() % 1000 >= missing_per_mille) rows.add(t, l, s, random);
    return rows;
}

// Rows of blocks of ``block`` in another order.
Rows shuffled(const Rows& from, std::size_t block) {
    Random random;
    Vec<std::size_t> order(from.ts.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    for (std::size_t i = 0; i < order.size(); ++i) {
        const std::size_t start = i / block * block, stop = std::min(start + block, order.size());
        std::swap(order[i], order[i + random.next() % (stop - i)]);
    }
    Rows to = from;
    for (std::size_t i = 0; i < order.size(); ++i) {
        to.ts[i] = from.ts[order[i]], to.level[i] = from.level[order[i]], to.side[i] = from.side[order[i]];
        for (std::size_t k = 0; k < 4; ++k) to.column[k][i] = from.column[k][order[i]];
    }
    return to;
}

template <int K>
void count_tall(const std::string& name, const Rows& rows) {
    constexpr auto keep = bml::Keep::refuse;
    Vec<int64_t> times, starts(rows.ts.size() + 1), found(rows.ts.size());
    Vec<float> book(static_cast<std::size_t>(n_times * n_levels * 4));
    Vec<std::int32_t> duplicate(n_times), slot(rows.ts.size());
    for (int64_t t = 0; t < n_times; ++t) times.push_back(t * step);
    const bml::Wide<float> wide{n_times, n_levels, times.data(), book.data(), duplicate.data()};
    bml::Surplus sum;
    count("tall_to_wide " + name, rows.size(), [&] {
        if (bml::find_snapshots(rows.ts.data(), rows.size(), starts.data(), found.data()) >= 0) {
            bml::tall_to_wide(rows.view<K>(), starts.data(), keep, wide, sum, threads);
        } else {
            bml::distinct_times(rows.ts.data(), rows.size(), slot.data(), threads);
            bml::shuffled_to_wide(rows.view<K>(), slot.data(), keep, wide, sum, threads);
        }
    });
}

void count_day(const std::string& name, const Rows& rows, bool with_moments) {
    Vec<int64_t> times, edges, starts(rows.ts.size() + 1), found(rows.ts.size()), source(n_times),
        age(n_times), counts(n_levels * 4);
    for (int64_t t = 0; t < n_times; ++t) times.push_back(t * step);
    for (int64_t l = 0; l <= 10; ++l) edges.push_back(l);
    for (int64_t l = 29; l <= n_levels; l += 19) edges.push_back(l);
    const auto n_bins = static_cast<int64_t>(edges.size()) - 1;
    Vec<float> bins(static_cast<std::size_t>(n_times * n_bins * 4)), coverage(bins.size() / 2);
    Vec<double> mid(n_times), touch(n_times * 4);
    std::array<Vec<double>, 5> sums;
    for (auto& x : sums) x.resize(n_levels * 4);
    Vec<std::int32_t> duplicate(n_times), broken(n_times);
    Vec<std::uint8_t> mark(n_times);
    constexpr auto keep = bml::Keep::refuse;
    const bml::DayPlan plan{n_times, n_times, n_levels, n_bins, times.data(), times.data(), edges.data(),
                            step,    keep,    false,    false,  false,        false};
    const bml::DayOut<float> out{bins.data(),
                                 coverage.data(),
                                 source.data(),
                                 age.data(),
                                 mid.data(),
                                 touch.data(),
                                 duplicate.data(),
                                 broken.data(),
                                 mark.data(),
                                 nullptr,
                                 {with_moments ? counts.data() : nullptr, sums[0].data(), sums[1].data(),
                                  sums[2].data(), sums[3].data(), sums[4].data()}};
    const auto view = rows.view<4>();
    bml::Surplus sum;
    count("day_tensor " + name, rows.size(), [&] {
        bml::find_snapshots(rows.ts.data(), rows.size(), starts.data(), found.data());
        bml::day_tensor(
            plan, out, bml::unit_bounds(plan),
            [&](int rooms) {
                return bml::OrderedReader<bml::TallRows<double, 4>>(view, starts.data(), n_levels, keep,
                                                                    rooms);
            },
            sum, threads);
    });
}

void count_books(const Vec<float>& book) {
    const auto n = static_cast<int64_t>(book.size());
    Vec<int64_t> ts(n_times), grid(n_times), source(n_times), age(n_times);
    for (std::size_t t = 0; t < n_times; ++t) {
        grid[t] = static_cast<int64_t>(t) * step;
        ts[t] = grid[t] + static_cast<int64_t>(t) % 7;
    }
    Vec<float> on_grid(book.size());
    for (const auto method : {bml::Method::forward_fill, bml::Method::linear})
        count(method == bml::Method::linear ? "resample_grid linear" : "resample_grid forward_fill", n, [&] {
            bml::resample_grid<float>({n_times, n_levels * 4, ts.data(), book.data()}, grid.data(), 6 * step,
                                      method, {n_times, on_grid.data(), source.data(), age.data()}, threads);
        });
    Vec<int64_t> profile(2 * n_levels), edges;
    count("depth_profile", n,
          [&] { bml::depth_profile(book.data(), n_times, n_levels, profile.data(), threads); });
    for (int64_t l = 0; l <= 10; ++l) edges.push_back(l);
    for (int64_t l = 29; l <= n_levels; l += 19) edges.push_back(l);
    const auto n_bins = static_cast<int64_t>(edges.size()) - 1;
    Vec<float> bins(static_cast<std::size_t>(n_times * n_bins * 4)), coverage(bins.size() / 2);
    count("bin_depth near_and_ten", n, [&] {
        bml::bin_depth(book.data(), n_times, n_levels, edges.data(), n_bins, false, bins.data(),
                       coverage.data(), threads);
    });
    Vec<int64_t> counts(n_levels * 4);
    std::array<Vec<double>, 5> sums;
    for (auto& x : sums) x.resize(n_levels * 4);
    count("daily_moments", n, [&] {
        bml::daily_moments(
            book.data(), n_times, n_levels * 4,
            {counts.data(), sums[0].data(), sums[1].data(), sums[2].data(), sums[3].data(), sums[4].data()},
            threads);
    });
}

}  // namespace

int main() {
    const Rows complete = rows_of(1, 0);
    count_day("complete", complete, false);
    count_day("moments", complete, true);
    count_tall<4>("complete", complete);
    count_tall<4>("missing", rows_of(1, 20));
    count_tall<4>("levels shuffled", shuffled(complete, n_levels));
    count_tall<4>("shuffled", shuffled(complete, complete.ts.size()));
    count_tall<2>("sided", rows_of(2, 0));
    Random random;
    Vec<float> book(n_times * n_levels * 4);
    for (float& x : book) {
        x = static_cast<float>(random.next() % 1000);
        if (random.next() % 100 == 0) x = std::numeric_limits<float>::quiet_NaN();
    }
    count_books(book);
    return 0;
}
