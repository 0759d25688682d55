// Python's way to the CUDA scatter; called by memoir_fast/_gpu.py with checked device pointers.
#include <pybind11/pybind11.h>

#include <stdexcept>
#include <string>

#include "masked_scatter.h"

namespace {

void scatter(uintptr_t V, int v_dtype, int64_t d, int64_t v_stride, uintptr_t idx, int64_t k, uintptr_t A, int a_dtype,
             uintptr_t G, int g_dtype, int64_t n, float scale, uintptr_t partial, uintptr_t squared, int device,
             uintptr_t stream) {
    for (int code : {v_dtype, a_dtype, g_dtype})
        if (code != 0 && code != 1) throw pybind11::value_error("dtype code must be 0 or 1, got " + std::to_string(code));
    const char *failure;
    {
        pybind11::gil_scoped_release unlocked;
        failure = memoir::masked_scatter(
            {reinterpret_cast<void *>(V), memoir::DeviceDtype(v_dtype), d, v_stride, reinterpret_cast<const int32_t *>(idx), k,
             reinterpret_cast<const void *>(A), reinterpret_cast<const void *>(G), memoir::DeviceDtype(a_dtype),
             memoir::DeviceDtype(g_dtype), n, scale, reinterpret_cast<float *>(partial), reinterpret_cast<float *>(squared)},
            device, reinterpret_cast<void *>(stream));
    }
    if (failure != nullptr) throw std::runtime_error(std::string("masked_scatter_: CUDA says ") + failure);
}

}  // namespace

PYBIND11_MODULE(_cuda, m) {
    m.doc() = "The CUDA scatter of memoir_fast.";
    m.def("blocks", &memoir::scatter_blocks);
    m.def("masked_scatter", &scatter);
}
