// The everyday case of bml/kernels/_rows.py and _arrays.py, whose checks in Python cost more than a small
// kernel. False says nothing but "look closer": what is wrong is worded there.
#include <algorithm>
#include <optional>

#include "arrays.hpp"

namespace bml::bind {
namespace {

inline constexpr std::int64_t max_rows = (std::int64_t{1} << 32) - 1;  // a row number has 32 bits

// Whether x is an ndarray itself, of T, one-dimensional, C-ordered and as long as n (-1: of any length).
template <class T>
bool is_plain(py::handle x, std::int64_t n) {
    Array<T> array;
    return Py_TYPE(x.ptr()) == npy::get().PyArray_Type_ && load(x, array) && array.ndim() == 1 &&
           (n < 0 || array.size() == n);
}

bool rows_are_plain(py::handle ts_ns, py::handle level, py::handle columns, py::handle side,
                    py::handle batch) {
    if (!is_plain<std::int64_t>(ts_ns, -1) || !PyTuple_CheckExact(columns.ptr())) return false;
    const auto n = static_cast<std::int64_t>(py::detail::array_proxy(ts_ns.ptr())->dimensions[0]);
    const Py_ssize_t width = side.is_none() ? 4 : 2;
    const auto all_are = [&](auto is_one) {
        for (Py_ssize_t k = 0; k < width; ++k)
            if (!is_one(py::handle(PyTuple_GET_ITEM(columns.ptr(), k)), n)) return false;
        return true;
    };
    return n < max_rows && PyTuple_GET_SIZE(columns.ptr()) == width && is_plain<std::int32_t>(level, n) &&
           (side.is_none() || is_plain<std::int8_t>(side, n)) &&
           (batch.is_none() || is_plain<std::int64_t>(batch, n)) &&
           (all_are(is_plain<double>) || all_are(is_plain<float>));
}

// The bytes of a C-ordered ndarray; nothing when it is none.
std::optional<std::pair<std::uintptr_t, std::uintptr_t>> bytes_of(py::handle x) {
    if (!npy::get().PyArray_Check_(x.ptr())) return std::nullopt;
    const py::detail::PyArray_Proxy& array = *py::detail::array_proxy(x.ptr());
    if ((array.flags & npy::NPY_ARRAY_C_CONTIGUOUS_) == 0) return std::nullopt;
    const auto begin = reinterpret_cast<std::uintptr_t>(array.data);
    return std::pair(begin, begin + py::cast<std::uintptr_t>(x.attr("nbytes")));
}

// Whether no byte of ``array`` is one of ``others``.
bool is_apart(py::handle array, const py::iterable& others) {
    const auto own = bytes_of(array);
    if (!own) return false;
    return std::all_of(others.begin(), others.end(), [&](py::handle x) {
        const auto other = bytes_of(x);
        return other && (other->first >= own->second || own->first >= other->second);
    });
}

}  // namespace

void add_everyday(py::module_& m) {
    m.def("_rows_are_plain", &rows_are_plain);
    m.def("_is_apart", &is_apart);
}

}  // namespace bml::bind
