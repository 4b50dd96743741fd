// Eight levels of four columns to eight cells: bid_px, bid_qty, ask_px, ask_qty side by side, level after
// level.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "bml/lanes.hpp"
#include "bml/rows.hpp"
#include "bml/stream.hpp"

namespace bml {

inline constexpr std::int64_t read_ahead = 4096;  // bytes; no effect on any result

// ``past_cache``: written to memory without being read first, for outputs that no cache holds. ``to`` is then
// aligned to whole pieces, and stream_end() comes before another thread may read.
template <bool past_cache, class Piece>
void put(const Piece& x, void* to) {
#if defined(__AVX512F__)
    if constexpr (past_cache && sizeof x == 64) {
        __m512i line;
        std::memcpy(&line, &x, sizeof x);
        return _mm512_stream_si512(static_cast<__m512i*>(to), line);
    }
#endif
#if defined(__AVX__)
    if constexpr (past_cache && sizeof x == 32) {
        __m256i half;
        std::memcpy(&half, &x, sizeof x);
        return _mm256_stream_si256(static_cast<__m256i*>(to), half);
    }
#endif
#if defined(__SSE2__)
    if constexpr (past_cache && sizeof x == 16) {
        __m128i part;
        std::memcpy(&part, &x, sizeof x);
        return _mm_stream_si128(static_cast<__m128i*>(to), part);
    }
#endif
    std::memcpy(to, &x, sizeof x);
}

#if defined(__AVX2__)
using EightFloats = float __attribute__((vector_size(32)));

template <class In>
EightFloats eight_floats(const In* from) {
    if constexpr (sizeof(In) == 4) {
        EightFloats x;
        std::memcpy(&x, from, sizeof x);
        return x;
    } else {
        float x[8];
        for (int i = 0; i < n_lanes; i += n_native) {
            const auto narrow =
                __builtin_convertvector(load(from + i), float __attribute__((vector_size(4 * n_native))));
            std::memcpy(x + i, &narrow, sizeof narrow);
        }
        EightFloats out;
        std::memcpy(&out, x, sizeof out);
        return out;
    }
}
#endif

template <bool past_cache, class In, class Out>
[[gnu::always_inline]] inline void write_eight(const FourColumns<In>& c, Out* to) {
#if defined(__AVX2__)
    if constexpr (sizeof(Out) == 4) {
        const EightFloats x[4] = {eight_floats(c[0]), eight_floats(c[1]), eight_floats(c[2]),
                                  eight_floats(c[3])};
#if defined(__AVX512F__)
        using Line = float __attribute__((vector_size(64)));
        const Line bid =
            __builtin_shufflevector(x[0], x[1], 0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
        const Line ask =
            __builtin_shufflevector(x[2], x[3], 0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
        put<past_cache>(
            __builtin_shufflevector(bid, ask, 0, 1, 16, 17, 2, 3, 18, 19, 4, 5, 20, 21, 6, 7, 22, 23), to);
        put<past_cache>(
            __builtin_shufflevector(bid, ask, 8, 9, 24, 25, 10, 11, 26, 27, 12, 13, 28, 29, 14, 15, 30, 31),
            to + 16);
#else  // patterns that are one instruction each
        const EightFloats bid_low = __builtin_shufflevector(x[0], x[1], 0, 8, 1, 9, 4, 12, 5, 13);
        const EightFloats bid_high = __builtin_shufflevector(x[0], x[1], 2, 10, 3, 11, 6, 14, 7, 15);
        const EightFloats ask_low = __builtin_shufflevector(x[2], x[3], 0, 8, 1, 9, 4, 12, 5, 13);
        const EightFloats ask_high = __builtin_shufflevector(x[2], x[3], 2, 10, 3, 11, 6, 14, 7, 15);
        // two levels each: (0, 4), (1, 5), (2, 6), (3, 7)
        const EightFloats a = __builtin_shufflevector(bid_low, ask_low, 0, 1, 8, 9, 4, 5, 12, 13);
        const EightFloats b = __builtin_shufflevector(bid_low, ask_low, 2, 3, 10, 11, 6, 7, 14, 15);
        const EightFloats d = __builtin_shufflevector(bid_high, ask_high, 0, 1, 8, 9, 4, 5, 12, 13);
        const EightFloats e = __builtin_shufflevector(bid_high, ask_high, 2, 3, 10, 11, 6, 7, 14, 15);
        put<past_cache>(__builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11), to);
        put<past_cache>(__builtin_shufflevector(d, e, 0, 1, 2, 3, 8, 9, 10, 11), to + 8);
        put<past_cache>(__builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15), to + 16);
        put<past_cache>(__builtin_shufflevector(d, e, 4, 5, 6, 7, 12, 13, 14, 15), to + 24);
#endif
        return;
    }
#endif
    for (std::size_t l = 0; l < 8; ++l) {
        const std::array<Out, 4> cell{static_cast<Out>(c[0][l]), static_cast<Out>(c[1][l]),
                                      static_cast<Out>(c[2][l]), static_cast<Out>(c[3][l])};
        put<past_cache>(cell, to + 4 * l);
    }
}

// n cells to four columns ``stride`` apart.
template <class In>
void read_cells(const In* cell, std::int64_t n, In* column, std::int64_t stride) {
    std::int64_t l = 0;
#if defined(__AVX512F__)
    if constexpr (sizeof(In) == 8) {
        using Eight = double __attribute__((vector_size(64)));
        for (; l + 8 <= n; l += 8) {
            Eight two[4];  // cells each
            std::memcpy(two, cell + 4 * l, sizeof two);
            prefetch(cell + 4 * l, 32, read_ahead);
            const Eight bid_low = __builtin_shufflevector(two[0], two[1], 0, 4, 8, 12, 1, 5, 9, 13);
            const Eight bid_high = __builtin_shufflevector(two[2], two[3], 0, 4, 8, 12, 1, 5, 9, 13);
            const Eight ask_low = __builtin_shufflevector(two[0], two[1], 2, 6, 10, 14, 3, 7, 11, 15);
            const Eight ask_high = __builtin_shufflevector(two[2], two[3], 2, 6, 10, 14, 3, 7, 11, 15);
            const Eight x[4] = {__builtin_shufflevector(bid_low, bid_high, 0, 1, 2, 3, 8, 9, 10, 11),
                                __builtin_shufflevector(bid_low, bid_high, 4, 5, 6, 7, 12, 13, 14, 15),
                                __builtin_shufflevector(ask_low, ask_high, 0, 1, 2, 3, 8, 9, 10, 11),
                                __builtin_shufflevector(ask_low, ask_high, 4, 5, 6, 7, 12, 13, 14, 15)};
            for (std::int64_t f = 0; f < 4; ++f) std::memcpy(column + f * stride + l, &x[f], sizeof x[f]);
        }
    }
#endif
    for (; l < n; ++l)
        for (std::int64_t f = 0; f < 4; ++f) column[f * stride + l] = cell[4 * l + f];
}

}  // namespace bml
