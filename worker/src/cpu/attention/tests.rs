//! Attention kernels against softmax in float64 over the same rounded queries, keys and values.

use super::*;
use crate::cpu::kv::{self, KvPool};
use crate::cpu::test_inputs;
use crate::ops::bf16::{from_bf16, to_bf16};

const POSITIONS: usize = 700;

struct Case {
    width: usize,
    queries: Vec<Vec<f32>>,
    keys: Vec<Vec<f32>>,
    values: Vec<Vec<f32>>,
    pool: KvPool,
}

/// Block of each position's block, scattered.
fn block_of(index: usize) -> u32 {
    (index * 17 % 44) as u32
}

fn case(head_dim: usize, seed: u64) -> Case {
    let rows = |count: usize, scale: f32, seed| -> Vec<Vec<f32>> {
        let numbers = test_inputs::floats(count * head_dim, seed);
        numbers.chunks_exact(head_dim).map(|row| row.iter().map(|x| from_bf16(to_bf16(x * scale))).collect()).collect()
    };
    let (queries, keys) = (rows(QUERIES, 2.0, seed), rows(POSITIONS, 2.0, seed + 1));
    let values = rows(POSITIONS, 1.0, seed + 2);
    let mut pool = KvPool::new(2, 44, 3, head_dim).unwrap();
    let writer = pool.writer(1);
    for (position, (key, value)) in keys.iter().zip(&values).enumerate() {
        // SAFETY: one thread.
        unsafe { writer.put(block_of(position / 16), 2, position % 16, key, value) };
    }
    Case { width: kv::padded(head_dim), queries, keys, values, pool }
}

fn words(query: &[f32], width: usize) -> Vec<u32> {
    let mut words: Vec<u32> = query.chunks_exact(2).map(|pair| kv::pair(pair[0], pair[1])).collect();
    words.resize(width / 2, 0);
    words
}

/// Output of `count` queries that see `seen[q]` positions each, the last `window` of them if there are more.
fn run(isa: Isa, case: &Case, queries: &[Vec<u32>], seen: &[usize], window: usize) -> Vec<Vec<f32>> {
    let len = partial_len(case.width);
    let mut totals = vec![vec![0.0; len]; queries.len()];
    let max = *seen.iter().max().unwrap();
    for start in (0..max).step_by(SEGMENT) {
        let active: Vec<usize> = (0..queries.len()).filter(|q| seen[*q] > start).collect();
        let visible: Vec<usize> = active.iter().map(|q| SEGMENT.min(seen[*q] - start)).collect();
        let hidden = |q: &usize| SEGMENT.min(seen[*q].saturating_sub(window).saturating_sub(start));
        let hidden: Vec<usize> = active.iter().map(hidden).collect();
        let words: Vec<u32> = active.iter().flat_map(|q| &queries[*q]).copied().collect();
        let end = max.min(start + SEGMENT);
        let kv_blocks: Vec<&[u32]> =
            (start / 16..end.div_ceil(16)).map(|block| case.pool.kv_block(1, block_of(block), 2)).collect();
        let (queries, visible, hidden, kv_blocks) = (&words[..], &visible[..], &hidden[..], &kv_blocks[..]);
        let call = Call { queries, visible, hidden, kv_blocks, width: case.width, prefetch: &[] };
        let mut out = vec![f32::NAN; active.len() * len];
        segment(isa, &call, &mut out);
        for (part, q) in out.chunks_exact(len).zip(active) {
            match start {
                0 => totals[q].copy_from_slice(part),
                _ => fold(isa, &mut totals[q], part),
            }
        }
    }
    totals.iter().map(|total| total[..case.width].iter().map(|value| value / total[case.width + 1]).collect()).collect()
}

#[test]
fn kernels_agree_with_softmax_in_float64() {
    for (head_dim, seed) in [(16, 1), (20, 2), (64, 3), (80, 4), (128, 5), (256, 6)] {
        let case = case(head_dim, seed);
        let queries: Vec<Vec<u32>> = case.queries.iter().map(|query| words(query, case.width)).collect();
        for isa in Isa::all() {
            for (count, window) in (1..=QUERIES).map(|count| (count, [usize::MAX, 1, 40, 300][count % 4])) {
                let lengths = [1, 2, 16, 17, 255, 256, 257, 700];
                let seen: Vec<usize> = (0..count).map(|q| lengths[(q * 3 + count) % 8]).collect();
                let got = run(isa, &case, &queries[..count], &seen, window);
                for q in 0..count {
                    let score = |key: &Vec<f32>| -> f64 {
                        key.iter().zip(&case.queries[q]).map(|(k, q)| f64::from(*k) * f64::from(*q)).sum::<f64>()
                    };
                    let first = seen[q].saturating_sub(window);
                    let scores: Vec<f64> = case.keys[first..seen[q]].iter().map(score).collect();
                    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let weights: Vec<f64> = scores.iter().map(|score| (score - max).exp2()).collect();
                    let total: f64 = weights.iter().sum();
                    for d in 0..head_dim {
                        let value = |(weight, value): (&f64, &Vec<f32>)| weight / total * f64::from(value[d]);
                        let want: f64 = weights.iter().zip(&case.values[first..]).map(value).sum();
                        // Weights are rounded to 8 bits, values are at most 1.
                        let error = (f64::from(got[q][d]) - want).abs();
                        assert!(error < 4e-3, "{isa}, head width {head_dim}, {} positions: {error}", seen[q]);
                    }
                    assert!(got[q][head_dim..].iter().all(|x| *x == 0.0), "padding stays zero");
                }
            }
        }
    }
}

#[test]
fn a_query_gives_the_same_bits_alone_and_in_company() {
    let case = case(64, 9);
    let queries: Vec<Vec<u32>> = case.queries.iter().map(|query| words(query, case.width)).collect();
    for isa in Isa::all() {
        let seen = [1, 30, 31, 100, 256, 257, 600, 700, 2, 3, 64, 511, 512, 513, 699, 700];
        for window in [usize::MAX, 70] {
            let together = run(isa, &case, &queries, &seen, window);
            for q in 0..QUERIES {
                let alone = run(isa, &case, &queries[q..=q], &seen[q..=q], window);
                assert_eq!(alone[0], together[q], "{isa}, query {q}, window {window}");
            }
        }
    }
}

#[test]
fn what_an_earlier_sequence_left_in_a_block_does_not_leak() {
    let mut case = case(64, 10);
    let queries = vec![words(&case.queries[0], case.width)];
    for isa in Isa::all() {
        let clean = run(isa, &case, &queries, &[37], usize::MAX);
        let poison = vec![f32::NAN; 64];
        for position in 32..48 {
            // SAFETY: one thread.
            unsafe { case.pool.writer(1).put(block_of(position / 16), 2, position % 16, &poison, &poison) };
        }
        for position in 32..37 {
            let (key, value) = (&case.keys[position], &case.values[position]);
            // SAFETY: one thread.
            unsafe { case.pool.writer(1).put(block_of(position / 16), 2, position % 16, key, value) };
        }
        assert_eq!(run(isa, &case, &queries, &[37], usize::MAX), clean, "{isa}");
    }
}
