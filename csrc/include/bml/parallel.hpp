// Work cut into numbered units, done by several threads. How it is cut never depends on how many there are.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "bml/pool.hpp"

namespace bml {

// work(unit) for every unit of [0, n_units); work must not throw, and units must not depend on each other.
// Called inside work, or while another thread's call has the pool, it does all units itself.
template <class Work>
void parallel_for(int threads, std::int64_t n_units, Work&& work) {
    const std::int64_t helpers = std::min<std::int64_t>(threads, n_units) - 1;
    if (helpers > 0) {
        Job job{[](void* of, std::int64_t unit) { (*static_cast<std::remove_reference_t<Work>*>(of))(unit); },
                const_cast<void*>(static_cast<const void*>(&work)), n_units};
        if (pool.run(job, static_cast<int>(helpers))) return;
    }
    for (std::int64_t unit = 0; unit < n_units; ++unit) work(unit);
}

}  // namespace bml
