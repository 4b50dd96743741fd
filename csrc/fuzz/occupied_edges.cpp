// occupied_edges against its definition, and what bin_depth relies on: edges never fall and never leave the
// book.
#include "bml/occupied_edges.hpp"

#include <algorithm>

#include "fuzz.hpp"

namespace {

using namespace fuzz;

template <class T>
void check(Input& in) {
    const int64_t n_times = in.number(0, 80), n_levels = in.number(0, 30);
    const int64_t near = in.number(0, 20), deep = in.number(near == 0 ? 1 : 0, 12), n_edges = near + deep + 1;
    const Vec<T> book = in.values<T>(n_times * n_levels * 4);
    Vec<int64_t> edges(at(n_times * n_edges), -9);
    bml::occupied_edges(book.data(), n_times, n_levels, near, deep, edges.data(), in.threads());
    for (int64_t t = 0; t < n_times; ++t) {
        const T* cell = book.data() + t * n_levels * 4;
        const int64_t* edge = edges.data() + t * n_edges;
        int64_t depth = 0;
        for (int64_t l = 0; l < n_levels; ++l)
            if (cell[4 * l + 1] > T{0} || cell[4 * l + 3] > T{0}) depth = l + 1;
        const int64_t rest = std::max<int64_t>(0, depth - near);
        for (int64_t d = 0; d <= near; ++d) REQUIRE(edge[d] == std::min(d, depth));
        REQUIRE(std::is_sorted(edge, edge + n_edges));
        REQUIRE(edge[near + deep] == (deep > 0 ? depth : std::min(near, depth)));
        for (int64_t d = 0; d < std::min(deep, rest); ++d) {
            const int64_t width = edge[near + d + 1] - edge[near + d], least = rest / std::min(deep, rest);
            REQUIRE(width == least || width == least + 1);
        }
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input in(data, size);
    in.flag() ? check<double>(in) : check<float>(in);
    return 0;
}
