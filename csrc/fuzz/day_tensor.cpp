// Rows to grid to bins against maps, a search and one level at a time.
#include "bml/bin_depth.hpp"
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

// The separate kernels, one after another.
Day run(const Book<float>& wide, int64_t levels, const Plan& plan, int threads) {
    const int64_t n_grid = plan.n_grid(), n_bins = plan.n_bins(), cells = levels * 4;
    Vec<float> on_grid(at(n_grid * cells), 7.0F);
    Vec<int64_t> source(at(n_grid));
    Day day{Vec<float>(at(n_grid * n_bins * 4), 7.0F), Vec<float>(at(n_grid * n_bins * 2), 7.0F), source};
    const auto n_times = static_cast<int64_t>(wide.times.size());
    const bml::Error error = bml::resample_grid<float>(
        {n_times, cells, wide.times.data(), wide.book.data()}, plan.grid.data(), plan.max_age_ns,
        bml::Method::forward_fill, {n_grid, on_grid.data(), source.data(), day.age.data()}, threads);
    REQUIRE(!error);
    bml::bin_depth(on_grid.data(), n_grid, levels, plan.edges.data(), n_bins, false, day.book.data(),
                   day.coverage.data(), threads);
    return day;
}

Day day_of(const Book<float>& wide, int64_t levels, const Plan& plan) {
    const int64_t n_bins = plan.n_bins();
    Day day{Vec<float>(at(plan.n_grid() * n_bins * 4)), Vec<float>(at(plan.n_grid() * n_bins * 2)), {}};
    const Vec<float> nothing(at(levels * 4), std::numeric_limits<float>::quiet_NaN());
    for (std::size_t g = 0; g < plan.grid.size(); ++g) {
        const int64_t now = plan.grid[g];
        const float* snapshot = nothing.data();
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
    const Book<float> wide = book_of<T, K, float>(rows);
    const Plan plan = any_plan(in, rows.levels);
    if (!wide.faults.empty()) return;
    const Day got = run(wide, rows.levels, plan, in.threads()), wanted = day_of(wide, rows.levels, plan);
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
