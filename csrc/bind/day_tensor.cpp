#include "bml/day_tensor.hpp"

#include <pybind11/stl.h>

#include <tuple>

#include "bml/book_reader.hpp"
#include "bml/half.hpp"
#include "rows.hpp"

namespace bml::bind {
namespace {

// max_age_ns, levels, drop_crossed, drop_locked, clear_broken, inspect
using Options = std::tuple<std::int64_t, std::int64_t, bool, bool, bool, bool>;
// coverage_GD2, source_G, age_ns_G, mid_G
using OnGrid = std::tuple<Array<float>, Array<std::int64_t>, Array<std::int64_t>, Array<double>>;
// touch_T4, duplicate_T, broken_T, mark_T
using OfSnapshots = std::tuple<Array<double>, Array<std::int32_t>, Array<std::int32_t>, Array<std::uint8_t>>;
// count_V, mean_V, m2_V, m3_V, m4_V, total_V
using OfCells = std::tuple<Array<std::int64_t>, Array<double>, Array<double>, Array<double>, Array<double>,
                           Array<double>>;

DayPlan plan_of(const Array<std::int64_t>& times, const Array<std::int64_t>& grid,
                const Array<std::int64_t>& edges, std::int32_t keep, const Options& options) {
    const auto& [max_age, n_levels, crossed, locked, clear, inspect] = options;
    require(keep >= 0 && keep <= 2, "keep", "not 0, 1 or 2");
    require(n_levels >= 1, "levels", "less than 1");
    require(max_age >= 0, "max_age_ns", "negative");
    require(edges.size() >= 2, "edges", "fewer than two");
    const std::int64_t n_bins = edges.size() - 1;
    const std::int64_t* edge = input(edges, n_bins + 1, "edges");
    bool inside = edge[0] >= 0 && edge[n_bins] <= n_levels;
    for (std::int64_t d = 0; d < n_bins; ++d) inside = inside && edge[d] < edge[d + 1];
    require(inside, "edges", "not strictly increasing inside the levels");
    return {times.size(),
            grid.size(),
            n_levels,
            n_bins,
            input(times, times.size(), "ts_ns_T"),
            input(grid, grid.size(), "grid_ns_G"),
            edge,
            max_age,
            static_cast<Keep>(keep),
            crossed,
            locked,
            clear,
            inspect};
}

MomentArrays moments_of(const OfCells& to, std::int64_t n_cells) {
    const auto& [count, mean, m2, m3, m4, total] = to;
    if (count.size() == 0) return {};
    return {output(count, n_cells, "count_V"), output(mean, n_cells, "mean_V"),
            output(m2, n_cells, "m2_V"),       output(m3, n_cells, "m3_V"),
            output(m4, n_cells, "m4_V"),       output(total, n_cells, "total_V")};
}

template <class Out>
DayOut<Out> out_of(const DayPlan& plan, const Array<Out>& book, const OnGrid& on_grid,
                   const OfSnapshots& of_snapshots, const Array<std::int64_t>& profile,
                   const OfCells& moments) {
    const auto& [coverage, source, age, mid] = on_grid;
    const auto& [touch, duplicate, broken, mark] = of_snapshots;
    const std::int64_t n_cells = plan.n_grid * plan.n_bins;
    return {output(book, n_cells * 4, "book_GDF"),
            output(coverage, n_cells * 2, "coverage_GD2"),
            output(source, plan.n_grid, "source_G"),
            output(age, plan.n_grid, "age_ns_G"),
            output(mid, plan.n_grid, "mid_G"),
            output(touch, plan.n_times * 4, "touch_T4"),
            output(duplicate, plan.n_times, "duplicate_T"),
            output(broken, plan.n_times, "broken_T"),
            output(mark, plan.n_times, "mark_T"),
            profile.size() == 0 ? nullptr : output(profile, plan.n_levels * 2, "profile_L2"),
            moments_of(moments, plan.n_levels * 4)};
}

// The first time that is not after the one before it, of the grid or of the snapshots.
Error times_error(const DayPlan& plan, What of_times) {
    if (const auto t = first_not_increasing(plan.ts_ns, plan.n_times); t >= 0) return {of_times, t};
    if (const auto g = first_not_increasing(plan.grid_ns, plan.n_grid); g >= 0)
        return {What::grid_not_increasing, g};
    return {};
}

template <class In, class Out, int K>
Told run(const Array<std::int64_t>& ts_ns, const Array<std::int32_t>& level, const Columns<In, K>& columns,
         const Array<std::int8_t>& side, const Array<std::int64_t>& batch, std::int32_t keep,
         const Array<std::int64_t>& starts, const Array<std::int32_t>& slot, const Array<std::int64_t>& times,
         const Array<std::int64_t>& grid, const Array<std::int64_t>& edges, const Options& options,
         const Array<Out>& book, const OnGrid& on_grid, const OfSnapshots& of_snapshots,
         const Array<std::int64_t>& profile, const OfCells& moments, const Array<std::int64_t>& counts,
         int threads) {
    using Rows = TallRows<In, K>;
    const Rows rows = rows_of<In, K>(ts_ns, level, columns, side, batch);
    const DayPlan plan = plan_of(times, grid, edges, keep, options);
    const Order order = order_of(starts, slot, rows.n_rows, plan.n_times);
    const DayOut<Out> out = out_of(plan, book, on_grid, of_snapshots, profile, moments);
    std::int64_t* count = output(counts, 3, "counts");
    const py::gil_scoped_release release;  // plain memory from here on; the arguments keep it alive
    if (const Error error = times_error(plan, What::times_changed)) return told(error);
    const std::vector<std::int64_t> bounds = unit_bounds(plan);
    Surplus sum;
    Error error;
    if (order.starts) {
        const auto reader = [&](int rooms) {
            return OrderedReader<Rows>(rows, order.starts, plan.n_levels, plan.keep, rooms);
        };
        error = day_tensor(plan, out, bounds, reader, sum, threads);
    } else {
        const Groups<Rows> groups(rows, order.slot, bounds, plan.n_levels, threads);
        if (groups.error) return told(groups.error);
        sum.n_deep += groups.n_deep;
        const auto reader = [&](int rooms) { return ShuffledReader<Rows>(rows, groups, plan.keep, rooms); };
        error = day_tensor(plan, out, bounds, reader, sum, threads);
    }
    count[0] = sum.n_deep, count[1] = sum.n_duplicate, count[2] = sum.n_conflict;
    return told(error);
}

template <class In, class Out>
Told run_book(const Array<std::int64_t>& times, const Array<In>& cells, const Array<std::int64_t>& grid,
              const Array<std::int64_t>& edges, const Options& options, const Array<Out>& book,
              const OnGrid& on_grid, const OfSnapshots& of_snapshots, const Array<std::int64_t>& profile,
              const OfCells& moments, int threads) {
    const DayPlan plan = plan_of(times, grid, edges, static_cast<std::int32_t>(Keep::refuse), options);
    const In* cell = input(cells, plan.n_times * plan.n_levels * 4, "book_TLF");
    const DayOut<Out> out = out_of(plan, book, on_grid, of_snapshots, profile, moments);
    const py::gil_scoped_release release;
    if (const Error error = times_error(plan, What::times_not_increasing)) return told(error);
    const auto reader = [&](int rooms) { return BookReader<In>(cell, plan.n_levels, rooms); };
    Surplus none;
    return told(day_tensor(plan, out, unit_bounds(plan), reader, none, threads));
}

template <class In, class Out, int K>
void add(py::module_& m) {
    m.def("day_tensor", &run<In, Out, K>);
    if constexpr (K == 4) m.def("day_tensor_of_book", &run_book<In, Out>);
}

}  // namespace

void add_day_tensor(py::module_& m) {
    add<double, float, 4>(m);
    add<double, double, 4>(m);
    add<double, Half, 4>(m);
    add<float, float, 4>(m);
    add<float, double, 4>(m);
    add<float, Half, 4>(m);
    add<double, float, 2>(m);
    add<double, double, 2>(m);
    add<double, Half, 2>(m);
    add<float, float, 2>(m);
    add<float, double, 2>(m);
    add<float, Half, 2>(m);
}

}  // namespace bml::bind
