// The gate of the feed-forward layer.
#include "common.cuh"

DEVICE float gated(float gate, float up) { return gate / (1.0f + exp2_fast(gate * -1.44269504f)) * up; }

// Two neighbours, whose biases are two of the gate and, `width` on, two of up.
DEVICE u32 gated_pair(u32 gate, u32 up, const float *bias, u32 width) {
    f32x2 g = {low_bf16(gate), high_bf16(gate)}, u = {low_bf16(up), high_bf16(up)};
    if (bias) {
        g = {g.x + bias[0], g.y + bias[1]};
        u = {u.x + bias[width], u.y + bias[width + 1]};
    }
    return pack_bf16(gated(g.x, u.x), gated(g.y, u.y));
}

// out[row][i] = silu(gate_up[row][i]) * gate_up[row][width + i]; eight numbers a thread. bias [2 * width], or null, is added
// to gate_up before.
KERNEL(silu_mul, 256, 1, const bf16 *__restrict__ gate_up, const float *__restrict__ bias, bf16 *__restrict__ out, u32 rows,
       u32 width) {
    u32 eights = width / 8;
    u64 at = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= (u64)rows * eights) {
        return;
    }
    u64 row = at / eights, column = at % eights;
    const u32x4 *from = (const u32x4 *)(gate_up + row * 2 * width) + column;
    u32x4 gate = from[0], up = from[eights];
    const float *of = bias ? bias + column * 8 : bias;
    u32 next = bias ? 2 : 0;
    ((u32x4 *)out)[at] = {gated_pair(gate.x, up.x, of, width), gated_pair(gate.y, up.y, of + next, width),
                          gated_pair(gate.z, up.z, of + 2 * next, width), gated_pair(gate.w, up.w, of + 3 * next, width)};
}
