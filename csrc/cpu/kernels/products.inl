// The product of a few columns of x with rows of the memory, and what it is made of.
// Included by kernels.inl, once per SIMD level, inside the level's namespace.

template <class T>
void pack_columns_of(const PackColumns &a) {
    for (int64_t row = 0; row < a.rows; ++row) {
        const auto *x = static_cast<const typename T::Storage *>(a.x) + a.row_at[row] * a.stride;
        float *packed = a.packed + row * a.k;
        for (int64_t j = 0; j < a.k; ++j) packed[j] = a.scale * T::load(x[a.idx[j]]);
    }
}

void pack_columns(const PackColumns &a) {
    switch (a.dtype) {
        case Dtype::f32: return pack_columns_of<F32>(a);
        case Dtype::bf16: return pack_columns_of<BF16>(a);
        default: return pack_columns_of<F16>(a);
    }
}

// Which row of V is row j of a mask: without an idx, V holds the mask's rows themselves, one after the other.
inline int64_t row_of(const int32_t *idx, int64_t j) { return idx == nullptr ? j : idx[j]; }

template <class T>
void pack_rows_of(const PackRows &a) {
    for (int64_t j = 0; j < a.k; ++j) {
        const auto *v = static_cast<const typename T::Storage *>(a.V) + row_of(a.idx, j) * a.stride;
        float *packed = a.packed + j * a.d;
#pragma omp simd
        for (int64_t c = 0; c < a.d; ++c) packed[c] = T::load(v[c]);
    }
}

void pack_rows(const PackRows &a) { a.dtype == Dtype::f32 ? pack_rows_of<F32>(a) : pack_rows_of<BF16>(a); }

// Columns are taken in tiles so that the sums of all rows stay in the first-level cache; V is read once, four of its rows
// at a time: four streams keep the memory busier than one, and a sum is loaded and stored once for four products.
// (Software prefetching of the next four rows was measured and made it slower.)
template <class T>
void product_rows(const Product &a) {
    const int64_t tile = a.rows == 1 ? a.d : (a.rows == 2 ? 2048 : 512);
    const auto *V = static_cast<const typename T::Storage *>(a.V);
    for (int64_t start = 0; start < a.d; start += tile) {
        const int64_t width = a.d - start < tile ? a.d - start : tile;
        int64_t j = 0;
        for (; j + 4 <= a.k; j += 4) {
            const auto *v0 = V + row_of(a.idx, j) * a.stride + start, *v1 = V + row_of(a.idx, j + 1) * a.stride + start;
            const auto *v2 = V + row_of(a.idx, j + 2) * a.stride + start, *v3 = V + row_of(a.idx, j + 3) * a.stride + start;
            for (int64_t row = 0; row < a.rows; ++row) {
                const float *x = a.x + row * a.row_stride + j;
                const float x0 = x[0], x1 = x[1], x2 = x[2], x3 = x[3];
                float *sums = a.sums + row * a.d + start;
#pragma omp simd
                for (int64_t c = 0; c < width; ++c)
                    sums[c] += x0 * T::load(v0[c]) + x1 * T::load(v1[c]) + x2 * T::load(v2[c]) + x3 * T::load(v3[c]);
            }
        }
        for (; j < a.k; ++j) {
            const typename T::Storage *v = V + row_of(a.idx, j) * a.stride + start;
            for (int64_t row = 0; row < a.rows; ++row) {
                const float x = a.x[row * a.row_stride + j];
                float *sums = a.sums + row * a.d + start;
#pragma omp simd
                for (int64_t c = 0; c < width; ++c) sums[c] += x * T::load(v[c]);
            }
        }
    }
}

void product(const Product &a) { a.dtype == Dtype::f32 ? product_rows<F32>(a) : product_rows<BF16>(a); }

template <class T>
void emit_rows(const Emit &a) {
    for (int64_t row = 0; row < a.rows; ++row) {
        const float *sums = a.sums + row * a.d;
        auto *out = static_cast<typename T::Storage *>(a.out) + a.row_at[row] * a.stride;
        if (a.add) {  // the sum is rounded to the output's type before it is added, as in the two-step form
#pragma omp simd
            for (int64_t c = 0; c < a.d; ++c) out[c] = T::store(T::load(out[c]) + T::load(T::store(sums[c])));
        } else {
#pragma omp simd
            for (int64_t c = 0; c < a.d; ++c) out[c] = T::store(sums[c]);
        }
    }
}

void emit(const Emit &a) {
    switch (a.dtype) {
        case Dtype::f32: return emit_rows<F32>(a);
        case Dtype::bf16: return emit_rows<BF16>(a);
        default: return emit_rows<F16>(a);
    }
}
