// Products in eight bits. Rows of bf16 become e4m3 with one scale a row: weights at load (a row is an output channel), and
// what they are multiplied with at each step. The sums of the products then get both scales back.
#include "fp8.cuh"

// out[row][i] = x[row][i] / scale[row], with the scale that makes the greatest one 448. One block a row; shared memory:
// 32 floats.
KERNEL(quantise_rows, 256, 1, const bf16 *__restrict__ x, u8 *__restrict__ out, float *__restrict__ scales, u32 width) {
    const u32x4 *from = (const u32x4 *)(x + (u64)blockIdx.x * width);
    u32x2 *to = (u32x2 *)(out + (u64)blockIdx.x * width);
    u32 row_max = 0;
    for (u32 at = threadIdx.x; at < width / 8; at += blockDim.x) {
        u32x4 eight = from[at];
        u32 words[4] = {eight.x, eight.y, eight.z, eight.w};
        for (u32 i = 0; i < 4; i++) {
            row_max = max_abs(row_max, max_abs(as_bits(low_bf16(words[i])), as_bits(high_bf16(words[i]))));
        }
    }
    row_max = warp_max_abs(row_max);
    u32 *scratch = (u32 *)shared_memory();
    if (threadIdx.x % 32 == 0) {
        scratch[threadIdx.x / 32] = row_max;
    }
    __syncthreads();
    for (u32 warp = 0; warp < blockDim.x / 32; warp++) {
        row_max = max_abs(row_max, scratch[warp]);
    }
    float scale = scale_for(row_max);
    for (u32 at = threadIdx.x; at < width / 8; at += blockDim.x) {
        u32x4 eight = from[at];
        u32 words[4] = {eight.x, eight.y, eight.z, eight.w}, bytes[2] = {0, 0};
        for (u32 i = 0; i < 4; i++) {
            u32 two = to_e4m3(low_bf16(words[i]) / scale) | to_e4m3(high_bf16(words[i]) / scale) << 8;
            bytes[i / 2] |= two << (i % 2 * 16);
        }
        to[at] = {bytes[0], bytes[1]};
    }
    if (threadIdx.x == 0) {
        scales[blockIdx.x] = scale;
    }
}

// Four sums of a row, scaled by what its numbers and the weights' channels were divided by.
DEVICE f32x4 rescaled(const float *sums, const float *row_scales, const float *scales, u64 at, u32 fours) {
    float row = row_scales[at / fours];
    f32x4 sum = ((const f32x4 *)sums)[at], scale = ((const f32x4 *)scales)[at % fours];
    return {sum.x * row * scale.x, sum.y * row * scale.y, sum.z * row * scale.z, sum.w * row * scale.w};
}

// out[row][o] = sums[row][o] * row_scales[row] * scales[o]; four numbers a thread.
KERNEL(rescale_into, 256, 1, const float *__restrict__ sums, const float *__restrict__ row_scales,
       const float *__restrict__ scales, bf16 *__restrict__ out, u32 rows, u32 width) {
    u64 at = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (at < (u64)rows * (width / 4)) {
        f32x4 four = rescaled(sums, row_scales, scales, at, width / 4);
        ((u32x2 *)out)[at] = {pack_bf16(four.x, four.y), pack_bf16(four.z, four.w)};
    }
}

// The same, added to what `out` holds.
KERNEL(rescale_add, 256, 1, const float *__restrict__ sums, const float *__restrict__ row_scales,
       const float *__restrict__ scales, float *__restrict__ out, u32 rows, u32 width) {
    u64 at = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (at < (u64)rows * (width / 4)) {
        f32x4 four = rescaled(sums, row_scales, scales, at, width / 4), old = ((const f32x4 *)out)[at];
        ((f32x4 *)out)[at] = {old.x + four.x, old.y + four.y, old.z + four.z, old.w + four.w};
    }
}
