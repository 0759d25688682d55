// The kernels for x86 CPUs with AVX2, FMA and F16C.
#define MEMOIR_LEVEL avx2
#define MEMOIR_AVX2
#define MEMOIR_TARGET "avx2,fma,f16c,bmi,bmi2,popcnt"
#include "kernels.inl"
