// Attention of single tokens over the paged pool (flash-decoding), bound by how fast keys and values come in.
//
// A block has the up to sixteen query heads that share a KV head, and one split of a sequence's context. Each of its four
// warps takes every fourth block of the pool into a ring of its own in shared memory, so that no warp waits for another
// until the end, when the four results are folded. Splits exist to fill the GPU when there are few sequences;
// `decode_combine` folds them.
#include "kv.cuh"

constexpr u32 DECODE_WARPS = 4, DECODE_ROWS = 16;

template <u32 head_dim, bool fp8>
DEVICE void decode(const bf16 *queries, const u8 *pool, const u32 *tables, const Span *spans, bf16 *out, float *partial,
                   f32x2 *weights, u32 heads, u32 kv_heads, u32 depth) {
    typedef SmemTile<head_dim, fp8> S;
    u32 *shared = (u32 *)shared_memory();
    Span span = spans[blockIdx.z];
    // The same for all threads of the block.
    if (span.rows == 0) {
        return;
    }
    u32 group = heads / kv_heads, tiles = (group + DECODE_ROWS - 1) / DECODE_ROWS;
    u32 kv_head = blockIdx.y / tiles, first_head = kv_head * group + blockIdx.y % tiles * DECODE_ROWS;
    u32 rows = kv_head * group + group - first_head;
    rows = rows < DECODE_ROWS ? rows : DECODE_ROWS;
    u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    u32 context = span.position + 1, blocks = (context + BLOCK - 1) / BLOCK;
    u32 share = (blocks + gridDim.x - 1) / gridDim.x, begin = blockIdx.x * share;
    u32 end = begin + share < blocks ? begin + share : blocks;
    u32 count = begin + warp < end ? (end - begin - warp + DECODE_WARPS - 1) / DECODE_WARPS : 0;

    const bf16 *query = queries + ((u64)span.row * heads + first_head) * head_dim;
    Attention<head_dim, fp8> attention;
    attention.begin(g < rows ? query + g * head_dim : nullptr, g + 8 < rows ? query + (g + 8) * head_dim : nullptr);

    u32 *ring = shared + warp * depth * S::WORDS;
    for (u32 stage = 0; stage < depth; stage++) {
        S::clear(ring + stage * S::WORDS, lane, 32);
    }
    __syncwarp();
    // The warp's next 32 entries of the block table, one a lane.
    u32 entries = 0;
    auto copy = [&](u32 index, u32 stage) {
        if (index < count) {
            if (index % 32 == 0) {
                u32 mine = index + lane;
                entries = mine < count ? tables[span.table + begin + warp + mine * DECODE_WARPS] : 0;
            }
            u32 block = begin + warp + index * DECODE_WARPS, left = context - block * BLOCK;
            const u8 *kv_block = pool + ((u64)shuffle(entries, index % 32) * kv_heads + kv_head) * KvBlock<head_dim, fp8>::BYTES;
            S::copy(ring + stage * S::WORDS, kv_block, left < BLOCK ? left : BLOCK, lane, 32);
        }
        copy_commit();
    };
    for (u32 index = 0; index + 1 < depth; index++) {
        copy(index, index);
    }
    u32 stage = 0, next = depth - 1;
    for (u32 index = 0; index < count; index++) {
        if (depth == 3) {
            copy_wait<1>();
        } else {
            copy_wait<0>();
        }
        // All lanes have their part here, and are done with the stage that the next copy goes to.
        __syncwarp();
        copy(index + depth - 1, next);
        i32 left = (i32)(context - (begin + warp + index * DECODE_WARPS) * BLOCK);
        i32 seen[2] = {left, left};
        attention.accumulate(ring + stage * S::WORDS, seen);
        next = stage;
        stage = stage + 1 < depth ? stage + 1 : 0;
    }
    copy_wait<0>();
    attention.finish();

    // The warps' results, where the rings were: greatest score, sum of weights, then the sums of each row.
    __syncthreads();
    constexpr u32 ROW = S::PADDED + 4;
    float *mine = (float *)shared + warp * DECODE_ROWS * ROW;
    for (u32 half = 0; half < 2; half++) {
        u32 row = g + half * 8;
        if (row < rows) {
            float *to = mine + row * ROW;
            if (t == 0) {
                to[0] = attention.row_max[half];
                to[1] = attention.row_sum[half];
            }
            for (u32 j = 0; j < S::STEPS; j++) {
                for (u32 i = 0; i < 8; i++) {
                    to[4 + j * 32 + t * 8 + i] = attention.sums[j * 4 + i % 4][half * 2 + i / 4];
                }
            }
        }
    }
    __syncthreads();
    for (u32 at = threadIdx.x; at < rows * head_dim; at += DECODE_WARPS * 32) {
        u32 row = at / head_dim, column = at % head_dim;
        const float *from = (const float *)shared + row * ROW;
        float row_max = from[0];
        for (u32 other = 1; other < DECODE_WARPS; other++) {
            row_max = max_num(row_max, from[other * DECODE_ROWS * ROW]);
        }
        float sum = 0.0f, row_sum = 0.0f;
        for (u32 other = 0; other < DECODE_WARPS; other++) {
            const float *part = from + other * DECODE_ROWS * ROW;
            float rescale = exp2_fast(part[0] - row_max);
            sum += part[4 + column] * rescale;
            row_sum += part[1] * rescale;
        }
        if (gridDim.x == 1) {
            out[((u64)span.row * heads + first_head + row) * head_dim + column] = to_bf16(sum / row_sum);
        } else {
            u64 place = ((u64)blockIdx.z * heads + first_head + row) * gridDim.x + blockIdx.x;
            partial[place * head_dim + column] = sum;
            if (column == 0) {
                weights[place] = {row_max, row_sum};
            }
        }
    }
}

// As prefill, for spans of one row. Blocks: (splits, kv_heads * tiles of sixteen heads, spans). With one split the result
// goes to `out`; with more, sums to `partial` [spans][heads][splits][head_dim] and (greatest score, sum of weights) to
// `weights` [spans][heads][splits]. A ring is `depth` KV blocks, three or two.
#define DECODE(name, head_dim, fp8) \
    KERNEL(name, DECODE_WARPS * 32, 2, const bf16 *__restrict__ queries, const u8 *__restrict__ pool, \
           const u32 *__restrict__ tables, const Span *__restrict__ spans, bf16 *__restrict__ out, \
           float *__restrict__ partial, f32x2 *__restrict__ weights, u32 heads, u32 kv_heads, \
           u32 depth) { \
        decode<head_dim, fp8>(queries, pool, tables, spans, out, partial, weights, heads, kv_heads, depth); \
    }

DECODE(decode_32_bf16, 32, false)
DECODE(decode_64_bf16, 64, false)
DECODE(decode_80_bf16, 80, false)
DECODE(decode_96_bf16, 96, false)
DECODE(decode_128_bf16, 128, false)
DECODE(decode_32_fp8, 32, true)
DECODE(decode_64_fp8, 64, true)
DECODE(decode_80_fp8, 80, true)
DECODE(decode_96_fp8, 96, true)
DECODE(decode_128_fp8, 128, true)

constexpr u32 COMBINE_WARPS = 8;

// Folds the splits, of which there are at most 64: each warp adds up every eighth, a lane four columns. Blocks: (heads,
// spans). Shared memory: 8 x head_dim floats.
KERNEL(decode_combine, COMBINE_WARPS * 32, 1, const float *__restrict__ partial, const f32x2 *__restrict__ weights,
       const Span *__restrict__ spans, bf16 *__restrict__ out, u32 head_dim, u32 splits) {
    Span span = spans[blockIdx.y];
    // The same for all threads of the block.
    if (span.rows == 0) {
        return;
    }
    u32 head = blockIdx.x, heads = gridDim.x, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    u64 place = ((u64)blockIdx.y * heads + head) * splits;
    // Lane i has splits i and i + 32.
    f32x2 low = lane < splits ? weights[place + lane] : f32x2{-1e30f, 0.0f};
    f32x2 high = lane + 32 < splits ? weights[place + lane + 32] : f32x2{-1e30f, 0.0f};
    float row_max = warp_max(max_num(low.x, high.x));
    float rescale_low = exp2_fast(low.x - row_max), rescale_high = exp2_fast(high.x - row_max);
    float row_sum = warp_sum(low.y * rescale_low + high.y * rescale_high);

    bool here = lane < head_dim / 4;
    f32x4 sum = {0.0f, 0.0f, 0.0f, 0.0f};
    for (u32 split = warp; split < splits; split += COMBINE_WARPS) {
        float rescale = shuffle(split < 32 ? rescale_low : rescale_high, split % 32);
        if (here) {
            f32x4 part = ((const f32x4 *)(partial + (place + split) * head_dim))[lane];
            sum = {sum.x + part.x * rescale, sum.y + part.y * rescale, sum.z + part.z * rescale, sum.w + part.w * rescale};
        }
    }
    float *sums = (float *)shared_memory();
    if (here) {
        ((f32x4 *)(sums + warp * head_dim))[lane] = sum;
    }
    __syncthreads();
    for (u32 column = threadIdx.x; column < head_dim; column += COMBINE_WARPS * 32) {
        float all = 0.0f;
        for (u32 other = 0; other < COMBINE_WARPS; other++) {
            all += sums[other * head_dim + column];
        }
        out[((u64)span.row * heads + head) * head_dim + column] = to_bf16(all / row_sum);
    }
}
