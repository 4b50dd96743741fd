// Output far larger than the cache, written past it: what is there is not read first, and nothing else is
// pushed out.
#pragma once

#include <cstdint>
#include <cstring>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace bml {

inline constexpr std::int64_t line_bytes = 64;

// How many values lie before the first whole line.
template <class T>
std::int64_t values_to_line(const T* to) {
    const auto past = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(to) % line_bytes);
    return (line_bytes - past) % line_bytes / static_cast<std::int64_t>(sizeof(T));
}

// line(i) for every i of [0, n), from four places at a time: memory gives one place after another less than
// four.
template <class Line>
void each_line(std::int64_t n, Line line) {
    const std::int64_t part = n / 16 * 4;  // lines of a quarter, in fours
    for (std::int64_t i = 0; i < part; i += 4)
        for (std::int64_t k = 0; k < 4; ++k)
            for (std::int64_t j = 0; j < 4; ++j) line(k * part + i + j);
    for (std::int64_t i = 4 * part; i < n; ++i) line(i);
}

// 64 bytes to an aligned line. stream_end() before another thread may read them.
inline void stream_line(const void* from, void* to) {
#if defined(__AVX512F__)
    _mm512_stream_si512(static_cast<__m512i*>(to), _mm512_load_si512(from));
#elif defined(__AVX__)
    const auto* x = static_cast<const __m256i*>(from);
    auto* y = static_cast<__m256i*>(to);
    for (int i = 0; i < 2; ++i) _mm256_stream_si256(y + i, _mm256_load_si256(x + i));
#elif defined(__SSE2__)
    const auto* x = static_cast<const __m128i*>(from);
    auto* y = static_cast<__m128i*>(to);
    for (int i = 0; i < 4; ++i) _mm_stream_si128(y + i, _mm_load_si128(x + i));
#else
    std::memcpy(to, from, line_bytes);
#endif
}

inline void stream_end() {
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

}  // namespace bml
