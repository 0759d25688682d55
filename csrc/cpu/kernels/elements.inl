// Bits of floats, and the element types by their storage.
// Included by kernels.inl, once per SIMD level, inside the level's namespace.

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
