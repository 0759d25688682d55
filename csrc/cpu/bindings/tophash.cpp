// TopHash and the means of token segments.
#include <memory>
#include <vector>

#include "../pool.h"
#include "bindings.h"

namespace memoir {
namespace {

void tophash(uintptr_t features, int dtype, int64_t batch, int64_t dimension, int64_t stride, uintptr_t background,
             uintptr_t permutation, int64_t k, uintptr_t indices, uintptr_t signature, int threads,
             const std::string &name) {
    require(k >= 1 && k <= dimension, "k must be in [1, " + std::to_string(dimension) + "], got " + std::to_string(k));
    check_indices("permutation", pointer<const int32_t>(permutation), dimension, dimension);
    const Dtype kind = dtype_of(dtype);
    const int64_t parts = std::min(batch, parts_for(16 * batch * dimension, threads));
    std::vector<int64_t> found(size_t(parts), -1);  // the first bad row of each part
    {
        py::gil_scoped_release unlocked;
        const int64_t width = (dimension + 7) / 8, padded = (dimension + 63) / 64 * 64;
        in_parts(parts, [&](int64_t p) {
            const int64_t first = batch * p / parts, count = batch * (p + 1) / parts - first;
            std::unique_ptr<uint32_t[]> keys(new uint32_t[size_t(padded + dimension)]);  // not zeroed
            std::unique_ptr<uint8_t[]> marks(new uint8_t[size_t(padded)]);
            const auto *rows = pointer<const char>(features) + first * stride * bytes_of(kind);
            const int64_t bad = chosen()->tophash({rows, kind, count, dimension, stride, pointer<const float>(background),
                                                   pointer<const int32_t>(permutation), k, pointer<int32_t>(indices) + first * k,
                                                   pointer<uint8_t>(signature) + first * width, keys.get(), marks.get()});
            if (bad >= 0) found[size_t(p)] = bad == count ? batch : first + bad;
        });
    }
    int64_t bad = -1;
    for (int64_t p = parts; p-- > 0;) bad = found[size_t(p)] >= 0 ? found[size_t(p)] : bad;
    if (bad < 0) return;
    require(bad < batch, "permutation must hold each of 0.." + std::to_string(dimension - 1) + " once, got repeats");
    throw py::value_error(name + " less background holds NaN or infinity in row " + std::to_string(bad));
}

void pool(uintptr_t tokens, int dtype, int64_t count, int64_t dimension, int64_t stride, int64_t segments, uintptr_t ends,
          uintptr_t means) {
    const auto *bounds = pointer<const int32_t>(ends);
    for (int64_t s = 0; s < segments; ++s)
        require(bounds[s] < bounds[s + 1], "cu_seqlens: segment " + std::to_string(s) + " holds no token");
    require(segments == 0 || (bounds[0] == 0 && bounds[segments] == count),
            "cu_seqlens must run from 0 to " + std::to_string(count) + ", the number of tokens");
    py::gil_scoped_release unlocked;
    chosen()->pool({pointer<const void>(tokens), dtype_of(dtype), dimension, stride, segments, bounds, pointer<float>(means)});
}

}  // namespace

void bind_tophash(py::module_ &m) {
    m.def("tophash", &tophash);
    m.def("pool", &pool);
}

}  // namespace memoir
