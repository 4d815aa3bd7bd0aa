// The gate of the feed-forward layer.
#include "common.cuh"

DEVICE float gated(float gate, float up) { return gate / (1.0f + exp2_fast(gate * -1.44269504f)) * up; }

DEVICE u32 gated_pair(u32 gate, u32 up) {
    return pack_bf16(gated(low_bf16(gate), low_bf16(up)), gated(high_bf16(gate), high_bf16(up)));
}

// out[row][i] = silu(gate_up[row][i]) * gate_up[row][width + i]; eight numbers a thread.
KERNEL(silu_mul, 256, 1, const bf16 *__restrict__ gate_up, bf16 *__restrict__ out, u32 rows, u32 width) {
    u32 eights = width / 8;
    u64 at = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= (u64)rows * eights) {
        return;
    }
    u64 row = at / eights, column = at % eights;
    const u32x4 *from = (const u32x4 *)(gate_up + row * 2 * width) + column;
    u32x4 gate = from[0], up = from[eights];
    ((u32x4 *)out)[at] = {gated_pair(gate.x, up.x), gated_pair(gate.y, up.y), gated_pair(gate.z, up.z),
                          gated_pair(gate.w, up.w)};
}
