#include "bml/bin_depth.hpp"

#include "arrays.hpp"

namespace bml::bind {
namespace {

template <class T>
void run(const Array<T>& book, const Array<std::int64_t>& edges, const Array<T>& out,
         const Array<float>& coverage, int) {
    require(book.ndim() == 3 && book.shape(2) == 4, "book_TLF", "wrong shape");
    require(edges.size() >= 1, "edges", "empty");
    const std::int64_t n_times = book.shape(0), n_levels = book.shape(1), n_bins = edges.size() - 1;
    const std::int64_t* edge = input(edges, n_bins + 1, "edges");
    bool inside = edge[0] >= 0 && edge[n_bins] <= n_levels;
    for (std::int64_t d = 0; d < n_bins; ++d) inside = inside && edge[d] < edge[d + 1];
    require(inside, "edges", "not strictly increasing inside the levels");
    const T* from = input(book, n_times * n_levels * 4, "book_TLF");
    T* to = output(out, n_times * n_bins * 4, "book_TDF");
    float* share = output(coverage, n_times * n_bins * 2, "coverage_TD2");
    const py::gil_scoped_release release;
    bin_depth(from, n_times, n_levels, edge, n_bins, to, share);
}

template <class T>
void add(py::module_& m) {
    m.def("bin_depth", &run<T>, py::arg("book_TLF").noconvert(), py::arg("edges").noconvert(),
          py::arg("book_TDF").noconvert(), py::arg("coverage_TD2").noconvert(), py::arg("threads"));
}

}  // namespace

void add_bin_depth(py::module_& m) {
    add<double>(m);
    add<float>(m);
}

}  // namespace bml::bind
