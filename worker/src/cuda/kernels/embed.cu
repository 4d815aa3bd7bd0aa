// Rows of the embedding matrix become the residual stream.
#include "common.cuh"

// x[row] = table[token of row]. A token with its highest bit set is not an id: the rest is an index into `sampled`, the
// ids that the step before chose, so that a step can be prepared before they are known. An id that the table has no row
// for gives NaN, never another token's row.
KERNEL(embed, 256, 1, const u32 *__restrict__ tokens, const u32 *__restrict__ sampled, const bf16 *__restrict__ table,
       float *__restrict__ x, u32 dim, u32 vocab) {
    u32 token = tokens[blockIdx.x];
    if (token >> 31) {
        token = sampled[token & 0x7fffffffu];
    }
    const u32x2 *from = (const u32x2 *)(table + (u64)token * dim);
    f32x4 *to = (f32x4 *)(x + (u64)blockIdx.x * dim);
    for (u32 at = threadIdx.x; at < dim / 4; at += blockDim.x) {
        u32x2 four = token < vocab ? from[at] : u32x2{0x7fff7fffu, 0x7fff7fffu};
        to[at] = {low_bf16(four.x), high_bf16(four.x), low_bf16(four.y), high_bf16(four.y)};
    }
}
