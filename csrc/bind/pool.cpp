// For tests: the pool without a kernel around it.
#include <vector>

#include "arrays.hpp"
#include "bml/parallel.hpp"

namespace bml::bind {
namespace {

// The sum of all units, each added by whoever had it; a unit spins for a while, so that helpers come by.
std::int64_t sum(std::int64_t n_units, int spins, int threads) {
    std::vector<std::int64_t> done(static_cast<std::size_t>(n_units));
    const py::gil_scoped_release release;
    parallel_for(threads, n_units, [&](std::int64_t unit) {
        volatile int spun = 0;
        while (spun < spins) spun = spun + 1;
        done[static_cast<std::size_t>(unit)] += unit;
    });
    std::int64_t total = 0;
    for (const std::int64_t unit : done) total += unit;
    return total;
}

}  // namespace

void add_pool(py::module_& m) {
    m.def("_pool_sum", &sum, py::arg("n_units"), py::arg("spins"), py::arg("threads"));
    m.def("_pool_size", [] { return pool.started; });
}

}  // namespace bml::bind
