// RMS norms of the residual stream, and biases added to it. Of a norm, one block a row; the row waits in shared memory between
// the two passes.
#include "common.cuh"

// out[i] = norm(x[rows[i]]) * weight; without `rows`, of every row. Shared memory: 32 + dim floats.
KERNEL(rms_norm, 1024, 1, const float *__restrict__ x, const u32 *__restrict__ rows, const float *__restrict__ weight,
       bf16 *__restrict__ out, u32 dim, float eps) {
    float *scratch = (float *)shared_memory();
    f32x4 *row = (f32x4 *)(scratch + 32);
    const f32x4 *from = (const f32x4 *)(x + (u64)(rows ? rows[blockIdx.x] : blockIdx.x) * dim);
    float squares = 0.0f;
    for (u32 at = threadIdx.x; at < dim / 4; at += blockDim.x) {
        f32x4 v = from[at];
        row[at] = v;
        squares += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
    }
    float inverse = 1.0f / square_root(block_sum(squares, scratch) / (float)dim + eps);
    u32x2 *to = (u32x2 *)(out + (u64)blockIdx.x * dim);
    for (u32 at = threadIdx.x; at < dim / 4; at += blockDim.x) {
        // What this thread left itself.
        f32x4 v = row[at], w = ((const f32x4 *)weight)[at];
        to[at] = {pack_bf16(v.x * inverse * w.x, v.y * inverse * w.y),
                  pack_bf16(v.z * inverse * w.z, v.w * inverse * w.w)};
    }
}

// x[row] += bias; four numbers a thread.
KERNEL(add_bias, 256, 1, float *__restrict__ x, const float *__restrict__ bias, u32 rows, u32 dim) {
    u64 at = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (at < (u64)rows * (dim / 4)) {
        f32x4 v = ((const f32x4 *)x)[at], b = ((const f32x4 *)bias)[at % (dim / 4)];
        ((f32x4 *)x)[at] = {v.x + b.x, v.y + b.y, v.z + b.z, v.w + b.w};
    }
}
