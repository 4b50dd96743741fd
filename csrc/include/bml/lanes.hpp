// Doubles side by side, as the compiler's vector extension: one source for every instruction set.
//
// THE LANE RULE. A sum over levels is kept in eight lanes: level l goes to lane l % 8, each lane adds in
// order of level from +0.0, and the lanes are added as ((0+4)+(2+6)) + ((1+5)+(3+7)). An absent value adds
// +0.0, which changes nothing. The rule is part of a kernel's definition, so all builds give the same bits.
#pragma once

#include <cstdint>
#include <cstring>
#if defined(__AVX__)
#include <immintrin.h>
#endif

namespace bml {

inline constexpr int n_lanes = 8;

// How many doubles a register of this build holds; no effect on any result.
#if defined(__AVX512F__)
inline constexpr int n_native = 8;
#elif defined(__AVX__)
inline constexpr int n_native = 4;
#else
inline constexpr int n_native = 2;
#endif

using Native = double __attribute__((vector_size(8 * n_native)));
using Mask = std::int64_t __attribute__((vector_size(8 * n_native)));  // 0 or -1, what comparing gives

inline Native load(const double* from) {
    Native x;
    std::memcpy(&x, from, sizeof x);
    return x;
}

inline Native load(const float* from) {
#if defined(__AVX512F__)  // gcc converts in two halves by itself, and warns of its own header without a mask
    return _mm512_maskz_cvtps_pd(0xFF, _mm256_loadu_ps(from));
#elif defined(__AVX__)
    return _mm256_cvtps_pd(_mm_loadu_ps(from));
#else
    float __attribute__((vector_size(4 * n_native))) x;
    std::memcpy(&x, from, sizeof x);
    return __builtin_convertvector(x, Native);
#endif
}

inline void store(const Native& x, double* to) { std::memcpy(to, &x, sizeof x); }

// sum += x, where ok. The two forms give the same bits: a sum from +0.0 is never -0.0.
inline void add_where(const Mask& ok, const Native& x, Native& sum) {
#if defined(__AVX512F__)
    sum = ok ? sum + x : sum;  // one instruction
#else
    sum += ok ? x : Native{};  // a blend would cost more than an and
#endif
}

// Neighbours change places: 1, 0, 3, 2, ...
inline Native swapped(const Native& x) {
#if defined(__AVX512F__)
    return __builtin_shufflevector(x, x, 1, 0, 3, 2, 5, 4, 7, 6);
#elif defined(__AVX__)
    return __builtin_shufflevector(x, x, 1, 0, 3, 2);
#else
    return __builtin_shufflevector(x, x, 1, 0);
#endif
}

// Asks for what lies ``bytes`` after [from, from + count): the hardware is late at every row and page.
template <class T>
void prefetch(const T* from, std::int64_t count, std::int64_t bytes) {
    const auto at = reinterpret_cast<std::uintptr_t>(from) + static_cast<std::uintptr_t>(bytes);
    const std::uintptr_t size = static_cast<std::uintptr_t>(count) * sizeof(T);
    for (std::uintptr_t i = 0; i < size; i += 64) __builtin_prefetch(reinterpret_cast<const void*>(at + i));
}

// 0, 1, 2, ...
inline Mask places() {
    Mask x;
    for (int i = 0; i < n_native; ++i) x[i] = i;
    return x;
}

// The eight lanes of a sum, ``at(lane)`` one of them.
template <class At>
auto total(At at) {
    return ((at(0) + at(4)) + (at(2) + at(6))) + ((at(1) + at(5)) + (at(3) + at(7)));
}

}  // namespace bml
