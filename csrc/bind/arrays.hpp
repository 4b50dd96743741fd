// How arrays cross the border: exact dtype, C order, nothing is converted; sizes are checked before any read.
//
// A view is read from the ndarray's own struct. py::array_t would make a dtype object and count references
// for each argument, which in a small call costs more than the kernel.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <array>
#include <bit>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "bml/error.hpp"
#include "bml/half.hpp"

namespace bml::bind {

namespace py = pybind11;

// A C-contiguous, aligned ndarray of native T. It keeps nothing alive: the caller's arguments do, for the
// call.
template <class T>
class Array {
  public:
    Array() = default;
    explicit Array(const py::detail::PyArray_Proxy& array) : of_(&array) {
        for (int d = 0; d < array.nd; ++d) size_ *= array.dimensions[d];
    }

    std::int64_t ndim() const { return of_->nd; }
    std::int64_t shape(int d) const { return of_->dimensions[d]; }
    std::int64_t size() const { return size_; }
    T* data() const { return reinterpret_cast<T*>(of_->data); }
    bool writable() const { return (of_->flags & py::detail::npy_api::NPY_ARRAY_WRITEABLE_) != 0; }

  private:
    const py::detail::PyArray_Proxy* of_ = nullptr;
    std::int64_t size_ = 1;
};

// A tuple of exactly K arrays of T
template <class T, int K>
using Columns = std::array<Array<T>, K>;

// numpy's numbers and name of the dtype of T. Two numbers may mean one T: C has more names than sizes.
template <int... Numbers>
struct Numbered {
    static bool has(int number) { return ((number == Numbers) || ...); }
};
using npy = py::detail::npy_api;
inline constexpr bool long_is_64 = sizeof(long) == 8;

template <class T>
struct Dtype;
template <>
struct Dtype<double> : Numbered<npy::NPY_DOUBLE_> {
    static constexpr auto name = py::detail::const_name("float64");
};
template <>
struct Dtype<float> : Numbered<npy::NPY_FLOAT_> {
    static constexpr auto name = py::detail::const_name("float32");
};
template <>
struct Dtype<Half> : Numbered<23> {  // NPY_HALF
    static constexpr auto name = py::detail::const_name("float16");
};
template <>
struct Dtype<std::int64_t> : Numbered<npy::NPY_LONGLONG_, long_is_64 ? npy::NPY_LONG_ : npy::NPY_LONGLONG_> {
    static constexpr auto name = py::detail::const_name("int64");
};
template <>
struct Dtype<std::int32_t> : Numbered<npy::NPY_INT_, long_is_64 ? npy::NPY_INT_ : npy::NPY_LONG_> {
    static constexpr auto name = py::detail::const_name("int32");
};
template <>
struct Dtype<std::uint16_t> : Numbered<npy::NPY_USHORT_> {
    static constexpr auto name = py::detail::const_name("uint16");
};
template <>
struct Dtype<std::int8_t> : Numbered<npy::NPY_BYTE_> {
    static constexpr auto name = py::detail::const_name("int8");
};
template <>
struct Dtype<std::uint8_t> : Numbered<npy::NPY_UBYTE_> {
    static constexpr auto name = py::detail::const_name("uint8");
};

template <class T>
bool load(py::handle from, Array<T>& to) {
    constexpr int plain = npy::NPY_ARRAY_C_CONTIGUOUS_ | npy::NPY_ARRAY_ALIGNED_;
    constexpr char foreign = std::endian::native == std::endian::little ? '>' : '<';
    if (!npy::get().PyArray_Check_(from.ptr())) return false;
    const py::detail::PyArray_Proxy& array = *py::detail::array_proxy(from.ptr());
    const auto& dtype = *reinterpret_cast<const py::detail::PyArrayDescr_Proxy*>(array.descr);
    if ((array.flags & plain) != plain || dtype.byteorder == foreign || !Dtype<T>::has(dtype.type_num))
        return false;
    to = Array<T>(array);
    return true;
}

inline void require(bool ok, const char* name, const char* why) {
    if (!ok) throw std::invalid_argument(std::string(name) + ": " + why);
}

template <class T>
const T* input(const Array<T>& array, std::int64_t size, const char* name) {
    require(array.size() == size, name, "wrong size");
    return array.data();
}

template <class T>
T* output(const Array<T>& array, std::int64_t size, const char* name) {
    require(array.size() == size, name, "wrong size");
    require(array.writable(), name, "not writeable");
    return array.data();
}

// What Python is told: (code, row), see bml/kernels/_errors.py
using Told = std::pair<std::int32_t, std::int64_t>;

inline Told told(const Error& error) { return {static_cast<std::int32_t>(error.what), error.row}; }

void add_everyday(py::module_& m);
void add_tall_to_wide(py::module_& m);
void add_day_tensor(py::module_& m);
void add_resample_grid(py::module_& m);
void add_depth_profile(py::module_& m);
void add_bin_depth(py::module_& m);
void add_daily_moments(py::module_& m);
void add_gather_windows(py::module_& m);
void add_pool(py::module_& m);

}  // namespace bml::bind

template <class T>
struct pybind11::detail::type_caster<bml::bind::Array<T>> {
    PYBIND11_TYPE_CASTER(bml::bind::Array<T>,
                         const_name("numpy.ndarray[") + bml::bind::Dtype<T>::name + const_name("]"));
    bool load(handle from, bool) { return bml::bind::load(from, value); }
};

template <class T, std::size_t K>
struct pybind11::detail::type_caster<std::array<bml::bind::Array<T>, K>> {
    using Columns = std::array<bml::bind::Array<T>, K>;
    PYBIND11_TYPE_CASTER(Columns, const_name("tuple"));
    bool load(handle from, bool) {
        if (!PyTuple_CheckExact(from.ptr()) || PyTuple_GET_SIZE(from.ptr()) != Py_ssize_t{K}) return false;
        for (std::size_t k = 0; k < K; ++k)
            if (!bml::bind::load(PyTuple_GET_ITEM(from.ptr(), static_cast<Py_ssize_t>(k)), value[k]))
                return false;
        return true;
    }
};

// A tuple of any number of arrays of T
template <class T>
struct pybind11::detail::type_caster<std::vector<bml::bind::Array<T>>> {
    using Arrays = std::vector<bml::bind::Array<T>>;
    PYBIND11_TYPE_CASTER(Arrays, const_name("tuple"));
    bool load(handle from, bool) {
        if (!PyTuple_CheckExact(from.ptr())) return false;
        value.resize(static_cast<std::size_t>(PyTuple_GET_SIZE(from.ptr())));
        for (std::size_t k = 0; k < value.size(); ++k)
            if (!bml::bind::load(PyTuple_GET_ITEM(from.ptr(), static_cast<Py_ssize_t>(k)), value[k]))
                return false;
        return true;
    }
};
