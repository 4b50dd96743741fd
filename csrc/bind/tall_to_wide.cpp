#include "bml/tall_to_wide.hpp"

#include "arrays.hpp"

namespace bml::bind {
namespace {

template <class In, class Out, int K>
Told run(const Array<std::int64_t>& ts_ns, const Array<std::int32_t>& level, const Columns<In, K>& columns,
         const Array<std::int8_t>& side, const Array<std::int64_t>& batch, std::int32_t keep, bool sorted,
         const Array<std::int64_t>& times, const Array<Out>& book, const Array<std::int32_t>& duplicate,
         const Array<std::int64_t>& owner, const Array<std::int64_t>& counts, int) {
    const std::int64_t n = ts_ns.size(), n_times = times.size();
    require(book.ndim() == 3 && book.shape(0) == n_times && book.shape(2) == 4, "book_TLF", "wrong shape");
    require(keep >= 0 && keep <= 2, "keep", "not 0, 1 or 2");
    const std::int64_t n_levels = book.shape(1), cells = n_levels * TallRows<In, K>::sides;
    TallRows<In, K> rows{n,
                         input(ts_ns, n, "ts_ns_N"),
                         input(level, n, "level_N"),
                         input(side, K == 2 ? n : 0, "side_N"),
                         batch.size() == 0 ? nullptr : input(batch, n, "batch_N"),
                         {}};
    for (std::size_t k = 0; k < K; ++k) rows.column[k] = input(columns[k], n, "columns");
    Wide<Out> wide{sorted,
                   n_times,
                   n_levels,
                   output(times, n_times, "ts_ns_T"),
                   output(book, n_times * n_levels * 4, "book_TLF"),
                   output(duplicate, n_times, "duplicate_T"),
                   output(owner, sorted ? cells : n_times * cells, "owner")};
    std::int64_t* count = output(counts, 3, "counts");
    const py::gil_scoped_release release;  // plain memory from here on; the arguments keep it alive
    const Error error = tall_to_wide(rows, static_cast<Keep>(keep), wide);
    count[0] = wide.n_deep, count[1] = wide.n_duplicate, count[2] = wide.n_conflict;
    return told(error);
}

template <class In, class Out, int K>
void add(py::module_& m) {
    m.def("tall_to_wide", &run<In, Out, K>, py::arg("ts_ns_N").noconvert(), py::arg("level_N").noconvert(),
          py::arg("columns").noconvert(), py::arg("side_N").noconvert(), py::arg("batch_N").noconvert(),
          py::arg("keep"), py::arg("sorted"), py::arg("ts_ns_T").noconvert(), py::arg("book_TLF").noconvert(),
          py::arg("duplicate_T").noconvert(), py::arg("owner").noconvert(), py::arg("counts").noconvert(),
          py::arg("threads"));
}

std::int64_t count(const Array<std::int64_t>& ts_ns, int) {
    const std::int64_t* times = input(ts_ns, ts_ns.size(), "ts_ns_N");
    const std::int64_t n = ts_ns.size();
    const py::gil_scoped_release release;
    return count_times(times, n);
}

}  // namespace

void add_tall_to_wide(py::module_& m) {
    m.def("count_times", &count, py::arg("ts_ns_N").noconvert(), py::arg("threads"));
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
