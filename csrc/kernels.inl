// The CPU kernels, written once in portable C++ and compiled once per SIMD level: loops over contiguous floats that the
// compiler turns into the level's vector instructions. No library header is included below the target pragma: an inline
// function compiled for AVX-512 could otherwise be linked into code that runs on older CPUs.
#include <cstring>

#include "kernels.h"

#if defined(MEMOIR_TARGET) && (defined(__x86_64__) || defined(__i386__))
#define MEMOIR_STRING(x) #x
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target(MEMOIR_TARGET))), apply_to = function)
#else
#define MEMOIR_PRAGMA(x) _Pragma(MEMOIR_STRING(x))
#pragma GCC push_options
MEMOIR_PRAGMA(GCC target(MEMOIR_TARGET))
#endif
#endif

#define MEMOIR_JOIN2(a, b) a##b
#define MEMOIR_JOIN(a, b) MEMOIR_JOIN2(a, b)
#define MEMOIR_QUOTE2(x) #x
#define MEMOIR_QUOTE(x) MEMOIR_QUOTE2(x)

namespace memoir {
namespace MEMOIR_LEVEL {
namespace {

inline float from_bits(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline uint32_t to_bits(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

// Element types by their storage: load as float, store rounded to nearest even.
struct F32 {
    using Storage = float;
    static inline float load(float v) { return v; }
    static inline float store(float v) { return v; }
};

struct BF16 {
    using Storage = uint16_t;
    static inline float load(uint16_t v) { return from_bits(uint32_t(v) << 16); }
    static inline uint16_t store(float v) {
        const uint32_t bits = to_bits(v);
        const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
        return (bits & 0x7fffffffu) > 0x7f800000u ? uint16_t(0x7fc0) : uint16_t(rounded);
    }
};

struct F16 {
    using Storage = uint16_t;
    // Half to float by integer arithmetic, so that it needs no F16C: the exponent is rebiased by a multiplication,
    // which also makes subnormals right.
    static inline float load(uint16_t v) {
        const uint32_t magnitude = uint32_t(v & 0x7fffu) << 13;
        const float scaled = from_bits(magnitude) * 5.192296858534828e33f;  // 2^112
        const uint32_t special = (v & 0x7c00u) == 0x7c00u ? 0x7f800000u | magnitude : to_bits(scaled);
        return from_bits(special | (uint32_t(v & 0x8000u) << 16));
    }
};

// ---- tophash ---------------------------------------------------------------------------------------------------------

// |feature - background| as the bits of a non-negative float: these sort like the values. Returns the largest key.
template <class T>
uint32_t make_keys(const typename T::Storage *features, const float *background, int64_t n, uint32_t *keys) {
    uint32_t largest = 0;
#pragma omp simd reduction(max : largest)
    for (int64_t i = 0; i < n; ++i) {
        const uint32_t key = to_bits(T::load(features[i]) - background[i]) & 0x7fffffffu;
        keys[i] = key;
        largest = key > largest ? key : largest;
    }
    return largest;
}

// Which bucket, counted from the highest, holds the k-th largest; k becomes its rank within that bucket.
inline uint32_t bucket_of(const uint32_t *histogram, uint32_t buckets, int64_t &k) {
    uint32_t bucket = buckets;
    while (bucket-- > 0) {
        if (int64_t(histogram[bucket]) >= k) return bucket;
        k -= histogram[bucket];
    }
    return 0;  // not reached: the counts add up to at least k
}

// The k-th largest of n keys (31 bits) by radix select over 11, 10 and 10 bits. `rest` (n) is scratch. On return k is
// how many of the keys equal to the result belong to the k largest.
uint32_t kth_largest(const uint32_t *keys, int64_t n, int64_t &k, uint32_t *rest) {
    uint32_t histogram[4][2048];
    std::memset(histogram, 0, sizeof histogram);
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) {  // four tables: neighbouring keys often share a bucket, and would wait for each other
        ++histogram[0][keys[i] >> 20];
        ++histogram[1][keys[i + 1] >> 20];
        ++histogram[2][keys[i + 2] >> 20];
        ++histogram[3][keys[i + 3] >> 20];
    }
    for (; i < n; ++i) ++histogram[0][keys[i] >> 20];
    for (int b = 0; b < 2048; ++b) histogram[0][b] += histogram[1][b] + histogram[2][b] + histogram[3][b];
    uint32_t prefix = bucket_of(histogram[0], 2048, k);
    int64_t count = 0;
    for (i = 0; i < n; ++i) {
        rest[count] = keys[i];
        count += (keys[i] >> 20) == prefix;
    }
    for (int shift = 10; shift >= 0; shift -= 10) {
        std::memset(histogram[0], 0, 1024 * sizeof(uint32_t));
        for (i = 0; i < count; ++i) ++histogram[0][(rest[i] >> shift) & 1023u];
        prefix = prefix << 10 | bucket_of(histogram[0], 1024, k);
        int64_t kept = 0;
        for (i = 0; i < count; ++i) {
            const uint32_t key = rest[i];
            rest[kept] = key;
            kept += (key >> shift) == prefix;
        }
        count = kept;
    }
    return prefix;
}

template <class T>
int64_t tophash_rows(const TopHash &a) {
    const int64_t n = a.dimension, words = (n + 63) / 64, width = (n + 7) / 8;
    uint32_t *chosen = a.keys + n;
    for (int64_t row = 0; row < a.batch; ++row) {
        const auto *features = static_cast<const typename T::Storage *>(a.features) + row * a.stride;
        if (make_keys<T>(features, a.background, n, a.keys) >= 0x7f800000u) return row;
        int64_t ties = a.k;
        const uint32_t bound = kth_largest(a.keys, n, ties, chosen);
        int64_t count = 0;
        for (int64_t i = 0; i < n; ++i) {  // ascending i: of equal keys the lower index is taken
            const bool tie = a.keys[i] == bound && ties > 0;
            ties -= tie;
            chosen[count] = uint32_t(a.permutation[i]);
            count += a.keys[i] > bound || tie;
        }
        std::memset(a.bits, 0, size_t(words) * 8);
        for (int64_t j = 0; j < count; ++j) a.bits[chosen[j] >> 6] |= uint64_t(1) << (chosen[j] & 63u);
        int32_t *indices = a.indices + row * a.k;  // reading the bits in order sorts the indices
        for (int64_t word = 0; word < words; ++word)
            for (uint64_t bits = a.bits[word]; bits; bits &= bits - 1)
                *indices++ = int32_t(word * 64 + __builtin_ctzll(bits));
        uint8_t *signature = a.signature + row * width;
        for (int64_t byte = 0; byte < width; ++byte) signature[byte] = uint8_t(a.bits[byte >> 3] >> (8 * (byte & 7)));
    }
    return -1;
}

int64_t tophash(const TopHash &a) {
    switch (a.dtype) {
        case Dtype::f32: return tophash_rows<F32>(a);
        case Dtype::bf16: return tophash_rows<BF16>(a);
        default: return tophash_rows<F16>(a);
    }
}

template <class T>
void pool_rows(const Pool &a) {
    for (int64_t s = 0; s < a.segments; ++s) {
        float *mean = a.means + s * a.dimension;
        std::memset(mean, 0, size_t(a.dimension) * sizeof(float));
        for (int64_t t = a.ends[s]; t < a.ends[s + 1]; ++t) {
            const auto *token = static_cast<const typename T::Storage *>(a.tokens) + t * a.stride;
#pragma omp simd
            for (int64_t c = 0; c < a.dimension; ++c) mean[c] += T::load(token[c]);
        }
        const float length = float(a.ends[s + 1] - a.ends[s]);
        for (int64_t c = 0; c < a.dimension; ++c) mean[c] /= length;
    }
}

void pool(const Pool &a) {
    switch (a.dtype) {
        case Dtype::f32: return pool_rows<F32>(a);
        case Dtype::bf16: return pool_rows<BF16>(a);
        default: return pool_rows<F16>(a);
    }
}

// ---- masked product --------------------------------------------------------------------------------------------------

inline float load_any(const void *data, Dtype dtype, int64_t at) {
    switch (dtype) {
        case Dtype::f32: return static_cast<const float *>(data)[at];
        case Dtype::bf16: return BF16::load(static_cast<const uint16_t *>(data)[at]);
        default: return F16::load(static_cast<const uint16_t *>(data)[at]);
    }
}

// Columns are taken in tiles so that the sums of all rows stay in the first-level cache; V is read once, front to back
// in each of its rows, four rows at a time so that a sum is loaded and stored once for four products.
template <class T>
void product_rows(const Product &a) {
    const int64_t tile = a.rows == 1 ? a.d : (a.rows <= 2 ? 2048 : 512);
    const auto *V = static_cast<const typename T::Storage *>(a.V);
    for (int64_t start = 0; start < a.d; start += tile) {
        const int64_t width = a.d - start < tile ? a.d - start : tile;
        int64_t j = 0;
        for (; j + 4 <= a.k; j += 4) {
            const typename T::Storage *v0 = V + a.idx[j] * a.v_stride + start, *v1 = V + a.idx[j + 1] * a.v_stride + start;
            const typename T::Storage *v2 = V + a.idx[j + 2] * a.v_stride + start, *v3 = V + a.idx[j + 3] * a.v_stride + start;
            if (j + 8 <= a.k)  // the mask jumps from row to row, which hides the next rows from the hardware
                for (int p = 4; p < 8; ++p) {
                    const char *next = reinterpret_cast<const char *>(V + a.idx[j + p] * a.v_stride + start);
                    for (int line = 0; line < 8; ++line) __builtin_prefetch(next + 64 * line);
                }
            for (int64_t row = 0; row < a.rows; ++row) {
                const int64_t base = row * a.x_stride;
                const float x0 = load_any(a.x, a.x_dtype, base + a.idx[j]), x1 = load_any(a.x, a.x_dtype, base + a.idx[j + 1]);
                const float x2 = load_any(a.x, a.x_dtype, base + a.idx[j + 2]), x3 = load_any(a.x, a.x_dtype, base + a.idx[j + 3]);
                float *sums = a.sums + row * a.d + start;
#pragma omp simd
                for (int64_t c = 0; c < width; ++c)
                    sums[c] += x0 * T::load(v0[c]) + x1 * T::load(v1[c]) + x2 * T::load(v2[c]) + x3 * T::load(v3[c]);
            }
        }
        for (; j < a.k; ++j) {
            const typename T::Storage *v = V + a.idx[j] * a.v_stride + start;
            for (int64_t row = 0; row < a.rows; ++row) {
                const float x = load_any(a.x, a.x_dtype, row * a.x_stride + a.idx[j]);
                float *sums = a.sums + row * a.d + start;
#pragma omp simd
                for (int64_t c = 0; c < width; ++c) sums[c] += x * T::load(v[c]);
            }
        }
    }
}

void product(const Product &a) { a.v_dtype == Dtype::f32 ? product_rows<F32>(a) : product_rows<BF16>(a); }

// ---- masked scatter --------------------------------------------------------------------------------------------------

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

}  // namespace
}  // namespace MEMOIR_LEVEL

extern const Kernels MEMOIR_JOIN(MEMOIR_LEVEL, _kernels);
const Kernels MEMOIR_JOIN(MEMOIR_LEVEL, _kernels) = {
    MEMOIR_QUOTE(MEMOIR_LEVEL), MEMOIR_LEVEL::tophash, MEMOIR_LEVEL::pool, MEMOIR_LEVEL::product, MEMOIR_LEVEL::scatter};

}  // namespace memoir

#if defined(MEMOIR_TARGET) && (defined(__x86_64__) || defined(__i386__))
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
