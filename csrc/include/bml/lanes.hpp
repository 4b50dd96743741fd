// Eight doubles side by side, as the compiler's vector extension: one source for every instruction set.
//
// Sums over levels are kept in eight lanes: level l goes to lane l % 8, and the lanes are added at the end in the
// order of ``total``. That order is part of a kernel's definition, so all builds give the same bits.
#pragma once

#include <cstdint>
#include <cstring>

namespace bml {

inline constexpr std::int64_t n_lanes = 8;

using Lanes = double __attribute__((vector_size(64)));
using Mask = std::int64_t __attribute__((vector_size(64)));  // a lane is 0 or -1, what a comparison of Lanes gives

inline Lanes load(const double* from) {
    Lanes x;
    std::memcpy(&x, from, sizeof x);
    return x;
}

inline Lanes load(const float* from) {
    float __attribute__((vector_size(32))) x;
    std::memcpy(&x, from, sizeof x);
    return __builtin_convertvector(x, Lanes);
}

inline double total(const Lanes& x) {
    return ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]));
}

}  // namespace bml
