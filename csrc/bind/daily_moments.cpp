#include "bml/daily_moments.hpp"

#include "arrays.hpp"

namespace bml::bind {
namespace {

template <class T>
void run(const Array<T>& x, const Array<std::int64_t>& count, const Array<double>& mean,
         const Array<double>& m2, const Array<double>& m3, const Array<double>& m4,
         const Array<double>& total, int threads) {
    require(x.ndim() == 2, "x_TV", "not 2-D");
    const std::int64_t n_times = x.shape(0), n = x.shape(1);
    const T* from = input(x, n_times * n, "x_TV");
    const MomentArrays to{output(count, n, "count_V"), output(mean, n, "mean_V"),
                          output(m2, n, "m2_V"),       output(m3, n, "m3_V"),
                          output(m4, n, "m4_V"),       output(total, n, "total_V")};
    const py::gil_scoped_release release;
    daily_moments(from, n_times, n, to, threads);
}

template <class T>
void add(py::module_& m) {
    m.def("daily_moments", &run<T>, py::arg("x_TV").noconvert(), py::arg("count_V").noconvert(),
          py::arg("mean_V").noconvert(), py::arg("m2_V").noconvert(), py::arg("m3_V").noconvert(),
          py::arg("m4_V").noconvert(), py::arg("total_V").noconvert(), py::arg("threads"));
}

}  // namespace

void add_daily_moments(py::module_& m) {
    add<double>(m);
    add<float>(m);
}

}  // namespace bml::bind
