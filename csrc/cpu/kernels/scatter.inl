// An edit's update, written into the memory's rows.
// Included by kernels.inl, once per SIMD level, inside the level's namespace.

template <class T>
double scatter_rows(const Scatter &a) {
    double total = 0;
    for (int64_t j = 0; j < a.k; ++j) {
        auto *v = static_cast<typename T::Storage *>(a.V) + a.idx[j] * a.v_stride;
        const float *update = a.update + j * a.d;
        float squares = 0;  // one row in float, rows summed in double
#pragma omp simd reduction(+ : squares)
        for (int64_t c = 0; c < a.d; ++c) {
            squares += update[c] * update[c];
            v[c] = T::store(T::load(v[c]) + a.scale * update[c]);
        }
        total += double(squares);
    }
    return total;
}

double scatter(const Scatter &a) { return a.v_dtype == Dtype::f32 ? scatter_rows<F32>(a) : scatter_rows<BF16>(a); }
