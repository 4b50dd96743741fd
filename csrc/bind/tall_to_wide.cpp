#include "bml/tall_to_wide.hpp"

#include "bml/distinct_times.hpp"
#include "rows.hpp"

namespace bml::bind {
namespace {

template <class In, class Out, int K>
Told run(const Array<std::int64_t>& ts_ns, const Array<std::int32_t>& level, const Columns<In, K>& columns,
         const Array<std::int8_t>& side, const Array<std::int64_t>& batch, std::int32_t keep,
         const Array<std::int64_t>& starts, const Array<std::int32_t>& slot, const Array<std::int64_t>& times,
         const Array<Out>& book, const Array<std::int32_t>& duplicate, const Array<std::int64_t>& counts,
         int threads) {
    const std::int64_t n_times = times.size();
    require(book.ndim() == 3 && book.shape(0) == n_times && book.shape(2) == 4, "book_TLF", "wrong shape");
    require(keep >= 0 && keep <= 2, "keep", "not 0, 1 or 2");
    const auto rows = rows_of<In, K>(ts_ns, level, columns, side, batch);
    const Order order = order_of(starts, slot, rows.n_rows, n_times);
    const Wide<Out> wide{n_times, book.shape(1), input(times, n_times, "ts_ns_T"),
                         output(book, n_times * book.shape(1) * 4, "book_TLF"),
                         output(duplicate, n_times, "duplicate_T")};
    std::int64_t* count = output(counts, 3, "counts");
    const py::gil_scoped_release release;  // plain memory from here on; the arguments keep it alive
    Surplus sum;
    const Error error = order.starts
                            ? tall_to_wide(rows, order.starts, static_cast<Keep>(keep), wide, sum, threads)
                            : shuffled_to_wide(rows, order.slot, static_cast<Keep>(keep), wide, sum, threads);
    count[0] = sum.n_deep, count[1] = sum.n_duplicate, count[2] = sum.n_conflict;
    return told(error);
}

template <class In, class Out, int K>
void add(py::module_& m) {
    m.def("tall_to_wide", &run<In, Out, K>, py::arg("ts_ns_N").noconvert(), py::arg("level_N").noconvert(),
          py::arg("columns").noconvert(), py::arg("side_N").noconvert(), py::arg("batch_N").noconvert(),
          py::arg("keep"), py::arg("starts").noconvert(), py::arg("slot_N").noconvert(),
          py::arg("ts_ns_T").noconvert(), py::arg("book_TLF").noconvert(), py::arg("duplicate_T").noconvert(),
          py::arg("counts").noconvert(), py::arg("threads"));
}

std::int64_t find(const Array<std::int64_t>& ts_ns, const Array<std::int64_t>& starts,
                  const Array<std::int64_t>& times) {
    const std::int64_t n = ts_ns.size();
    const std::int64_t* from = input(ts_ns, n, "ts_ns_N");
    std::int64_t *to = output(starts, n + 1, "starts"), *at = output(times, n, "times");
    const py::gil_scoped_release release;
    return find_snapshots(from, n, to, at);
}

std::int64_t distinct(const Array<std::int64_t>& ts_ns, const Array<std::int32_t>& slot,
                      const Array<std::int64_t>& times, int threads) {
    const std::int64_t n = ts_ns.size();
    const std::int64_t* from = input(ts_ns, n, "ts_ns_N");
    std::int32_t* of = output(slot, n, "slot_N");
    std::int64_t* to = output(times, n, "times");
    const py::gil_scoped_release release;
    const auto found = distinct_times(from, n, of, threads);
    std::copy(found.begin(), found.end(), to);
    return static_cast<std::int64_t>(found.size());
}

}  // namespace

void add_tall_to_wide(py::module_& m) {
    m.def("find_snapshots", &find, py::arg("ts_ns_N").noconvert(), py::arg("starts").noconvert(),
          py::arg("times").noconvert());
    m.def("distinct_times", &distinct, py::arg("ts_ns_N").noconvert(), py::arg("slot_N").noconvert(),
          py::arg("times").noconvert(), py::arg("threads"));
    add<double, double, 4>(m);
    add<double, float, 4>(m);
    add<float, float, 4>(m);
    add<float, double, 4>(m);
    add<double, double, 2>(m);
    add<double, float, 2>(m);
    add<float, float, 2>(m);
    add<float, double, 2>(m);
}

}  // namespace bml::bind
