// An edit's update, written into the memory.
#include <vector>

#include "../pool.h"
#include "bindings.h"

namespace memoir {
namespace {

void check_unique(uintptr_t idx, int64_t k, int64_t dimension) {
    const auto *values = reinterpret_cast<const int32_t *>(idx);
    check_indices("idx", values, k, dimension);
    std::vector<bool> seen(size_t(dimension), false);
    int64_t repeats = 0;
    for (int64_t j = 0; j < k; ++j) {
        repeats += seen[size_t(values[j])];
        seen[size_t(values[j])] = true;
    }
    require(repeats == 0, "idx must not repeat an index, got " + std::to_string(repeats) + " repeats");
}

double scatter(uintptr_t V, int v_dtype, int64_t d, int64_t v_stride, uintptr_t idx, int64_t k, uintptr_t update, float scale,
               int threads) {
    require(v_dtype == 0 || v_dtype == 1, "V must be float32 or bfloat16");
    py::gil_scoped_release unlocked;
    const int64_t parts = parts_for(4 * k * d, threads);
    std::vector<double> totals(size_t(parts), 0.0);
    in_parts(parts, [&](int64_t p) {
        const int64_t first = k * p / parts, count = k * (p + 1) / parts - first;
        totals[size_t(p)] = chosen()->scatter({pointer<void>(V), dtype_of(v_dtype), d, v_stride,
                                               pointer<const int32_t>(idx) + first, count,
                                               pointer<const float>(update) + first * d, scale});
    });
    double total = 0;
    for (double part : totals) total += part;
    return total;
}

}  // namespace

void bind_scatter(py::module_ &m) {
    m.def("check_unique", &check_unique);
    m.def("scatter", &scatter);
}

}  // namespace memoir
