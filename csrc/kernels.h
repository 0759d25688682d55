// The contract of the CPU kernels: plain pointers, sizes and strides. They know neither Python nor torch; bindings.cpp
// owns every check. Strides count elements. One table of functions per SIMD level, all built from kernels.inl.
#pragma once
#include <cstdint>

namespace memoir {

enum class Dtype : int { f32 = 0, bf16 = 1, f16 = 2 };

struct TopHash {
    const void *features;        // (batch, dimension), rows `stride` apart
    Dtype dtype;                 // of the features
    int64_t batch, dimension, stride;
    const float *background;     // (dimension)
    const int32_t *permutation;  // (dimension), a permutation of 0..dimension-1
    int64_t k;                   // 1..dimension
    int32_t *indices;            // out: (batch, k) ascending
    uint8_t *signature;          // out: (batch, ceil(dimension / 8)), little-endian
    uint32_t *keys;              // scratch: (2 * dimension)
    uint64_t *bits;              // scratch: (ceil(dimension / 64))
};

struct Pool {
    const void *tokens;          // (n, dimension), rows `stride` apart
    Dtype dtype;
    int64_t dimension, stride, segments;
    const int32_t *ends;         // (segments + 1), ascending from 0
    float *means;                // out: (segments, dimension)
};

// `rows` of x against the rows `idx` of V, one mask for all of them: sums (rows, d) in float32, not scaled.
struct Product {
    const void *x;               // (rows, dimension), rows `x_stride` apart
    Dtype x_dtype;
    int64_t rows, x_stride;
    const void *V;               // (dimension, d), rows `v_stride` apart
    Dtype v_dtype;               // f32 or bf16
    int64_t d, v_stride;
    const int32_t *idx;          // (k)
    int64_t k;
    float *sums;                 // out: (rows, d), zeroed by the caller
};

// V[idx] += scale * update; returns the sum of the squares of `update` (before the scale).
struct Scatter {
    void *V;                     // (dimension, d), rows `v_stride` apart
    Dtype v_dtype;               // f32 or bf16
    int64_t d, v_stride;
    const int32_t *idx;          // (k), no repeats
    int64_t k;
    const float *update;         // (k, d), contiguous
    float scale;
};

struct Kernels {
    const char *name;
    int64_t (*tophash)(const TopHash &);  // -1, or the first row with a NaN or an infinity
    void (*pool)(const Pool &);
    void (*product)(const Product &);
    double (*scatter)(const Scatter &);
};

extern const Kernels scalar_kernels, avx2_kernels, avx512_kernels;

}  // namespace memoir
