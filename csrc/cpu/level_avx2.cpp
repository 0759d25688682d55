// The kernels for x86 CPUs with AVX2 and FMA.
#define MEMOIR_LEVEL avx2
#define MEMOIR_AVX2
#define MEMOIR_TARGET "avx2,fma,bmi,bmi2,popcnt"
#define MEMOIR_NEEDS(cpu_has) cpu_has("avx2") && cpu_has("fma") && cpu_has("bmi") && cpu_has("bmi2") && cpu_has("popcnt")
#include "kernels.inl"
