// Attention of prompt chunks over the paged pool, on the tensor cores.
//
// A block has 64 queries: the heads that share a KV head, of as many rows as fit (64 / group); so keys are read once for
// all of them. Four warps of sixteen queries go over the same positions, 32 at a time, while the next 32 are on their way.
// A row's result depends on its own queries, keys and values only: positions are taken in fixed steps from 0.
#include "kv.cuh"

constexpr u32 PREFILL_THREADS = 128, STEP_BLOCKS = 2;

template <u32 head_dim, bool fp8>
DEVICE void prefill(const bf16 *queries, const u8 *pool, const u32 *tables, const Span *spans, bf16 *out, u32 heads,
                    u32 kv_heads) {
    typedef SmemTile<head_dim, fp8> S;
    u32 *stages = (u32 *)shared_memory();
    // The last spans of a chunk have the most to read: they begin first.
    Span span = spans[gridDim.x - 1 - blockIdx.x];
    // The same for all threads of the block.
    if (span.rows == 0) {
        return;
    }
    u32 kv_head = blockIdx.y, group = heads / kv_heads;
    u32 warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    u32 context = span.position + span.rows;
    u32 blocks = (context + BLOCK - 1) / BLOCK, steps = (blocks + STEP_BLOCKS - 1) / STEP_BLOCKS;

    // Both rows of the lane: where in the batch, and how many positions it sees.
    const bf16 *query[2];
    u64 place[2];
    u32 sees[2];
    for (u32 half = 0; half < 2; half++) {
        u32 index = warp * 16 + half * 8 + g, row = index / group;
        bool here = row < span.rows;
        place[half] = ((u64)(span.row + row) * heads + kv_head * group + index % group) * head_dim;
        query[half] = here ? queries + place[half] : nullptr;
        sees[half] = here ? span.position + row + 1 : 0;
    }
    Attention<head_dim, fp8> attention;
    attention.begin(query[0], query[1]);
    // What the warp's last query sees, none of the warp goes beyond.
    u32 last = (warp * 16 + 15) / group;
    u32 warp_sees = warp * 16 / group < span.rows ? span.position + (last < span.rows ? last : span.rows - 1) + 1 : 0;

    S::clear(stages, threadIdx.x, PREFILL_THREADS);
    for (u32 stage = 1; stage < 2 * STEP_BLOCKS; stage++) {
        S::clear(stages + stage * S::WORDS, threadIdx.x, PREFILL_THREADS);
    }
    __syncthreads();
    auto copy = [&](u32 step) {
        for (u32 i = 0; i < STEP_BLOCKS; i++) {
            u32 block = step * STEP_BLOCKS + i;
            if (block < blocks) {
                u32 left = context - block * BLOCK;
                const u8 *kv_block = pool + ((u64)tables[span.table + block] * kv_heads + kv_head) * KvBlock<head_dim, fp8>::BYTES;
                S::copy(stages + (step % 2 * STEP_BLOCKS + i) * S::WORDS, kv_block, left < BLOCK ? left : BLOCK, threadIdx.x,
                        PREFILL_THREADS);
            }
        }
        copy_commit();
    };
    copy(0);
    for (u32 step = 0; step < steps; step++) {
        if (step + 1 < steps) {
            copy(step + 1);
            copy_wait<1>();
        } else {
            copy_wait<0>();
        }
        __syncthreads();
        for (u32 i = 0; i < STEP_BLOCKS; i++) {
            u32 first = (step * STEP_BLOCKS + i) * BLOCK;
            if (first < warp_sees) {
                i32 seen[2] = {(i32)(sees[0] - first), (i32)(sees[1] - first)};
                attention.accumulate(stages + (step % 2 * STEP_BLOCKS + i) * S::WORDS, seen);
            }
        }
        // The next copy but one goes where these were.
        __syncthreads();
    }
    attention.finish();
    for (u32 half = 0; half < 2; half++) {
        float scale = 1.0f / attention.row_sum[half];
        for (u32 j = 0; j < S::STEPS; j++) {
            if (query[half] && (j * 4 + t) * 8 < head_dim) {
                float v[8];
                for (u32 i = 0; i < 8; i++) {
                    v[i] = attention.sums[j * 4 + i % 4][half * 2 + i / 4] * scale;
                }
                ((u32x4 *)(out + place[half]))[j * 4 + t] = {pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]),
                                                            pack_bf16(v[4], v[5]), pack_bf16(v[6], v[7])};
            }
        }
    }
}

// out[row][head] = softmax(queries[row][head] . keys) . values, for all rows of all spans. `queries` and `out` are
// [rows][heads][head_dim]; queries are scaled by log2(e) / sqrt(head_dim). Blocks: (spans, kv_heads).
#define PREFILL(name, head_dim, fp8) \
    KERNEL(name, PREFILL_THREADS, 2, const bf16 *__restrict__ queries, const u8 *__restrict__ pool, \
           const u32 *__restrict__ tables, const Span *__restrict__ spans, bf16 *__restrict__ out, u32 heads, u32 kv_heads) { \
        prefill<head_dim, fp8>(queries, pool, tables, spans, out, heads, kv_heads); \
    }

PREFILL(prefill_32_bf16, 32, false)
PREFILL(prefill_64_bf16, 64, false)
PREFILL(prefill_80_bf16, 80, false)
PREFILL(prefill_96_bf16, 96, false)
PREFILL(prefill_128_bf16, 128, false)
PREFILL(prefill_32_fp8, 32, true)
PREFILL(prefill_64_fp8, 64, true)
PREFILL(prefill_80_fp8, 80, true)
PREFILL(prefill_96_fp8, 96, true)
PREFILL(prefill_128_fp8, 128, true)
