// Eight-bit floats (e4m3: sign, four bits of exponent, three of mantissa, up to 448), and the scales they need.
#pragma once
#include "common.cuh"

// Nearest e4m3, ties to even; never more than 448.
DEVICE u32 to_e4m3(float x) {
    u32 sign = as_bits(x) >> 24 & 0x80;
    float size = as_float(as_bits(x) & 0x7fffffffu);
    size = size > 448.0f ? 448.0f : size;
    if (size < 0.015625f) {
        // Below the normal numbers: multiples of 2^-9. Adding 2^14 leaves just these bits, rounded.
        return sign | (as_bits(add(size, 16384.0f)) - as_bits(16384.0f));
    }
    u32 bits = as_bits(size);
    bits += 0x7ffffu + (bits >> 20 & 1);
    return sign | ((bits >> 20) - (120u << 3));
}

// e4m3 numbers as bf16: their bits moved to where bf16 has sign, exponent and mantissa are the number times 2^-120.
DEVICE u32 from_e4m3(u32 two) {
    u32 spread = (two & 0xffu) | (two & 0xff00u) << 8;
    return mul_bf16x2((spread & 0x00800080u) << 8 | (spread & 0x007f007fu) << 4, 0x7b80);
}

// Sizes are compared as bits, which order magnitudes as floats do and put NaN above all: it makes all of a row NaN.
DEVICE u32 max_abs(u32 a, u32 b) {
    a &= 0x7fffffffu;
    b &= 0x7fffffffu;
    return a > b ? a : b;
}

// Whole warp.
DEVICE u32 warp_max_abs(u32 size) {
    for (u32 mask = 16; mask; mask /= 2) {
        size = max_abs(size, shuffle_xor(size, mask));
    }
    return size;
}

// What numbers up to this size are divided by.
DEVICE float scale_for(u32 size) { return size == 0 ? 1.0f : as_float(size) / 448.0f; }
