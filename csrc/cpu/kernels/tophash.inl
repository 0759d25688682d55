// Means of token segments, the k largest of a prompt's features, and their signature.
// Included by kernels.inl, once per SIMD level, inside the level's namespace.

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
