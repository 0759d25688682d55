// The contract of the CPU kernels: plain pointers, sizes and strides. They know neither Python nor torch; bindings/
// owns every check. Strides count elements. One table of functions per SIMD level, all built from kernels.inl.
#pragma once
#include <cstdint>

#include "pairs.h"

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
    uint32_t *keys;              // scratch: (dimension rounded up to 64, and dimension)
    uint8_t *marks;              // scratch: (dimension rounded up to 64)
};

struct Pool {
    const void *tokens;          // (n, dimension), rows `stride` apart
    Dtype dtype;
    int64_t dimension, stride, segments;
    const int32_t *ends;         // (segments + 1), ascending from 0
    float *means;                // out: (segments, dimension)
};

// packed (rows, k) = scale * x[row_at][:, idx], in float32.
struct PackColumns {
    const void *x;               // rows `stride` apart
    Dtype dtype;
    int64_t stride;
    const int64_t *row_at;       // (rows)
    int64_t rows;
    const int32_t *idx;          // (k)
    int64_t k;
    float scale;
    float *packed;               // out
};

// packed (k, d) = V[idx], in float32; the first k rows of V without an idx.
struct PackRows {
    const void *V;               // rows `stride` apart
    Dtype dtype;                 // f32 or bf16
    int64_t stride, d;
    const int32_t *idx;          // (k), or null
    int64_t k;
    float *packed;               // out
};

// sums (rows, d) += x @ V[idx], for a few rows that share a mask; the first k rows of V without an idx.
struct Product {
    const float *x;              // (rows, row_stride): packed columns
    int64_t rows, row_stride;
    const void *V;               // rows `stride` apart
    Dtype dtype;                 // f32 or bf16
    int64_t stride, d;
    const int32_t *idx;          // (k), or null
    int64_t k;
    float *sums;                 // in and out: (rows, d)
};

// out[row_at] = sums, or += sums.
struct Emit {
    const float *sums;           // (rows, d)
    int64_t rows, d;
    void *out;                   // rows `stride` apart
    Dtype dtype;
    int64_t stride;
    const int64_t *row_at;       // (rows)
    bool add;
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

// distances[i] = how many bits of the query and of code i differ, for `rows` codes `stride` bytes apart.
struct Hamming {
    const uint8_t *query;        // (width) bytes
    const uint8_t *codes;
    int64_t rows, stride, width;
    uint16_t *distances;         // out; width is at most 8191 bytes
};

// totals[b] = the sum of the words' weights, each with the sign of bit b of its code: + for 1, - for 0.
struct SumCodes {
    const uint64_t *code;        // (words, width)
    const float *weight;         // (words)
    const uint8_t *coded;        // (words) 0 or 1: whether the code counts
    int64_t words, width;
    float *totals;               // out: (64 * width), summed in the words' order
};

struct Kernels {
    const char *name;
    bool (*runs_here)();  // whether this CPU has every feature that the level was compiled for
    bool (*in_range)(const int32_t *values, int64_t count, int64_t high);  // all in 0..high-1
    // -1; or the first row with a NaN or an infinity; or `batch` when the permutation repeats a value
    int64_t (*tophash)(const TopHash &);
    void (*pool)(const Pool &);
    void (*pack_columns)(const PackColumns &);
    void (*pack_rows)(const PackRows &);
    void (*product)(const Product &);
    void (*emit)(const Emit &);
    double (*scatter)(const Scatter &);
    void (*hamming)(const Hamming &);
    void (*pair_features)(const PairFeatures &);
    void (*sum_codes)(const SumCodes &);
};

extern const Kernels scalar_kernels, avx2_kernels, avx512_kernels;

}  // namespace memoir
