// Rows into columns of memory that somebody else owns and lets grow.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bml/pg_layout.hpp"
#include "bml/pg_wire.hpp"

namespace bml::pg {

class Columns final : public Out {
    const Layout layout_;
    std::int64_t rows_ = 0;

  public:
    explicit Columns(const Layout& layout) : layout_(layout) {}

    void* column[max_fields] = {};
    std::int64_t capacity = 0;

    Code put(const Row& row) override {
        if (rows_ == capacity) return Code::full;
        for (std::size_t i = 0; i < static_cast<std::size_t>(layout_.n_fields); ++i) {
            const Field& f = layout_.field[i];
            const auto k = static_cast<std::size_t>(f.index);
            switch (f.target) {
                case Target::time:
                    static_cast<std::int64_t*>(column[i])[rows_] = row.ts;
                    break;
                case Target::level:
                    static_cast<std::int32_t*>(column[i])[rows_] = row.level;
                    break;
                case Target::side:
                    static_cast<std::int8_t*>(column[i])[rows_] = row.side;
                    break;
                case Target::number:
                    static_cast<double*>(column[i])[rows_] = row.number[k];
                    break;
                case Target::count:
                    static_cast<std::int64_t*>(column[i])[rows_] = row.count[k];
                    break;
            }
        }
        ++rows_;
        return Code::more;
    }
};

}  // namespace bml::pg
