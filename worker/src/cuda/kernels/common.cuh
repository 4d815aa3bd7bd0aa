// What all kernels share: number types, entry points, and the few instructions that C++ has no word for. Each of those is
// a function here, and the host build has a counterpart of the same name in host/shim.h; kernels use nothing else of CUDA but
// threadIdx, blockIdx, gridDim, blockDim, __syncthreads, __syncwarp and __restrict__.
//
// Rules that the host build holds kernels to: blocks are whole warps; the functions marked "whole warp" are called by all
// 32 lanes together; all threads meet at the same __syncthreads; shared memory is dynamic only, and is garbage at first.
#pragma once

typedef signed char i8;
typedef unsigned char u8;
typedef unsigned short u16;
typedef int i32;
typedef unsigned int u32;
typedef unsigned long long u64;

// A bf16 number. bf16 to float is a shift.
struct bf16 {
    u16 bits;
};

// 16 bytes, the widest access there is.
struct alignas(16) u32x4 {
    u32 x, y, z, w;
};

struct alignas(8) u32x2 {
    u32 x, y;
};

struct alignas(16) f32x4 {
    float x, y, z, w;
};

struct alignas(8) f32x2 {
    float x, y;
};

#ifdef __CUDACC__

#define DEVICE __device__ __forceinline__

// KERNEL(name, threads of a block at most, blocks per multiprocessor at least, parameters...)
#define KERNEL(name, threads, blocks, ...) \
    extern "C" __global__ void __launch_bounds__(threads, blocks) name(__VA_ARGS__)

DEVICE u8 *shared_memory() {
    extern __shared__ __align__(16) unsigned char dynamic_shared[];
    return dynamic_shared;
}

DEVICE float as_float(u32 bits) { return __uint_as_float(bits); }
DEVICE u32 as_bits(float x) { return __float_as_uint(x); }

// Rounded each for itself: never fused, so that the bits are those of the CPU's arithmetic.
DEVICE float mul(float a, float b) { return __fmul_rn(a, b); }
DEVICE float add(float a, float b) { return __fadd_rn(a, b); }
DEVICE float sub(float a, float b) { return __fadd_rn(a, -b); }
DEVICE double mul64(double a, double b) { return __dmul_rn(a, b); }
DEVICE double fma64(double a, double b, double c) { return __fma_rn(a, b, c); }

// 2^x within 2^-22, 0 for -infinity.
DEVICE float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

DEVICE float square_root(float x) { return __fsqrt_rn(x); }

// Nearest bf16, ties to even.
DEVICE bf16 to_bf16(float x) {
    bf16 y;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
}

// Two of them in a word, the first in the low half.
DEVICE u32 pack_bf16(float low, float high) {
    u32 y;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
    return y;
}

// Both halves times the bf16 number `factor`, rounded to nearest.
DEVICE u32 mul_bf16x2(u32 x, u32 factor) {
    u32 y;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(y) : "r"(x), "r"(factor | factor << 16), "r"(0x80008000u));
    return y;
}

DEVICE float from_f16(u16 bits) {
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(bits));
    return y;
}

// Whole warp.
DEVICE float shuffle_xor(float x, u32 mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
DEVICE u32 shuffle_xor(u32 x, u32 mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
DEVICE u32 shuffle_up(u32 x, u32 by) { return __shfl_up_sync(0xffffffffu, x, by); }
DEVICE double shuffle_xor(double x, u32 mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
DEVICE double shuffle_up(double x, u32 by) { return __shfl_up_sync(0xffffffffu, x, by); }
DEVICE float shuffle(float x, u32 lane) { return __shfl_sync(0xffffffffu, x, lane); }
DEVICE u32 shuffle(u32 x, u32 lane) { return __shfl_sync(0xffffffffu, x, lane); }
DEVICE u32 ballot(bool x) { return __ballot_sync(0xffffffffu, x); }

// Whole block: whether `x` holds for any thread. A barrier.
DEVICE bool block_any(bool x) { return __syncthreads_or(x); }

// In shared memory.
DEVICE u32 shared_add(u32 *to, u32 x) { return atomicAdd(to, x); }

DEVICE void shared_min(u32 *to, u32 x) { atomicMin(to, x); }

// Copies 16 bytes to shared memory behind the thread's back; `here` false writes zeros and reads nothing.
DEVICE void copy_async(void *shared, const void *global, bool here) {
    u32 to = (u32)__cvta_generic_to_shared(shared);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(here ? 16 : 0) : "memory");
}

// Closes the group of the copies since the last call.
DEVICE void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits for the thread's own copies, but for the latest `groups` groups. Others see them after a barrier.
template <int groups>
DEVICE void copy_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(groups) : "memory");
}

// Whole warp: sums[16][8] += a[16][16] * b[16][8], bf16 into float32, on the tensor cores. With g = lane / 4 and
// t = lane % 4, a lane holds sums[g][2t, 2t+1] and sums[g + 8][2t, 2t+1]; a[g][2t, +1], a[g + 8][2t, +1],
// a[g][2t + 8, +1], a[g + 8][2t + 8, +1]; b[2t, +1][g] and b[2t + 8, +1][g].
DEVICE void multiply_tile(float (&sums)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

#else
#include "shim.h"
#endif

DEVICE float infinite() { return as_float(0x7f800000u); }
DEVICE float to_float(bf16 x) { return as_float((u32)x.bits << 16); }
DEVICE float low_bf16(u32 pair) { return as_float(pair << 16); }
DEVICE float high_bf16(u32 pair) { return as_float(pair & 0xffff0000u); }

// The greater one; of a NaN the other.
DEVICE float max_num(float a, float b) { return a > b ? a : b; }

// Whole warp; every lane gets the result, summed in the same order whatever the numbers are.
DEVICE float warp_sum(float x) {
    for (u32 mask = 16; mask; mask /= 2) {
        x += shuffle_xor(x, mask);
    }
    return x;
}

DEVICE float warp_max(float x) {
    for (u32 mask = 16; mask; mask /= 2) {
        x = max_num(x, shuffle_xor(x, mask));
    }
    return x;
}

// Whole block of up to 1024 threads; `scratch` is 32 floats of shared memory.
DEVICE float block_sum(float x, float *scratch) {
    x = warp_sum(x);
    u32 warps = blockDim.x / 32, lane = threadIdx.x % 32;
    if (lane == 0) {
        scratch[threadIdx.x / 32] = x;
    }
    __syncthreads();
    return warp_sum(lane < warps ? scratch[lane] : 0.0f);
}

DEVICE float block_max(float x, float *scratch) {
    x = warp_max(x);
    u32 warps = blockDim.x / 32, lane = threadIdx.x % 32;
    if (lane == 0) {
        scratch[threadIdx.x / 32] = x;
    }
    __syncthreads();
    return warp_max(lane < warps ? scratch[lane] : -infinite());
}
