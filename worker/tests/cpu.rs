//! The CPU device against references that others computed, and against itself in other company.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod fixtures;

use longhand_worker::cpu::{CpuDevice, CpuOptions};
use longhand_worker::device::{BLOCK_TOKENS, BlockId, Device, SeqStep, StepBatch};
use longhand_worker::model::Model;
use longhand_worker::reference::{self, Rounding};
use longhand_worker::selftest::distance;

const ISAS: [&str; 5] = ["avx512-amx", "avx512-vnni-bf16", "avx512-vnni", "avx2", "plain"];

fn options(threads: usize) -> CpuOptions {
    CpuOptions { threads: Some(threads), kv_blocks: 512, max_batch_tokens: 256 }
}

fn open(name: &str) -> Model {
    Model::open(&fixtures::tiny(name)).unwrap()
}

fn part(start: usize, len: usize, blocks: &[BlockId]) -> SeqStep {
    SeqStep { len, start, blocks: blocks.to_vec(), sample: None }
}

/// Logits of all tokens of one sequence, read in chunks of `chunk`.
fn alone(device: &mut CpuDevice, tokens: &[u32], chunk: usize, blocks: &[BlockId]) -> Vec<f32> {
    let mut out = Vec::new();
    for (index, tokens) in tokens.chunks(chunk).enumerate() {
        let sequences = vec![part(index * chunk, tokens.len(), blocks)];
        out.extend(device.logits(&StepBatch { tokens: tokens.to_vec(), sequences }).unwrap());
    }
    out
}

fn best(logits: &[f32]) -> usize {
    (0..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best })
}

#[test]
fn the_reference_agrees_with_transformers_on_every_family_and_type() {
    for name in fixtures::TINY {
        let model = open(name);
        for fixture in fixtures::tiny_reference(name) {
            let got = reference::logits(&model, &fixture.tokens, Rounding::Nothing).unwrap();
            let vocab = model.config().vocab;
            let first = fixture.tokens.len() - fixture.rows.len();
            for (row, (got, want)) in got.chunks_exact(vocab).skip(first).zip(&fixture.rows).enumerate() {
                let distance = distance(got, want);
                assert!(distance < 1e-4, "{name}: {} tokens, row {row}: {distance}", fixture.tokens.len());
            }
        }
    }
}

#[test]
fn the_device_agrees_with_transformers_on_every_family_type_and_instruction_set() {
    for name in fixtures::TINY {
        let model = open(name);
        // Keys and values are bf16 everywhere, and rows that meet quantised weights are rounded to 8 bits per 32. What that
        // must cost each model is worked out by the tests of all devices; here every instruction set does the same.
        let quantised = model.weights().any(|(_, info)| info.dtype.block() > 1);
        let bound = if quantised { 0.06 } else { 0.01 };
        let apart = if quantised { 5e-3 } else { 2e-3 } * model.config().layers as f64;
        let mut of_best: Vec<Vec<f32>> = Vec::new();
        for isa in ISAS {
            let Some(device) = CpuDevice::load_on(&model, &options(2), isa) else { continue };
            let mut device = device.unwrap();
            let (mut agreed, mut rows) = (0, 0);
            for (index, fixture) in fixtures::tiny_reference(name).iter().enumerate() {
                let blocks: Vec<BlockId> = (0..64).collect();
                let got = alone(&mut device, &fixture.tokens, 100, &blocks);
                let first = fixture.tokens.len() - fixture.rows.len();
                for (got, want) in got.chunks_exact(device.vocab()).skip(first).zip(&fixture.rows) {
                    let distance = distance(got, want);
                    assert!(distance < bound, "{name} on {isa}: {distance}");
                    rows += 1;
                    agreed += usize::from(best(got) == best(want));
                }
                match of_best.get(index) {
                    // Only the order of float32 sums and fused operations differ; for it, a layer may round a number of a row
                    // to another byte.
                    Some(best) => assert!(distance(&got, best) < apart, "{name}: {isa} is apart from {}", ISAS[0]),
                    None => of_best.push(got),
                }
            }
            assert!(agreed * 100 >= rows * 90, "{name} on {isa}: {agreed} of {rows} likeliest tokens");
        }
    }
}

#[test]
fn mixtures_of_experts_write_what_transformers_writes() {
    for name in ["qwen3-moe", "mixtral", "qwen3-moe-k_mix.gguf", "mixtral-q8_0.gguf"] {
        let model = open(name);
        let (vocab, texts) = (model.config().vocab, fixtures::tiny_greedy(name));
        assert_eq!(texts.len(), 2, "{name}");
        for (fixture, want) in fixtures::tiny_reference(name).iter().zip(&texts) {
            let tokens: Vec<u32> = fixture.tokens.iter().chain(want).copied().collect();
            let likeliest = |logits: &[f32]| -> Vec<u32> {
                let rows = logits.chunks_exact(vocab).skip(fixture.tokens.len() - 1).take(want.len());
                rows.map(|row| best(row) as u32).collect()
            };
            assert_eq!(&likeliest(&reference::logits(&model, &tokens, Rounding::Nothing).unwrap()), want, "{name}");
            for isa in ISAS {
                let Some(device) = CpuDevice::load_on(&model, &options(2), isa) else { continue };
                let blocks: Vec<BlockId> = (0..64).collect();
                let got = alone(&mut device.unwrap(), &tokens, 1, &blocks);
                assert_eq!(&likeliest(&got), want, "{name} on {isa}");
            }
        }
    }
}

#[test]
fn the_device_agrees_with_transformers_on_twenty_prompts_of_the_real_model() {
    let model = Model::open(&fixtures::small_model()).unwrap();
    let mut device = CpuDevice::load(&model, &options(2)).unwrap();
    let vocab = device.vocab();
    let blocks: Vec<BlockId> = (0..512).collect();
    let (mut agreed, mut decided, mut apart) = (0, 0, Vec::new());
    for prompt in fixtures::small_model_prompts() {
        let tokens: Vec<u32> = prompt.tokens.iter().chain(&prompt.greedy).copied().collect();
        let got = alone(&mut device, &tokens, 256, &blocks);
        let rows: Vec<&[f32]> = got.chunks_exact(vocab).skip(prompt.tokens.len() - 1).collect();
        let (got, want): (Vec<f32>, Vec<f32>) =
            prompt.top.iter().map(|(id, want)| (rows[0][*id as usize], *want)).unzip();
        apart.push(distance(&got, &want));
        for ((row, token), lead) in rows.iter().zip(&prompt.greedy).zip(&prompt.lead) {
            // Leads below this are smaller than the rounding of rows to bytes.
            if *lead > 0.5 {
                decided += 1;
                agreed += usize::from(best(row) == *token as usize);
            }
        }
    }
    // Of the spread of the likeliest logits: what rows of 8 bits and weights with minima make, 0.1 on average.
    let (mean, worst) = (apart.iter().sum::<f64>() / apart.len() as f64, apart.iter().copied().fold(0.0, f64::max));
    assert!(mean < 0.12 && worst < 0.25, "{mean}, {worst} at most");
    assert!(agreed * 100 >= decided * 98, "{agreed} of {decided} likeliest tokens");
}

/// A sequence alone token by token; then in chunks, in other blocks, among others, with other threads.
fn invariance(model: &Model, length: usize, others: usize) {
    let vocab = model.config().vocab as u32;
    let tokens = |seed: u32, len: usize| -> Vec<u32> {
        (0..len as u32).map(|i| (i * 7919 + seed * 104_729 + i * i * 31) % vocab).collect()
    };
    let ours = tokens(1, length);
    let blocks: Vec<BlockId> = (0..64).collect();
    let scattered: Vec<BlockId> = (0..64).map(|i| 511 - i * 5).collect();
    let want = alone(&mut CpuDevice::load(model, &options(1)).unwrap(), &ours, 1, &blocks);
    for threads in [1, 2, 3] {
        let mut device = CpuDevice::load(model, &options(threads)).unwrap();
        for chunk in [3, 7, 61, 256] {
            let got = alone(&mut device, &ours, chunk, &scattered);
            assert!(got == want, "{threads} threads, chunks of {chunk}: other bits");
        }
        // One step for each token of ours; the others start at other times and read chunks of other sizes.
        let mut read = vec![0; others];
        for (at, token) in ours.iter().enumerate() {
            let mut batch = StepBatch::default();
            let mut row = 0;
            for (other, read) in read.iter_mut().enumerate() {
                if other == others / 2 {
                    row = batch.tokens.len();
                    batch.tokens.push(*token);
                    batch.sequences.push(part(at, 1, &scattered));
                }
                let len = if at % 3 == 0 { 1 + other % 5 } else { 1 };
                if *read + len <= 64 && at > other {
                    let table: Vec<BlockId> = (0..4).map(|i| (other * 4 + i) as BlockId).collect();
                    batch.tokens.extend(&tokens(other as u32 + 2, 64)[*read..*read + len]);
                    batch.sequences.push(part(*read, len, &table));
                    *read += len;
                }
            }
            let logits = device.logits(&batch).unwrap();
            let vocab = vocab as usize;
            assert!(
                logits[row * vocab..][..vocab] == want[at * vocab..][..vocab],
                "{threads} threads, token {at}: other bits"
            );
        }
    }
}

#[test]
fn a_sequence_gives_the_same_bits_whatever_else_runs() {
    for name in [
        "qwen2-q4_1.gguf",
        "k_mix.gguf",
        "qwen3",
        "f16.gguf",
        "phi3-q8_0.gguf",
        "gemma3-q8_0.gguf",
        "qwen3-moe",
        "qwen3-moe-k_mix.gguf",
        "mixtral-q8_0.gguf",
    ] {
        invariance(&open(name), 530, 16);
    }
}

#[test]
fn a_sequence_of_the_real_model_gives_the_same_bits_whatever_else_runs() {
    let model = Model::open(&fixtures::small_model()).unwrap();
    invariance(&model, 40, 16);
}

#[test]
fn repacked_weights_and_rounded_rows_leave_the_perplexity_where_float32_has_it() {
    let model = Model::open(&fixtures::small_model()).unwrap();
    let (text, reference) = fixtures::perplexity();
    let tokens = model.tokenizer().encode(&text, false);
    assert_eq!(tokens.len(), reference.tokens);
    let mut device = CpuDevice::load(&model, &options(2)).unwrap();
    let vocab = device.vocab();
    let blocks: Vec<BlockId> = (0..reference.window.div_ceil(BLOCK_TOKENS) as BlockId).collect();
    let (mut sum, mut count) = (0.0, 0);
    for window in tokens.chunks(reference.window).filter(|window| window.len() > 1) {
        for (index, chunk) in window.chunks(64).enumerate() {
            let sequences = vec![part(index * 64, chunk.len(), &blocks[..window.len().div_ceil(BLOCK_TOKENS)])];
            let logits = device.logits(&StepBatch { tokens: chunk.to_vec(), sequences }).unwrap();
            let next = &window[index * 64 + 1..];
            for (logits, &token) in logits.chunks_exact(vocab).zip(next) {
                let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let total: f64 = logits.iter().map(|logit| f64::from(logit - most).exp()).sum();
                sum += total.ln() + f64::from(most - logits[token as usize]);
                count += 1;
            }
        }
    }
    let change = (sum / f64::from(count) - reference.nll).exp() - 1.0;
    println!("perplexity {:+.3} % of float32's {:.3}", change * 100.0, reference.nll.exp());
    assert!(change.abs() < 0.005, "the perplexity is {:+.2} % off", change * 100.0);
}
