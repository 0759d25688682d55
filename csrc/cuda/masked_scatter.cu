// The masked gradient scatter on CUDA: the gradient P = A^T G, a product of whole matrices, comes from the vendor's library; adding its
// rows to V's and summing their squares takes one pass over it. The sum runs in a fixed order (no atomics): the same input gives the same
// bits.
#include <cuda_bf16.h>

#include "masked_scatter.h"

namespace memoir {
namespace {

constexpr int threads = 256, run = 4;  // a thread takes `run` columns, `threads` apart

__device__ inline float load(const float *at) { return *at; }
__device__ inline float load(const __nv_bfloat16 *at) { return __bfloat162float(*at); }
__device__ inline void store(float *at, float value) { *at = value; }
__device__ inline void store(__nv_bfloat16 *at, float value) { *at = __float2bfloat16(value); }

// The sum of `value` over the block, in thread 0.
__device__ float block_sum(float value) {
    __shared__ float warps[threads / 32];
    for (int step = 16; step > 0; step /= 2) value += __shfl_down_sync(0xffffffffu, value, step);
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
    __syncthreads();
    float total = 0;
    if (threadIdx.x == 0)
        for (int w = 0; w < threads / 32; ++w) total += warps[w];
    return total;
}

// Block (x, y): `threads * run` columns from the x-th on of P's row y (the grid's x is the longer side: its limit is 2^31).
template <class TV>
__global__ void __launch_bounds__(threads) scatter_kernel(TV *V, int64_t d, int64_t v_stride, const int32_t *idx, const float *P,
                                                          float scale, float *partial) {
    const int64_t row = blockIdx.x, column0 = int64_t(blockIdx.y) * threads * run + threadIdx.x;
    TV *v = V + int64_t(idx[row]) * v_stride;
    const float *p = P + row * d;
    float squares = 0;
#pragma unroll
    for (int i = 0; i < run; ++i) {
        const int64_t column = column0 + i * threads;
        if (column >= d) continue;
        const float value = p[column];
        squares += value * value;
        store(v + column, load(v + column) + scale * value);
    }
    squares = block_sum(squares);
    if (threadIdx.x == 0) partial[row * gridDim.y + blockIdx.y] = squares;
}

__global__ void __launch_bounds__(threads) sum_kernel(const float *partial, int64_t count, float *squared) {
    float mine = 0;
    for (int64_t i = threadIdx.x; i < count; i += threads) mine += partial[i];
    mine = block_sum(mine);
    if (threadIdx.x == 0) *squared = mine;
}

int64_t strips(int64_t d) { return (d + threads * run - 1) / (threads * run); }

template <class TV>
void launch(const DeviceScatter &c, cudaStream_t stream) {
    scatter_kernel<<<dim3(unsigned(c.k), unsigned(strips(c.d))), threads, 0, stream>>>(static_cast<TV *>(c.V), c.d, c.v_stride, c.idx,
                                                                                     c.P, c.scale, c.partial);
    sum_kernel<<<1, threads, 0, stream>>>(c.partial, scatter_blocks(c.k, c.d), c.squared);
}

}  // namespace

int64_t scatter_blocks(int64_t k, int64_t d) { return k * strips(d); }

const char *masked_scatter(const DeviceScatter &call, int device, void *stream) {
    int before = 0;
    cudaError_t status = cudaGetDevice(&before);
    if (status == cudaSuccess) status = cudaSetDevice(device);
    if (status == cudaSuccess) {
        const auto on = static_cast<cudaStream_t>(stream);
        call.v_dtype == DeviceDtype::f32 ? launch<float>(call, on) : launch<__nv_bfloat16>(call, on);
        status = cudaGetLastError();
        cudaSetDevice(before);
    }
    return status == cudaSuccess ? nullptr : cudaGetErrorString(status);
}

}  // namespace memoir
