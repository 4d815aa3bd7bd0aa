// Weights of every type that the loader knows become bf16, once, at load. Block layouts are those of the GGUF format; the
// numbers have the bits that model/quant.rs gives, before they are rounded to bf16.
#include "common.cuh"

// Number `i` of the block that begins at `data`.
struct F32 {
    static constexpr u32 BLOCK = 1, BYTES = 4;
    static DEVICE float number(const u8 *data, u32) {
        return as_float(data[0] | data[1] << 8 | data[2] << 16 | (u32)data[3] << 24);
    }
};

DEVICE float half_at(const u8 *data) { return from_f16((u16)(data[0] | data[1] << 8)); }

struct F16 {
    static constexpr u32 BLOCK = 1, BYTES = 2;
    static DEVICE float number(const u8 *data, u32) { return half_at(data); }
};

struct BF16 {
    static constexpr u32 BLOCK = 1, BYTES = 2;
    static DEVICE float number(const u8 *data, u32) { return as_float((u32)(data[0] | data[1] << 8) << 16); }
};

// Four bits: number i from the low half of byte i, number i + 16 from the high half.
DEVICE u32 four_bits(const u8 *quants, u32 i) { return quants[i % 16] >> (i / 16 * 4) & 15; }

struct Q4_0 {
    static constexpr u32 BLOCK = 32, BYTES = 18;
    static DEVICE float number(const u8 *data, u32 i) {
        return mul((float)((i32)four_bits(data + 2, i) - 8), half_at(data));
    }
};

struct Q4_1 {
    static constexpr u32 BLOCK = 32, BYTES = 20;
    static DEVICE float number(const u8 *data, u32 i) {
        return add(mul((float)four_bits(data + 4, i), half_at(data)), half_at(data + 2));
    }
};

// The fifth bit of number i is bit i of `high`.
DEVICE u32 five_bits(const u8 *high, const u8 *quants, u32 i) {
    return four_bits(quants, i) | (u32)(high[i / 8] >> i % 8 & 1) << 4;
}

struct Q5_0 {
    static constexpr u32 BLOCK = 32, BYTES = 22;
    static DEVICE float number(const u8 *data, u32 i) {
        return mul((float)((i32)five_bits(data + 2, data + 6, i) - 16), half_at(data));
    }
};

struct Q5_1 {
    static constexpr u32 BLOCK = 32, BYTES = 24;
    static DEVICE float number(const u8 *data, u32 i) {
        return add(mul((float)five_bits(data + 4, data + 8, i), half_at(data)), half_at(data + 2));
    }
};

struct Q8_0 {
    static constexpr u32 BLOCK = 32, BYTES = 34;
    static DEVICE float number(const u8 *data, u32 i) { return mul((float)(i8)data[2 + i], half_at(data)); }
};

// q * scale - minimum of group `j` of eight, which have six bits each: four groups lie whole in bytes 0..8, the others are
// split.
DEVICE float scaled(const u8 *data, u32 j, u32 q) {
    const u8 *packed = data + 4;
    u32 scale = j < 4 ? packed[j] & 63 : (packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4;
    u32 least = j < 4 ? packed[j + 4] & 63 : packed[j + 4] >> 4 | (packed[j] >> 6) << 4;
    return sub(mul(mul(half_at(data), (float)scale), (float)q), mul(half_at(data + 2), (float)least));
}

struct Q4K {
    static constexpr u32 BLOCK = 256, BYTES = 144;
    static DEVICE float number(const u8 *data, u32 i) {
        u32 group = i / 32, byte = data[16 + group / 2 * 32 + i % 32];
        return scaled(data, group, byte >> (group % 2 * 4) & 15);
    }
};

struct Q5K {
    static constexpr u32 BLOCK = 256, BYTES = 176;
    static DEVICE float number(const u8 *data, u32 i) {
        u32 group = i / 32, byte = data[48 + group / 2 * 32 + i % 32];
        u32 fifth = data[16 + i % 32] >> group & 1;
        return scaled(data, group, (byte >> (group % 2 * 4) & 15) | fifth << 4);
    }
};

struct Q6K {
    static constexpr u32 BLOCK = 256, BYTES = 210;
    static DEVICE float number(const u8 *data, u32 i) {
        // Each half is four runs of 32: they share the bytes of the low bits in pairs, of the high bits in fours.
        u32 half = i / 128, run = i % 128 / 32, l = i % 32;
        u32 four = data[half * 64 + run % 2 * 32 + l] >> (run / 2 * 4) & 15;
        u32 two = data[128 + half * 32 + l] >> (2 * run) & 3;
        float scale = mul(half_at(data + 208), (float)(i8)data[192 + i / 16]);
        return mul(scale, (float)((i32)(four | two << 4) - 32));
    }
};

// Each 32 bytes hold four runs of 32 numbers.
DEVICE u32 two_bits(const u8 *quants, u32 i) { return quants[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3; }

struct Q2K {
    static constexpr u32 BLOCK = 256, BYTES = 84;
    static DEVICE float number(const u8 *data, u32 i) {
        u32 packed = data[i / 16];
        float scaled = mul(mul(half_at(data + 80), (float)(packed & 15)), (float)two_bits(data + 16, i));
        return sub(scaled, mul(half_at(data + 82), (float)(packed >> 4)));
    }
};

struct Q3K {
    static constexpr u32 BLOCK = 256, BYTES = 110;
    static DEVICE float number(const u8 *data, u32 i) {
        const u8 *packed = data + 96;
        u32 j = i / 16, low = j < 8 ? packed[j] & 15 : packed[j - 8] >> 4;
        u32 scale = low | (packed[8 + j % 4] >> (j / 4 * 2) & 3) << 4;
        u32 third = (u32)(data[i % 32] >> (i / 32) & 1) << 2;
        i32 q = (i32)(two_bits(data + 32, i) | third) - 4;
        return mul(mul(half_at(data + 108), (float)((i32)scale - 32)), (float)q);
    }
};

// What four bits choose from: -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113.
DEVICE float from_list(u32 four) {
    u64 half = four < 8 ? 0xf6eaddcfbfad9881ull : 0x7159453526190d01ull;
    return (float)(i8)(u8)(half >> (four % 8 * 8));
}

struct IQ4NL {
    static constexpr u32 BLOCK = 32, BYTES = 18;
    static DEVICE float number(const u8 *data, u32 i) { return mul(half_at(data), from_list(four_bits(data + 2, i))); }
};

struct IQ4XS {
    static constexpr u32 BLOCK = 256, BYTES = 136;
    static DEVICE float number(const u8 *data, u32 i) {
        u32 run = i / 32, high = data[2] | data[3] << 8, low = data[4 + run / 2] >> (run % 2 * 4) & 15;
        i32 scale = (i32)(low | (high >> (2 * run) & 3) << 4) - 32;
        return mul(mul(half_at(data), (float)scale), from_list(four_bits(data + 8 + run * 16, i % 32)));
    }
};

// Eight numbers a thread.
template <class Type>
DEVICE void dequantise(const u8 *data, bf16 *out, u64 count) {
    u64 first = ((u64)blockIdx.x * blockDim.x + threadIdx.x) * 8;
    for (u64 at = first; at < first + 8 && at < count; at++) {
        out[at] = to_bf16(Type::number(data + at / Type::BLOCK * Type::BYTES, (u32)(at % Type::BLOCK)));
    }
}

#define DEQUANTISE(name, Type) \
    KERNEL(name, 256, 1, const u8 *__restrict__ data, bf16 *__restrict__ out, u64 count) { dequantise<Type>(data, out, count); }

DEQUANTISE(dequantise_f32, F32)
DEQUANTISE(dequantise_f16, F16)
DEQUANTISE(dequantise_bf16, BF16)
DEQUANTISE(dequantise_q4_0, Q4_0)
DEQUANTISE(dequantise_q4_1, Q4_1)
DEQUANTISE(dequantise_q5_0, Q5_0)
DEQUANTISE(dequantise_q5_1, Q5_1)
DEQUANTISE(dequantise_q8_0, Q8_0)
DEQUANTISE(dequantise_q4_k, Q4K)
DEQUANTISE(dequantise_q5_k, Q5K)
DEQUANTISE(dequantise_q6_k, Q6K)
DEQUANTISE(dequantise_q2_k, Q2K)
DEQUANTISE(dequantise_q3_k, Q3K)
DEQUANTISE(dequantise_iq4_nl, IQ4NL)
DEQUANTISE(dequantise_iq4_xs, IQ4XS)
