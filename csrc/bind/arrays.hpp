// How arrays cross the border: exact dtype, C order, nothing is converted; sizes are checked before any read.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

#include "bml/error.hpp"

namespace bml::bind {

namespace py = pybind11;

template <class T>
using Array = py::array_t<T, py::array::c_style>;

inline void require(bool ok, const char* name, const char* why) {
    if (!ok) throw std::invalid_argument(std::string(name) + ": " + why);
}

template <class T>
void require_fit(const Array<T>& array, std::int64_t size, const char* name) {
    require(array.size() == size, name, "wrong size");
    require((array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) != 0, name, "not aligned");
}

template <class T>
const T* input(const Array<T>& array, std::int64_t size, const char* name) {
    require_fit(array, size, name);
    return array.data();
}

template <class T>
T* output(Array<T>& array, std::int64_t size, const char* name) {
    require_fit(array, size, name);
    return array.mutable_data();  // throws when the array is read-only
}

// What Python is told: (code, row), see bml/kernels/_errors.py
using Told = std::pair<std::int32_t, std::int64_t>;

inline Told told(const Error& error) { return {static_cast<std::int32_t>(error.what), error.row}; }

void add_tall_to_wide(py::module_& m);
void add_resample_grid(py::module_& m);
void add_depth_profile(py::module_& m);
void add_bin_depth(py::module_& m);
void add_daily_moments(py::module_& m);

}  // namespace bml::bind
