//! From logits to tokens, as [`crate::ops::sampler`] does it: its reference.

use super::check::{CheckError, CheckResult};
use super::sources::SAMPLE;
use super::test_rng::TestRng;
use crate::cuda::gpu::{Buffer, Element, Gpu, GpuError, Kernel, Launch, Ptr};
use crate::device::{RngKey, SampleError, SampleParams, Sampled};
use crate::ops::sampler::Sampler;

/// Logits that one block scans.
const CHUNK: usize = 4096;
/// `Shared` of chooser.cuh.
const SHARED_BYTES: u32 = 40 << 10;
/// Tokens that a key has room for.
pub const MAX_VOCAB: usize = 1 << 18;

/// Chunks of a row, each with a peak.
pub fn chunks(vocab: usize) -> usize {
    vocab.div_ceil(CHUNK)
}

/// How a row chooses: `Row` of chooser.cuh.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct Row {
    temperature: f32,
    top_p: f32,
    min_p: f32,
    penalty: f32,
    top_k: u32,
    position: u32,
    seed: [u32; 2],
    stream: [u32; 2],
    bias: [u32; 2],
    penalised: [u32; 2],
    mask: u32,
    mask_words: u32,
}

// SAFETY: sixteen plain numbers of 32 bits.
unsafe impl Element for Row {}

impl Row {
    /// The same row, with lists that begin so much further on.
    pub fn shifted(self, biases: u32, penalised: u32, masks: u32) -> Self {
        let mask = if self.mask == ALL_ALLOWED { ALL_ALLOWED } else { self.mask + masks };
        let (bias, penalised) = (self.bias.map(|at| at + biases), self.penalised.map(|at| at + penalised));
        Self { bias, penalised, mask, ..self }
    }
}

/// Added to a token's logit.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct Bias {
    token: u32,
    bias: f32,
}

// SAFETY: two plain numbers of 32 bits.
unsafe impl Element for Bias {}

/// In place of the first word of a mask: there is none.
const ALL_ALLOWED: u32 = u32::MAX;

/// What all rows of a step choose by, as the kernels read it. Its memory is used again.
#[derive(Debug, Default)]
pub struct Choices {
    /// One for each row of logits.
    pub rows: Vec<Row>,
    /// Biases of all rows.
    pub biases: Vec<Bias>,
    /// Penalised tokens of all rows.
    pub penalised: Vec<u32>,
    /// Words of the masks of all rows.
    pub masks: Vec<u32>,
}

impl Choices {
    /// Removes all rows.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.biases.clear();
        self.penalised.clear();
        self.masks.clear();
    }

    /// The next row.
    pub fn push(&mut self, params: &SampleParams) {
        let halves = |x: u64| [x as u32, (x >> 32) as u32];
        let begins = [self.biases.len() as u32, self.penalised.len() as u32, self.masks.len() as u32];
        self.biases.extend(params.bias.iter().map(|&(token, bias)| Bias { token, bias }));
        self.penalised.extend_from_slice(&params.penalised);
        let words = params.mask.as_deref().unwrap_or_default();
        self.masks.extend_from_slice(words);
        let RngKey { seed, stream } = params.key;
        self.rows.push(Row {
            temperature: params.sampling.temperature,
            top_p: params.sampling.top_p,
            min_p: params.sampling.min_p,
            penalty: params.sampling.repetition_penalty,
            top_k: params.sampling.top_k,
            position: params.position,
            seed: halves(seed),
            stream: halves(stream),
            bias: [begins[0], self.biases.len() as u32],
            penalised: [begins[1], self.penalised.len() as u32],
            mask: if params.mask.is_some() { begins[2] } else { ALL_ALLOWED },
            mask_words: words.len() as u32,
        });
    }
}

/// Chooses a token for each row of logits.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// f32 `[count][vocab]`; changed as bias, penalty and mask say.
    pub logits: Ptr,
    /// [`Row`] `[count]`, and the lists that they point into: of [`Choices`].
    pub rows: Ptr,
    /// [`Bias`]
    pub biases: Ptr,
    /// u32: ids.
    pub penalised: Ptr,
    /// u32: words of masks.
    pub masks: Ptr,
    /// f32 `[count][chunks][2]`, see [`chunks`].
    pub peaks: Ptr,
    /// u32 `[count]`: ids, or what [`token_of`] reads.
    pub tokens: Ptr,
    /// Rows of logits.
    pub count: usize,
    /// At most [`MAX_VOCAB`].
    pub vocab: usize,
}

impl Sample {
    /// Queues the launch; errors are those of [`Gpu::launch`].
    pub fn launch(&self, gpu: &dyn Gpu) -> Result<(), GpuError> {
        assert!((1..=MAX_VOCAB).contains(&self.vocab), "a vocabulary of {}", self.vocab);
        let chunks = chunks(self.vocab);
        let vocab = (self.vocab as u32).into();
        let launch = Launch { grid: [chunks as u32, self.count as u32, 1], block: [256, 1, 1], shared: 256 };
        let args = [
            self.logits.into(),
            self.rows.into(),
            self.biases.into(),
            self.penalised.into(),
            self.masks.into(),
            self.peaks.into(),
            vocab,
        ];
        gpu.launch(&Kernel { source: &SAMPLE, entry: "sample_scan" }, launch, &args)?;
        let threads = if self.vocab > 2 * CHUNK { 512 } else { 256 };
        let launch = Launch { shared: SHARED_BYTES, ..Launch::new(self.count, threads) };
        let args = [
            self.logits.into(),
            self.rows.into(),
            self.peaks.into(),
            self.tokens.into(),
            vocab,
            (chunks as u32).into(),
        ];
        gpu.launch(&Kernel { source: &SAMPLE, entry: "sample_choose" }, launch, &args)
    }
}

/// The token that a row's result stands for, or the error.
pub fn token_of(token: u32) -> Sampled {
    match token {
        u32::MAX => Err(SampleError::NotNumbers),
        0xffff_fffe => Err(SampleError::NothingAllowed),
        token => Ok(token),
    }
}

/// Runs rows of logits, `[rows][vocab]`.
fn run(gpu: &dyn Gpu, logits: &[f32], params: &[SampleParams]) -> Result<Vec<Sampled>, GpuError> {
    let mut choices = Choices::default();
    params.iter().for_each(|params| choices.push(params));
    let vocab = logits.len() / params.len();
    let (logits, rows) = (Buffer::from_slice(gpu, logits)?, Buffer::from_slice(gpu, &choices.rows)?);
    let (biases, masks) = (Buffer::from_slice(gpu, &choices.biases)?, Buffer::from_slice(gpu, &choices.masks)?);
    let penalised = Buffer::from_slice(gpu, &choices.penalised)?;
    let peaks = Buffer::<f32>::new(gpu, params.len() * chunks(vocab) * 2)?;
    let tokens = Buffer::<u32>::new(gpu, params.len())?;
    let sample = Sample {
        logits: logits.ptr(),
        rows: rows.ptr(),
        biases: biases.ptr(),
        penalised: penalised.ptr(),
        masks: masks.ptr(),
        peaks: peaks.ptr(),
        tokens: tokens.ptr(),
        count: params.len(),
        vocab,
    };
    sample.launch(gpu)?;
    Ok(tokens.to_vec(gpu)?.into_iter().map(token_of).collect())
}

/// A random way of choosing.
fn random(rng: &mut TestRng, vocab: usize) -> SampleParams {
    let mut one_of = |values: &[f32]| values[rng.below(values.len() as u32) as usize];
    let sampling = longhand_proto::task::Sampling {
        temperature: one_of(&[0.0, 0.3, 0.7, 1.0, 1.6]),
        top_k: one_of(&[0.0, 0.0, 1.0, 7.0, 40.0, 900.0]) as u32,
        top_p: one_of(&[1.0, 1.0, 0.95, 0.8, 0.5, 0.01, 0.0]),
        min_p: one_of(&[0.0, 0.0, 0.02, 0.5, 1.0]),
        repetition_penalty: one_of(&[1.0, 1.0, 1.3]),
        ..Default::default()
    };
    let biased = one_of(&[0.0, 0.0, 5.0, 300.0]) as usize;
    let masked = one_of(&[0.0, 0.0, 1.0]) > 0.0;
    let token = |rng: &mut TestRng| rng.below(vocab as u32 + 1);
    let mut bias: Vec<(u32, f32)> = (0..biased).map(|_| (token(rng), rng.float(3.0))).collect();
    // One forbidden, one twice, as lists of the engine may have.
    if biased > 2 {
        bias[1].1 = f32::NEG_INFINITY;
        bias[2].0 = bias[0].0;
    }
    let mut penalised: Vec<u32> = (0..30).map(|_| token(rng)).collect();
    penalised.sort_unstable();
    penalised.dedup();
    // Some end before the vocabulary does.
    let words = (vocab / 32 + 1).saturating_sub(rng.below(3) as usize).max(1);
    let mask = masked.then(|| (0..words).map(|_| rng.bits() as u32 | 1).collect());
    let key = RngKey { seed: rng.bits(), stream: rng.bits() };
    SampleParams { sampling, key, position: rng.below(100_000), penalised, bias, mask }
}

pub(crate) fn check(gpu: &dyn Gpu) -> CheckResult {
    let mut rng = TestRng::new(7);
    let mut sampler = Sampler::default();
    // Vocabulary, rows, and steps that logits are cut to: coarse ones make many equal.
    for (vocab, rows, step) in [
        (1, 8, 0.25),
        (50, 200, 0.25),
        (1003, 200, 0.0),
        (5003, 120, 0.5),
        // All tokens in one range of weights, and few distinct logits in it.
        (5003, 24, 40.0),
        (49_152, 12, 0.0),
        (9001, 8, 3.0),
    ] {
        let logit = |rng: &mut TestRng| {
            let x = rng.float(8.0) + rng.float(4.0);
            if step > 0.0 { (x / step).round() * step } else { x }
        };
        let mut logits: Vec<f32> = (0..rows * vocab).map(|_| logit(&mut rng)).collect();
        let params: Vec<SampleParams> = (0..rows).map(|_| random(&mut rng, vocab)).collect();
        if rows >= 100 {
            logits[3 * vocab + vocab / 2] = f32::NAN;
            logits[4 * vocab] = f32::INFINITY;
            logits[5 * vocab..6 * vocab].fill(f32::NEG_INFINITY);
            logits[6 * vocab..7 * vocab - 1].fill(-1e30);
        }
        let got = run(gpu, &logits, &params)?;
        for (row, (logits, params)) in logits.chunks_exact_mut(vocab).zip(&params).enumerate() {
            let want = sampler.sample(logits, params);
            if got[row] != want {
                return Err(CheckError::Failed(format!(
                    "sample, row {row} of {rows} x {vocab}: {:?}, its reference gives {want:?} ({:?})",
                    got[row], params.sampling
                )));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn sampling_chooses_the_tokens_that_the_cpu_chooses() {
        crate::cuda::kernels::check::on_host(super::check);
    }
}
