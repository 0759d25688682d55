// Python's way to the kernels: every check with a message, the SIMD level, the threads, and the GIL released.
//
// Threads. Torch brings its own OpenMP runtime; a second one beside it (ours) keeps its workers spinning after each call
// and takes the cores from torch's next one. So the kernels use no OpenMP runtime: where more than one thread pays, plain
// std::threads are started for the call (tens of microseconds against milliseconds of work) and nothing is left behind.
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "kernels.h"

namespace py = pybind11;
using namespace memoir;

namespace {

std::vector<const Kernels *> supported() {
    std::vector<const Kernels *> levels = {&scalar_kernels};
#if defined(__x86_64__) || defined(__i386__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) levels.push_back(&avx2_kernels);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        levels.push_back(&avx512_kernels);
#endif
    return levels;
}

std::string names() {
    std::string text;
    for (const Kernels *level : supported()) text += (text.empty() ? "" : ", ") + std::string(level->name);
    return text;
}

const Kernels *choose() {
    const char *asked = std::getenv("MEMOIR_FAST_SIMD");
    if (asked == nullptr || *asked == 0) return supported().back();
    for (const Kernels *level : supported())
        if (std::string(level->name) == asked) return level;
    throw py::value_error("MEMOIR_FAST_SIMD must be one of " + names() + " on this CPU, got '" + asked + "'");
}

const Kernels *&chosen() {
    static const Kernels *level = choose();
    return level;
}

void set_level(const std::string &name) {
    for (const Kernels *level : supported())
        if (name == level->name) {
            chosen() = level;
            return;
        }
    throw py::value_error("SIMD level must be one of " + names() + " on this CPU, got '" + name + "'");
}

void require(bool condition, const std::string &message) {
    if (!condition) throw py::value_error(message);
}

Dtype dtype_of(int code) {
    require(code >= 0 && code <= 2, "dtype code must be 0, 1 or 2, got " + std::to_string(code));
    return static_cast<Dtype>(code);
}

void check_indices(const char *name, const int32_t *values, int64_t count, int64_t high) {
    int32_t least = 0, most = 0;
    for (int64_t i = 0; i < count; ++i) {
        least = std::min(least, values[i]);
        most = std::max(most, values[i]);
    }
    require(count == 0 || (least >= 0 && most < high),
            std::string(name) + " must be in [0, " + std::to_string(high - 1) + "], got values " + std::to_string(least) +
                ".." + std::to_string(most));
}

template <class T>
T *pointer(uintptr_t address) {
    return reinterpret_cast<T *>(address);
}

void tophash(uintptr_t features, int dtype, int64_t batch, int64_t dimension, int64_t stride, uintptr_t background,
             uintptr_t permutation, int64_t k, uintptr_t indices, uintptr_t signature) {
    require(k >= 1 && k <= dimension, "k must be in [1, " + std::to_string(dimension) + "], got " + std::to_string(k));
    check_indices("permutation", pointer<const int32_t>(permutation), dimension, dimension);
    int64_t bad;
    {
        py::gil_scoped_release unlocked;
        std::vector<uint32_t> keys(size_t(2 * dimension));
        std::vector<uint64_t> bits(size_t((dimension + 63) / 64));
        bad = chosen()->tophash({pointer<const void>(features), dtype_of(dtype), batch, dimension, stride,
                                 pointer<const float>(background), pointer<const int32_t>(permutation), k,
                                 pointer<int32_t>(indices), pointer<uint8_t>(signature), keys.data(), bits.data()});
    }
    require(bad < 0, "features holds NaN or infinity in row " + std::to_string(bad));
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

// sums (rows, d) = x[:, idx] @ V[idx]; each thread takes a part of the mask and its own sums.
void product(uintptr_t x, int x_dtype, int64_t rows, int64_t x_stride, uintptr_t V, int v_dtype, int64_t dimension, int64_t d,
             int64_t v_stride, uintptr_t idx, int64_t k, uintptr_t sums, int threads) {
    check_indices("indices", pointer<const int32_t>(idx), k, dimension);
    require(v_dtype == 0 || v_dtype == 1, "V must be float32 or bfloat16");
    py::gil_scoped_release unlocked;
    Product whole = {pointer<const void>(x), dtype_of(x_dtype), rows, x_stride, pointer<const void>(V), dtype_of(v_dtype), d,
                     v_stride, pointer<const int32_t>(idx), k, pointer<float>(sums)};
    const int64_t bytes = k * d * (v_dtype == 0 ? 4 : 2);
    const int64_t parts = std::max<int64_t>(1, std::min<int64_t>(threads, bytes >> 22));  // 4 MB a thread at least
    std::fill(whole.sums, whole.sums + rows * d, 0.0f);
    if (parts == 1) return chosen()->product(whole);
    std::vector<std::vector<float>> extra(size_t(parts - 1));
    std::vector<std::thread> workers;
    const Kernels *level = chosen();
    for (int64_t p = 1; p < parts; ++p) {
        extra[size_t(p - 1)].assign(size_t(rows * d), 0.0f);
        Product part = whole;
        part.idx += k * p / parts;
        part.k = k * (p + 1) / parts - k * p / parts;
        part.sums = extra[size_t(p - 1)].data();
        workers.emplace_back([part, level] { level->product(part); });
    }
    whole.k = k / parts;
    level->product(whole);
    for (size_t p = 0; p < workers.size(); ++p) {
        workers[p].join();
        for (int64_t i = 0; i < rows * d; ++i) whole.sums[i] += extra[p][size_t(i)];
    }
}

double scatter(uintptr_t V, int v_dtype, int64_t dimension, int64_t d, int64_t v_stride, uintptr_t idx, int64_t k,
               uintptr_t update, float scale, int threads) {
    check_indices("idx", pointer<const int32_t>(idx), k, dimension);
    require(v_dtype == 0 || v_dtype == 1, "V must be float32 or bfloat16");
    py::gil_scoped_release unlocked;
    const Scatter whole = {pointer<void>(V), dtype_of(v_dtype), d, v_stride, pointer<const int32_t>(idx), k,
                           pointer<const float>(update), scale};
    const int64_t parts = std::max<int64_t>(1, std::min<int64_t>(threads, k * d >> 19));
    std::vector<double> totals(size_t(parts), 0.0);
    std::vector<std::thread> workers;
    const Kernels *level = chosen();
    auto run = [&whole, &totals, level, parts](int64_t p) {
        Scatter part = whole;
        const int64_t first = whole.k * p / parts;
        part.k = whole.k * (p + 1) / parts - first;
        part.idx += first;
        part.update += first * whole.d;
        totals[size_t(p)] = level->scatter(part);
    };
    for (int64_t p = 1; p < parts; ++p) workers.emplace_back(run, p);
    run(0);
    for (auto &worker : workers) worker.join();
    double total = 0;
    for (double part : totals) total += part;
    return total;
}

}  // namespace

PYBIND11_MODULE(_C, m) {
    m.doc() = "CPU kernels of memoir_fast; called by memoir_fast/_cpu.py with checked pointers.";
    m.def("level", [] { return chosen()->name; });
    m.def("set_level", &set_level);
    m.def("levels", [] {
        py::list found;
        for (const Kernels *level : supported()) found.append(level->name);
        return found;
    });
    m.def("tophash", &tophash);
    m.def("pool", &pool);
    m.def("product", &product);
    m.def("scatter", &scatter);
}
