// Eight levels side by side, in as many registers as this build needs for them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bml/lanes.hpp"

namespace bml {

inline constexpr std::size_t n_parts = n_lanes / n_native;

struct Eight {
    Native part[n_parts];

    template <class T>
    static Eight of(const T* from) {
        Eight x;
        for (std::size_t i = 0; i < n_parts; ++i) x.part[i] = load(from + i * n_native);
        return x;
    }
    template <class T>
    void write(T* to) const {
        for (std::size_t i = 0; i < n_parts; ++i) store(part[i], to + i * n_native);
    }
};

struct EightMask {
    Mask part[n_parts];
};

// One side of eight levels.
struct SideEight {
    Eight px, qty;
};

// True where price and quantity are both there.
inline EightMask present(const SideEight& side) {
    EightMask ok;
    for (std::size_t i = 0; i < n_parts; ++i)
        ok.part[i] = (side.px.part[i] == side.px.part[i]) & (side.qty.part[i] == side.qty.part[i]);
    return ok;
}

// Whether eight numbers are value, value + step, value + 2 * step, ...: the row test of every stream.
inline bool all_are(const std::int64_t* x, std::int64_t value) {
#if defined(__AVX512F__)
    return _mm512_cmpneq_epi64_mask(_mm512_loadu_si512(x), _mm512_set1_epi64(value)) == 0;
#else
    std::int64_t differs = 0;
    for (int i = 0; i < 8; ++i) differs |= x[i] ^ value;
    return differs == 0;
#endif
}

inline bool count_up(const std::int32_t* x, std::int32_t first) {
#if defined(__AVX2__)
    const __m256i wanted = _mm256_add_epi32(_mm256_set1_epi32(first), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    const __m256i same = _mm256_cmpeq_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)), wanted);
    return _mm256_movemask_epi8(same) == -1;
#else
    std::int32_t differs = 0;
    for (int i = 0; i < 8; ++i) differs |= x[i] ^ (first + i);
    return differs == 0;
#endif
}

}  // namespace bml
