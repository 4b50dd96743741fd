// Eight levels of four columns to eight cells: bid_px, bid_qty, ask_px, ask_qty side by side, level after level.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "bml/eight.hpp"
#include "bml/rows.hpp"

namespace bml {

// ``past_cache``: the lines go to memory without being read first, for outputs that no cache holds; 16-byte aligned.
template <bool past_cache, class Piece>
void put(const Piece& x, void* to) {
#if defined(__SSE2__)
    if constexpr (past_cache) {
#if defined(__AVX512F__)
        if constexpr (sizeof x == 64) { __m512i v; std::memcpy(&v,&x,64); _mm512_stream_si512(static_cast<__m512i*>(to), v); return; }
#endif
        if constexpr (sizeof x == 32) { __m256i v; std::memcpy(&v,&x,32); _mm256_stream_si256(static_cast<__m256i*>(to), v); return; }
        __m128i part[sizeof x / 16];
        std::memcpy(part, &x, sizeof x);
        for (std::size_t i = 0; i < sizeof x / 16; ++i) _mm_stream_si128(static_cast<__m128i*>(to) + i, part[i]);
        return;
    }
#endif
    std::memcpy(to, &x, sizeof x);
}

template <bool past_cache, class In, class Out>
void write_eight(const Columns<In>& c, Out* to) {
#if defined(__AVX512F__)
    if constexpr (sizeof(Out) == 4) {
        using Floats = float __attribute__((vector_size(32)));
        using Line = float __attribute__((vector_size(64)));
        Floats x[4];
        for (std::size_t f = 0; f < 4; ++f) Eight::of(c[f]).write(reinterpret_cast<float*>(&x[f]));
        const Line bid = __builtin_shufflevector(x[0], x[1], 0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
        const Line ask = __builtin_shufflevector(x[2], x[3], 0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
        put<past_cache>(__builtin_shufflevector(bid, ask, 0, 1, 16, 17, 2, 3, 18, 19, 4, 5, 20, 21, 6, 7, 22, 23), to);
        put<past_cache>(__builtin_shufflevector(bid, ask, 8, 9, 24, 25, 10, 11, 26, 27, 12, 13, 28, 29, 14, 15, 30, 31),
                        to + 16);
        return;
    }
#elif defined(__AVX2__)
    if constexpr (sizeof(Out) == 4) {  // patterns that are one instruction each
        using Floats = float __attribute__((vector_size(32)));
        Floats x[4];
        for (std::size_t f = 0; f < 4; ++f) Eight::of(c[f]).write(reinterpret_cast<float*>(&x[f]));
        const Floats bid_low = __builtin_shufflevector(x[0], x[1], 0, 8, 1, 9, 4, 12, 5, 13);
        const Floats bid_high = __builtin_shufflevector(x[0], x[1], 2, 10, 3, 11, 6, 14, 7, 15);
        const Floats ask_low = __builtin_shufflevector(x[2], x[3], 0, 8, 1, 9, 4, 12, 5, 13);
        const Floats ask_high = __builtin_shufflevector(x[2], x[3], 2, 10, 3, 11, 6, 14, 7, 15);
        // two levels each: (0, 4), (1, 5), (2, 6), (3, 7)
        const Floats a = __builtin_shufflevector(bid_low, ask_low, 0, 1, 8, 9, 4, 5, 12, 13);
        const Floats b = __builtin_shufflevector(bid_low, ask_low, 2, 3, 10, 11, 6, 7, 14, 15);
        const Floats d = __builtin_shufflevector(bid_high, ask_high, 0, 1, 8, 9, 4, 5, 12, 13);
        const Floats e = __builtin_shufflevector(bid_high, ask_high, 2, 3, 10, 11, 6, 7, 14, 15);
        put<past_cache>(__builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11), to);
        put<past_cache>(__builtin_shufflevector(d, e, 0, 1, 2, 3, 8, 9, 10, 11), to + 8);
        put<past_cache>(__builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15), to + 16);
        put<past_cache>(__builtin_shufflevector(d, e, 4, 5, 6, 7, 12, 13, 14, 15), to + 24);
        return;
    }
#endif
    for (std::size_t l = 0; l < 8; ++l) {
        const std::array<Out, 4> cell{static_cast<Out>(c[0][l]), static_cast<Out>(c[1][l]),
                                      static_cast<Out>(c[2][l]), static_cast<Out>(c[3][l])};
        put<past_cache>(cell, to + 4 * l);
    }
}

}  // namespace bml
