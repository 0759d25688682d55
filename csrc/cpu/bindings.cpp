// Python's way to the kernels: every check with a message, the SIMD level, how work is split, and the GIL released.
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "kernels.h"
#include "pool.h"

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
    if (chosen()->in_range(values, count, high)) return;
    const auto range = std::minmax_element(values, values + count);
    throw py::value_error(std::string(name) + " must be in [0, " + std::to_string(high - 1) + "], got values " +
                          std::to_string(*range.first) + ".." + std::to_string(*range.second));
}

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

template <class T>
T *pointer(uintptr_t address) {
    return reinterpret_cast<T *>(address);
}

// How many threads work of so many bytes is worth, at most `threads`: a part takes tens of microseconds at least.
int64_t parts_for(int64_t bytes, int threads) {
    return std::max<int64_t>(1, std::min<int64_t>(threads, bytes / (256 << 10)));
}

void tophash(uintptr_t features, int dtype, int64_t batch, int64_t dimension, int64_t stride, uintptr_t background,
             uintptr_t permutation, int64_t k, uintptr_t indices, uintptr_t signature, int threads,
             const std::string &name) {
    require(k >= 1 && k <= dimension, "k must be in [1, " + std::to_string(dimension) + "], got " + std::to_string(k));
    check_indices("permutation", pointer<const int32_t>(permutation), dimension, dimension);
    const int64_t parts = std::min(batch, parts_for(16 * batch * dimension, threads));
    std::vector<int64_t> found(size_t(parts), -1);  // the first bad row of each part
    {
        py::gil_scoped_release unlocked;
        const int64_t width = (dimension + 7) / 8, padded = (dimension + 63) / 64 * 64;
        in_parts(parts, [&](int64_t p) {
            const int64_t first = batch * p / parts, count = batch * (p + 1) / parts - first;
            std::unique_ptr<uint32_t[]> keys(new uint32_t[size_t(padded + dimension)]);  // not zeroed
            std::unique_ptr<uint8_t[]> marks(new uint8_t[size_t(padded)]);
            const auto *rows = pointer<const char>(features) + first * stride * (dtype == 0 ? 4 : 2);
            const int64_t bad = chosen()->tophash({rows, dtype_of(dtype), count, dimension, stride, pointer<const float>(background),
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

constexpr int64_t few = 4;  // up to so many rows with one mask stream V once; more are a matter for a matrix product

// The rows `row_at` of out (=, +=) scale * x[:, idx] @ V[idx]; each thread takes a part of the mask and its own sums.
void few_rows(PackColumns pack, Product whole, Emit emit, int threads) {
    const Kernels *level = chosen();
    const int64_t bytes = whole.k * whole.d * (whole.dtype == Dtype::f32 ? 4 : 2);
    const int64_t parts = parts_for(bytes, threads);
    const int64_t size = whole.rows * whole.d;
    std::vector<float> packed(size_t(whole.rows * whole.k)), sums(size_t(parts * size), 0.0f);
    pack.packed = packed.data();
    level->pack_columns(pack);
    in_parts(parts, [&](int64_t p) {
        Product part = whole;
        const int64_t first = whole.k * p / parts;
        part.k = whole.k * (p + 1) / parts - first;
        part.x = packed.data() + first;
        part.idx += first;
        part.sums = sums.data() + p * size;
        level->product(part);
    });
    for (int64_t p = 1; p < parts; ++p)
        for (int64_t i = 0; i < size; ++i) sums[size_t(i)] += sums[size_t(p * size + i)];
    emit.sums = sums.data();
    level->emit(emit);
}

// The masked product of all rows whose mask is shared by few rows. `order` (rows) receives the rows sorted by mask; the
// masks shared by more rows are returned as (mask, first place in order, count), for the caller to multiply.
py::list masked_matmul(uintptr_t x, int x_dtype, int64_t x_stride, int64_t rows, int64_t dimension, uintptr_t V, int v_dtype,
                       int64_t v_stride, int64_t d, uintptr_t indices, int64_t masks, int64_t k, uintptr_t route, float scale,
                       uintptr_t out, int out_dtype, int64_t out_stride, bool add, uintptr_t order, int threads) {
    const auto *idx = pointer<const int32_t>(indices), *lines = pointer<const int32_t>(route);
    auto *sorted = pointer<int64_t>(order);
    check_indices("indices", idx, masks * k, dimension);
    require(v_dtype == 0 || v_dtype == 1, "V must be float32 or bfloat16");
    // Place 0 is for route -1.
    std::vector<int64_t> ends(size_t(masks + 2), 0);
    for (int64_t row = 0; row < rows; ++row) {
        const int64_t line = lines[row];
        if (line < -1 || line >= masks)
            throw py::value_error("route must be in [-1, " + std::to_string(masks - 1) + "], got " + std::to_string(line) +
                                  " in row " + std::to_string(row));
        ++ends[size_t(line + 2)];
    }
    for (int64_t line = 0; line <= masks; ++line) ends[size_t(line) + 1] += ends[size_t(line)];
    std::vector<int64_t> place(ends.begin(), ends.end() - 1);
    for (int64_t row = 0; row < rows; ++row) sorted[place[size_t(lines[row] + 1)]++] = row;
    py::list left;
    for (int64_t line = 0; line < masks; ++line) {
        const int64_t first = ends[size_t(line) + 1], count = ends[size_t(line) + 2] - first;
        if (count > few) left.append(py::make_tuple(line, first, count));
    }
    py::gil_scoped_release unlocked;
    if (!add && ends[1] > 0) {  // what is not routed is -0.0: adding it changes no bit
        std::vector<float> zeros(size_t(ends[1] * d), -0.0f);
        chosen()->emit({zeros.data(), ends[1], d, pointer<void>(out), dtype_of(out_dtype), out_stride, sorted, false});
    }
    for (int64_t line = 0; line < masks; ++line) {
        const int64_t first = ends[size_t(line) + 1], count = ends[size_t(line) + 2] - first;
        if (count == 0 || count > few) continue;
        const int32_t *mask = idx + line * k;
        few_rows({pointer<const void>(x), dtype_of(x_dtype), x_stride, sorted + first, count, mask, k, scale, nullptr},
                 {nullptr, count, k, pointer<const void>(V), dtype_of(v_dtype), v_stride, d, mask, k, nullptr},
                 {nullptr, count, d, pointer<void>(out), dtype_of(out_dtype), out_stride, sorted + first, add}, threads);
    }
    return left;
}

// What a matrix product takes: packed (rows, k) = scale * x[row_at][:, idx] and block (k, d) = V[idx], in float32.
void pack(uintptr_t x, int x_dtype, int64_t x_stride, uintptr_t row_at, int64_t rows, uintptr_t V, int v_dtype, int64_t v_stride,
          int64_t d, uintptr_t idx, int64_t k, float scale, uintptr_t packed, uintptr_t block, int threads) {
    py::gil_scoped_release unlocked;
    const int64_t parts = parts_for(4 * k * (rows + d), threads);
    in_parts(parts, [&](int64_t p) {
        const int64_t row = rows * p / parts, some = rows * (p + 1) / parts - row;
        chosen()->pack_columns({pointer<const void>(x), dtype_of(x_dtype), x_stride, pointer<const int64_t>(row_at) + row, some,
                                pointer<const int32_t>(idx), k, scale, pointer<float>(packed) + row * k});
        const int64_t first = k * p / parts, count = k * (p + 1) / parts - first;
        chosen()->pack_rows({pointer<const void>(V), dtype_of(v_dtype), v_stride, d, pointer<const int32_t>(idx) + first, count,
                             pointer<float>(block) + first * d});
    });
}

void emit(uintptr_t sums, int64_t rows, int64_t d, uintptr_t out, int dtype, int64_t stride, uintptr_t row_at, bool add) {
    py::gil_scoped_release unlocked;
    chosen()->emit({pointer<const float>(sums), rows, d, pointer<void>(out), dtype_of(dtype), stride,
                    pointer<const int64_t>(row_at), add});
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

// ---- looking signatures up -------------------------------------------------------------------------------------------

// The smallest distance and its row; of equal distances the lower row.
struct Nearest {
    int64_t distance = INT64_MAX, row = -1;
    void offer(int64_t other, int64_t at) {
        if (other < distance || (other == distance && at < row)) {
            distance = other;
            row = at;
        }
    }
};

constexpr int64_t block_rows = 256;

// Calls each(first row of a block, its distances, how many) over all codes, on `parts` threads; `part` tells them apart.
template <class Each>
void scan(const uint8_t *query, const uint8_t *codes, int64_t rows, int64_t width, int64_t parts, Each each) {
    const Kernels *level = chosen();
    in_parts(parts, [&](int64_t p) {
        uint16_t distances[block_rows];
        const int64_t end = rows * (p + 1) / parts;
        for (int64_t row = rows * p / parts; row < end; row += block_rows) {
            const int64_t some = std::min(block_rows, end - row);
            level->hamming({query, codes + row * width, some, width, width, distances});
            each(p, row, distances, some);
        }
    });
}

Nearest best_of(const std::vector<Nearest> &found) {
    Nearest best;
    for (const Nearest &one : found) best.offer(one.distance, one.row);
    return best;
}

// The nearest code of one query, over all of them.
Nearest nearest_of_all(const uint8_t *query, const uint8_t *codes, int64_t rows, int64_t width, int threads) {
    const int64_t parts = parts_for(rows * width, threads);
    std::vector<Nearest> found(static_cast<size_t>(parts));
    scan(query, codes, rows, width, parts, [&](int64_t p, int64_t row, const uint16_t *distances, int64_t some) {
        Nearest best = found[size_t(p)];
        for (int64_t i = 0; i < some; ++i) best.offer(distances[i], row + i);
        found[size_t(p)] = best;
    });
    return best_of(found);
}

// The nearest code among the `candidates` (or somewhat more) whose slices are nearest to the query's slice.
Nearest nearest_of_candidates(const uint8_t *query, const uint8_t *codes, const uint8_t *slices, int64_t rows, int64_t width,
                              int64_t slice, int64_t candidates, int threads) {
    const int64_t parts = parts_for(rows * slice, threads), values = 8 * slice + 1;
    std::vector<uint16_t> distances(static_cast<size_t>(rows));
    std::vector<int64_t> histogram(size_t(parts * values), 0);
    scan(query, slices, rows, slice, parts, [&](int64_t p, int64_t row, const uint16_t *some, int64_t count) {
        int64_t *mine = histogram.data() + p * values;
        for (int64_t i = 0; i < count; ++i) {
            distances[size_t(row + i)] = some[i];
            ++mine[some[i]];
        }
    });
    int64_t bound = -1;
    for (int64_t total = 0; bound + 1 < values && total < candidates;) {
        ++bound;
        for (int64_t p = 0; p < parts; ++p) total += histogram[size_t(p * values + bound)];
    }
    std::vector<Nearest> found(static_cast<size_t>(parts));
    const Kernels *level = chosen();
    in_parts(parts, [&](int64_t p) {
        Nearest best;
        uint16_t exact = 0;
        for (int64_t row = rows * p / parts; row < rows * (p + 1) / parts; ++row)
            if (distances[size_t(row)] <= bound) {
                level->hamming({query, codes + row * width, 1, width, width, &exact});
                best.offer(exact, row);
            }
        found[size_t(p)] = best;
    });
    return best_of(found);
}

// For each query its nearest code's row and distance. `slices` 0: all codes are compared; otherwise see above.
void hamming_nearest(uintptr_t queries, int64_t count, uintptr_t codes, uintptr_t slices, int64_t rows, int64_t width,
                     int64_t slice, int64_t candidates, uintptr_t out_rows, uintptr_t out_distances, int threads) {
    require(rows > 0 && width > 0 && width <= 8191, "codes must be rows of 1 to 8191 bytes");
    py::gil_scoped_release unlocked;
    for (int64_t q = 0; q < count; ++q) {
        const auto *query = pointer<const uint8_t>(queries) + q * width;
        const Nearest best =
            slices == 0 ? nearest_of_all(query, pointer<const uint8_t>(codes), rows, width, threads)
                        : nearest_of_candidates(query, pointer<const uint8_t>(codes), pointer<const uint8_t>(slices), rows, width,
                                                slice, candidates, threads);
        pointer<int64_t>(out_rows)[q] = best.row;
        pointer<int64_t>(out_distances)[q] = best.distance;
    }
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
    m.def("pool_name", &pool_name);
    m.def("set_pool", &set_pool);
    m.def("tophash", &tophash);
    m.def("pool", &pool);
    m.def("check_unique", &check_unique);
    m.def("masked_matmul", &masked_matmul);
    m.def("pack", &pack);
    m.def("emit", &emit);
    m.def("scatter", &scatter);
    m.def("hamming_nearest", &hamming_nearest);
}
