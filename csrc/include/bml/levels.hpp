// A snapshot read eight levels at a time, straight from rows whose levels rise: each row is touched once.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "bml/lanes.hpp"
#include "bml/rows.hpp"

namespace bml {

// Whether eight times are one.
inline bool all_are(const std::int64_t* x, std::int64_t value) {
#if defined(__AVX512F__)
    return _mm512_cmpneq_epi64_mask(_mm512_loadu_si512(x), _mm512_set1_epi64(value)) == 0;
#else
    std::int64_t differs = 0;
    for (int i = 0; i < 8; ++i) differs |= x[i] ^ value;
    return differs == 0;
#endif
}

// Whether eight levels are first, first + 1, ...
inline bool count_up(const std::int32_t* x, std::int32_t first) {
#if defined(__AVX2__)
    const __m256i wanted =
        _mm256_add_epi32(_mm256_set1_epi32(first), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    const __m256i same = _mm256_cmpeq_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)), wanted);
    return _mm256_movemask_epi8(same) == -1;
#else
    std::int32_t differs = 0;
    for (int i = 0; i < 8; ++i) differs |= x[i] ^ (first + i);
    return differs == 0;
#endif
}

enum class Streamed { whole, not_rising, not_one_time };

// The rows [at, stop) of one snapshot, of one side when a row has only one; W columns.
template <class In, std::size_t W>
class LevelStream {
    const std::int64_t* ts_;
    const std::int32_t* level_;
    std::array<const In*, W> column_;
    std::int64_t at_, stop_, now_, n_levels_;
    std::array<std::array<In, 8>, W> patched_;  // eight levels with holes

  public:
    std::array<const In*, W> eight;  // what ``next`` found: W columns of eight values, NaN where no row is
    std::int64_t n_found = 0;

    LevelStream(const std::int64_t* ts, const std::int32_t* level, const std::array<const In*, W>& column,
                std::int64_t start, std::int64_t stop, std::int64_t n_levels)
        : ts_(ts),
          level_(level),
          column_(column),
          at_(start),
          stop_(stop),
          now_(start < stop ? ts[start] : 0),
          n_levels_(n_levels) {}

    // Levels l + 1 .. l + 8 of the book.
    Streamed next(std::int64_t l) {
        if (at_ + 8 <= stop_ && l + 8 <= n_levels_ &&
            count_up(level_ + at_, static_cast<std::int32_t>(l + 1))) {
            if (!all_are(ts_ + at_, now_)) return Streamed::not_one_time;
            for (std::size_t k = 0; k < W; ++k) {
                eight[k] = column_[k] + at_;
                __builtin_prefetch(eight[k] + 128);
            }
            __builtin_prefetch(ts_ + at_ + 128);
            __builtin_prefetch(level_ + at_ + 128);
            at_ += 8, n_found += 8;
            return Streamed::whole;
        }
        return patch(l);
    }

    // What follows must be deeper than the book.
    Streamed finish(std::int64_t& n_deep) {
        n_deep += stop_ - at_;
        for (; at_ < stop_; ++at_) {
            if (ts_[at_] != now_) return Streamed::not_one_time;
            if (level_[at_] <= n_levels_) return Streamed::not_rising;
        }
        return Streamed::whole;
    }

  private:
#if defined(__AVX512VL__)
    // Eight levels with holes at once: every row's values move to its level's place. False: look row by row.
    bool expand(std::int64_t l) {
        if (at_ + 8 > stop_ || l + 8 > n_levels_) return false;
        const __m256i place =
            _mm256_sub_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(level_ + at_)),
                             _mm256_set1_epi32(static_cast<std::int32_t>(l + 1)));
        // a row of another level has no bit among these eight
        const __m256i bit =
            _mm256_and_si256(_mm256_sllv_epi32(_mm256_set1_epi32(1), place), _mm256_set1_epi32(255));
        const __m256i before = _mm256_permutevar8x32_epi32(bit, _mm256_setr_epi32(7, 0, 1, 2, 3, 4, 5, 6));
        const unsigned here = _mm256_test_epi32_mask(bit, bit);
        const unsigned rising = _mm256_cmpgt_epi32_mask(bit, before) | 1U;
        if ((here & (here + 1)) != 0 || (here & ~rising) != 0) return false;
        if (_mm512_mask_cmpneq_epi64_mask(static_cast<__mmask8>(here), _mm512_loadu_si512(ts_ + at_),
                                          _mm512_set1_epi64(now_)) != 0)
            return false;
        const auto bits =
            static_cast<std::uint64_t>(_mm_cvtsi128_si64(_mm256_maskz_cvtepi32_epi8(0xFF, bit)));
        const auto there = static_cast<__mmask8>(bits * 0x0101010101010101U >> 56);  // their sum: all differ
        for (std::size_t k = 0; k < W; ++k) {
            constexpr In nan = std::numeric_limits<In>::quiet_NaN();
            const In* from = column_[k] + at_;
            __builtin_prefetch(from + 128);
            if constexpr (sizeof(In) == 8)
                _mm512_storeu_pd(patched_[k].data(),
                                 _mm512_mask_expand_pd(_mm512_set1_pd(nan), there, _mm512_loadu_pd(from)));
            else
                _mm256_storeu_ps(patched_[k].data(),
                                 _mm256_mask_expand_ps(_mm256_set1_ps(nan), there, _mm256_loadu_ps(from)));
            eight[k] = patched_[k].data();
        }
        __builtin_prefetch(ts_ + at_ + 128);
        __builtin_prefetch(level_ + at_ + 128);
        const int n = __builtin_popcount(here);
        at_ += n, n_found += n;
        return true;
    }
#else
    static bool expand(std::int64_t) { return false; }
#endif

    [[gnu::noinline]] Streamed patch(std::int64_t l) {
        if (expand(l)) return Streamed::whole;
        const std::int64_t end = l + 8 < n_levels_ ? l + 8 : n_levels_;
        for (std::size_t k = 0; k < W; ++k) {
            patched_[k].fill(std::numeric_limits<In>::quiet_NaN());
            eight[k] = patched_[k].data();
        }
        for (std::int64_t least = l + 1; at_ < stop_ && level_[at_] <= end; ++at_) {
            if (ts_[at_] != now_) return Streamed::not_one_time;
            if (level_[at_] < least) return Streamed::not_rising;
            least = level_[at_] + std::int64_t{1};
            const auto place = static_cast<std::size_t>(level_[at_] - 1 - l);
            for (std::size_t k = 0; k < W; ++k) patched_[k][place] = column_[k][at_];
            ++n_found;
        }
        return Streamed::whole;
    }
};

// use(l, eight) for l = 0, 8, ... < n_levels: pointers to bid_px, bid_qty, ask_px, ask_qty of eight levels,
// NaN where no row is. Says ``whole`` only when the rows were of one time with rising levels, bids before
// asks.
template <class Rows, class Use>
Streamed stream_snapshot(const Rows& rows, std::int64_t start, std::int64_t stop, std::int64_t n_levels,
                         std::int64_t& n_deep, std::int64_t& n_found, Use&& use) {
    using In = typename Rows::Value;
    if constexpr (Rows::width == 4) {
        LevelStream<In, 4> both(rows.ts_ns, rows.level, rows.column, start, stop, n_levels);
        for (std::int64_t l = 0; l < n_levels; l += 8) {
            if (const Streamed how = both.next(l); how != Streamed::whole) return how;
            use(l, both.eight);
        }
        n_found = both.n_found;
        return both.finish(n_deep);
    } else {
        const std::int64_t middle = first_ask(rows.side, start, stop);
        if (middle < 0) return Streamed::not_rising;
        if (middle < stop && rows.ts_ns[middle] != rows.ts_ns[start]) return Streamed::not_one_time;
        LevelStream<In, 2> bid(rows.ts_ns, rows.level, rows.column, start, middle, n_levels);
        LevelStream<In, 2> ask(rows.ts_ns, rows.level, rows.column, middle, stop, n_levels);
        for (std::int64_t l = 0; l < n_levels; l += 8) {
            if (const Streamed how = bid.next(l); how != Streamed::whole) return how;
            if (const Streamed how = ask.next(l); how != Streamed::whole) return how;
            use(l, FourColumns<In>{bid.eight[0], bid.eight[1], ask.eight[0], ask.eight[1]});
        }
        n_found = bid.n_found + ask.n_found;
        if (const Streamed how = bid.finish(n_deep); how != Streamed::whole) return how;
        return ask.finish(n_deep);
    }
}

}  // namespace bml
