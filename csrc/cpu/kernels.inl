// The CPU kernels, written once in portable C++ and compiled once per SIMD level: loops over contiguous floats that the
// compiler turns into the level's vector instructions (a few lines are intrinsics, where it does not). kernels/ holds them
// by subject. No library header is included below the target pragma: an inline function compiled for AVX-512 could
// otherwise be linked into code that runs on older CPUs.
//
// A level_*.cpp file defines MEMOIR_LEVEL, its name, and for a level that needs more than any CPU has MEMOIR_TARGET, what
// the compiler may use, and MEMOIR_NEEDS, the same features as a question to the CPU.
#include <cstring>
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

#include "kernels.h"

#define MEMOIR_JOIN2(a, b) a##b
#define MEMOIR_JOIN(a, b) MEMOIR_JOIN2(a, b)
#define MEMOIR_QUOTE2(x) #x
#define MEMOIR_QUOTE(x) MEMOIR_QUOTE2(x)

namespace memoir {
namespace MEMOIR_LEVEL {
namespace {

// Asked before any kernel of the level runs, so it is compiled for every CPU: above the target pragma.
bool runs_here() {
#if !defined(MEMOIR_TARGET)
    return true;
#elif defined(__x86_64__) || defined(__i386__)
    __builtin_cpu_init();
    return MEMOIR_NEEDS(__builtin_cpu_supports);
#else
    return false;
#endif
}

}  // namespace
}  // namespace MEMOIR_LEVEL
}  // namespace memoir

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

namespace memoir {
namespace MEMOIR_LEVEL {
namespace {

#include "kernels/elements.inl"
#include "kernels/tophash.inl"
#include "kernels/products.inl"
#include "kernels/scatter.inl"
#include "kernels/hamming.inl"
#include "kernels/pairs.inl"
#include "kernels/candidates.inl"

}  // namespace
}  // namespace MEMOIR_LEVEL

extern const Kernels MEMOIR_JOIN(MEMOIR_LEVEL, _kernels);
const Kernels MEMOIR_JOIN(MEMOIR_LEVEL, _kernels) = {
    MEMOIR_QUOTE(MEMOIR_LEVEL), MEMOIR_LEVEL::runs_here, MEMOIR_LEVEL::in_range, MEMOIR_LEVEL::tophash, MEMOIR_LEVEL::pool,
    MEMOIR_LEVEL::pack_columns, MEMOIR_LEVEL::pack_rows, MEMOIR_LEVEL::product, MEMOIR_LEVEL::emit, MEMOIR_LEVEL::scatter,
    MEMOIR_LEVEL::hamming, MEMOIR_LEVEL::pair_features, MEMOIR_LEVEL::sum_codes};

}  // namespace memoir

#if defined(MEMOIR_TARGET) && (defined(__x86_64__) || defined(__i386__))
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
