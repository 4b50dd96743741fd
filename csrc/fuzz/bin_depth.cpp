// bin_depth against its definition, one level at a time.
#include "bml/bin_depth.hpp"

#include <algorithm>

#include "fold.hpp"

namespace {

using namespace fuzz;

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
