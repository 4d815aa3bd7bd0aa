// From logits to tokens, a row at a time, as ops/sampler.rs says: bias, repetition penalty, mask, temperature, top-k,
// top-p of what top-k kept, min-p, draw; among equal logits the lower id counts as the greater one.
//
// `sample_scan` changes the logits and finds the greatest of each chunk; `sample_choose` goes on with one block a row.
#include "chooser.cuh"

struct Bias {
    u32 token;
    float bias;
};

// The greatest logit of a chunk, and the lowest id that has it.
struct Peak {
    float max_logit;
    u32 token;
};

// In place of a token: the logits are not numbers; every token is forbidden.
constexpr u32 NOT_NUMBERS = 0xffffffffu, NOTHING_ALLOWED = 0xfffffffeu;

constexpr u32 CHUNK = 4096, SCAN_THREADS = 256;

DEVICE Peak greater_peak(Peak a, Peak b) {
    return b.max_logit > a.max_logit || (b.max_logit == a.max_logit && b.token < a.token) ? b : a;
}

// Whole block; every thread gets the result. `scratch` is 32 peaks of shared memory.
DEVICE Peak block_peak(Peak mine, Peak *scratch) {
    for (u32 mask = 16; mask; mask /= 2) {
        mine = greater_peak(mine, {shuffle_xor(mine.max_logit, mask), shuffle_xor(mine.token, mask)});
    }
    if (threadIdx.x % 32 == 0) {
        scratch[threadIdx.x / 32] = mine;
    }
    __syncthreads();
    for (u32 warp = 0; warp < blockDim.x / 32; warp++) {
        mine = greater_peak(mine, scratch[warp]);
    }
    return mine;
}

// Blocks: (chunks, rows). Shared memory: 32 peaks.
KERNEL(sample_scan, SCAN_THREADS, 1, float *__restrict__ logits, const Row *__restrict__ rows,
       const Bias *__restrict__ biases, const u32 *__restrict__ penalised, const u32 *__restrict__ masks,
       Peak *__restrict__ peaks, u32 vocab) {
    const Row &row = rows[blockIdx.y];
    float *all = logits + (u64)blockIdx.y * vocab;
    u32 begin = blockIdx.x * CHUNK, end = begin + CHUNK < vocab ? begin + CHUNK : vocab;
    for (u32 at = row.bias_begin + threadIdx.x; at < row.bias_end; at += SCAN_THREADS) {
        u32 token = biases[at].token;
        bool first = token >= begin && token < end;
        for (u32 other = row.bias_begin; other < at && first; other++) {
            first = biases[other].token != token;
        }
        // A token that stands there twice is added to twice, in order.
        for (u32 other = at; other < row.bias_end && first; other++) {
            if (biases[other].token == token) {
                all[token] = add(all[token], biases[other].bias);
            }
        }
    }
    __syncthreads();
    if (row.penalty != 1.0f) {
        for (u32 at = row.penalised_begin + threadIdx.x; at < row.penalised_end; at += SCAN_THREADS) {
            u32 token = penalised[at];
            if (token >= begin && token < end) {
                float logit = all[token];
                all[token] = logit > 0.0f ? logit / row.penalty : mul(logit, row.penalty);
            }
        }
    }
    __syncthreads();
    Peak mine = {-infinite(), NOT_NUMBERS};
    bool nan = false;
    for (u32 token = begin + threadIdx.x; token < end; token += SCAN_THREADS) {
        float logit = all[token];
        if (row.mask != ALL_ALLOWED) {
            u32 word = token / 32 < row.mask_words ? masks[row.mask + token / 32] : 0;
            if (!(word >> token % 32 & 1)) {
                logit = -infinite();
                all[token] = logit;
            }
        }
        nan |= logit != logit;
        // Ids grow, so the first of equals stays.
        mine = logit > mine.max_logit ? Peak{logit, token} : mine;
    }
    mine = block_peak(mine, (Peak *)shared_memory());
    nan = block_any(nan);
    if (threadIdx.x == 0) {
        // Infinity is as little of a number.
        peaks[blockIdx.y * gridDim.x + blockIdx.x] = nan ? Peak{infinite(), NOT_NUMBERS} : mine;
    }
}

// tokens[row] = the token chosen, or why there is none. Blocks: (rows). Shared memory: one `Shared`.
KERNEL(sample_choose, CHOOSE_THREADS, 1, const float *__restrict__ logits, const Row *__restrict__ rows,
       const Peak *__restrict__ peaks, u32 *__restrict__ tokens, u32 vocab, u32 chunks) {
    Shared &shared = *(Shared *)shared_memory();
    const Row &row = rows[blockIdx.x];
    Peak peak = {-infinite(), NOT_NUMBERS};
    for (u32 at = threadIdx.x; at < chunks; at += blockDim.x) {
        peak = greater_peak(peak, peaks[blockIdx.x * chunks + at]);
    }
    peak = block_peak(peak, (Peak *)&shared.few_keys);
    u32 token = peak.token;
    if (peak.max_logit == infinite()) {
        token = NOT_NUMBERS;
    } else if (peak.max_logit == -infinite()) {
        token = NOTHING_ALLOWED;
    } else if (row.temperature > 0.0f) {
        Chooser chooser = {logits + (u64)blockIdx.x * vocab, shared, vocab, peak.max_logit, 1.44269504f / row.temperature, false};
        // The last token that is kept, and the weight of all that are. Nothing is cut off yet.
        u64 last = 0;
        double total = 0.0, drawn = uniform(row);
        bool limited = row.top_k >= 1 && row.top_k < vocab && chooser.cut((double)row.top_k, true, false);
        if (limited) {
            last = shared.key;
            total = shared.weight_through;
        }
        if (row.top_p < 1.0f) {
            if (!limited) {
                // No weight reaches this: only the sum of all is asked for.
                chooser.cut(1e300, false, false);
                total = shared.total;
            }
            if (chooser.cut((double)row.top_p * total, false, false) && shared.key > last) {
                last = shared.key;
                total = shared.weight_through;
            }
            if (row.min_p > 0.0f) {
                total = chooser.weight_of(last, row.min_p);
            }
            if (chooser.cut(drawn * total, false, true) && shared.key >= last) {
                token = ID_MASK - (u32)(shared.key & ID_MASK);
            }
        } else {
            token = chooser.draw_by_id(drawn, last, row.min_p, token);
        }
    }
    if (threadIdx.x == 0) {
        tokens[blockIdx.x] = token;
    }
}
