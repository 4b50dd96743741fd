// Work cut into numbered units, done by several threads. How it is cut never depends on how many there are.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <type_traits>

#include "bml/pool.hpp"

namespace bml {

// What a thread of the pool calls: an exception must not leave it, so the first one waits for the caller.
template <class Work>
struct Guarded {
    Work& work;
    std::atomic_flag failed = ATOMIC_FLAG_INIT;
    std::exception_ptr first{};

    static void call(void* of, std::int64_t unit) noexcept {
        auto& self = *static_cast<Guarded*>(of);
        try {
            self.work(unit);
        } catch (...) {
            if (!self.failed.test_and_set()) self.first = std::current_exception();
        }
    }
};

// work(unit) for every unit of [0, n_units); units must not depend on each other. What a unit throws (no
// memory) is thrown here. Called inside work, or while another thread's call has the pool, it does all units
// itself.
template <class Work>
void parallel_for(int threads, std::int64_t n_units, Work&& work) {
    const std::int64_t helpers = std::min<std::int64_t>(threads, n_units) - 1;
    if (helpers > 0) {
        Guarded<std::remove_reference_t<Work>> guarded{work};
        Job job{guarded.call, &guarded, n_units};
        const bool ran = pool.run(job, static_cast<int>(helpers));
        if (guarded.first) std::rethrow_exception(guarded.first);
        if (ran) return;
    }
    for (std::int64_t unit = 0; unit < n_units; ++unit) work(unit);
}

}  // namespace bml
