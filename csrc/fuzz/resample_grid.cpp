// resample_grid against a search of every sample for every grid time, with differences in 128 bits.
#include "bml/resample_grid.hpp"

#include <algorithm>

#include "fuzz.hpp"

namespace {

using namespace fuzz;
using Wide = __int128;

int64_t first_bad(const Vec<int64_t>& x) {
    for (std::size_t i = 1; i < x.size(); ++i)
        if (x[i] <= x[i - 1]) return static_cast<int64_t>(i);
    return -1;
}

// Increasing, mostly.
Vec<int64_t> increasing(Input& in, int64_t most) {
    Vec<int64_t> x = in.times(in.number(0, most));
    if (in.number(0, 15) == 0) return x;
    std::sort(x.begin(), x.end());
    x.erase(std::unique(x.begin(), x.end()), x.end());
    return Vec<int64_t>(x);
}

template <class T>
void check(Input& in) {
    const Vec<int64_t> ts = increasing(in, 24), grid = increasing(in, 24);
    const auto n = static_cast<int64_t>(ts.size()), n_grid = static_cast<int64_t>(grid.size());
    const int64_t width = in.number(0, 20), most = std::numeric_limits<int64_t>::max();
    const int64_t limit = in.flag() ? in.number(0, 12) : in.number(0, most);
    const bool linear = in.flag();
    const Vec<T> value = in.values<T>(n * width);
    Vec<T> out(at(n_grid * width), T{7});
    Vec<int64_t> source(at(n_grid), -9), age(at(n_grid), -9);
    const bml::Error error =
        bml::resample_grid<T>({n, width, ts.data(), value.data()}, grid.data(), limit,
                              linear ? bml::Method::linear : bml::Method::forward_fill,
                              {n_grid, out.data(), source.data(), age.data()}, in.threads());
    if (first_bad(ts) >= 0 || first_bad(grid) >= 0) {
        const bool of_grid = first_bad(ts) < 0;
        REQUIRE(error.row == first_bad(of_grid ? grid : ts));
        REQUIRE(error.what == (of_grid ? bml::What::grid_not_increasing : bml::What::times_not_increasing));
        return;
    }
    REQUIRE(!error);
    for (int64_t g = 0; g < n_grid; ++g) {
        const int64_t now = grid[at(g)];
        int64_t left = -1, right = -1;  // the last sample at or before now, the first at or after it
        for (int64_t t = 0; t < n; ++t) {
            if (ts[at(t)] <= now) left = t;
            if (right < 0 && ts[at(t)] >= now) right = t;
        }
        if (left >= 0 && Wide{now} - ts[at(left)] > limit) left = -1;
        if (linear && (right < 0 || Wide{ts[at(right)]} - now > limit)) left = -1;
        REQUIRE(source[at(g)] == left);
        REQUIRE(age[at(g)] == (left < 0 ? -1 : now - ts[at(left)]));
        for (int64_t x = 0; x < width; ++x) {
            const T got = out[at(g * width + x)];
            if (left < 0) {
                REQUIRE(std::isnan(got));
                continue;
            }
            const T from = value[at(left * width + x)];
            if (!linear || right == left) {
                REQUIRE(same(got, from));
                continue;
            }
            const double past = static_cast<double>(now - ts[at(left)]);
            const double ahead = static_cast<double>(ts[at(right)] - now);
            const double a = static_cast<double>(from), b = static_cast<double>(value[at(right * width + x)]);
            REQUIRE(same(got, static_cast<T>(a + (b - a) * (past / (past + ahead)))));
        }
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input in(data, size);
    in.flag() ? check<double>(in) : check<float>(in);
    return 0;
}
