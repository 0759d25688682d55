// The sum of words' codes; see candidates.py.
// Included by kernels.inl, once per SIMD level, inside the level's namespace.

void sum_codes(const SumCodes &a) {
    for (int64_t b = 0; b < 64 * a.width; ++b) a.totals[b] = 0;
    for (int64_t i = 0; i < a.words; ++i) {
        const uint32_t weight = to_bits(a.coded[i] ? a.weight[i] : 0.0f);
        for (int64_t l = 0; l < a.width; ++l) {
            const uint64_t code = a.code[i * a.width + l];
            float *totals = a.totals + 64 * l;
            for (int64_t b = 0; b < 64; ++b) totals[b] += from_bits(weight ^ (uint32_t(~code >> b & 1) << 31));
        }
    }
}
