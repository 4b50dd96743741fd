// Rows to grid to bins, float32, against maps, a search and one level at a time.
#include "bml/day_tensor.hpp"

#include "bml/bin_depth.hpp"
#include "bml/book_reader.hpp"
#include "bml/resample_grid.hpp"
#include "fold.hpp"
#include "tall.hpp"

namespace {

using namespace fuzz;

struct Plan {
    Vec<int64_t> grid, edges;
    int64_t max_age_ns = 0;

    int64_t n_grid() const { return static_cast<int64_t>(grid.size()); }
    int64_t n_bins() const { return static_cast<int64_t>(edges.size()) - 1; }
};

struct Day {
    Vec<float> book, coverage;  // (G, D, 4), (G, D, 2)
    Vec<int64_t> age;           // (G,)
};

Plan any_plan(Input& in, int64_t levels) {
    const auto sorted_set = [](Vec<int64_t> x) {
        std::sort(x.begin(), x.end());
        x.erase(std::unique(x.begin(), x.end()), x.end());
        return Vec<int64_t>(x);
    };
    Vec<int64_t> edges;
    for (int64_t d = in.number(0, 8); d > 0; --d) edges.push_back(in.number(0, levels));
    edges.push_back(0), edges.push_back(levels);
    return {sorted_set(in.times(in.number(0, 12))), sorted_set(edges), in.number(0, 12)};
}

// In order if that is what the rows are, else by groups: as the binding does.
template <class T, int K>
Day run(const Rows<T, K>& rows, const Book<T>& wide, const Plan& plan, int threads) {
    const int64_t levels = rows.levels, n_grid = plan.n_grid(), n_bins = plan.n_bins();
    const auto n_times = static_cast<int64_t>(wide.times.size());
    Day day{Vec<float>(at(n_grid * n_bins * 4), 7.0F), Vec<float>(at(n_grid * n_bins * 2), 7.0F),
            Vec<int64_t>(at(n_grid))};
    Vec<int64_t> source(at(n_grid)), profile(at(2 * levels)), count(at(4 * levels));
    Vec<double> mid(at(n_grid)), touch(at(4 * n_times)), mean(at(4 * levels)), m2(mean), m3(mean), m4(mean),
        total(mean);
    Vec<std::int32_t> duplicate(at(n_times)), broken(at(n_times)), slot(rows.ts.size());
    Vec<std::uint8_t> mark(at(n_times));
    const bml::DayPlan what{n_times,
                            n_grid,
                            levels,
                            n_bins,
                            wide.times.data(),
                            plan.grid.data(),
                            plan.edges.data(),
                            plan.max_age_ns,
                            rows.keep,
                            false,
                            false,
                            false,
                            true};
    const bml::DayOut<float> out{day.book.data(),
                                 day.coverage.data(),
                                 source.data(),
                                 day.age.data(),
                                 mid.data(),
                                 touch.data(),
                                 duplicate.data(),
                                 broken.data(),
                                 mark.data(),
                                 profile.data(),
                                 {count.data(), mean.data(), m2.data(), m3.data(), m4.data(), total.data()}};
    const Vec<int64_t> bounds = bml::unit_bounds(what);
    const auto view = rows.view();
    using View = bml::TallRows<T, K>;
    bml::Surplus sum;
    bml::Error error{bml::What::times_changed, 0};
    if (std::is_sorted(rows.ts.begin(), rows.ts.end())) {
        const Vec<int64_t> starts = starts_of(rows.ts);
        error = bml::day_tensor(
            what, out, bounds,
            [&](int rooms) {
                return bml::OrderedReader<View>(view, starts.data(), levels, rows.keep, rooms);
            },
            sum, threads);
    } else {
        bml::distinct_times(rows.ts.data(), rows.size(), slot.data(), threads);
        const bml::Groups<View> groups(view, slot.data(), bounds, levels, threads);
        REQUIRE(!groups.error);
        error = bml::day_tensor(
            what, out, bounds,
            [&](int rooms) { return bml::ShuffledReader<View>(view, groups, rows.keep, rooms); }, sum,
            threads);
        sum.n_deep += groups.n_deep;
    }
    REQUIRE(!error);
    REQUIRE(duplicate == wide.duplicate);
    REQUIRE(sum.n_deep == wide.n_deep && sum.n_duplicate == wide.n_duplicate &&
            sum.n_conflict == wide.n_conflict);
    const Day of_rows = day;  // and of the book they make
    const Vec<double> touch_of_rows = touch;
    const auto mark_of_rows = mark;
    error = bml::day_tensor(
        what, out, bounds, [&](int rooms) { return bml::BookReader<T>(wide.book.data(), levels, rooms); },
        sum, threads);
    REQUIRE(!error);
    REQUIRE(same(day.book, of_rows.book) && same(day.coverage, of_rows.coverage) && day.age == of_rows.age);
    REQUIRE(same(touch, touch_of_rows) && mark == mark_of_rows);
    Vec<T> on_grid;  // what the moments and the profile are of: snapshots that serve first, once each
    Vec<int64_t> profile_wanted(profile.size());
    int64_t last = -1;
    for (const int64_t t : source) {
        if (t < 0 || t == last) continue;
        last = t;
        const T* cell = wide.book.data() + t * levels * 4;
        on_grid.insert(on_grid.end(), cell, cell + levels * 4);
        for (std::size_t i = 0; i < profile.size(); ++i) profile_wanted[i] += cell[2 * i + 1] > T{0};
    }
    REQUIRE(profile == profile_wanted);
    for (std::size_t v = 0; v < count.size(); ++v) {
        int64_t n = 0;
        for (std::size_t i = v; i < on_grid.size(); i += count.size()) n += !std::isnan(on_grid[i]);
        REQUIRE(count[v] == n);
    }
    return day;
}

template <class T>
Day day_of(const Book<T>& wide, int64_t levels, const Plan& plan) {
    const int64_t n_bins = plan.n_bins();
    Day day{Vec<float>(at(plan.n_grid() * n_bins * 4)), Vec<float>(at(plan.n_grid() * n_bins * 2)), {}};
    const Vec<T> nothing(at(levels * 4), std::numeric_limits<T>::quiet_NaN());
    for (std::size_t g = 0; g < plan.grid.size(); ++g) {
        const int64_t now = plan.grid[g];
        const T* snapshot = nothing.data();
        day.age.push_back(-1);
        for (std::size_t t = 0; t < wide.times.size(); ++t) {
            const __int128 age = static_cast<__int128>(now) - wide.times[t];
            if (age < 0) break;
            const bool fresh = age <= plan.max_age_ns;
            snapshot = fresh ? wide.book.data() + t * at(levels) * 4 : nothing.data();
            day.age.back() = fresh ? static_cast<int64_t>(age) : -1;
        }
        for (std::size_t d = 0; d < at(n_bins); ++d)
            for (std::size_t side = 0; side < 2; ++side)
                fold(snapshot + 2 * side, plan.edges[d], plan.edges[d + 1],
                     day.book.data() + (g * at(n_bins) + d) * 4 + 2 * side,
                     day.coverage.data() + (g * at(n_bins) + d) * 2 + side);
    }
    return day;
}

template <class T, int K>
void check(Input& in) {
    const Rows<T, K> rows = any_rows<T, K>(in);
    const Book<T> wide = book_of<T, K, T>(rows);
    const Plan plan = any_plan(in, rows.levels);
    if (!wide.faults.empty()) return;
    const Day got = run(rows, wide, plan, in.threads()), wanted = day_of(wide, rows.levels, plan);
    REQUIRE(same(got.book, wanted.book));
    REQUIRE(same(got.coverage, wanted.coverage));
    REQUIRE(got.age == wanted.age);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input in(data, size);
    switch (in.number(0, 3)) {
        case 0:
            check<double, 4>(in);
            break;
        case 1:
            check<float, 4>(in);
            break;
        case 2:
            check<double, 2>(in);
            break;
        default:
            check<float, 2>(in);
            break;
    }
    return 0;
}
