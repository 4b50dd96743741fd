#include "bml/resample_grid.hpp"

#include "arrays.hpp"

namespace bml::bind {
namespace {

template <class T>
Told run(const Array<std::int64_t>& ts_ns, const Array<T>& values, const Array<std::int64_t>& grid_ns,
         std::int64_t max_age_ns, std::int32_t method, const Array<T>& out, const Array<std::int64_t>& source,
         const Array<std::int64_t>& age_ns, int threads) {
    const std::int64_t n = ts_ns.size(), n_grid = grid_ns.size();
    require(values.ndim() == 2, "values_TX", "not 2-D");
    require(max_age_ns >= 0, "max_age_ns", "negative");
    require(method == 0 || method == 1, "method", "not 0 or 1");
    const std::int64_t width = values.shape(1);
    const Samples<T> in{n, width, input(ts_ns, n, "ts_ns_T"), input(values, n * width, "values_TX")};
    const OnGrid<T> to{n_grid, output(out, n_grid * width, "values_GX"), output(source, n_grid, "source_G"),
                       output(age_ns, n_grid, "age_ns_G")};
    const std::int64_t* grid = input(grid_ns, n_grid, "grid_ns_G");
    const py::gil_scoped_release release;
    return told(resample_grid(in, grid, max_age_ns, static_cast<Method>(method), to, threads));
}

template <class T>
void add(py::module_& m) {
    m.def("resample_grid", &run<T>, py::arg("ts_ns_T").noconvert(), py::arg("values_TX").noconvert(),
          py::arg("grid_ns_G").noconvert(), py::arg("max_age_ns"), py::arg("method"),
          py::arg("values_GX").noconvert(), py::arg("source_G").noconvert(), py::arg("age_ns_G").noconvert(),
          py::arg("threads"));
}

}  // namespace

void add_resample_grid(py::module_& m) {
    add<double>(m);
    add<float>(m);
}

}  // namespace bml::bind
