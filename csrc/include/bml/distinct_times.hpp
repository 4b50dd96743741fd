// The distinct times of rows in any order, and which of them each row is of: a hash table per stretch of
// rows.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "bml/parallel.hpp"

namespace bml {

inline constexpr std::int64_t rows_a_part = std::int64_t{1}
                                            << 19;  // of a unit of work; no effect on the result

// Numbers times in the order they are met.
class TimeTable {
    struct Entry {
        std::int64_t ts;
        std::int64_t number;  // -1: free
    };
    std::vector<Entry> entry_;

    std::size_t place_of(std::int64_t ts) const {
        const std::uint64_t x = static_cast<std::uint64_t>(ts) * 0x9E3779B97F4A7C15U;
        return (x ^ x >> 32) & (entry_.size() - 1);
    }
    std::size_t after(std::size_t at) const { return (at + 1) & (entry_.size() - 1); }
    void grow() {
        entry_.assign(std::max<std::size_t>(64, 4 * entry_.size()), {0, -1});
        for (std::size_t i = 0; i < times.size(); ++i) {
            std::size_t at = place_of(times[i]);
            while (entry_[at].number >= 0) at = after(at);
            entry_[at] = {times[i], static_cast<std::int64_t>(i)};
        }
    }

  public:
    std::vector<std::int64_t> times;

    TimeTable() { grow(); }

    std::int32_t number(std::int64_t ts) {
        std::size_t at = place_of(ts);
        while (entry_[at].number >= 0 && entry_[at].ts != ts) at = after(at);
        if (entry_[at].number < 0) {
            entry_[at] = {ts, static_cast<std::int64_t>(times.size())};
            times.push_back(ts);
            if (3 * times.size() > entry_.size()) {
                grow();
                return static_cast<std::int32_t>(times.size()) - 1;
            }
        }
        return static_cast<std::int32_t>(entry_[at].number);
    }
};

// slot (N,): where each row's time lies in the times returned, which are sorted.
inline std::vector<std::int64_t> distinct_times(const std::int64_t* ts_ns, std::int64_t n, std::int32_t* slot,
                                                int threads) {
    const std::int64_t n_parts = (n + rows_a_part - 1) / rows_a_part;
    std::vector<std::vector<std::int64_t>> met(static_cast<std::size_t>(n_parts));
    parallel_for(threads, n_parts, [&](std::int64_t part) {
        TimeTable table;
        const std::int64_t stop = std::min(n, (part + 1) * rows_a_part);
        for (std::int64_t i = part * rows_a_part; i < stop; ++i) slot[i] = table.number(ts_ns[i]);
        met[static_cast<std::size_t>(part)] = std::move(table.times);
    });
    std::vector<std::int64_t> times;
    for (const auto& some : met) times.insert(times.end(), some.begin(), some.end());
    std::sort(times.begin(), times.end());
    times.erase(std::unique(times.begin(), times.end()), times.end());
    parallel_for(threads, n_parts, [&](std::int64_t part) {
        std::vector<std::int32_t> whole;
        for (const std::int64_t ts : met[static_cast<std::size_t>(part)])
            whole.push_back(
                static_cast<std::int32_t>(std::lower_bound(times.begin(), times.end(), ts) - times.begin()));
        const std::int64_t stop = std::min(n, (part + 1) * rows_a_part);
        for (std::int64_t i = part * rows_a_part; i < stop; ++i)
            slot[i] = whole[static_cast<std::size_t>(slot[i])];
    });
    return times;
}

}  // namespace bml
