// Sixteen values at a time as floats, read from floats or from 2-byte ones: the same bits in every build.
#pragma once

#include <cstdint>
#include <cstring>
#if defined(__F16C__)
#include <immintrin.h>
#endif
#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace bml {

inline constexpr int n_line = 16;
using Line = float __attribute__((vector_size(4 * n_line)));

inline Line load_line(const float* from) {
    Line x;
    std::memcpy(&x, from, sizeof x);
    return x;
}

// The bits of 2-byte floats. Only those inside a NaN may differ between the forms.
inline Line load_line(const std::uint16_t* from) {
    Line x;
#if defined(__AVX512F__)
    x = reinterpret_cast<Line>(
        _mm512_maskz_cvtph_ps(0xFFFF, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))));
#elif defined(__F16C__)
    const auto* at = reinterpret_cast<const __m128i*>(from);
    const __m256 half[2] = {_mm256_cvtph_ps(_mm_loadu_si128(at)), _mm256_cvtph_ps(_mm_loadu_si128(at + 1))};
    std::memcpy(&x, half, sizeof x);
#else
    using Bits = std::uint32_t __attribute__((vector_size(4 * n_line)));
    std::uint16_t __attribute__((vector_size(2 * n_line))) packed;
    std::memcpy(&packed, from, sizeof packed);
    const Bits bits = __builtin_convertvector(packed, Bits);
    const Bits size = (bits & 0x7FFF) << 13, sign = (bits & 0x8000) << 16;
    const Line scaled = reinterpret_cast<Line>(size) * 0x1p112f;  // the exponents' biases are 112 apart
    const Bits finite = reinterpret_cast<Bits>(scaled);
    x = reinterpret_cast<Line>(((bits & 0x7C00) == 0x7C00 ? size | 0x7F800000 : finite) | sign);
#endif
    return x;
}

// Tiny numbers are kept while it lives, whatever mode the thread is in: a caller may have them flushed to
// zero.
class TinyNumbers {
#if defined(__SSE2__)
    static constexpr unsigned flush = 0x8040;  // results, and operands
    const unsigned before_ = _mm_getcsr();

  public:
    TinyNumbers() { _mm_setcsr(before_ & ~flush); }
    ~TinyNumbers() { _mm_setcsr(before_); }
#else
  public:
    TinyNumbers() {}
#endif
    TinyNumbers(const TinyNumbers&) = delete;
    TinyNumbers& operator=(const TinyNumbers&) = delete;
};

}  // namespace bml
