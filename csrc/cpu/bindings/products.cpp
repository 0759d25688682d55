// The masked products: with the memory's rows, or with blocks of them.
#include <vector>

#include "../pool.h"
#include "bindings.h"

namespace memoir {
namespace {

// Up to so many rows with one mask stream its weights once; more are a matter for a matrix product.
constexpr int64_t few = 8;

// The rows that a mask multiplies with: those of V (dimension, d) that its indices name, or its own block, which holds
// copies of them one after the other: blocks (masks, k, d).
struct Weights {
    const char *data;
    Dtype dtype;
    int64_t stride, d;
    bool blocks;

    const void *row(int64_t at) const { return data + at * stride * bytes_of(dtype); }
};

// Rows `begin` .. `end` (less one) of a mask's rows.
Product part_of(const Product &whole, int64_t begin, int64_t end) {
    Product part = whole;
    part.k = end - begin;
    part.x += begin;
    if (whole.idx != nullptr) part.idx += begin;
    else part.V = static_cast<const char *>(whole.V) + begin * whole.stride * bytes_of(whole.dtype);
    return part;
}

// The rows `row_at` of out (=, +=) scale * x[:, idx] @ V[idx]; each thread takes a part of the mask and its own sums.
void few_rows(PackColumns pack, Product whole, Emit emit, int threads) {
    const Kernels *level = chosen();
    const int64_t parts = parts_for(whole.k * whole.d * bytes_of(whole.dtype), threads);
    const int64_t size = whole.rows * whole.d;
    std::vector<float> packed(size_t(whole.rows * whole.k)), sums(size_t(parts * size), 0.0f);
    pack.packed = packed.data();
    level->pack_columns(pack);
    whole.x = packed.data();
    in_parts(parts, [&](int64_t p) {
        Product part = part_of(whole, whole.k * p / parts, whole.k * (p + 1) / parts);
        part.sums = sums.data() + p * size;
        level->product(part);
    });
    for (int64_t p = 1; p < parts; ++p)
        for (int64_t i = 0; i < size; ++i) sums[size_t(i)] += sums[size_t(p * size + i)];
    emit.sums = sums.data();
    level->emit(emit);
}

// Sorts the rows by mask into `order`. Returns where the rows of mask m begin, at [m + 1]: place 0 is for route -1.
std::vector<int64_t> sort_by_mask(const int32_t *route, int64_t rows, int64_t masks, int64_t *order) {
    std::vector<int64_t> ends(size_t(masks + 2), 0);
    for (int64_t row = 0; row < rows; ++row) {
        const int64_t line = route[row];
        if (line < -1 || line >= masks)
            throw py::value_error("route must be in [-1, " + std::to_string(masks - 1) + "], got " +
                                  std::to_string(line) + " in row " + std::to_string(row));
        ++ends[size_t(line + 2)];
    }
    for (int64_t line = 0; line <= masks; ++line) ends[size_t(line) + 1] += ends[size_t(line)];
    std::vector<int64_t> place(ends.begin(), ends.end() - 1);
    for (int64_t row = 0; row < rows; ++row) order[place[size_t(route[row] + 1)]++] = row;
    return ends;
}

// The product of all rows whose mask is shared by few rows, with V (blocks false: `weights` is (dimension, d)) or with
// blocks (`weights` is (masks * k, d)). `order` (rows) receives the rows sorted by mask; the masks shared by more rows are
// returned as (mask, first place in order, count), for the caller to multiply.
py::list product(uintptr_t x, int x_dtype, int64_t x_stride, int64_t rows, int64_t dimension, uintptr_t weights, int w_dtype,
                 int64_t w_stride, int64_t d, bool blocks, uintptr_t indices, int64_t masks, int64_t k, uintptr_t route,
                 float scale, uintptr_t out, int out_dtype, int64_t out_stride, bool add, uintptr_t order, int threads) {
    const auto *idx = pointer<const int32_t>(indices);
    auto *sorted = pointer<int64_t>(order);
    const Weights w = {pointer<const char>(weights), dtype_of(w_dtype), w_stride, d, blocks};
    const Dtype kind = dtype_of(x_dtype), out_kind = dtype_of(out_dtype);
    check_indices("indices", idx, masks * k, dimension);
    require(w.dtype != Dtype::f16, std::string(blocks ? "blocks" : "V") + " must be float32 or bfloat16");
    const std::vector<int64_t> ends = sort_by_mask(pointer<const int32_t>(route), rows, masks, sorted);
    py::list left;
    for (int64_t line = 0; line < masks; ++line) {
        const int64_t first = ends[size_t(line) + 1], count = ends[size_t(line) + 2] - first;
        if (count > few) left.append(py::make_tuple(line, first, count));
    }
    py::gil_scoped_release unlocked;
    if (!add && ends[1] > 0) {  // what is not routed is -0.0: adding it changes no bit
        std::vector<float> zeros(size_t(ends[1] * d), -0.0f);
        chosen()->emit({zeros.data(), ends[1], d, pointer<void>(out), out_kind, out_stride, sorted, false});
    }
    for (int64_t line = 0; line < masks; ++line) {
        const int64_t first = ends[size_t(line) + 1], count = ends[size_t(line) + 2] - first;
        if (count == 0 || count > few) continue;
        const int32_t *mask = idx + line * k;
        const void *V = w.row(blocks ? line * k : 0);
        few_rows({pointer<const void>(x), kind, x_stride, sorted + first, count, mask, k, scale, nullptr},
                 {nullptr, count, k, V, w.dtype, w.stride, d, blocks ? nullptr : mask, k, nullptr},
                 {nullptr, count, d, pointer<void>(out), out_kind, out_stride, sorted + first, add}, threads);
    }
    return left;
}

// What a matrix product takes, in float32: packed (rows, k) = scale * x[row_at][:, idx], and block (k, d), the rows of the
// weights that idx names or, with blocks, their first k rows. An address of 0 for `block` leaves that out.
void pack(uintptr_t x, int x_dtype, int64_t x_stride, uintptr_t row_at, int64_t rows, uintptr_t weights, int w_dtype,
          int64_t w_stride, int64_t d, bool blocks, uintptr_t idx, int64_t k, float scale, uintptr_t packed, uintptr_t block,
          int threads) {
    const Weights w = {pointer<const char>(weights), dtype_of(w_dtype), w_stride, d, blocks};
    const Dtype kind = dtype_of(x_dtype);
    py::gil_scoped_release unlocked;
    const int64_t parts = parts_for(4 * k * (rows + (block == 0 ? 0 : d)), threads);
    in_parts(parts, [&](int64_t p) {
        const int64_t row = rows * p / parts, some = rows * (p + 1) / parts - row;
        chosen()->pack_columns({pointer<const void>(x), kind, x_stride, pointer<const int64_t>(row_at) + row, some,
                                pointer<const int32_t>(idx), k, scale, pointer<float>(packed) + row * k});
        if (block == 0) return;
        const int64_t first = k * p / parts, count = k * (p + 1) / parts - first;
        const int32_t *mask = blocks ? nullptr : pointer<const int32_t>(idx) + first;
        const void *V = w.row(blocks ? first : 0);
        chosen()->pack_rows({V, w.dtype, w.stride, d, mask, count, pointer<float>(block) + first * d});
    });
}

// The rows `row_at` of out (=, +=) sums (rows, d), rounded to out's type.
void emit(uintptr_t sums, int64_t rows, int64_t d, uintptr_t out, int dtype, int64_t stride, uintptr_t row_at, bool add) {
    py::gil_scoped_release unlocked;
    chosen()->emit({pointer<const float>(sums), rows, d, pointer<void>(out), dtype_of(dtype), stride,
                    pointer<const int64_t>(row_at), add});
}

}  // namespace

void bind_products(py::module_ &m) {
    m.def("product", &product);
    m.def("pack", &pack);
    m.def("emit", &emit);
}

}  // namespace memoir
