// bin_depth against its definition, one level at a time: level l adds to lane l % 8.
#include "bml/bin_depth.hpp"

#include <algorithm>

#include "fuzz.hpp"

namespace {

using namespace fuzz;

struct LaneSum {
    double lane[8] = {};

    void add(int64_t level, double x) { lane[level % 8] += x; }
    double total() const {
        return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
    }
};

// One side of the bin [start, stop) of a snapshot.
template <class T>
void fold(const T* cell, int64_t start, int64_t stop, T* out, float* coverage) {
    LaneSum px_sum, qty_sum, value_sum;
    int64_t present = 0;
    for (int64_t l = start; l < stop; ++l) {
        const double px = static_cast<double>(cell[4 * l]), qty = static_cast<double>(cell[4 * l + 1]);
        if (std::isnan(px) || std::isnan(qty)) continue;
        ++present;
        px_sum.add(l, px), qty_sum.add(l, qty), value_sum.add(l, px * qty);
    }
    const double n = static_cast<double>(present), qty = qty_sum.total();
    double px = value_sum.total() / qty;
    if (present == 1 || qty == 0) px = px_sum.total() / n;
    *coverage = stop > start ? static_cast<float>(n / static_cast<double>(stop - start)) : 0.0F;
    out[0] = present > 0 ? static_cast<T>(px) : std::numeric_limits<T>::quiet_NaN();
    out[1] = present > 0 ? static_cast<T>(qty) : std::numeric_limits<T>::quiet_NaN();
}

template <class T>
void check(Input& in) {
    if (in.flag()) in.only_tame();
    const bool per_row = in.flag();
    const int64_t n_times = in.number(0, 40), n_levels = in.number(1, 40), n_bins = in.number(1, 12);
    const int64_t n_edges = n_bins + 1, n_rows = per_row ? n_times : 1;
    Vec<int64_t> edges;
    for (int64_t row = 0; row < n_rows; ++row) {
        for (int64_t d = 0; d < n_edges; ++d) edges.push_back(in.number(0, n_levels));
        std::sort(edges.end() - n_edges, edges.end());
        for (int64_t d = 1; !per_row && d < n_edges; ++d)
            if (edges[at(d)] <= edges[at(d - 1)]) return;  // the binding refuses it
    }
    const Vec<T> book = in.values<T>(n_times * n_levels * 4);
    Vec<T> out(at(n_times * n_bins * 4), T{7}), wanted(out);
    Vec<float> coverage(at(n_times * n_bins * 2), 7.0F), wanted_coverage(coverage);
    bml::bin_depth(book.data(), n_times, n_levels, edges.data(), n_bins, per_row, out.data(), coverage.data(),
                   in.threads());
    for (int64_t t = 0; t < n_times; ++t)
        for (int64_t d = 0; d < n_bins; ++d)
            for (int64_t side = 0; side < 2; ++side) {
                const int64_t* edge = edges.data() + (per_row ? t * n_edges : 0) + d;
                const int64_t bin = t * n_bins + d;
                fold(book.data() + t * n_levels * 4 + 2 * side, edge[0], edge[1],
                     wanted.data() + 4 * bin + 2 * side, wanted_coverage.data() + 2 * bin + side);
            }
    REQUIRE(same(out, wanted));
    REQUIRE(same(coverage, wanted_coverage));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input in(data, size);
    in.flag() ? check<double>(in) : check<float>(in);
    return 0;
}
