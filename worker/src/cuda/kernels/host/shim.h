// The host's side of common.cuh: kernels compiled by a plain C++ compiler and run thread by thread.
//
// Each thread of a block is a fibre with a stack of its own; blocks run one after the other. A fibre runs until it must
// wait for others: at a barrier, or where a warp exchanges numbers. What a GPU leaves undefined is an error here:
// threads that miss a barrier or wait at different ones, reads of shared memory that nobody wrote (it is full of NaN),
// copies that nobody waited for (they happen at the wait), and accesses outside of buffers, which end at closed pages.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#define DEVICE inline
#define __restrict__ __restrict

namespace host {

struct Index {
    u32 x, y, z;
};

// One thread of the block that runs now.
struct Thread {
    Index index;
    u32 lane;
};

// What the kernel may ask about where it is.
struct BlockContext {
    Index block, block_size, grid;
    u8 *shared;
};

extern thread_local Thread *thread;
extern thread_local BlockContext block_context;

// Kinds of barriers. Threads at barriers of different kinds or lines wait for ever.
enum class Barrier { none, block, warp };

// Leaves `mine` for the others and waits for them; gives what all threads of the warp or block left, 64 bytes each.
constexpr u32 SLOT = 64;
const u8 *arrive_and_wait(Barrier barrier, int line, const void *mine, u32 bytes);

void copy_later(void *to, const void *from, bool here);
void copy_close();
void copy_finish(u32 groups);

template <class T>
T from_lane(const u8 *slots, u32 lane) {
    T value;
    std::memcpy(&value, slots + lane * SLOT, sizeof value);
    return value;
}

template <class T>
T exchange(T mine, u32 from, int line) {
    return from_lane<T>(arrive_and_wait(Barrier::warp, line, &mine, sizeof mine), from);
}

// Kernels by name: each calls itself with arguments that lie where a list of addresses says.
struct Entry {
    const char *name;
    u32 arguments, threads;
    void (*call)(const void *function, void **arguments);
    const void *function;
    Entry *next;
};

extern Entry *entries;

struct Register {
    Entry entry;

    template <class... Parameters>
    Register(const char *name, u32 threads, void (*function)(Parameters...)) {
        auto call = [](const void *function, void **arguments) {
            spread(reinterpret_cast<void (*)(Parameters...)>(const_cast<void *>(function)), arguments,
                   std::index_sequence_for<Parameters...>{});
        };
        entry = {name, sizeof...(Parameters), threads, call, reinterpret_cast<const void *>(function), entries};
        entries = &entry;
    }

    template <class... Parameters, size_t... at>
    static void spread(void (*function)(Parameters...), void **arguments, std::index_sequence<at...>) {
        function(*static_cast<std::remove_reference_t<Parameters> *>(arguments[at])...);
    }
};

}  // namespace host

#define threadIdx (host::thread->index)
#define blockIdx (host::block_context.block)
#define blockDim (host::block_context.block_size)
#define gridDim (host::block_context.grid)

#define KERNEL(name, threads, blocks, ...) \
    static void name(__VA_ARGS__); \
    static host::Register register_##name(#name, threads, name); \
    static void name(__VA_ARGS__)

DEVICE u8 *shared_memory() { return host::block_context.shared; }

DEVICE void __syncthreads(int line = __builtin_LINE()) { host::arrive_and_wait(host::Barrier::block, line, nullptr, 0); }
DEVICE void __syncwarp(int line = __builtin_LINE()) { host::arrive_and_wait(host::Barrier::warp, line, nullptr, 0); }

DEVICE bool block_any(bool x, int line = __builtin_LINE()) {
    const u8 *slots = host::arrive_and_wait(host::Barrier::block, line, &x, sizeof x);
    bool any = false;
    for (u32 at = 0; at < blockDim.x; at++) {
        any |= host::from_lane<bool>(slots, at);
    }
    return any;
}

DEVICE float as_float(u32 bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

DEVICE u32 as_bits(float x) {
    u32 bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}

// The build forbids fused arithmetic.
DEVICE float mul(float a, float b) { return a * b; }
DEVICE float add(float a, float b) { return a + b; }
DEVICE float sub(float a, float b) { return a - b; }
DEVICE double mul64(double a, double b) { return a * b; }
DEVICE double fma64(double a, double b, double c) { return std::fma(a, b, c); }
DEVICE float exp2_fast(float x) { return std::exp2(x); }
DEVICE float square_root(float x) { return std::sqrt(x); }

DEVICE bf16 to_bf16(float x) {
    u32 bits = as_bits(x);
    bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
    return {nan ? (u16)0x7fff : (u16)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16)};
}

DEVICE u32 pack_bf16(float low, float high) { return to_bf16(low).bits | (u32)to_bf16(high).bits << 16; }

DEVICE u32 mul_bf16x2(u32 x, u32 factor) {
    float by = as_float(factor << 16);
    return pack_bf16(as_float(x << 16) * by, as_float(x & 0xffff0000u) * by);
}

DEVICE float from_f16(u16 bits) {
    u32 sign = (u32)(bits & 0x8000) << 16, rest = bits & 0x7fff;
    if (rest >= 0x7c00) {
        return as_float(sign | 0x7f800000u | (rest & 0x3ff) << 13);
    }
    // As a float32 with the same bits its exponent is 112 too small; subnormals come out right too.
    return as_float(sign | as_bits(as_float(rest << 13) * 0x1p112f));
}

DEVICE float shuffle_xor(float x, u32 mask, int line = __builtin_LINE()) { return host::exchange(x, host::thread->lane ^ mask, line); }
DEVICE u32 shuffle_xor(u32 x, u32 mask, int line = __builtin_LINE()) { return host::exchange(x, host::thread->lane ^ mask, line); }
DEVICE double shuffle_xor(double x, u32 mask, int line = __builtin_LINE()) { return host::exchange(x, host::thread->lane ^ mask, line); }
DEVICE float shuffle(float x, u32 lane, int line = __builtin_LINE()) { return host::exchange(x, lane, line); }
DEVICE u32 shuffle(u32 x, u32 lane, int line = __builtin_LINE()) { return host::exchange(x, lane, line); }

template <class T>
DEVICE T shuffle_up_of(T x, u32 by, int line) {
    u32 lane = host::thread->lane;
    return host::exchange(x, lane < by ? lane : lane - by, line);
}

DEVICE u32 shuffle_up(u32 x, u32 by, int line = __builtin_LINE()) { return shuffle_up_of(x, by, line); }
DEVICE double shuffle_up(double x, u32 by, int line = __builtin_LINE()) { return shuffle_up_of(x, by, line); }

DEVICE u32 ballot(bool x, int line = __builtin_LINE()) {
    const u8 *slots = host::arrive_and_wait(host::Barrier::warp, line, &x, sizeof x);
    u32 bits = 0;
    for (u32 lane = 0; lane < 32; lane++) {
        bits |= (u32)host::from_lane<bool>(slots, lane) << lane;
    }
    return bits;
}

DEVICE u32 shared_add(u32 *to, u32 x) { return (*to += x) - x; }
DEVICE void shared_min(u32 *to, u32 x) { *to = x < *to ? x : *to; }

DEVICE void copy_async(void *shared, const void *global, bool here) { host::copy_later(shared, global, here); }
DEVICE void copy_commit() { host::copy_close(); }

template <int groups>
DEVICE void copy_wait() {
    host::copy_finish(groups);
}

struct Operands {
    u32 a[4], b[2];
};

DEVICE void multiply_tile(float (&sums)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1, int line = __builtin_LINE()) {
    Operands mine = {{a0, a1, a2, a3}, {b0, b1}};
    const u8 *slots = host::arrive_and_wait(host::Barrier::warp, line, &mine, sizeof mine);
    u32 g = host::thread->lane / 4, t = host::thread->lane % 4;
    for (u32 k = 0; k < 16; k++) {
        // Which lane of a group of four holds element k, in which register and half.
        u32 quarter = k % 8 / 2, high = k / 8, shift = k % 2 ? 0 : 16;
        auto half = [&](u32 word) { return as_float(word << shift & 0xffff0000u); };
        Operands row = host::from_lane<Operands>(slots, g * 4 + quarter);
        float top = half(row.a[high * 2]), bottom = half(row.a[high * 2 + 1]);
        for (u32 n = 0; n < 2; n++) {
            float b = half(host::from_lane<Operands>(slots, (t * 2 + n) * 4 + quarter).b[high]);
            sums[n] += top * b;
            sums[n + 2] += bottom * b;
        }
    }
}
