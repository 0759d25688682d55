// The extension module memoir_fast.ops._C.
#include "bindings.h"

PYBIND11_MODULE(_C, m) {
    m.doc() = "CPU kernels of memoir_fast; called by memoir_fast/ops/cpu.py with checked pointers.";
    memoir::bind_levels(m);
    memoir::bind_tophash(m);
    memoir::bind_products(m);
    memoir::bind_scatter(m);
    memoir::bind_hamming(m);
    memoir::bind_pairs(m);
    memoir::bind_candidates(m);
}
