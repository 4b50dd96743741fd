#include "bml/depth_profile.hpp"

#include "arrays.hpp"

namespace bml::bind {
namespace {

template <class T>
void run(const Array<T>& book, const Array<std::int64_t>& count, int threads) {
    require(book.ndim() == 3 && book.shape(2) == 4, "book_TLF", "wrong shape");
    const std::int64_t n_times = book.shape(0), n_levels = book.shape(1);
    const T* from = input(book, n_times * n_levels * 4, "book_TLF");
    std::int64_t* to = output(count, n_levels * 2, "count_L2");
    const py::gil_scoped_release release;
    depth_profile(from, n_times, n_levels, to, threads);
}

}  // namespace

void add_depth_profile(py::module_& m) {
    m.def("depth_profile", &run<double>, py::arg("book_TLF").noconvert(), py::arg("count_L2").noconvert(),
          py::arg("threads"));
    m.def("depth_profile", &run<float>, py::arg("book_TLF").noconvert(), py::arg("count_L2").noconvert(),
          py::arg("threads"));
}

}  // namespace bml::bind
