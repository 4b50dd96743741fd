// daily_moments against two passes in long double, where the values let digits be compared; else counts
// alone.
#include "bml/daily_moments.hpp"

#include <algorithm>

#include "fuzz.hpp"

namespace {

using namespace fuzz;
using Long = long double;

struct Exact {
    int64_t n = 0;
    Long mean = 0, m2 = 0, m3 = 0, m4 = 0, total = 0, largest = 0, size3 = 0;
};

template <class T>
Exact moments_of(const Vec<T>& x, std::size_t first, std::size_t stride) {
    Exact e;
    for (std::size_t i = first; i < x.size(); i += stride)
        if (!std::isnan(x[i])) ++e.n, e.total += x[i], e.largest = std::max<Long>(e.largest, std::fabs(x[i]));
    e.mean = e.n > 0 ? e.total / e.n : 0;
    for (std::size_t i = first; i < x.size(); i += stride)
        if (!std::isnan(x[i])) {
            const Long off = x[i] - e.mean;
            e.m2 += off * off, e.m3 += off * off * off, e.m4 += off * off * off * off;
            e.size3 += std::fabs(off * off * off);
        }
    return e;
}

bool near(double got, Long wanted, Long slack) { return std::fabs(static_cast<Long>(got) - wanted) <= slack; }

template <class T>
void check(Input& in) {
    const bool tame = in.flag();
    if (tame) in.only_tame();
    const int64_t n_series = in.number(0, 20), pattern = in.number(1, 64), n_times = in.number(0, 600);
    const Vec<T> part = in.values<T>(n_series > 0 ? pattern : 0);  // few bytes make many rows
    Vec<T> x(at(n_times * n_series));
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = part[i % part.size()];
    Vec<int64_t> count(at(n_series), -9);
    Vec<double> mean(at(n_series), 7.0), m2(mean), m3(mean), m4(mean), total(mean);
    bml::daily_moments(x.data(), n_times, n_series,
                       {count.data(), mean.data(), m2.data(), m3.data(), m4.data(), total.data()},
                       in.threads());
    for (std::size_t v = 0; v < at(n_series); ++v) {
        const Exact e = moments_of(x, v, at(n_series));
        REQUIRE(count[v] == e.n);
        if (e.n == 0) REQUIRE(mean[v] == 0 && m2[v] == 0 && m3[v] == 0 && m4[v] == 0 && total[v] == 0);
        if (!tame) continue;
        const Long least = 1e-20L;
        REQUIRE(near(total[v], e.total, 1e-13L * e.largest * e.n));
        REQUIRE(near(mean[v], e.mean, 1e-13L * e.largest));
        REQUIRE(near(m2[v], e.m2, 1e-11L * e.m2 + least));
        REQUIRE(near(m3[v], e.m3, 1e-10L * e.size3 + least));
        REQUIRE(near(m4[v], e.m4, 1e-10L * e.m4 + least));
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input in(data, size);
    in.flag() ? check<double>(in) : check<float>(in);
    return 0;
}
