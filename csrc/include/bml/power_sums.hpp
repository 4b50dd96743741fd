// Moments of columns side by side: sums of powers in blocks of rows, blocks merged by Pebay's formulas.
//
// In a block d = x - shift, where the shift is the column's first value of the block, if finite, else 0: a
// price of 1e5 with ticks of 1e-2 keeps its digits, and a constant column has exactly zero spread. Why sums
// of powers of d are sound although they cancel: the shift is one of the n values, so its own (shift -
// mean)^k is in the central sums, and m2 >= mu^2, m4 >= mu^4 with mu the mean of d. Hence sum d^2 = m2 + n
// mu^2 <= (n + 1) m2, and likewise sum d^4 <= 8 (n + 1) m4: what cancels is bounded by the length of a block,
// not by the data.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "bml/lanes.hpp"

namespace bml {

inline constexpr std::int64_t moment_rows = 256;  // of a block; part of the result's definition
inline constexpr int rows_at_once = 8;            // while sums stay in registers; no effect on the result

// n values with their mean and central sums (Pebay, SAND2008-6212); one column a lane.
struct Central {
    Native n = {}, mean = {}, m2 = {}, m3 = {}, m4 = {};

    void merge(const Central& b) {
        const Native sum = n + b.n, delta = b.mean - mean, step = delta / sum, step2 = step * step;
        const Native spread = delta * step * n * b.n;
        const Native up4 = b.m4 + spread * step2 * (n * n - n * b.n + b.n * b.n) +
                           6 * step2 * (n * n * b.m2 + b.n * b.n * m2) + 4 * step * (n * b.m3 - b.n * m3);
        const Native up3 = b.m3 + spread * step * (n - b.n) + 3 * step * (n * b.m2 - b.n * m2);
        const Mask some = b.n > 0;
        m4 += some ? up4 : Native{};
        m3 += some ? up3 : Native{};
        m2 += some ? b.m2 + spread : Native{};
        mean += some ? step * b.n : Native{};
        n = sum;
    }
};

// The rows of one block so far.
struct BlockSums {
    Native n = {}, shift = {}, s1 = {}, s2 = {}, s3 = {}, s4 = {};
    bool shifted = false;  // every column has its shift

    // Columns [at, at + n_native) of rows in order.
    template <class T>
    void add(const T* const* row, int rows, std::int64_t at) {
        if (!shifted) find_shift(row, rows, at);
        Native count = n, a = s1, b = s2, c = s3, d = s4;  // in registers
        for (int r = 0; r < rows; ++r) {
            const Native x = load(row[r] + at);
            const Mask present = x == x;
            const Native off = present ? x - shift : Native{}, square = off * off;
            add_where(present, Native{} + 1, count);
            a += off;
            b += square;
            c += square * off;
            d += square * square;
        }
        n = count, s1 = a, s2 = b, s3 = c, s4 = d;
    }

  private:
    template <class T>
    void find_shift(const T* const* row, int rows, std::int64_t at) {
        Mask found = n > 0;
        for (int r = 0; r < rows; ++r) {
            const Native x = load(row[r] + at);
            const Mask first = (x == x) & ~found;
            shift = first ? (x - x == 0 ? x : Native{}) : shift;
            found |= first;
        }
        shifted = true;
        for (int i = 0; i < n_native; ++i) shifted = shifted && found[i] != 0;
    }
};

// The block in hand, and all blocks before it with means counted from ``base``, the first block's shift.
struct PowerSums : BlockSums {
    Native base = {}, total = {};
    Central whole = {};

    void end_block() {
        const Mask none = n == 0;
        base = whole.n == 0 ? shift : base;
        const Native mu = s1 / n, mu2 = mu * mu;
        const Native m2 = s2 - mu * s1;
        const Native m3 = s3 - 3 * mu * s2 + 2 * mu2 * s1;
        const Native m4 = s4 - 4 * mu * s3 + 6 * mu2 * s2 - 3 * mu2 * mu * s1;
        // no sum of even powers is below 0, but for rounding of the very smallest
        whole.merge({n, shift - base + mu, m2 < 0 ? Native{} : m2, m3, m4 < 0 ? Native{} : m4});
        total += none ? Native{} : n * shift + s1;
        n = shift = s1 = s2 = s3 = s4 = Native{};
        shifted = false;
    }
};

inline constexpr std::int64_t power_sums_of(std::int64_t columns) {
    return (columns + n_native - 1) / n_native;
}

// Adds rows of one block, ``columns`` values from each pointer, to power_sums_of(columns) states.
template <class T, class State>
void add_rows(const T* const* row, int rows, std::int64_t columns, State* state) {
    if (rows > rows_at_once) {
        add_rows(row, rows_at_once, columns, state);
        return add_rows(row + rows_at_once, rows - rows_at_once, columns, state);
    }
    std::int64_t at = 0;
    for (; at + n_native <= columns; at += n_native, ++state) {
        if (at % n_lanes == 0)
            for (int r = 0; r < rows; ++r) prefetch(row[r] + at, n_lanes, 512);
        if (rows == rows_at_once)
            state->add(row, rows_at_once, at);  // a number known here: unrolled
        else
            state->add(row, rows, at);
    }
    if (at == columns) return;
    T padded[rows_at_once][n_native];
    const T* part[rows_at_once];
    for (int r = 0; r < rows; ++r) {
        T* const end = std::copy(row[r] + at, row[r] + columns, padded[r]);
        std::fill(end, padded[r] + n_native, std::numeric_limits<T>::quiet_NaN());
        part[r] = padded[r];
    }
    state->add(part, rows, 0);
}

}  // namespace bml
