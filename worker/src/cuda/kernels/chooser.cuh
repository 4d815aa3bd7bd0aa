// Choosing a token of one row of logits, by one block.
//
// Nothing is sorted: what top-k, top-p and min-p keep are the first so many tokens in the order of likelihood, so each is
// one cut in that order, and so is the draw if top-p was asked for. A cut is found by a histogram over ranges of weights,
// and then among the few tokens of one range. Weights have the bits that the CPU's have, and a range's sum is exact, in
// integers, so no result depends on the order in which threads come.
#pragma once
#include "common.cuh"

// How a row chooses; sample.rs has the same.
struct Row {
    float temperature, top_p, min_p, penalty;
    u32 top_k, position;
    u32 seed_low, seed_high, stream_low, stream_high;
    // Ranges of the lists of all rows.
    u32 bias_begin, bias_end, penalised_begin, penalised_end;
    // First word of its mask and their number; words that are not there forbid. ALL_ALLOWED: no mask.
    u32 mask, mask_words;
};

constexpr u32 ALL_ALLOWED = 0xffffffffu;

// 2^x with the bits that the CPU gets: exp2 of ops/exp2.rs.
DEVICE float exp2_exact(float x) {
    const float ROUND = 12582912.0f;
    float clamped = x < 127.0f ? x : 127.0f;
    clamped = clamped > -126.0f ? clamped : -126.0f;
    float rounded = add(clamped, ROUND), f = sub(clamped, sub(rounded, ROUND));
    float p = 1.5252733e-5f;
    p = add(mul(p, f), 1.540353e-4f);
    p = add(mul(p, f), 1.3333558e-3f);
    p = add(mul(p, f), 9.618129e-3f);
    p = add(mul(p, f), 5.550411e-2f);
    p = add(mul(p, f), 2.402265e-1f);
    p = add(mul(p, f), 6.931472e-1f);
    p = add(mul(p, f), 1.0f);
    float power = as_float((as_bits(rounded) - as_bits(ROUND) + 127) << 23);
    return x > -126.0f ? mul(p, power) : 0.0f;
}

// Philox4x32-10: the random number of a position, in 0..1.
DEVICE double uniform(const Row &row) {
    u32 c0 = row.position, c1 = 0, c2 = row.stream_low, c3 = row.stream_high, k0 = row.seed_low, k1 = row.seed_high;
    for (u32 round = 0; round < 10; round++) {
        u64 a = (u64)c0 * 0xd2511f53u, b = (u64)c2 * 0xcd9e8d57u;
        c0 = (u32)(b >> 32) ^ c1 ^ k0;
        c1 = (u32)b;
        c2 = (u32)(a >> 32) ^ c3 ^ k1;
        c3 = (u32)a;
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    return (double)(((u64)c0 << 32 | c1) >> 11) * 0x1p-53;
}

// Ranges of weights: a 32nd of a power of two each, and one for all that is lighter than 2^-64 of the likeliest.
constexpr u32 RANGES = 2048, PER_POWER = 32;
// Tokens among which a cut is looked for one by one.
constexpr u32 FEW = 1024;
constexpr u32 CHOOSE_THREADS = 512;

// A token's place in the order of likelihood, greater first: its logit as an integer that orders as the float does, then
// the lower id. 50 bits.
constexpr u32 ID_BITS = 18, ID_MASK = (1u << ID_BITS) - 1;

DEVICE u64 key_of(float logit, u32 token) {
    u32 bits = as_bits(logit);
    u32 ordered = bits >> 31 ? ~bits : bits | 0x80000000u;
    return (u64)ordered << ID_BITS | (ID_MASK - token);
}

// The digits of a key that a cut is narrowed down by, when one range has more than a few tokens.
constexpr u32 LEVELS = 5;

DEVICE u32 shift_of(u32 level) { return level == 1 ? 39 : level == 2 ? 28 : level == 3 ? 17 : level == 4 ? 6 : 0; }

// What the block shares.
struct Shared {
    // Of each range: tokens, and their weights in units of the range, low and high thirteen bits apart.
    u32 counts[RANGES], low[RANGES], high[RANGES];
    u64 few_keys[FEW];
    u32 few_weights[FEW];
    double warps[2][32];
    u32 few, first, found;
    // Of the tokens before a cut: how many, and their weight.
    double count_before, weight_before, count_through, weight_through;
    u64 key;
    // Of all tokens, and of those that were kept.
    double total, kept;
    u32 token;
};
static_assert(sizeof(Shared) <= 40 << 10, "sample.rs asks for so much shared memory");

struct Chooser {
    const float *logits;
    Shared &shared;
    u32 vocab;
    float max_logit, sharpness;
    // `shared` holds the counts and weights of all ranges.
    bool weighed;

    DEVICE float weight(float logit) const { return exp2_exact(exponent(logit)); }
    DEVICE float exponent(float logit) const { return mul(sub(logit, max_logit), sharpness); }

    DEVICE u32 range(float logit) const {
        float range = exponent(logit) * -(float)PER_POWER;
        return range < (float)(RANGES - 1) ? (u32)range : RANGES - 1;
    }

    // A weight of a range is a whole number of these, but for the lightest range, and below 2^26 of them.
    DEVICE static float units(u32 range) { return as_float((127 + 25 + range / PER_POWER) << 23); }
    DEVICE u32 in_units(float logit, u32 range) const { return (u32)(weight(logit) * units(range)); }

    // Sums of all threads up to this one, and of all. Whole block.
    DEVICE double sum_through(double x, double *warps) const {
        u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
        for (u32 by = 1; by < 32; by *= 2) {
            double other = shuffle_up(x, by);
            x += lane >= by ? other : 0.0;
        }
        __syncthreads();
        if (lane == 31) {
            warps[warp] = x;
        }
        __syncthreads();
        double before = 0.0;
        for (u32 other = 0; other < warp; other++) {
            before += warps[other];
        }
        return before + x;
    }

    // Counts and weighs tokens by range (level 0), or those of one range whose key begins with `prefix` by the next digit.
    DEVICE void weigh(u32 level, u32 of_range, u64 prefix) const {
        for (u32 at = threadIdx.x; at < RANGES; at += blockDim.x) {
            shared.counts[at] = shared.low[at] = shared.high[at] = 0;
        }
        __syncthreads();
        for (u32 token = threadIdx.x; token < vocab; token += blockDim.x) {
            float logit = logits[token];
            if (!(logit > -infinite())) {
                continue;
            }
            u32 in = range(logit), at = in;
            if (level > 0) {
                u64 key = key_of(logit, token);
                u32 shift = shift_of(level), bits = level == LEVELS ? 6 : 11;
                if (in != of_range || (level > 1 && key >> (shift + bits) != prefix)) {
                    continue;
                }
                // Great digits first.
                at = (1u << bits) - 1 - ((u32)(key >> shift) & ((1u << bits) - 1));
            }
            u32 weight = in_units(logit, in);
            shared_add(&shared.counts[at], 1);
            shared_add(&shared.low[at], weight & 0x1fff);
            shared_add(&shared.high[at], weight >> 13);
        }
        __syncthreads();
    }

    DEVICE double range_weight(u32 at, double unit) const {
        return ((double)shared.high[at] * 8192.0 + (double)shared.low[at]) * unit;
    }

    // The first token, in order, with which the tokens' number (or weight) reaches `target` (or exceeds it, if `beyond`).
    // Leaves its key and what there is through it in `shared`; false if all together do not reach it. Whole block.
    DEVICE bool cut(double target, bool by_count, bool beyond) {
        auto reaches = [&](double sum) { return beyond ? sum > target : sum >= target; };
        u32 of_range = 0;
        u64 prefix = 0;
        double count_before = 0.0, weight_before = 0.0;
        for (u32 level = 0;; level++) {
            if (level > 0 || !weighed) {
                weigh(level, of_range, prefix);
                weighed = level == 0;
            }
            auto weight_at = [&](u32 at) { return range_weight(at, 1.0 / (double)units(level ? of_range : at)); };
            // Each thread has some neighbouring entries; of all of them the first that reaches.
            u32 each = RANGES / blockDim.x, from = threadIdx.x * each;
            double count = 0.0, weight = 0.0;
            for (u32 at = from; at < from + each; at++) {
                count += (double)shared.counts[at];
                weight += weight_at(at);
            }
            double counts = count_before + sum_through(count, shared.warps[0]);
            double weights = weight_before + sum_through(weight, shared.warps[1]);
            if (threadIdx.x == 0) {
                shared.first = 0xffffffffu;
            }
            if (level == 0 && threadIdx.x == blockDim.x - 1) {
                shared.total = weights;
            }
            __syncthreads();
            if (reaches(by_count ? counts : weights)) {
                shared_min(&shared.first, threadIdx.x);
            }
            __syncthreads();
            if (shared.first == 0xffffffffu) {
                return false;
            }
            if (threadIdx.x == shared.first) {
                double counted = counts - count, weighed = weights - weight;
                for (u32 at = from; at < RANGES; at++) {
                    if (shared.counts[at] == 0) {
                        continue;
                    }
                    shared.found = at;
                    shared.count_before = counted;
                    shared.weight_before = weighed;
                    counted += (double)shared.counts[at];
                    weighed += weight_at(at);
                    // Beyond its own entries only where the sums' last bits disagree.
                    if (reaches(by_count ? counted : weighed) || at >= from + each) {
                        break;
                    }
                }
            }
            __syncthreads();
            u32 at = shared.found, bits = level == LEVELS ? 6 : 11;
            count_before = shared.count_before;
            weight_before = shared.weight_before;
            if (level == 0) {
                of_range = at;
            } else {
                prefix = prefix << bits | ((1u << bits) - 1 - at);
            }
            if (shared.counts[at] <= FEW) {
                return find(level, of_range, prefix, by_count, reaches);
            }
            // Others still read what the next level clears.
            __syncthreads();
        }
    }

    // The cut among the few tokens of a range whose keys begin with `prefix`.
    template <class Reaches>
    DEVICE bool find(u32 level, u32 of_range, u64 prefix, bool by_count, Reaches reaches) const {
        double count_before = shared.count_before, weight_before = shared.weight_before;
        if (threadIdx.x == 0) {
            shared.few = 0;
            shared.key = ~(u64)0;
        }
        __syncthreads();
        for (u32 token = threadIdx.x; token < vocab; token += blockDim.x) {
            float logit = logits[token];
            if (logit > -infinite() && range(logit) == of_range) {
                u64 key = key_of(logit, token);
                if (level == 0 || key >> shift_of(level) == prefix) {
                    u32 at = shared_add(&shared.few, 1);
                    shared.few_keys[at] = key;
                    shared.few_weights[at] = in_units(logit, of_range);
                }
            }
        }
        __syncthreads();
        u32 few = shared.few;
        double unit = 1.0 / (double)units(of_range);
        for (u32 mine = threadIdx.x; mine < few; mine += blockDim.x) {
            u64 key = shared.few_keys[mine], weight = 0;
            u32 count = 0;
            for (u32 other = 0; other < few; other++) {
                if (shared.few_keys[other] >= key) {
                    count++;
                    weight += shared.few_weights[other];
                }
            }
            double counts = count_before + (double)count, weights = weight_before + (double)weight * unit;
            double without = weight_before + (double)(weight - shared.few_weights[mine]) * unit;
            bool through = reaches(by_count ? counts : weights), before = reaches(by_count ? counts - 1.0 : without);
            // The last one takes it where the sums' last bits say that none does.
            if ((through && (!before || count == 1)) || (!through && count == few)) {
                shared.key = key;
                shared.count_through = counts;
                shared.weight_through = weights;
            }
        }
        __syncthreads();
        return true;
    }

    // The weight of all tokens from the likeliest to `last` that are no lighter than `least`. Whole block.
    DEVICE double weight_of(u64 last, float least) const {
        double sum = 0.0;
        for (u32 token = threadIdx.x; token < vocab; token += blockDim.x) {
            sum += kept_weight(token, last, least);
        }
        double through = sum_through(sum, shared.warps[0]);
        if (threadIdx.x == blockDim.x - 1) {
            shared.kept = through;
        }
        __syncthreads();
        return shared.kept;
    }

    DEVICE double kept_weight(u32 token, u64 last, float least) const {
        float logit = logits[token];
        if (!(logit > -infinite()) || key_of(logit, token) < last) {
            return 0.0;
        }
        float light = weight(logit);
        return light >= least ? (double)light : 0.0;
    }

    // Draws in the order of ids: the warps' runs of tokens are weighed, then the threads' runs in the run that has it.
    // `otherwise` if rounding leaves a trace of the whole.
    DEVICE u32 draw_by_id(double uniform, u64 last, float least, u32 otherwise) const {
        u32 warps = blockDim.x / 32, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
        u32 run = (vocab + warps - 1) / warps;
        u32 begin = warp * run, end = begin + run < vocab ? begin + run : vocab;
        double sum = 0.0;
        for (u32 token = begin + lane; token < end; token += 32) {
            sum += kept_weight(token, last, least);
        }
        for (u32 mask = 16; mask; mask /= 2) {
            sum += shuffle_xor(sum, mask);
        }
        if (lane == 0) {
            shared.warps[0][warp] = sum;
        }
        if (threadIdx.x == 0) {
            shared.token = otherwise;
            shared.first = 0xffffffffu;
        }
        __syncthreads();
        double total = 0.0, before = 0.0;
        for (u32 other = 0; other < warps; other++) {
            total += shared.warps[0][other];
        }
        double target = uniform * total;
        u32 chosen = 0;
        while (chosen + 1 < warps && before + shared.warps[0][chosen] <= target) {
            before += shared.warps[0][chosen++];
        }
        begin = chosen * run;
        end = begin + run < vocab ? begin + run : vocab;
        u32 each = (run + blockDim.x - 1) / blockDim.x;
        u32 from = begin + threadIdx.x * each, to = from + each < end ? from + each : end;
        double mine = 0.0;
        for (u32 token = from; token < to; token++) {
            mine += kept_weight(token, last, least);
        }
        double through = before + sum_through(mine, shared.warps[1]);
        if (through > target) {
            shared_min(&shared.first, threadIdx.x);
        }
        __syncthreads();
        if (threadIdx.x == shared.first) {
            double sum = through - mine;
            for (u32 token = from; token < to; token++) {
                double weight = kept_weight(token, last, least);
                sum += weight;
                if (weight > 0.0) {
                    shared.token = token;
                    if (sum > target) {
                        break;
                    }
                }
            }
        }
        __syncthreads();
        return shared.token;
    }
};
