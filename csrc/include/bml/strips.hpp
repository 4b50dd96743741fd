// Columns cut into strips for threads to share. A column does not depend on its neighbours, so here, unlike
// elsewhere, the cut may follow the number of threads: it changes no bit.
#pragma once

#include <algorithm>
#include <cstdint>

#include "bml/parallel.hpp"

namespace bml {

inline constexpr std::int64_t strip_columns = 2048;  // at most: long runs of a row are read fastest

// work(first, count) for strips that cover columns [0, n); ``count`` is at most strip_columns.
template <class Work>
void for_each_strip(int threads, std::int64_t n, Work&& work) {
    const std::int64_t share = (n / threads + 64) / 64 * 64;
    const std::int64_t width = std::clamp(share, std::int64_t{256}, strip_columns);
    parallel_for(threads, (n + width - 1) / width, [&](std::int64_t unit) {
        const std::int64_t first = unit * width;
        work(first, std::min(width, n - first));
    });
}

}  // namespace bml
