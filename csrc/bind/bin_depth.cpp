#include "bml/bin_depth.hpp"

#include "arrays.hpp"
#include "bml/occupied_edges.hpp"

namespace bml::bind {
namespace {

// Every row inside the levels and nowhere decreasing, so that no fold reads outside the book.
bool fit(const std::int64_t* edge, std::int64_t rows, std::int64_t n_bins, std::int64_t n_levels) {
    for (std::int64_t t = 0; t < rows; ++t, edge += n_bins + 1) {
        bool inside = edge[0] >= 0 && edge[n_bins] <= n_levels;
        for (std::int64_t d = 0; d < n_bins; ++d) inside = inside && edge[d] <= edge[d + 1];
        if (!inside) return false;
    }
    return true;
}

template <class T>
void run(const Array<T>& book, const Array<std::int64_t>& edges, const Array<T>& out,
         const Array<float>& coverage, int threads) {
    require(book.ndim() == 3 && book.shape(2) == 4, "book_TLF", "wrong shape");
    require(edges.ndim() == 2 && edges.shape(1) >= 1, "edges", "wrong shape");
    const std::int64_t n_times = book.shape(0), n_levels = book.shape(1), n_bins = edges.shape(1) - 1;
    const std::int64_t rows = edges.shape(0);
    require(rows == 1 || rows == n_times, "edges", "neither one row nor one a snapshot");
    const std::int64_t* edge = input(edges, rows * (n_bins + 1), "edges");
    require(fit(edge, rows, n_bins, n_levels), "edges", "decreasing or outside the levels");
    const T* from = input(book, n_times * n_levels * 4, "book_TLF");
    T* to = output(out, n_times * n_bins * 4, "book_TDF");
    float* share = output(coverage, n_times * n_bins * 2, "coverage_TD2");
    const py::gil_scoped_release release;
    bin_depth(from, n_times, n_levels, edge, n_bins, rows > 1, to, share, threads);
}

template <class T>
void run_edges(const Array<T>& book, std::int64_t near, std::int64_t deep, const Array<std::int64_t>& edges,
               int threads) {
    require(book.ndim() == 3 && book.shape(2) == 4, "book_TLF", "wrong shape");
    require(near >= 0 && deep >= 0 && edges.ndim() == 2 && edges.shape(1) - 1 - near == deep, "edges",
            "wrong shape");
    const std::int64_t n_times = book.shape(0), n_levels = book.shape(1);
    const T* from = input(book, n_times * n_levels * 4, "book_TLF");
    std::int64_t* to = output(edges, n_times * (near + deep + 1), "edges_TE");
    const py::gil_scoped_release release;
    occupied_edges(from, n_times, n_levels, near, deep, to, threads);
}

template <class T>
void add(py::module_& m) {
    m.def("bin_depth", &run<T>, py::arg("book_TLF").noconvert(), py::arg("edges").noconvert(),
          py::arg("book_TDF").noconvert(), py::arg("coverage_TD2").noconvert(), py::arg("threads"));
    m.def("occupied_edges", &run_edges<T>, py::arg("book_TLF").noconvert(), py::arg("near_levels"),
          py::arg("deep_bins"), py::arg("edges_TE").noconvert(), py::arg("threads"));
}

}  // namespace

void add_bin_depth(py::module_& m) {
    add<double>(m);
    add<float>(m);
}

}  // namespace bml::bind
