// The masked gradient scatter on CUDA: a tiled A^T G whose tiles are added to V's rows as they leave the registers, and whose
// squares are summed on the way. The sum runs in a fixed order (no atomics): the same input gives the same bits.
#include <cuda_bf16.h>

#include "masked_scatter.h"

namespace memoir {
namespace {

constexpr int tile = 128, depth = 8, threads = 256, side = 8;  // 16 x 16 threads, each with 8 x 8 sums
constexpr int each = depth * tile / threads;                   // numbers that a thread brings in at a step

// Which of the tile's lines is a thread's i-th: two runs of four, so that they are read four at a time and without bank conflicts.
__device__ constexpr int place(int thread, int i) { return i / 4 * (tile / 2) + thread * 4 + i % 4; }

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

template <class TV, class TA, class TG>
__global__ void __launch_bounds__(threads) scatter_kernel(TV *V, int64_t d, int64_t v_stride, const int32_t *idx, int64_t k,
                                                          const TA *A, const TG *G, int64_t n, float scale, float *partial) {
    // Two of each: while one is multiplied with, the next lines come in.
    __shared__ __align__(16) float a[2][depth][tile], g[2][depth][tile];
    const int64_t row0 = int64_t(blockIdx.y) * tile, column0 = int64_t(blockIdx.x) * tile;
    const int x = threadIdx.x % 16, y = threadIdx.x / 16;
    float sums[side][side] = {}, next_a[each], next_g[each];
    const auto fetch = [&](int64_t start) {
#pragma unroll
        for (int e = 0; e < each; ++e) {
            const int i = threadIdx.x + e * threads;
            const int64_t token = start + i / tile, row = row0 + i % tile, column = column0 + i % tile;
            next_a[e] = token < n && row < k ? load(A + token * k + row) : 0.0f;
            next_g[e] = token < n && column < d ? load(G + token * d + column) : 0.0f;
        }
    };
    const auto put = [&](int where) {
#pragma unroll
        for (int e = 0; e < each; ++e) {
            const int i = threadIdx.x + e * threads;
            a[where][i / tile][i % tile] = next_a[e];
            g[where][i / tile][i % tile] = next_g[e];
        }
        __syncthreads();
    };
    fetch(0);
    put(0);
    for (int64_t start = 0, step = 0; start < n; start += depth, ++step) {
        const bool more = start + depth < n;
        if (more) fetch(start + depth);
#pragma unroll
        for (int t = 0; t < depth; ++t) {
            float left[side], right[side];
#pragma unroll
            for (int i = 0; i < side; ++i) {
                left[i] = a[step % 2][t][place(y, i)];
                right[i] = g[step % 2][t][place(x, i)];
            }
#pragma unroll
            for (int i = 0; i < side; ++i)
#pragma unroll
                for (int j = 0; j < side; ++j) sums[i][j] += left[i] * right[j];
        }
        if (more) put((step + 1) % 2);
    }
    float squares = 0;
#pragma unroll
    for (int i = 0; i < side; ++i) {
        const int64_t row = row0 + place(y, i);
        if (row >= k) continue;
        TV *v = V + int64_t(idx[row]) * v_stride;
#pragma unroll
        for (int j = 0; j < side; ++j) {
            const int64_t column = column0 + place(x, j);
            if (column >= d) continue;
            squares += sums[i][j] * sums[i][j];
            store(v + column, load(v + column) + scale * sums[i][j]);
        }
    }
    squares = block_sum(squares);
    if (threadIdx.x == 0) partial[int64_t(blockIdx.y) * gridDim.x + blockIdx.x] = squares;
}

__global__ void __launch_bounds__(threads) sum_kernel(const float *partial, int64_t count, float *squared) {
    float mine = 0;
    for (int64_t i = threadIdx.x; i < count; i += threads) mine += partial[i];
    mine = block_sum(mine);
    if (threadIdx.x == 0) *squared = mine;
}

template <class TV, class TA, class TG>
void launch(const DeviceScatter &c, cudaStream_t stream) {
    const dim3 grid(unsigned((c.d + tile - 1) / tile), unsigned((c.k + tile - 1) / tile));
    scatter_kernel<<<grid, threads, 0, stream>>>(static_cast<TV *>(c.V), c.d, c.v_stride, c.idx, c.k,
                                                 static_cast<const TA *>(c.A), static_cast<const TG *>(c.G), c.n, c.scale,
                                                 c.partial);
    sum_kernel<<<1, threads, 0, stream>>>(c.partial, scatter_blocks(c.k, c.d), c.squared);
}

template <class TV, class TA>
void with_g(const DeviceScatter &c, cudaStream_t stream) {
    c.g_dtype == DeviceDtype::f32 ? launch<TV, TA, float>(c, stream) : launch<TV, TA, __nv_bfloat16>(c, stream);
}

template <class TV>
void with_a(const DeviceScatter &c, cudaStream_t stream) {
    c.a_dtype == DeviceDtype::f32 ? with_g<TV, float>(c, stream) : with_g<TV, __nv_bfloat16>(c, stream);
}

}  // namespace

int64_t scatter_blocks(int64_t k, int64_t d) { return ((k + tile - 1) / tile) * ((d + tile - 1) / tile); }

const char *masked_scatter(const DeviceScatter &call, int device, void *stream) {
    int before = 0;
    cudaError_t status = cudaGetDevice(&before);
    if (status == cudaSuccess) status = cudaSetDevice(device);
    if (status == cudaSuccess) {
        const auto on = static_cast<cudaStream_t>(stream);
        call.v_dtype == DeviceDtype::f32 ? with_a<float>(call, on) : with_a<__nv_bfloat16>(call, on);
        status = cudaGetLastError();
        cudaSetDevice(before);
    }
    return status == cudaSuccess ? nullptr : cudaGetErrorString(status);
}

}  // namespace memoir
