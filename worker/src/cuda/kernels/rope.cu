// Between the projections and attention: biases, head norms, rotary positions, and the write to the pool.
#include "kv.cuh"

constexpr u32 ROPE_WARPS = 4;

// Cosine and sine, for angles of any size that positions reach: the quarter turns are taken off in 64 bits.
DEVICE f32x2 cos_sin(double angle) {
    const double PER_QUARTER = 0.63661977236758134, QUARTER = 1.5707963267948966, REST = 6.123233995736766e-17;
    // Rounds to whole numbers: beyond 2^52 there is nothing else.
    const double WHOLE = 6755399441055744.0;
    double quarters = fma64(angle, PER_QUARTER, WHOLE) - WHOLE;
    double x = fma64(-quarters, REST, fma64(-quarters, QUARTER, angle)), square = x * x;
    // Taylor series; |x| <= pi / 4 leaves 1e-13.
    double sine = -1.0 / 39916800.0;
    sine = fma64(sine, square, 1.0 / 362880.0);
    sine = fma64(sine, square, -1.0 / 5040.0);
    sine = fma64(sine, square, 1.0 / 120.0);
    sine = fma64(sine, square, -1.0 / 6.0);
    sine = fma64(sine * square, x, x);
    double cosine = 1.0 / 479001600.0;
    cosine = fma64(cosine, square, -1.0 / 3628800.0);
    cosine = fma64(cosine, square, 1.0 / 40320.0);
    cosine = fma64(cosine, square, -1.0 / 720.0);
    cosine = fma64(cosine, square, 1.0 / 24.0);
    cosine = fma64(cosine, square, -0.5);
    cosine = fma64(cosine, square, 1.0);
    i32 quarter = (i32)quarters & 3;
    float s = (float)sine, c = (float)cosine;
    if (quarter & 1) {
        float swap = s;
        s = c;
        c = -swap;
    }
    return quarter & 2 ? f32x2{-c, -s} : f32x2{c, s};
}

// angles[row][pair] = cosine and sine of positions[row] * turns[pair].x, times turns[pair].y. Once a step: all layers use them.
KERNEL(rope_angles, 128, 1, const u32 *__restrict__ positions, const f32x2 *__restrict__ turns,
       f32x2 *__restrict__ angles, u32 rows, u32 pairs) {
    u32 at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at < rows * pairs) {
        // The angle is a float32 product, as in the implementations that models are trained with.
        f32x2 turn = turns[at % pairs], angle = cos_sin((double)mul((float)positions[at / pairs], turn.x));
        angles[at] = {angle.x * turn.y, angle.y * turn.y};
    }
}

struct Rope {
    const bf16 *qkv;
    const float *bias, *query_norm, *key_norm;
    float eps, scale;
    const f32x2 *angles;
    const u32 *slots;
    bf16 *queries;
    u8 *pool;
    u32 rows, heads, kv_heads, interleaved, rotated;
};

// A warp has one head of one row; a lane has two pairs of it, that is four numbers.
template <u32 head_dim, bool fp8>
DEVICE void rope(const Rope &of) {
    constexpr u32 HALF = head_dim / 2;
    u32 row = blockIdx.x, head = blockIdx.y * ROPE_WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    u32 heads = of.heads, all = heads + 2 * of.kv_heads;
    u32 slot = of.slots[row];
    // The same for the whole warp. A row that fills up a launch has no slot.
    if (head >= all || slot == 0xffffffffu) {
        return;
    }
    bool here = lane < head_dim / 4, is_query = head < heads, is_value = head >= heads + of.kv_heads;
    // Where the lane's two words are: numbers first and first + 1, and second and second + 1. Behind the numbers that rotate,
    // those that stand still are paired likewise.
    u32 turned = of.rotated / 2, still = lane * 2 >= turned;
    u32 first = of.interleaved ? lane * 4 : lane * 2 + still * turned;
    u32 second = of.interleaved ? lane * 4 + 2 : lane * 2 + (still ? HALF : turned);
    float v[4] = {};
    if (here) {
        const u32 *from = (const u32 *)(of.qkv + ((u64)row * all + head) * head_dim);
        u32 a = from[first / 2], b = from[second / 2];
        v[0] = low_bf16(a);
        v[1] = high_bf16(a);
        v[2] = low_bf16(b);
        v[3] = high_bf16(b);
        if (of.bias) {
            const float *bias = of.bias + head * head_dim;
            v[0] += bias[first];
            v[1] += bias[first + 1];
            v[2] += bias[second];
            v[3] += bias[second + 1];
        }
    }
    const float *norm = is_query ? of.query_norm : of.key_norm;
    if (norm && !is_value) {
        float squares = warp_sum(v[0] * v[0] + v[1] * v[1] + v[2] * v[2] + v[3] * v[3]);
        float inverse = 1.0f / square_root(squares / (float)head_dim + of.eps);
        if (here) {
            v[0] *= inverse * norm[first];
            v[1] *= inverse * norm[first + 1];
            v[2] *= inverse * norm[second];
            v[3] *= inverse * norm[second + 1];
        }
    }
    if (!is_value && here) {
        f32x4 angle = ((const f32x4 *)(of.angles + (u64)row * HALF))[lane];
        float x = v[0], y = v[2], z = v[1], w = v[3];
        if (of.interleaved) {
            v[0] = x * angle.x - z * angle.y;
            v[1] = x * angle.y + z * angle.x;
            v[2] = y * angle.z - w * angle.w;
            v[3] = y * angle.w + w * angle.z;
        } else {
            v[0] = x * angle.x - y * angle.y;
            v[2] = x * angle.y + y * angle.x;
            v[1] = z * angle.z - w * angle.w;
            v[3] = z * angle.w + w * angle.z;
        }
    }
    if (is_query) {
        if (here) {
            u32 *to = (u32 *)(of.queries + ((u64)row * heads + head) * head_dim);
            to[first / 2] = pack_bf16(v[0] * of.scale, v[1] * of.scale);
            to[second / 2] = pack_bf16(v[2] * of.scale, v[3] * of.scale);
        }
        return;
    }
    u32 kv_head = is_value ? head - heads - of.kv_heads : head - heads, position = slot % BLOCK;
    typedef KvBlock<head_dim, fp8> P;
    u8 *kv_block = of.pool + ((u64)(slot / BLOCK) * of.kv_heads + kv_head) * P::BYTES;
    u8 *half = kv_block + (is_value ? P::HALF : 0);
    // Each number's bits, in the low bytes of a word.
    u32 bits[4];
    if (fp8) {
        u32 row_max = max_abs(max_abs(as_bits(v[0]), as_bits(v[1])), max_abs(as_bits(v[2]), as_bits(v[3])));
        float scale = scale_for(warp_max_abs(row_max));
        for (u32 i = 0; i < 4; i++) {
            bits[i] = to_e4m3(v[i] / scale);
        }
        if (lane == 0) {
            ((float *)(kv_block + 2 * P::HALF))[(is_value ? BLOCK : 0) + position] = scale;
        }
    } else {
        for (u32 i = 0; i < 4; i++) {
            bits[i] = to_bf16(v[i]).bits;
        }
    }
    if (!here) {
        return;
    }
    if (!is_value) {
        u8 *to = half + position * head_dim * P::NUMBER;
        if (fp8) {
            ((u16 *)to)[first / 2] = (u16)(bits[0] | bits[1] << 8);
            ((u16 *)to)[second / 2] = (u16)(bits[2] | bits[3] << 8);
        } else {
            ((u32 *)to)[first / 2] = bits[0] | bits[1] << 16;
            ((u32 *)to)[second / 2] = bits[2] | bits[3] << 16;
        }
        return;
    }
    // Attention multiplies the second position of a pair by zero while nothing is there: what an earlier sequence left
    // must not be NaN then. Whoever writes the first clears it, unless this launch writes it as well.
    bool clear = position % 2 == 0 && !(row + 1 < of.rows && of.slots[row + 1] == slot + 1);
    u32 at[4] = {first, first + 1, second, second + 1};
    for (u32 i = 0; i < 4; i++) {
        u32 pair = position / 2 * head_dim + at[i];
        if (fp8) {
            clear ? (void)(((u16 *)half)[pair] = (u16)bits[i]) : (void)(half[pair * 2 + position % 2] = (u8)bits[i]);
        } else {
            clear ? (void)(((u32 *)half)[pair] = bits[i]) : (void)(((u16 *)half)[pair * 2 + position % 2] = (u16)bits[i]);
        }
    }
}

// qkv [rows][heads + 2 kv_heads][head_dim] -> queries [rows][heads][head_dim], times `scale`; keys and values into the
// layer's pool, row r at slots[r] = block * 16 + position in it, nowhere for the highest number. bias [all heads][head_dim],
// norms [head_dim]; null for none. Pairs are (2i, 2i + 1) if interleaved, else (i, i + rotated / 2) of the first `rotated`, a
// multiple of 4.
// Blocks: (rows, all heads / 4).
#define ROPE(name, head_dim, fp8) \
    KERNEL(name, ROPE_WARPS * 32, 8, const bf16 *__restrict__ qkv, const float *__restrict__ bias, \
           const float *__restrict__ query_norm, const float *__restrict__ key_norm, float eps, float scale, \
           const f32x2 *__restrict__ angles, const u32 *__restrict__ slots, bf16 *__restrict__ queries, \
           u8 *__restrict__ pool, u32 rows, u32 heads, u32 kv_heads, u32 interleaved, u32 rotated) { \
        rope<head_dim, fp8>({qkv, bias, query_norm, key_norm, eps, scale, angles, slots, queries, pool, rows, heads, \
                             kv_heads, interleaved, rotated}); \
    }

ROPE(rope_32_bf16, 32, false)
ROPE(rope_64_bf16, 64, false)
ROPE(rope_80_bf16, 80, false)
ROPE(rope_96_bf16, 96, false)
ROPE(rope_128_bf16, 128, false)
ROPE(rope_32_fp8, 32, true)
ROPE(rope_64_fp8, 64, true)
ROPE(rope_80_fp8, 80, true)
ROPE(rope_96_fp8, 96, true)
ROPE(rope_128_fp8, 128, true)
