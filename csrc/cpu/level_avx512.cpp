// The kernels for x86 CPUs with AVX-512 (F, BW, DQ, VL).
#define MEMOIR_LEVEL avx512
#define MEMOIR_AVX512
#define MEMOIR_TARGET "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi,bmi2,popcnt,prefer-vector-width=512"
#include "kernels.inl"
