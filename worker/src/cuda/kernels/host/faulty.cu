// Kernels that are faulty on purpose: the tests of the host build want each of them caught.
#include "common.cuh"

KERNEL(faulty_nothing, 64, 1, u32 *out) { out[threadIdx.x] = threadIdx.x; }

KERNEL(faulty_write_past_the_end, 64, 1, u32 *out) { out[threadIdx.x + 1] = 1; }

KERNEL(faulty_read_before_the_start, 64, 1, u32 *out) { out[threadIdx.x] = *(&out[threadIdx.x] - 1); }

KERNEL(faulty_alignment, 64, 1, u32 *out) { *(u32x2 *)(out + 1) = {1, 2}; }

KERNEL(faulty_shared_past_the_end, 64, 1, u32 *out) {
    u32 *shared = (u32 *)shared_memory();
    shared[threadIdx.x + 1] = 1;
    out[threadIdx.x] = 1;
}

// The second warp does not come to the barrier.
KERNEL(faulty_barrier_missed, 64, 1, u32 *out) {
    if (threadIdx.x < 32) {
        __syncthreads();
    }
    out[threadIdx.x] = 1;
}

// Each warp comes to a barrier of its own.
KERNEL(faulty_barriers_apart, 64, 1, u32 *out) {
    if (threadIdx.x < 32) {
        __syncthreads();
    } else {
        __syncthreads();
    }
    out[threadIdx.x] = 1;
}

// Half a warp exchanges.
KERNEL(faulty_exchange, 64, 1, u32 *out) {
    if (threadIdx.x % 32 < 16) {
        out[threadIdx.x] = shuffle_xor(threadIdx.x, 1);
    }
}

// Reads what the copy has not brought yet.
KERNEL(faulty_copy_not_waited_for, 64, 1, u32 *out) {
    u32 *shared = (u32 *)shared_memory();
    if (threadIdx.x < 16) {
        copy_async(shared + threadIdx.x * 4, out + threadIdx.x * 4, true);
    }
    copy_commit();
    __syncthreads();
    u32 found = shared[threadIdx.x];
    __syncthreads();
    copy_wait<0>();
    out[threadIdx.x] = found;
}

// A barrier is missing between what one warp writes and the other reads.
KERNEL(faulty_race, 64, 1, u32 *out) {
    u32 *shared = (u32 *)shared_memory();
    shared[threadIdx.x] = threadIdx.x;
    out[threadIdx.x] = shared[threadIdx.x ^ 32];
}
