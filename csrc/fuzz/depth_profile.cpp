// depth_profile against counting one cell at a time.
#include "bml/depth_profile.hpp"

#include "fuzz.hpp"

namespace {

using namespace fuzz;

template <class T>
void check(Input& in) {
    const int64_t n_times = in.number(0, 40), n_levels = in.number(0, 20);
    const Vec<T> book = in.values<T>(n_times * n_levels * 4);
    Vec<int64_t> count(at(2 * n_levels), -1), wanted(count.size());
    bml::depth_profile(book.data(), n_times, n_levels, count.data(), in.threads());
    for (std::size_t i = 0; i < book.size(); ++i)
        if (i % 2 == 1 && book[i] > T{0}) ++wanted[i % (4 * at(n_levels)) / 2];
    REQUIRE(count == wanted);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input in(data, size);
    in.flag() ? check<double>(in) : check<float>(in);
    return 0;
}
