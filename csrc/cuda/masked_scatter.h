// The contract of the CUDA scatter: V[idx] += scale * P and ||P||_F^2 in one pass over P = A^T G, on the caller's stream. Device pointers; P
// (k, d) and idx (k) are contiguous, V's rows are `v_stride` elements apart.
#pragma once
#include <cstdint>

namespace memoir {

enum class DeviceDtype : int { f32 = 0, bf16 = 1 };

struct DeviceScatter {
    void *V;
    DeviceDtype v_dtype;
    int64_t d, v_stride;
    const int32_t *idx;      // no repeats
    int64_t k;
    const float *P;
    float scale;
    float *partial;          // scratch: (scatter_blocks(k, d))
    float *squared;          // out: one float
};

int64_t scatter_blocks(int64_t k, int64_t d);

// nullptr, or what CUDA says went wrong. `stream` is a cudaStream_t of `device`.
const char *masked_scatter(const DeviceScatter &call, int device, void *stream);

}  // namespace memoir
