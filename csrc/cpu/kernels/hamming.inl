// Hamming distances of packed signatures.
// Included by kernels.inl, once per SIMD level, inside the level's namespace.

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
