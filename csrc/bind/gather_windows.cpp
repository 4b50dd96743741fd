#include "bml/gather_windows.hpp"

#include <optional>
#include <vector>

#include "arrays.hpp"

namespace bml::bind {
namespace {

// Every window is of no day, or begins inside its first one and ends inside the last.
template <class To>
void check(const Windows<To>& out, const std::vector<std::int64_t>& n_rows, std::int64_t n_standards) {
    const auto n_days = static_cast<std::int64_t>(n_rows.size());
    for (std::int64_t w = 0; w < out.count; ++w) {
        const std::int64_t* days = out.day + w * out.most_days;
        require(out.standard == nullptr || (out.standard[w] >= 0 && out.standard[w] < n_standards),
                "standard_W", "no such set");
        if (out.most_days == 0 || days[0] < 0) continue;
        require(out.start[w] >= 0, "start_W", "outside of its day");
        std::int64_t rows = -out.start[w];
        for (std::int64_t k = 0; k < out.most_days && days[k] >= 0; ++k) {
            require(days[k] < n_days, "day_WK", "no such day");
            rows += n_rows[static_cast<std::size_t>(days[k])];
            require(rows >= 0, "start_W", "outside of its day");
        }
        require(rows >= out.rows, "day_WK", "too few rows");
    }
}

template <class From, class To>
void run(const std::vector<Array<From>>& days, const Array<std::int64_t>& day,
         const Array<std::int64_t>& start, const Array<float>& shift, const Array<float>& scale,
         const Array<std::int64_t>& standard, float limit, const Array<To>& out, bool, int threads) {
    require(day.ndim() == 2, "day_WK", "not 2-D");
    require(out.ndim() == 3, "values_WTX", "not 3-D");
    require(shift.ndim() == 2, "shift_GX", "not 2-D");
    const std::int64_t n = out.shape(0), width = out.shape(2), most_days = day.shape(1),
                       sets = shift.shape(0);
    std::vector<const From*> at;
    std::vector<std::int64_t> n_rows;
    for (const Array<From>& x : days) {
        require(x.ndim() == 2 && x.shape(1) == width, "days", "wrong shape");
        at.push_back(x.data()), n_rows.push_back(x.shape(0));
    }
    const bool plain = sets == 0;
    const Windows<To> to{n,
                         out.shape(1),
                         most_days,
                         input(day, n * most_days, "day_WK"),
                         input(start, n, "start_W"),
                         plain ? nullptr : input(standard, n, "standard_W"),
                         output(out, out.size(), "values_WTX")};
    const float *shifts = input(shift, sets * width, "shift_GX"),
                *scales = input(scale, sets * width, "scale_GX");
    check(to, n_rows, sets);
    const py::gil_scoped_release release;
    std::optional<Standards> standards;
    if (!plain) standards.emplace(sets, width, shifts, scales, limit);
    gather_windows(Days<From>{width, at.data(), n_rows.data()}, to, standards ? &*standards : nullptr,
                   threads);
}

template <class From, class To>
void add(py::module_& m) {
    m.def("gather_windows", &run<From, To>, py::arg("days").noconvert(), py::arg("day_WK").noconvert(),
          py::arg("start_W").noconvert(), py::arg("shift_GX").noconvert(), py::arg("scale_GX").noconvert(),
          py::arg("standard_W").noconvert(), py::arg("limit"), py::arg("values_WTX").noconvert(),
          py::arg("halves"), py::arg("threads"));
}

}  // namespace

void add_gather_windows(py::module_& m) {
    add<std::uint16_t, float>(m);
    add<float, float>(m);
    add<std::uint16_t, std::uint16_t>(m);
}

}  // namespace bml::bind
