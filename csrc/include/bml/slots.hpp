// Which row of a tensor a time has: numbered as they come, found by hash, most often by a guess.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace bml {

class Slots {
    std::vector<std::int32_t> table_ = std::vector<std::int32_t>(1024, -1);
    std::vector<std::int64_t> ts_;
    std::size_t last_ = 0;

    std::size_t place(std::int64_t ts) const {
        auto x = static_cast<std::uint64_t>(ts) * 0x9E3779B97F4A7C15u;
        x ^= x >> 32;  // times are multiples of much: what differs is above
        return static_cast<std::size_t>(x) & (table_.size() - 1);
    }
    std::size_t probe(std::int64_t ts) const {
        std::size_t at = place(ts);
        while (table_[at] >= 0 && ts_[static_cast<std::size_t>(table_[at])] != ts)
            at = (at + 1) & (table_.size() - 1);
        return at;
    }
    void rehash() {
        table_.assign(table_.size() * 2, -1);
        for (std::size_t i = 0; i < ts_.size(); ++i) table_[probe(ts_[i])] = static_cast<std::int32_t>(i);
    }

  public:
    std::size_t size() const { return ts_.size(); }
    const std::vector<std::int64_t>& ts() const { return ts_; }

    // The slot of ``ts``; one that is not there is next, ``size()``, until ``add`` makes it so.
    std::size_t find(std::int64_t ts) {
        if (last_ < ts_.size() && ts_[last_] == ts) return last_;
        if (last_ + 1 < ts_.size() && ts_[last_ + 1] == ts) return ++last_;  // levels one after another
        const std::int32_t found = table_[probe(ts)];
        return last_ = found >= 0 ? static_cast<std::size_t>(found) : ts_.size();
    }
    void add(std::int64_t ts) {
        if (2 * (ts_.size() + 1) > table_.size()) rehash();
        table_[probe(ts)] = static_cast<std::int32_t>(ts_.size());
        ts_.push_back(ts);
    }
};

}  // namespace bml
