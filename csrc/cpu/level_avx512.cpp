// The kernels for x86 CPUs with AVX-512 (F, BW, DQ, VL). The vector width is a preference of the compiler, no CPU feature.
#define MEMOIR_LEVEL avx512
#define MEMOIR_AVX512
#define MEMOIR_TARGET "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi,bmi2,popcnt,prefer-vector-width=512"
#define MEMOIR_NEEDS(cpu_has)                                                                                             \
    cpu_has("avx512f") && cpu_has("avx512bw") && cpu_has("avx512dq") && cpu_has("avx512vl") && cpu_has("avx2") &&         \
        cpu_has("fma") && cpu_has("bmi") && cpu_has("bmi2") && cpu_has("popcnt")
#include "kernels.inl"
