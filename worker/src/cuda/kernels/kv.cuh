// The pool of keys and values, and attention over one block of it: what rope, decode and prefill share.
//
// The layout, here and in kv.rs and nowhere else: of each layer, block and KV head there is one KV block, in this order, so
// that a head of a block is one run of bytes for whoever reads it:
//     keys    [16 positions][head_dim]
//     values  [8 pairs of positions][head_dim][2]: the tensor cores want two positions in one word
//     scales  fp8 only: float [16] of the keys, float [16] of the values; a number is its e4m3 times its scale
// A pool of a layer is [blocks][kv_heads] pieces. Numbers are bf16, or e4m3 with a scale for each position and head.
#pragma once
#include "fp8.cuh"

constexpr u32 BLOCK = 16;

template <u32 head_dim, bool fp8>
struct KvBlock {
    static constexpr u32 NUMBER = fp8 ? 1 : 2;
    static constexpr u32 HALF = BLOCK * head_dim * NUMBER;
    static constexpr u32 BYTES = 2 * HALF + (fp8 ? 2 * BLOCK * 4 : 0);
};

// Rows of a batch that attend together: `rows` rows from `row` on, the first at `position` of its sequence, whose block
// table begins at `table`. No rows: nothing to do, for launches of a fixed size.
struct Span {
    u32 row, rows, position, table;
};

// A KV block in shared memory. Rows are as far apart as lets a warp read its operands without bank conflicts, and padded
// with zeros to whole steps of 32 numbers.
template <u32 head_dim, bool fp8>
struct SmemTile {
    typedef KvBlock<head_dim, fp8> P;
    static constexpr u32 PADDED = (head_dim + 31) / 32 * 32;
    static constexpr u32 STEPS = PADDED / 32;
    // In words. A quarter of a warp reads 16 bytes a lane of two keys, half a warp 8 bytes a lane of four.
    static constexpr u32 KEY_WORDS = PADDED * P::NUMBER / 4;
    static constexpr u32 KEY = KEY_WORDS + ((fp8 ? 8 : 16) + 32 - KEY_WORDS % 32) % 32;
    static constexpr u32 PAIR = PADDED * P::NUMBER / 2 + (8 + 32 - PADDED * P::NUMBER / 2 % 32) % 32;
    static constexpr u32 VALUES = BLOCK * KEY, SCALES = VALUES + BLOCK / 2 * PAIR;
    static constexpr u32 WORDS = SCALES + (fp8 ? 2 * BLOCK : 0);

    // Threads `at` of `threads` write zeros where copies never reach.
    static DEVICE void clear(u32 *smem, u32 at, u32 threads) {
        if (PADDED != head_dim) {
            for (u32 word = at; word < SCALES; word += threads) {
                smem[word] = 0;
            }
        }
    }

    // Threads `at` of `threads` begin to copy a KV block, of which `positions` positions hold something.
    static DEVICE void copy(u32 *smem, const u8 *kv_block, u32 positions, u32 at, u32 threads) {
        constexpr u32 KEY_CHUNKS = head_dim * P::NUMBER / 16, PAIR_CHUNKS = 2 * KEY_CHUNKS;
        for (u32 chunk = at; chunk < BLOCK * KEY_CHUNKS; chunk += threads) {
            u32 row = chunk / KEY_CHUNKS, column = chunk % KEY_CHUNKS;
            copy_async(smem + row * KEY + column * 4, kv_block + chunk * 16, row < positions);
        }
        for (u32 chunk = at; chunk < BLOCK / 2 * PAIR_CHUNKS; chunk += threads) {
            u32 row = chunk / PAIR_CHUNKS, column = chunk % PAIR_CHUNKS;
            copy_async(smem + VALUES + row * PAIR + column * 4, kv_block + P::HALF + chunk * 16, row * 2 < positions);
        }
        if (fp8 && at < 8) {
            copy_async(smem + SCALES + at * 4, kv_block + 2 * P::HALF + at * 16, true);
        }
    }
};

// Eight numbers, or four words of pairs, in the form that the tensor cores take.
template <bool fp8>
DEVICE u32x4 operands(const u32 *at);

template <>
DEVICE u32x4 operands<false>(const u32 *at) {
    return *(const u32x4 *)at;
}

template <>
DEVICE u32x4 operands<true>(const u32 *at) {
    u32x2 eight = *(const u32x2 *)at;
    return {from_e4m3(eight.x), from_e4m3(eight.x >> 16), from_e4m3(eight.y), from_e4m3(eight.y >> 16)};
}

// A warp's attention of sixteen queries (rows) over the positions accumulated so far. With g = lane / 4 and t = lane % 4 a
// lane has rows g ("top") and g + 8 ("bottom"), and of their sums columns 32 j + 8 t to 32 j + 8 t + 7 for each step j:
// column 8 t + 4 n + i of step j is sums[4 j + i][n] of the top row and sums[4 j + i][n + 2] of the bottom row.
template <u32 head_dim, bool fp8>
struct Attention {
    typedef SmemTile<head_dim, fp8> S;
    u32x4 top[S::STEPS], bottom[S::STEPS];
    float sums[S::STEPS * 4][4];
    // Greatest score of each row, and the lane's part of the sum of weights.
    float row_max[2], row_sum[2];

    // Queries of both rows, null for none: head_dim bf16 numbers, scaled so that a weight is 2^score.
    DEVICE void begin(const bf16 *top_query, const bf16 *bottom_query) {
        u32 t = threadIdx.x % 4;
        for (u32 j = 0; j < S::STEPS; j++) {
            bool here = (j * 4 + t) * 8 < head_dim;
            top[j] = here && top_query ? ((const u32x4 *)top_query)[j * 4 + t] : u32x4{0, 0, 0, 0};
            bottom[j] = here && bottom_query ? ((const u32x4 *)bottom_query)[j * 4 + t] : u32x4{0, 0, 0, 0};
        }
        for (u32 tile = 0; tile < S::STEPS * 4; tile++) {
            for (u32 i = 0; i < 4; i++) {
                sums[tile][i] = 0.0f;
            }
        }
        // Finite: infinities would make NaN when subtracted.
        row_max[0] = row_max[1] = -1e30f;
        row_sum[0] = row_sum[1] = 0.0f;
    }

    // Accumulates the block in `smem`, of which the top and bottom rows see the first `seen` positions. Whole warp.
    DEVICE void accumulate(const u32 *smem, const i32 (&seen)[2]) {
        u32 g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
        // Of positions 8 tile + 2 t and the next: two of the top row, two of the bottom row.
        float scores[2][4] = {};
        // The sum over a head runs in the order that lets a lane load eight neighbours at once.
        constexpr u32 EIGHT = fp8 ? 2 : 4;
#pragma unroll
        for (u32 j = 0; j < S::STEPS; j++) {
#pragma unroll
            for (u32 tile = 0; tile < 2; tile++) {
                u32x4 key = operands<fp8>(smem + (tile * 8 + g) * S::KEY + (j * 4 + t) * EIGHT);
                multiply_tile(scores[tile], top[j].x, bottom[j].x, top[j].y, bottom[j].y, key.x, key.y);
                multiply_tile(scores[tile], top[j].z, bottom[j].z, top[j].w, bottom[j].w, key.z, key.w);
            }
        }
        const float *scales = (const float *)smem + S::SCALES;
#pragma unroll
        for (u32 tile = 0; tile < 2; tile++) {
#pragma unroll
            for (u32 i = 0; i < 4; i++) {
                u32 position = tile * 8 + t * 2 + i % 2;
                float score = fp8 ? scores[tile][i] * scales[position] : scores[tile][i];
                scores[tile][i] = (i32)position < seen[i / 2] ? score : -infinite();
            }
        }
        float rescale[2];
#pragma unroll
        for (u32 row = 0; row < 2; row++) {
            float here = max_num(max_num(scores[0][row * 2], scores[0][row * 2 + 1]),
                                 max_num(scores[1][row * 2], scores[1][row * 2 + 1]));
            here = max_num(here, shuffle_xor(here, 1));
            here = max_num(here, shuffle_xor(here, 2));
            here = max_num(here, row_max[row]);
            rescale[row] = exp2_fast(row_max[row] - here);
            row_max[row] = here;
        }
        // Mostly the greatest score is an old one, and a factor of 1 changes nothing.
        if (ballot(rescale[0] != 1.0f || rescale[1] != 1.0f)) {
#pragma unroll
            for (u32 tile = 0; tile < S::STEPS * 4; tile++) {
                sums[tile][0] *= rescale[0];
                sums[tile][1] *= rescale[0];
                sums[tile][2] *= rescale[1];
                sums[tile][3] *= rescale[1];
            }
            row_sum[0] *= rescale[0];
            row_sum[1] *= rescale[1];
        }
#pragma unroll
        for (u32 tile = 0; tile < 2; tile++) {
#pragma unroll
            for (u32 i = 0; i < 4; i++) {
                float weight = exp2_fast(scores[tile][i] - row_max[i / 2]);
                row_sum[i / 2] += weight;
                // Positions not seen may have a scale that is NaN.
                scores[tile][i] = fp8 && weight != 0.0f ? weight * scales[BLOCK + tile * 8 + t * 2 + i % 2] : weight;
            }
        }
        u32 a0 = pack_bf16(scores[0][0], scores[0][1]), a1 = pack_bf16(scores[0][2], scores[0][3]);
        u32 a2 = pack_bf16(scores[1][0], scores[1][1]), a3 = pack_bf16(scores[1][2], scores[1][3]);
        const u32 *values = smem + S::VALUES;
#pragma unroll
        for (u32 j = 0; j < S::STEPS; j++) {
            u32x4 low = operands<fp8>(values + t * S::PAIR + (j * 8 + g) * EIGHT);
            u32x4 high = operands<fp8>(values + (t + 4) * S::PAIR + (j * 8 + g) * EIGHT);
            multiply_tile(sums[j * 4], a0, a1, a2, a3, low.x, high.x);
            multiply_tile(sums[j * 4 + 1], a0, a1, a2, a3, low.y, high.y);
            multiply_tile(sums[j * 4 + 2], a0, a1, a2, a3, low.z, high.z);
            multiply_tile(sums[j * 4 + 3], a0, a1, a2, a3, low.w, high.w);
        }
    }

    // Brings the sums of weights of the row's four lanes together. Whole warp.
    DEVICE void finish() {
        for (u32 row = 0; row < 2; row++) {
            row_sum[row] += shuffle_xor(row_sum[row], 1);
            row_sum[row] += shuffle_xor(row_sum[row], 2);
        }
    }
};
