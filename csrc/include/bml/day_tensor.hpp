// Tall rows to depth bins on a grid, with moments and profile on the way: every row is touched once and no wide book is
// made. The same bits as tall_to_wide, resample_grid, bin_depth, daily_moments and depth_profile one after another.
//
// A unit of work is the grid rows of one block of moments with the snapshots that serve them.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "bml/bin_depth.hpp"
#include "bml/daily_moments.hpp"
#include "bml/error.hpp"
#include "bml/inspect.hpp"
#include "bml/parallel.hpp"
#include "bml/reader.hpp"
#include "bml/snapshot.hpp"
#include "bml/tall_to_wide.hpp"
#include "bml/times.hpp"

namespace bml {

struct DayPlan {
    std::int64_t n_times, n_grid, n_levels, n_bins;
    const std::int64_t *ts_ns, *grid_ns, *edges;  // (T,), (G,), (D + 1,)
    std::int64_t max_age_ns;
    Keep keep;
    bool drop_crossed, drop_locked, clear_broken, inspect;
};

// Null where something is not asked for.
template <class Out>
struct DayOut {
    Out* book;         // (G, D, 4)
    float* coverage;   // (G, D, 2)
    std::int64_t *source, *age_ns;  // (G,)
    double *mid, *touch;            // (G,), (T, 4)
    std::int32_t *duplicate, *broken;  // (T,)
    std::uint8_t* mark;             // (T,)
    std::int64_t* profile;          // (L, 2)
    MomentArrays moments;           // (L * 4,); count is null when not asked for
};

inline std::int64_t block_sums_of(std::int64_t n_levels) { return 4 * power_sums_of(n_levels); }

// A unit's part of the moments and the profile.
struct UnitState {
    BlockSums* sums = nullptr;          // block_sums_of(L)
    std::vector<std::int64_t> profile;  // (2, L)
};

template <class Reader, class Out>
class DayUnit {
    using In = typename Reader::In;
    static constexpr double nan = std::numeric_limits<double>::quiet_NaN();

    const DayPlan& plan_;
    const DayOut<Out>& out_;
    Reader& reader_;
    UnitState& state_;
    std::array<FourColumns<In>, rows_at_once> waiting_;  // rows for the moments
    int n_waiting_ = 0, n_reads_ = 0;  // since the first of those that wait
    Snapshot<In> pending_;             // the last good snapshot, when another may replace it at its grid row
    std::int64_t pending_at_ = -1, pending_g_ = -1;
    std::vector<In> held_;  // its columns

  public:
    static constexpr int rooms = rows_at_once + 3;  // those that wait, the one before, the one in hand, one spare

    DayUnit(const DayPlan& plan, const DayOut<Out>& out, Reader& reader, UnitState& state)
        : plan_(plan), out_(out), reader_(reader), state_(state) {}

    // Snapshots [begin, end) serve grid rows from g on; ``before`` is the snapshot before them, if it was read.
    Error run(std::int64_t begin, std::int64_t end, std::int64_t g, const Snapshot<In>* before) {
        Snapshot<In> last, now;
        bool has_last = before != nullptr;
        if (has_last) last = *before;
        Error first;
        for (std::int64_t t = begin; t < end; ++t) {
            if (n_waiting_ > 0 && ++n_reads_ > rows_at_once) add_waiting();  // before their rooms are used again
            if (const Error error = reader_.read(t, now)) {
                if (!first || error.row < first.row) first = error;
                if (Reader::in_row_order) return first;
                continue;
            }
            out_.duplicate[t] = now.n_surplus;
            const bool good = look(t, now, has_last ? &last : nullptr);
            last = now, has_last = true;
            if (!good) continue;
            const std::int64_t ts = plan_.ts_ns[t];
            while (g < plan_.n_grid && plan_.grid_ns[g] < ts) ++g;
            if (pending_at_ >= 0 && pending_g_ != g) commit();
            if (g == plan_.n_grid || !within(ts, plan_.grid_ns[g], plan_.max_age_ns)) continue;
            pending_ = now, pending_at_ = t, pending_g_ = g;
            if (t + 1 == end || plan_.ts_ns[t + 1] > plan_.grid_ns[g])
                commit();
            else
                hold();
        }
        if (pending_at_ >= 0) commit();
        add_waiting();
        return first;
    }

  private:
    // Notes what is known of the snapshot; false: it is dropped.
    bool look(std::int64_t t, Snapshot<In>& now, const Snapshot<In>* last) {
        std::uint8_t mark = 0;
        if (plan_.clear_broken)
            out_.broken[t] = static_cast<std::int32_t>(clear_broken(now, plan_.n_levels, reader_) + now.n_nan);
        double* touch = out_.touch + 4 * t;
        for (std::size_t f = 0; f < 4; ++f) touch[f] = static_cast<double>(now.column[f][0]);
        const bool dropped = (plan_.drop_crossed && touch[0] > touch[2]) || (plan_.drop_locked && touch[0] == touch[2]);
        if (dropped) mark |= mark_dropped;
        if (plan_.inspect) {
            if (is_disordered(now.column[0], plan_.n_levels, true) || is_disordered(now.column[2], plan_.n_levels, false))
                mark |= mark_disorder;
            if (last && same_book(now.column, last->column, plan_.n_levels)) mark |= mark_stuck;
        }
        out_.mark[t] = mark;
        return !dropped;
    }

    // Columns that outlive the reader's rooms.
    void hold() {
        if (pending_.direct) return;
        const std::int64_t stride = padded_levels(plan_.n_levels);
        held_.resize(static_cast<std::size_t>(4 * stride));
        for (std::size_t f = 0; f < 4; ++f) {
            In* to = held_.data() + static_cast<std::int64_t>(f) * stride;
            std::copy_n(pending_.column[f], plan_.n_levels, to);
            pending_.column[f] = to;
        }
    }

    void commit() {
        const std::int64_t g = pending_g_, n_bins = plan_.n_bins, n_levels = plan_.n_levels;
        const auto& c = pending_.column;
        out_.source[g] = pending_at_;
        fold_columns(c.data(), n_levels, plan_.edges, n_bins, out_.book + g * n_bins * 4, out_.coverage + g * n_bins * 2);
        if (!state_.profile.empty())
            for (std::size_t side = 0; side < 2; ++side) {
                std::int64_t* count = state_.profile.data() + static_cast<std::int64_t>(side) * n_levels;
                const In* qty = c[2 * side + 1];
                for (std::int64_t l = 0; l < n_levels; ++l) count[l] += qty[l] > 0;
            }
        if (state_.sums) {
            waiting_[static_cast<std::size_t>(n_waiting_++)] = c;
            if (n_waiting_ == rows_at_once || c[0] == held_.data()) add_waiting();
        }
        pending_at_ = -1;
    }

    void add_waiting() {
        const std::int64_t n_sums = power_sums_of(plan_.n_levels);
        for (std::size_t f = 0; f < 4 && n_waiting_ > 0; ++f) {
            const In* row[rows_at_once];
            for (int r = 0; r < n_waiting_; ++r) row[r] = waiting_[static_cast<std::size_t>(r)][f];
            add_rows(row, n_waiting_, plan_.n_levels, state_.sums + static_cast<std::int64_t>(f) * n_sums);
        }
        n_waiting_ = n_reads_ = 0;
    }
};

// Grid rows without a snapshot of their own take the row before, while it is not too old.
template <class Out>
void fill_forward(const DayPlan& plan, const DayOut<Out>& out) {
    const std::int64_t book = 4 * plan.n_bins, coverage = 2 * plan.n_bins;
    std::int64_t from = -1;  // the grid row that holds the last snapshot
    for (std::int64_t g = 0; g < plan.n_grid; ++g) {
        const bool own = out.source[g] >= 0;
        if (own) from = g;
        const std::int64_t source = from < 0 ? -1 : out.source[from];
        if (source < 0 || !within(plan.ts_ns[source], plan.grid_ns[g], plan.max_age_ns)) {
            out.source[g] = out.age_ns[g] = -1;
            out.mid[g] = std::numeric_limits<double>::quiet_NaN();
            std::fill_n(out.book + g * book, book, static_cast<Out>(std::numeric_limits<float>::quiet_NaN()));
            std::fill_n(out.coverage + g * coverage, coverage, 0.0F);
            continue;
        }
        out.source[g] = source;
        out.age_ns[g] = plan.grid_ns[g] - plan.ts_ns[source];
        out.mid[g] = 0.5 * (out.touch[4 * source] + out.touch[4 * source + 2]);
        if (own) continue;
        std::copy_n(out.book + from * book, book, out.book + g * book);
        std::copy_n(out.coverage + from * coverage, coverage, out.coverage + g * coverage);
    }
}

// Blocks of all units in their order, as daily_moments takes them.
inline void finish_moments(const std::vector<UnitState>& units, std::int64_t n_levels, const MomentArrays& out,
                           int threads) {
    const std::int64_t n_sums = power_sums_of(n_levels);
    parallel_for(threads, 4 * n_sums, [&](std::int64_t i) {
        PowerSums state;
        for (const UnitState& unit : units) {
            static_cast<BlockSums&>(state) = unit.sums[i];
            state.end_block();
        }
        const std::int64_t field = i / n_sums, level = i % n_sums * n_native;
        write_moments(&state, std::min<std::int64_t>(n_native, n_levels - level), out, 4 * level + field, 4);
    });
}

// Where the snapshots of every unit begin, T at the end; the first unit has all that come before the grid, the last all
// that come after.
inline std::vector<std::int64_t> unit_bounds(const DayPlan& plan) {
    std::vector<std::int64_t> bounds{0};
    for (std::int64_t g = moment_rows; g < plan.n_grid; g += moment_rows)
        bounds.push_back(std::upper_bound(plan.ts_ns, plan.ts_ns + plan.n_times, plan.grid_ns[g - 1]) - plan.ts_ns);
    bounds.push_back(plan.n_times);
    return bounds;
}

// make(rooms): a reader of the snapshots.
template <class Out, class Make>
Error day_tensor(const DayPlan& plan, const DayOut<Out>& out, const std::vector<std::int64_t>& bounds, const Make& make,
                 Surplus& sum, int threads) {
    using Reader = decltype(make(0));
    const std::size_t n_units = bounds.size() - 1;
    std::vector<UnitOutcome> outcome(n_units);
    std::vector<UnitState> state(n_units);
    std::vector<BlockSums> sums(out.moments.count ? n_units * static_cast<std::size_t>(block_sums_of(plan.n_levels)) : 0);
    std::fill_n(out.source, plan.n_grid, std::int64_t{-1});
    parallel_for(threads, static_cast<std::int64_t>(n_units), [&](std::int64_t unit) {
        const auto u = static_cast<std::size_t>(unit);
        if (out.moments.count) state[u].sums = sums.data() + unit * block_sums_of(plan.n_levels);
        if (out.profile) state[u].profile.assign(static_cast<std::size_t>(2 * plan.n_levels), 0);
        Reader reader = make(DayUnit<Reader, Out>::rooms), look_back = make(DayUnit<Reader, Out>::rooms);
        Snapshot<typename Reader::In> before;
        bool has_before = plan.inspect && bounds[u] > 0 && !look_back.read(bounds[u] - 1, before);
        if (has_before && plan.clear_broken) clear_broken(before, plan.n_levels, look_back);
        outcome[u].error = DayUnit<Reader, Out>(plan, out, reader, state[u])
                               .run(bounds[u], bounds[u + 1], unit * moment_rows, has_before ? &before : nullptr);
        outcome[u].surplus = reader.surplus;
    });
    if (const Error error = sum_up(outcome, sum)) return error;
    fill_forward(plan, out);
    if (out.profile) {
        std::fill_n(out.profile, 2 * plan.n_levels, std::int64_t{0});
        for (const UnitState& unit : state)
            for (std::int64_t i = 0; i < 2 * plan.n_levels; ++i)
                out.profile[i % plan.n_levels * 2 + i / plan.n_levels] += unit.profile[static_cast<std::size_t>(i)];
    }
    if (out.moments.count) finish_moments(state, plan.n_levels, out.moments, threads);
    return {};
}

}  // namespace bml
