// The CPU kernels, written once in portable C++ and compiled once per SIMD level: loops over contiguous floats that the
// compiler turns into the level's vector instructions (a few lines are intrinsics, where it does not). No library header is included below the target pragma: an inline
// function compiled for AVX-512 could otherwise be linked into code that runs on older CPUs.
#include <cstring>
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

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
    static inline uint16_t store(float v) {
        const uint32_t sign = (to_bits(v) >> 16) & 0x8000u, bits = to_bits(v) & 0x7fffffffu;
        if (bits >= 0x7f800000u) return uint16_t(sign | (bits > 0x7f800000u ? 0x7e00u : 0x7c00u));
        if (bits >= 0x477ff000u) return uint16_t(sign | 0x7c00u);  // rounds to 65536 or more
        if (bits < 0x38800000u) {  // subnormal: adding 0.5 leaves the rounded multiple of 2^-24 in the low bits
            return uint16_t(sign | (to_bits(from_bits(bits) + 0.5f) - 0x3f000000u));
        }
        return uint16_t(sign | ((bits - 0x38000000u + 0xfffu + ((bits >> 13) & 1u)) >> 13));
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

// How many of n keys are at least `bound`.
inline int64_t count_from(const uint32_t *keys, int64_t n, uint32_t bound) {
    int32_t count = 0;
    const int32_t least = int32_t(bound);  // keys have 31 bits: a signed comparison is the one that every level has
#pragma omp simd reduction(+ : count)
    for (int64_t i = 0; i < n; ++i) count += int32_t(keys[i]) >= least;
    return count;
}

// Bit i says whether keys[i] > bound, for 64 keys; bound may be -1.
inline uint64_t above64(const uint32_t *keys, int32_t bound) {
    uint64_t mask = 0;
#if defined(MEMOIR_AVX512) && defined(__x86_64__)
    for (int i = 0; i < 4; ++i)
        mask |= uint64_t(_mm512_cmpgt_epi32_mask(_mm512_loadu_si512(keys + 16 * i), _mm512_set1_epi32(bound))) << (16 * i);
#elif defined(MEMOIR_AVX2) && defined(__x86_64__)
    for (int i = 0; i < 8; ++i) {
        const __m256i some = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(keys + 8 * i));
        const __m256i larger = _mm256_cmpgt_epi32(some, _mm256_set1_epi32(bound));
        mask |= uint64_t(uint32_t(_mm256_movemask_ps(_mm256_castsi256_ps(larger)))) << (8 * i);
    }
#else
    for (int i = 0; i < 64; ++i) mask |= uint64_t(int32_t(keys[i]) > bound) << i;
#endif
    return mask;
}

// The k largest of a set of keys: all above `bound`, and `ties` of those equal to it.
struct Cut {
    int32_t bound;
    int64_t ties;
};

// By bisection of the value between `low` (at least k keys reach it) and `high` (fewer than k exceed it).
inline Cut bisect(const uint32_t *keys, int64_t n, int64_t k, uint32_t low, uint32_t high) {
    while (low < high) {
        const uint32_t middle = low + (high - low + 1) / 2;
        const int64_t count = count_from(keys, n, middle);
        if (count == k) return {int32_t(middle) - 1, 0};
        if (count > k) low = middle;
        else high = middle - 1;
    }
    return {int32_t(low), k - count_from(keys, n, low + 1)};
}

// A value that about `rank` of n keys reach (within two), between `low` and `high` as above.
inline uint32_t near_rank(const uint32_t *keys, int64_t n, int64_t rank, uint32_t low, uint32_t high) {
    while (low < high) {
        const uint32_t middle = low + (high - low + 1) / 2;
        const int64_t over = count_from(keys, n, middle) - rank;
        if (-2 <= over && over <= 2) return middle;
        if (over > 0) low = middle;
        else high = middle - 1;
    }
    return low;
}

// The cut of n keys, the largest of them given. A sample of many keys brackets the cut, so that only the keys within
// the bracket are bisected. `keys` may be read up to the next multiple of 64; `rest` (n) is scratch.
Cut cut_of(const uint32_t *keys, int64_t n, int64_t k, uint32_t largest, uint32_t *rest) {
    constexpr int64_t sample = 512, margin = 32;  // three standard deviations of the sample's rank
    if (n < 8 * sample) return bisect(keys, n, k, 0, largest);
    for (int64_t i = 0; i < sample; ++i) rest[i] = keys[i * n / sample];
    const int64_t rank = k * sample / n, deep = rank + margin;
    const uint32_t high = rank > margin ? near_rank(rest, sample, rank - margin, 0, largest) : largest;
    const uint32_t low = deep < sample ? near_rank(rest, sample, deep, 0, high) : 0;
    int64_t above = 0, count = 0;
    for (int64_t i = 0; i < n; i += 64) {
        const uint64_t valid = n - i < 64 ? (uint64_t(1) << (n - i)) - 1 : ~uint64_t(0);
        const uint64_t higher = above64(keys + i, int32_t(high)) & valid;
        above += __builtin_popcountll(higher);
        for (uint64_t within = above64(keys + i, int32_t(low) - 1) & valid & ~higher; within; within &= within - 1)
            rest[count++] = keys[i + __builtin_ctzll(within)];
    }
    if (above < k && k <= above + count) return bisect(rest, count, k - above, low, high);
    return bisect(keys, n, k, 0, largest);  // the sample misled
}

// Marks (one byte each) where the permutation sends the chosen keys. Ascending i: of equal keys the lower index is taken.
void choose(const uint32_t *keys, int64_t n, Cut cut, const int32_t *permutation, uint8_t *marks) {
    for (int64_t i = 0; i < n; i += 64) {
        const uint64_t valid = n - i < 64 ? (uint64_t(1) << (n - i)) - 1 : ~uint64_t(0);
        uint64_t chosen = above64(keys + i, cut.bound) & valid;
        if (cut.ties > 0)
            for (uint64_t equal = above64(keys + i, cut.bound - 1) & valid & ~chosen; equal && cut.ties > 0; equal &= equal - 1) {
                chosen |= equal & (~equal + 1);
                --cut.ties;
            }
        for (; chosen; chosen &= chosen - 1) marks[permutation[i + __builtin_ctzll(chosen)]] = 0xff;
    }
}

// 64 marks as bits.
inline uint64_t marks64(const uint8_t *marks) {
    uint64_t bits = 0;
#if (defined(MEMOIR_AVX2) || defined(MEMOIR_AVX512)) && defined(__x86_64__)
    for (int i = 0; i < 2; ++i) {
        const __m256i some = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(marks + 32 * i));
        bits |= uint64_t(uint32_t(_mm256_movemask_epi8(some))) << (32 * i);
    }
#else
    for (int i = 0; i < 64; ++i) bits |= uint64_t(marks[i] & 1) << i;
#endif
    return bits;
}

bool in_range(const int32_t *values, int64_t count, int64_t high) {
    uint32_t most = 0;  // a negative value becomes a large one
#pragma omp simd reduction(max : most)
    for (int64_t i = 0; i < count; ++i) most = uint32_t(values[i]) > most ? uint32_t(values[i]) : most;
    return count == 0 || int64_t(most) < high;
}

template <class T>
int64_t tophash_rows(const TopHash &a) {
    const int64_t n = a.dimension, words = (n + 63) / 64, width = (n + 7) / 8;
    for (int64_t row = 0; row < a.batch; ++row) {
        const auto *features = static_cast<const typename T::Storage *>(a.features) + row * a.stride;
        const uint32_t largest = make_keys<T>(features, a.background, n, a.keys);
        if (largest >= 0x7f800000u) return row;
        std::memset(a.marks, 0, size_t(64 * words));
        choose(a.keys, n, cut_of(a.keys, n, a.k, largest, a.keys + 64 * words), a.permutation, a.marks);
        int32_t *indices = a.indices + row * a.k, *end = indices + a.k;  // reading the marks in order sorts the indices
        uint8_t *signature = a.signature + row * width;
        for (int64_t word = 0; word < words; ++word) {
            const uint64_t marked = marks64(a.marks + 64 * word);
            for (uint64_t bits = marked; bits; bits &= bits - 1) *indices++ = int32_t(word * 64 + __builtin_ctzll(bits));
            for (int64_t byte = 0; byte < 8 && 8 * word + byte < width; ++byte)
                signature[8 * word + byte] = uint8_t(marked >> (8 * byte));
        }
        if (indices != end) return a.batch;  // two indices were sent to one place
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

template <class T>
void pack_rows_of(const PackRows &a) {
    for (int64_t j = 0; j < a.k; ++j) {
        const auto *v = static_cast<const typename T::Storage *>(a.V) + a.idx[j] * a.stride;
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
            const typename T::Storage *v0 = V + a.idx[j] * a.stride + start, *v1 = V + a.idx[j + 1] * a.stride + start;
            const typename T::Storage *v2 = V + a.idx[j + 2] * a.stride + start, *v3 = V + a.idx[j + 3] * a.stride + start;
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
            const typename T::Storage *v = V + a.idx[j] * a.stride + start;
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

// ---- Hamming distances -----------------------------------------------------------------------------------------------

inline uint64_t word_at(const uint8_t *bytes) {
    uint64_t word;
    std::memcpy(&word, bytes, sizeof word);
    return word;
}

#if (defined(MEMOIR_AVX2) || defined(MEMOIR_AVX512)) && defined(__x86_64__)
inline __m256i load32(const uint8_t *bytes) { return _mm256_loadu_si256(reinterpret_cast<const __m256i *>(bytes)); }

// Adds the bits of a, b and c as two-bit numbers: returns the low bits, `high` takes the carries.
inline __m256i add3(__m256i &high, __m256i a, __m256i b, __m256i c) {
    const __m256i odd = _mm256_xor_si256(a, b);
    high = _mm256_or_si256(_mm256_and_si256(a, b), _mm256_and_si256(odd, c));
    return _mm256_xor_si256(odd, c);
}

// The ones of each 8 bytes, by a table of the 16 nibbles.
inline __m256i ones_of(__m256i v) {
    const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    const __m256i low = _mm256_set1_epi8(0x0f);
    const __m256i counts = _mm256_add_epi8(_mm256_shuffle_epi8(table, _mm256_and_si256(v, low)),
                                           _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(v, 4), low)));
    return _mm256_sad_epu8(counts, _mm256_setzero_si256());
}
#endif

void hamming(const Hamming &a) {
    for (int64_t row = 0; row < a.rows; ++row) {
        const uint8_t *code = a.codes + row * a.stride;
        int64_t at = 0, count = 0;
#if (defined(MEMOIR_AVX2) || defined(MEMOIR_AVX512)) && defined(__x86_64__)
        // Eight vectors are added bit by bit before any is counted (Harley and Seal's adder tree): one count for eight.
        __m256i ones = _mm256_setzero_si256(), twos = ones, fours = ones, total = ones;
        for (; at + 256 <= a.width; at += 256) {
            __m256i x[8];
            for (int i = 0; i < 8; ++i) x[i] = _mm256_xor_si256(load32(code + at + 32 * i), load32(a.query + at + 32 * i));
            __m256i twos_a, twos_b, fours_a, fours_b, eights;
            ones = add3(twos_a, ones, x[0], x[1]);
            ones = add3(twos_b, ones, x[2], x[3]);
            twos = add3(fours_a, twos, twos_a, twos_b);
            ones = add3(twos_a, ones, x[4], x[5]);
            ones = add3(twos_b, ones, x[6], x[7]);
            twos = add3(fours_b, twos, twos_a, twos_b);
            fours = add3(eights, fours, fours_a, fours_b);
            total = _mm256_add_epi64(total, ones_of(eights));
        }
        total = _mm256_slli_epi64(total, 3);
        if (at) {
            total = _mm256_add_epi64(total, _mm256_slli_epi64(ones_of(fours), 2));
            total = _mm256_add_epi64(total, _mm256_slli_epi64(ones_of(twos), 1));
            total = _mm256_add_epi64(total, ones_of(ones));
        }
        for (; at + 32 <= a.width; at += 32)
            total = _mm256_add_epi64(total, ones_of(_mm256_xor_si256(load32(code + at), load32(a.query + at))));
        int64_t parts[4];
        _mm256_storeu_si256(reinterpret_cast<__m256i *>(parts), total);
        count = parts[0] + parts[1] + parts[2] + parts[3];
#endif
        for (; at + 8 <= a.width; at += 8) count += __builtin_popcountll(word_at(code + at) ^ word_at(a.query + at));
        for (; at < a.width; ++at) count += __builtin_popcount(unsigned(code[at] ^ a.query[at]));
        a.distances[row] = uint16_t(count);
    }
}

}  // namespace
}  // namespace MEMOIR_LEVEL

extern const Kernels MEMOIR_JOIN(MEMOIR_LEVEL, _kernels);
const Kernels MEMOIR_JOIN(MEMOIR_LEVEL, _kernels) = {
    MEMOIR_QUOTE(MEMOIR_LEVEL), MEMOIR_LEVEL::in_range, MEMOIR_LEVEL::tophash, MEMOIR_LEVEL::pool,
    MEMOIR_LEVEL::pack_columns, MEMOIR_LEVEL::pack_rows, MEMOIR_LEVEL::product, MEMOIR_LEVEL::emit, MEMOIR_LEVEL::scatter,
    MEMOIR_LEVEL::hamming};

}  // namespace memoir

#if defined(MEMOIR_TARGET) && (defined(__x86_64__) || defined(__i386__))
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
