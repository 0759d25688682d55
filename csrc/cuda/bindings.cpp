// Python's way to the CUDA scatter; called by memoir_fast/ops/gpu.py with checked device pointers.
#include <pybind11/pybind11.h>

#include <stdexcept>
#include <string>

#include "masked_scatter.h"

namespace {

void scatter(uintptr_t V, int v_dtype, int64_t d, int64_t v_stride, uintptr_t idx, int64_t k, uintptr_t P, float scale,
             uintptr_t partial, uintptr_t squared, int device, uintptr_t stream) {
    if (v_dtype != 0 && v_dtype != 1) throw pybind11::value_error("v_dtype must be 0 or 1, got " + std::to_string(v_dtype));
    const char *failure;
    {
        pybind11::gil_scoped_release unlocked;
        failure = memoir::masked_scatter(
            {reinterpret_cast<void *>(V), memoir::DeviceDtype(v_dtype), d, v_stride, reinterpret_cast<const int32_t *>(idx), k,
             reinterpret_cast<const float *>(P), scale, reinterpret_cast<float *>(partial), reinterpret_cast<float *>(squared)},
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
