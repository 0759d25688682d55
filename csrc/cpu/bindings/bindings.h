// What the bindings share: the SIMD level in use, checks with a message, and how work is split.
//
// Python calls them with addresses (uintptr_t) of checked tensors; memoir_fast/ops/cpu.py does it, memoir_fast/ops/_C.pyi
// lists them. pairs.cpp and candidates.cpp take numpy arrays, and check them. Each .cpp file here binds one subject. They
// release the GIL while kernels run, except where that takes microseconds (candidates.cpp).
#pragma once
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "../kernels.h"

namespace memoir {

namespace py = pybind11;

// The kernels of the SIMD level in use: the best of this CPU, or what MEMOIR_FAST_SIMD or set_level asked for.
const Kernels *chosen();

// Throws ValueError with the message unless the condition holds.
inline void require(bool condition, const std::string &message) {
    if (!condition) throw py::value_error(message);
}

inline Dtype dtype_of(int code) {
    require(code >= 0 && code <= 2, "dtype code must be 0, 1 or 2, got " + std::to_string(code));
    return static_cast<Dtype>(code);
}

inline int64_t bytes_of(Dtype dtype) { return dtype == Dtype::f32 ? 4 : 2; }

template <class T>
T *pointer(uintptr_t address) {
    return reinterpret_cast<T *>(address);
}

// Throws ValueError unless all values are in 0..high-1.
inline void check_indices(const char *name, const int32_t *values, int64_t count, int64_t high) {
    if (chosen()->in_range(values, count, high)) return;
    const auto range = std::minmax_element(values, values + count);
    throw py::value_error(std::string(name) + " must be in [0, " + std::to_string(high - 1) + "], got values " +
                          std::to_string(*range.first) + ".." + std::to_string(*range.second));
}

// How many threads work of so many bytes is worth, at most `threads`: a part takes tens of microseconds at least.
inline int64_t parts_for(int64_t bytes, int threads) {
    return std::max<int64_t>(1, std::min<int64_t>(threads, bytes / (256 << 10)));
}

void bind_levels(py::module_ &m);
void bind_tophash(py::module_ &m);
void bind_products(py::module_ &m);
void bind_scatter(py::module_ &m);
void bind_hamming(py::module_ &m);
void bind_pairs(py::module_ &m);
void bind_candidates(py::module_ &m);

}  // namespace memoir
